#include <assert.h>

#include "auth_priv.h"

#include "lepus/auth/password.h"
#include "lepus/base/log.h"
#include "lepus/base/mem.h"

enum { NAME_LEN_MAX = 255 };

/* The counter that says that there were users once. */
#define HAD_USERS VIEW_LIT("had_users")

/* --- the lock ------------------------------------------------------------------------------ */

/* Readers come and come again; a change must not wait until none of them is there. */
static void
init_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

void
auth_read_lock(struct auth *auth)
{
    int error = pthread_rwlock_rdlock(&auth->lock);

    assert(error == 0);
    (void)error;
}

static void
write_lock(struct auth *auth)
{
    int error = pthread_rwlock_wrlock(&auth->lock);

    assert(error == 0);
    (void)error;
}

void
auth_unlock(struct auth *auth)
{
    int error = pthread_rwlock_unlock(&auth->lock);

    assert(error == 0);
    (void)error;
}

/* Ends a change. The version grows within the lock: who sees the new one, sees the change. */
static void
unlock_changed(struct auth *auth)
{
    atomic_fetch_add_explicit(&auth->version, 1, memory_order_release);
    auth_unlock(auth);
    if (auth->changed != NULL)
        auth->changed(auth->changed_arg);
}

/* --- users --------------------------------------------------------------------------------- */

struct user *
auth_find_user(const struct auth *auth, struct view name)
{
    struct map_node *node = map_find(&auth->users, name);

    return node != NULL ? container_of(node, struct user, node) : NULL;
}

static bool
no_user(struct err *err, struct view name)
{
    return err_set(err, NOT_FOUND, "no user '" VIEW_FMT "'", VIEW_ARG(name));
}

static void
free_row(struct metadata_user *row)
{
    free((void *)(uintptr_t)row->name.at);
    free((void *)(uintptr_t)row->password_hash.at);
    free((void *)(uintptr_t)row->hashing_algorithm.at);
    free((void *)(uintptr_t)row->tags.at);
    free((void *)(uintptr_t)row->limits.at);
}

static struct view
own(struct view v)
{
    return view_of(view_dup(v), v.len);
}

static struct metadata_user
copy_row(const struct metadata_user *row)
{
    return (struct metadata_user){
        .name = own(row->name),
        .password_hash = own(row->password_hash),
        .hashing_algorithm = own(row->hashing_algorithm),
        .tags = own(row->tags),
        .limits = own(row->limits),
    };
}

/* Write lock held. Permissions stay. */
static void
put_user(struct auth *auth, const struct metadata_user *row)
{
    struct user *user = auth_find_user(auth, row->name);

    if (user == NULL) {
        user = mem_new(struct user);
        user->number = ++auth->last_number;
        map_init(&user->grants);
    } else {
        map_remove(&auth->users, &user->node);
        free_row(&user->row);
    }
    user->row = copy_row(row);
    user->is_proven = false; /* the logins' own; nobody else is here */
    map_add(&auth->users, &user->node, user->row.name);
}

/* --- grants -------------------------------------------------------------------------------- */

static struct grant *
find_grant(const struct user *user, uint64_t vhost)
{
    struct map_node *node = map_find(&user->grants, view_of(&vhost, sizeof(vhost)));

    return node != NULL ? container_of(node, struct grant, node) : NULL;
}

static struct grant *
get_grant(struct auth *auth, struct user *user, uint64_t vhost)
{
    struct grant *grant = find_grant(user, vhost);

    if (grant != NULL)
        return grant;
    grant = mem_new(struct grant);
    grant->vhost = vhost;
    grant->number = ++auth->last_number;
    assert(grant->number <= INT32_MAX);
    map_init(&grant->topics);
    map_add(&user->grants, &grant->node, view_of(&grant->vhost, sizeof(grant->vhost)));
    return grant;
}

static struct topic *
find_topic(const struct grant *grant, struct view exchange)
{
    struct map_node *node = map_find(&grant->topics, exchange);

    return node != NULL ? container_of(node, struct topic, node) : NULL;
}

static void
fini_rules(struct rule rules[3])
{
    for (int i = 0; i < 3; i++)
        rule_fini(&rules[i]);
}

static void
free_topic(struct grant *grant, struct topic *topic)
{
    map_remove(&grant->topics, &topic->node);
    fini_rules(topic->rules);
    free(topic->exchange);
    free(topic);
}

static void
free_grant(struct user *user, struct grant *grant)
{
    struct map_node *at;

    while ((at = map_next(&grant->topics, NULL)) != NULL)
        free_topic(grant, container_of(at, struct topic, node));
    map_remove(&user->grants, &grant->node);
    map_fini(&grant->topics);
    fini_rules(grant->rules);
    free(grant);
}

/* What nothing is said in any more goes. */
static void
trim_grant(struct user *user, struct grant *grant)
{
    if (!grant->may_enter && grant->topics.count == 0)
        free_grant(user, grant);
}

static void
free_user(struct auth *auth, struct user *user)
{
    struct map_node *at;

    while ((at = map_next(&user->grants, NULL)) != NULL)
        free_grant(user, container_of(at, struct grant, node));
    map_remove(&auth->users, &user->node);
    map_fini(&user->grants);
    free_row(&user->row);
    free(user);
}

/* Takes the rules. */
static void
put_permission(struct auth *auth, struct user *user, uint64_t vhost, struct rule rules[3])
{
    struct grant *grant = get_grant(auth, user, vhost);

    fini_rules(grant->rules);
    memcpy(grant->rules, rules, sizeof(grant->rules));
    grant->may_enter = true;
}

/* Takes the rules. */
static void
put_topic(struct auth *auth, struct user *user, uint64_t vhost, struct view exchange,
          struct rule rules[3])
{
    struct grant *grant = get_grant(auth, user, vhost);
    struct topic *topic = find_topic(grant, exchange);

    if (topic == NULL) {
        topic = mem_new(struct topic);
        topic->exchange = view_dup(exchange);
        map_add(&grant->topics, &topic->node, view_of(topic->exchange, exchange.len));
    }
    fini_rules(topic->rules);
    memcpy(topic->rules, rules, sizeof(topic->rules));
}

/* All three or none. */
static bool
init_rules(struct rule out[3], struct view configure, struct view write, struct view read,
           struct err *err)
{
    const struct view texts[3] = {
        [AUTH_CONFIGURE] = configure, [AUTH_WRITE] = write, [AUTH_READ] = read};
    struct rule made[3] = {{0}, {0}, {0}};

    for (int i = 0; i < 3; i++) {
        if (!rule_init(&made[i], texts[i], err)) {
            fini_rules(made);
            return false;
        }
    }
    memcpy(out, made, sizeof(made));
    return true;
}

/* --- loading --------------------------------------------------------------------------------- */

static bool
load_counter(void *arg, const union metadata_row *row, struct err *err)
{
    struct auth *auth = arg;

    (void)err;
    if (view_equal(row->counter.name, HAD_USERS))
        auth->had_users = row->counter.value != 0;
    return true;
}

static bool
load_user(void *arg, const union metadata_row *row, struct err *err)
{
    (void)err;
    put_user(arg, &row->user);
    return true;
}

/* What was written down, and cannot be understood, allows nothing. */
static void
load_rules(struct rule out[3], struct view user, struct view configure, struct view write,
           struct view read)
{
    struct err why;

    if (init_rules(out, configure, write, read, &why))
        return;
    memset(out, 0, 3 * sizeof(*out));
    log_warn(NULL, "a permission of user '" VIEW_FMT "' allows nothing: %s", VIEW_ARG(user),
             why.text);
}

static bool
load_permission(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_permission *at = &row->permission;
    struct user *user = auth_find_user(arg, at->user);
    struct rule rules[3];

    (void)err;
    if (user == NULL)
        return true;
    load_rules(rules, at->user, at->configure, at->write, at->read);
    put_permission(arg, user, at->vhost, rules);
    return true;
}

static bool
load_topic_permission(void *arg, const union metadata_row *row, struct err *err)
{
    const struct metadata_topic_permission *at = &row->topic_permission;
    struct user *user = auth_find_user(arg, at->user);
    struct rule rules[3];

    (void)err;
    if (user == NULL)
        return true;
    load_rules(rules, at->user, VIEW_LIT(""), at->write, at->read);
    put_topic(arg, user, at->vhost, at->exchange, rules);
    return true;
}

static bool
load(struct auth *auth, struct err *err)
{
    static const struct {
        enum metadata_table table;
        metadata_each *each;
    } steps[] = {
        {METADATA_counters, load_counter},
        {METADATA_users, load_user},
        {METADATA_permissions, load_permission},
        {METADATA_topic_permissions, load_topic_permission},
    };

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (!metadata_walk(auth->metadata, steps[i].table, steps[i].each, auth, err))
            return false;
    return true;
}

struct auth *
auth_open(struct metadata *metadata, struct err *err)
{
    struct auth *auth = mem_new(struct auth);

    init_lock(&auth->lock);
    map_init(&auth->users);
    atomic_init(&auth->version, 1);
    auth->metadata = metadata;
    auth->logins = logins_new();
    if (metadata == NULL || load(auth, err))
        return auth;
    auth_free(auth);
    return NULL;
}

void
auth_free(struct auth *auth)
{
    struct map_node *at;

    if (auth == NULL)
        return;
    while ((at = map_next(&auth->users, NULL)) != NULL)
        free_user(auth, container_of(at, struct user, node));
    map_fini(&auth->users);
    logins_free(auth->logins);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
}

void
auth_on_change(struct auth *auth, void (*changed)(void *arg), void *arg)
{
    auth->changed = changed;
    auth->changed_arg = arg;
}

uint64_t
auth_version(const struct auth *auth)
{
    return atomic_load_explicit(&auth->version, memory_order_acquire);
}

/* --- changing ------------------------------------------------------------------------------ */

static void
tell_ticket(uint64_t *out, uint64_t ticket)
{
    if (out != NULL)
        *out = ticket;
}

/* Write lock held. */
static void
remember_that_there_were_users(struct auth *auth)
{
    if (auth->metadata != NULL && !auth->had_users)
        metadata_put_counter(auth->metadata, &(struct metadata_counter){HAD_USERS, 1});
    auth->had_users = true;
}

bool
auth_put_user(struct auth *auth, const struct metadata_user *row, uint64_t *out_ticket,
              struct err *err)
{
    uint64_t ticket = 0;

    if (row->name.len == 0 || row->name.len > NAME_LEN_MAX ||
        memchr(row->name.at, '\0', row->name.len) != NULL)
        return err_set(err, PRECONDITION_FAILED, "a user cannot have this name");
    if (!password_is_known(row->hashing_algorithm))
        return err_set(err, PRECONDITION_FAILED, "unknown hashing algorithm '" VIEW_FMT "'",
                       VIEW_ARG(row->hashing_algorithm));
    write_lock(auth);
    put_user(auth, row);
    remember_that_there_were_users(auth);
    if (auth->metadata != NULL)
        ticket = metadata_put_user(auth->metadata, row);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

bool
auth_delete_user(struct auth *auth, struct view name, uint64_t *out_ticket, struct err *err)
{
    struct user *user;
    uint64_t ticket = 0;

    write_lock(auth);
    user = auth_find_user(auth, name);
    if (user == NULL) {
        auth_unlock(auth);
        return no_user(err, name);
    }
    if (auth->metadata != NULL)
        ticket = metadata_remove_user(auth->metadata, &(struct metadata_user){.name = name});
    free_user(auth, user);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

bool
auth_put_permission(struct auth *auth, const struct metadata_permission *row, uint64_t *out_ticket,
                    struct err *err)
{
    struct rule rules[3];
    struct user *user;
    uint64_t ticket = 0;

    if (!init_rules(rules, row->configure, row->write, row->read, err))
        return false;
    write_lock(auth);
    user = auth_find_user(auth, row->user);
    if (user == NULL) {
        auth_unlock(auth);
        fini_rules(rules);
        return no_user(err, row->user);
    }
    put_permission(auth, user, row->vhost, rules);
    if (auth->metadata != NULL)
        ticket = metadata_put_permission(auth->metadata, row);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

bool
auth_put_topic_permission(struct auth *auth, const struct metadata_topic_permission *row,
                          uint64_t *out_ticket, struct err *err)
{
    struct rule rules[3];
    struct user *user;
    uint64_t ticket = 0;

    if (!init_rules(rules, VIEW_LIT(""), row->write, row->read, err))
        return false;
    write_lock(auth);
    user = auth_find_user(auth, row->user);
    if (user == NULL) {
        auth_unlock(auth);
        fini_rules(rules);
        return no_user(err, row->user);
    }
    put_topic(auth, user, row->vhost, row->exchange, rules);
    if (auth->metadata != NULL)
        ticket = metadata_put_topic_permission(auth->metadata, row);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

bool
auth_delete_permission(struct auth *auth, struct view user_name, uint64_t vhost,
                       uint64_t *out_ticket, struct err *err)
{
    struct metadata_permission row = {.user = user_name, .vhost = vhost};
    struct user *user;
    struct grant *grant;
    uint64_t ticket = 0;

    write_lock(auth);
    user = auth_find_user(auth, user_name);
    if (user == NULL) {
        auth_unlock(auth);
        return no_user(err, user_name);
    }
    grant = find_grant(user, vhost);
    if (grant != NULL) {
        grant->may_enter = false;
        fini_rules(grant->rules);
        trim_grant(user, grant);
    }
    if (auth->metadata != NULL)
        ticket = metadata_remove_permission(auth->metadata, &row);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

bool
auth_delete_topic_permission(struct auth *auth, struct view user_name, uint64_t vhost,
                             struct view exchange, uint64_t *out_ticket, struct err *err)
{
    struct metadata_topic_permission row = {
        .user = user_name, .vhost = vhost, .exchange = exchange};
    struct user *user;
    struct grant *grant;
    struct topic *topic;
    uint64_t ticket = 0;

    write_lock(auth);
    user = auth_find_user(auth, user_name);
    if (user == NULL) {
        auth_unlock(auth);
        return no_user(err, user_name);
    }
    grant = find_grant(user, vhost);
    topic = grant != NULL ? find_topic(grant, exchange) : NULL;
    if (topic != NULL) {
        free_topic(grant, topic);
        trim_grant(user, grant);
    }
    if (auth->metadata != NULL)
        ticket = metadata_remove_topic_permission(auth->metadata, &row);
    unlock_changed(auth);
    tell_ticket(out_ticket, ticket);
    return true;
}

void
auth_forget_vhost(struct auth *auth, uint64_t vhost)
{
    write_lock(auth);
    for (struct map_node *at = NULL; (at = map_next(&auth->users, at)) != NULL;) {
        struct user *user = container_of(at, struct user, node);
        struct grant *grant = find_grant(user, vhost);

        if (grant != NULL)
            free_grant(user, grant);
    }
    unlock_changed(auth);
}

bool
auth_make_first_user(struct auth *auth, struct view name, struct view password, uint64_t vhost,
                     bool *out_made, struct err *err)
{
    char hash[PASSWORD_TEXT_MAX];
    struct metadata_user row = {
        .name = name,
        .hashing_algorithm = VIEW_LIT(PASSWORD_SCRYPT),
        .tags = VIEW_LIT("administrator"),
    };
    struct metadata_permission everything = {name, vhost, VIEW_LIT(".*"), VIEW_LIT(".*"),
                                             VIEW_LIT(".*")};

    *out_made = false;
    if (auth->had_users || auth->users.count > 0)
        return true;
    if (!password_make(PASSWORD_SCRYPT, password, hash))
        return err_set(err, INTERNAL_ERROR, "no password can be hashed");
    row.password_hash = view_str(hash);
    *out_made =
        auth_put_user(auth, &row, NULL, err) && auth_put_permission(auth, &everything, NULL, err);
    return *out_made;
}

/* --- looking --------------------------------------------------------------------------------- */

bool
auth_has_user(struct auth *auth, struct view name)
{
    return auth_user_number(auth, name) != 0;
}

uint32_t
auth_user_number(struct auth *auth, struct view name)
{
    const struct user *user;
    uint32_t number;

    auth_read_lock(auth);
    user = auth_find_user(auth, name);
    number = user != NULL ? user->number : 0;
    auth_unlock(auth);
    return number;
}

/* Of a list by commas. */
static bool
has_word(struct view list, struct view word)
{
    while (list.len > 0) {
        const uint8_t *comma = memchr(list.at, ',', list.len);
        size_t len = comma != NULL ? (size_t)(comma - list.at) : list.len;

        if (view_equal(view_of(list.at, len), word))
            return true;
        len += comma != NULL;
        list = view_of(list.at + len, list.len - len);
    }
    return false;
}

bool
auth_has_tag(struct auth *auth, struct view name, struct view tag)
{
    const struct user *user;
    bool has;

    auth_read_lock(auth);
    user = auth_find_user(auth, name);
    has = user != NULL && has_word(user->row.tags, tag);
    auth_unlock(auth);
    return has;
}

static struct view
rule_text(const struct rule *rule)
{
    return view_of(rule->text, rule->len);
}

static bool
walk_grant(const struct user *user, const struct grant *grant, enum metadata_table table,
           metadata_each *each, void *arg, struct err *err)
{
    const struct rule *rules = grant->rules;
    union metadata_row row;

    if (table == METADATA_permissions) {
        row.permission = (struct metadata_permission){
            user->row.name, grant->vhost, rule_text(&rules[AUTH_CONFIGURE]),
            rule_text(&rules[AUTH_WRITE]), rule_text(&rules[AUTH_READ])};
        return !grant->may_enter || each(arg, &row, err);
    }
    for (struct map_node *at = NULL; (at = map_next(&grant->topics, at)) != NULL;) {
        const struct topic *topic = container_of(at, struct topic, node);

        row.topic_permission = (struct metadata_topic_permission){
            user->row.name, grant->vhost, topic->node.key, rule_text(&topic->rules[AUTH_WRITE]),
            rule_text(&topic->rules[AUTH_READ])};
        if (!each(arg, &row, err))
            return false;
    }
    return true;
}

static bool
walk_user(const struct user *user, enum metadata_table table, metadata_each *each, void *arg,
          struct err *err)
{
    union metadata_row row = {.user = user->row};

    if (table == METADATA_users)
        return each(arg, &row, err);
    for (struct map_node *at = NULL; (at = map_next(&user->grants, at)) != NULL;)
        if (!walk_grant(user, container_of(at, struct grant, node), table, each, arg, err))
            return false;
    return true;
}

bool
auth_walk(struct auth *auth, enum metadata_table table, metadata_each *each, void *arg,
          struct err *err)
{
    bool ok = true;

    assert(table == METADATA_users || table == METADATA_permissions ||
           table == METADATA_topic_permissions);
    auth_read_lock(auth);
    for (struct map_node *at = NULL; ok && (at = map_next(&auth->users, at)) != NULL;)
        ok = walk_user(container_of(at, struct user, node), table, each, arg, err);
    auth_unlock(auth);
    return ok;
}

/* --- verdicts -------------------------------------------------------------------------------- */

/* Read lock held. */
static const struct grant *
grant_of(const struct auth *auth, struct view name, uint64_t vhost)
{
    const struct user *user = auth_find_user(auth, name);

    return user != NULL ? find_grant(user, vhost) : NULL;
}

bool
auth_may_enter(struct auth *auth, struct view user, uint64_t vhost)
{
    return auth_enter(auth, user, vhost) != 0;
}

uint32_t
auth_enter(struct auth *auth, struct view user, uint64_t vhost)
{
    const struct grant *grant;
    uint32_t number;

    auth_read_lock(auth);
    grant = grant_of(auth, user, vhost);
    number = grant != NULL && grant->may_enter ? grant->number : 0;
    auth_unlock(auth);
    return number;
}

bool
auth_may(struct auth *auth, struct view user, uint64_t vhost, enum auth_permission permission,
         struct view name)
{
    const struct grant *grant;
    bool may;

    auth_read_lock(auth);
    grant = grant_of(auth, user, vhost);
    may = grant != NULL && grant->may_enter && rule_matches(&grant->rules[permission], name);
    auth_unlock(auth);
    return may;
}

bool
auth_has_topics(struct auth *auth, struct view user, uint64_t vhost)
{
    const struct grant *grant;
    bool has;

    auth_read_lock(auth);
    grant = grant_of(auth, user, vhost);
    has = grant != NULL && grant->topics.count > 0;
    auth_unlock(auth);
    return has;
}

bool
auth_may_topic(struct auth *auth, struct view user, uint64_t vhost, const char *vhost_name,
               enum auth_permission permission, struct view exchange, struct view routing_key)
{
    const struct rule_words words = {.username = user, .vhost = view_str(vhost_name)};
    const struct grant *grant;
    const struct topic *topic;
    bool may;

    auth_read_lock(auth);
    grant = grant_of(auth, user, vhost);
    topic = grant != NULL ? find_topic(grant, exchange) : NULL;
    may = topic == NULL || rule_matches_expanded(&topic->rules[permission], &words, routing_key);
    auth_unlock(auth);
    return may;
}
