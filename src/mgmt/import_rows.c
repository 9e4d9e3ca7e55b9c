/* What becomes a row of the metadata: vhosts, users and their permissions, policies, parameters. */
#include "import_priv.h"
#include "lepus/broker/policy.h"

#include "lepus/auth/password.h"

/* --- vhosts and users -------------------------------------------------------------------- */

/* Of the default queue type, words for none. */
static struct view
take_queue_type(struct import *in, const json_t *object)
{
    struct view type;

    if (json_is_null(json_object_get(object, "default_queue_type")))
        return VIEW_LIT("");
    type = take_text(in, object, "default_queue_type", "");
    return view_equal(type, VIEW_LIT("undefined")) ? VIEW_LIT("") : type;
}

/* 3.x says these in "metadata", 4.x there and beside it. */
static const json_t *
where(const json_t *object, const json_t *metadata, const char *member)
{
    return json_object_get(metadata, member) != NULL ? metadata : object;
}

static const char *const vhost_columns[] = {"name",    "description", "tags", "default_queue_type",
                                            "tracing", "metadata",    NULL};
static const char *const vhost_known[] = {"limits", "protected_from_deletion", "cluster_state",
                                          NULL};
static const char *const metadata_columns[] = {"description", "tags", "default_queue_type", NULL};
static const char *const metadata_known[] = {"protected_from_deletion", "tracing", NULL};

static void
put_vhost(struct import *in, const json_t *object, struct view name, json_t *others)
{
    const json_t *metadata = take_object(in, object, "metadata");
    json_t *inner = json_object();
    struct metadata_vhost row = {
        .name = name,
        .description = take_text(in, where(object, metadata, "description"), "description", ""),
        .tags = take_tags(in, where(object, metadata, "tags")),
        .default_queue_type = take_queue_type(in, where(object, metadata, "default_queue_type")),
        .tracing = take_flag(in, object, "tracing", false),
    };
    size_t before = json_path_enter(&in->path, "metadata", strlen("metadata"));
    struct err err;

    keep_others(in, inner, metadata, metadata_columns, metadata_known);
    row.metadata = take_others(in, inner, others);
    json_path_leave(&in->path, before);
    if (!in->is_bad && !topology_put_vhost(in->definitions->topology, &row, NULL, &err))
        say(in, DEFINITIONS_ERROR, "%s", err.text);
}

void
take_vhost(struct import *in, const json_t *object)
{
    struct view name = take_name(in, object, "name", NULL);
    json_t *others = json_object();

    keep_others(in, others, object, vhost_columns, vhost_known);
    put_vhost(in, object, name, others);
}

/* The document of one vhost that knows its name says of the vhost what else "vhosts" would. */
void
take_the_vhost(struct import *in)
{
    const json_t *limits = json_object_get(in->document, "limits");
    json_t *others = json_object();

    in->is_bad = false;
    if (limits != NULL)
        json_object_set(others, "limits", (json_t *)(uintptr_t)limits);
    put_vhost(in, in->document, in->vhost, others);
    in->counts->objects += !in->is_bad;
}

/* RabbitMQ has told the algorithm since 3.6.1; before 3.6.0 there was MD5 only. */
static const char *
algorithm_by_version(const json_t *document)
{
    const json_t *version = json_object_get(document, "rabbit_version");
    int major, minor;

    if (version == NULL)
        version = json_object_get(document, "rabbitmq_version");
    if (json_is_string(version) &&
        sscanf(json_string_value(version), "%d.%d", &major, &minor) == 2 &&
        (major < 3 || (major == 3 && minor < 6)))
        return "rabbit_password_hashing_md5";
    return "rabbit_password_hashing_sha256";
}

static bool
is_base64(struct view v)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = v.len;

    if (n % 4 != 0)
        return false;
    for (int i = 0; i < 2 && n > 0 && v.at[n - 1] == '='; i++)
        n--;
    while (n > 0 && v.at[n - 1] != '\0' && strchr(digits, v.at[n - 1]) != NULL)
        n--;
    return n == 0;
}

/* A hash is not repeated in a line. */
static struct view
take_hash(struct import *in, const json_t *object)
{
    const json_t *value = json_object_get(object, "password_hash");

    if (value == NULL || (json_is_string(value) && is_base64(json_view(value))))
        return value != NULL ? json_view(value) : VIEW_LIT("");
    say_of(in, "password_hash", "expected text in base64, found something else");
    return VIEW_LIT("");
}

static struct view
take_algorithm(struct import *in, const json_t *object)
{
    struct view name =
        take_text(in, object, "hashing_algorithm", algorithm_by_version(in->document));

    if (!in->is_bad && !password_is_known(name))
        say_unlike(in, "hashing_algorithm",
                   "rabbit_password_hashing_sha256, _sha512, _md5 or " PASSWORD_SCRYPT,
                   json_object_get(object, "hashing_algorithm"));
    return name;
}

/* What is kept of a user's password. */
struct secret {
    struct view user; /* whose */
    char algorithm[64], hash[PASSWORD_TEXT_MAX];
};

static bool
find_secret(void *arg, const union metadata_row *row, struct err *err)
{
    struct secret *secret = arg;

    (void)err;
    if (view_equal(row->user.name, secret->user)) {
        snprintf(secret->algorithm, sizeof(secret->algorithm), VIEW_FMT,
                 VIEW_ARG(row->user.hashing_algorithm));
        snprintf(secret->hash, sizeof(secret->hash), VIEW_FMT, VIEW_ARG(row->user.password_hash));
    }
    return true;
}

/* Written by hand, a document may have passwords themselves. One that the user has already keeps
 * its hash, whose salt would be another; so to import it again changes nothing. */
static void
take_password(struct import *in, const json_t *object, struct metadata_user *row,
              struct secret *secret)
{
    const json_t *value = json_object_get(object, "password");
    struct err err;

    if (!json_is_string(value)) {
        say_of(in, "password", "expected text, found something else");
        return;
    }
    if (json_object_get(object, "password_hash") != NULL) {
        say_of(in, "password", "expected either this or a password_hash, found both");
        return;
    }
    *secret = (struct secret){.user = row->name};
    auth_walk(in->definitions->auth, METADATA_users, find_secret, secret, &err);
    if (!password_is_right(view_str(secret->algorithm), view_str(secret->hash), json_view(value))) {
        snprintf(secret->algorithm, sizeof(secret->algorithm), PASSWORD_SCRYPT);
        secret->hash[0] = '\0';
        if (json_string_length(value) > 0 &&
            !password_make(secret->algorithm, json_view(value), secret->hash))
            say_of(in, "password", "cannot be hashed");
    }
    row->hashing_algorithm = view_str(secret->algorithm);
    row->password_hash = view_str(secret->hash);
}

/* Whole numbers, and none but these. */
static void
check_limits(struct import *in, const json_t *object, const char *const *known)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (is_one_of(name, strlen(name), known) && !json_is_integer(value))
            say_unlike(in, name, "a whole number", value);
    }
}

static const char *const user_columns[] = {
    "name", "password", "password_hash", "hashing_algorithm", "tags", "limits", NULL};
static const char *const no_names[] = {NULL};
static const char *const user_limits[] = {"max-connections", "max-channels", NULL};

void
take_user(struct import *in, const json_t *object)
{
    struct definitions *definitions = in->definitions;
    json_t *inner = json_object(), *others = json_object();
    struct metadata_user row = {
        .name = take_name(in, object, "name", NULL),
        .password_hash = take_hash(in, object),
        .hashing_algorithm = take_algorithm(in, object),
        .tags = take_tags(in, object),
    };
    struct secret secret;
    struct err err;

    if (!in->is_bad && json_object_get(object, "password") != NULL)
        take_password(in, object, &row, &secret);
    keep_others(in, others, object, user_columns, no_names);
    keep_others(in, inner, take_object(in, object, "limits"), no_names, user_limits);
    check_limits(in, inner, user_limits);
    row.limits = take_others(in, inner, others);
    if (!in->is_bad && row.name.len == 0)
        say_of(in, "name", "expected a name, found an empty one");
    if (in->is_bad)
        return;
    if (auth_put_user(definitions->auth, &row, NULL, &err))
        definitions_apply_user(definitions->topology, &row);
    else
        say(in, DEFINITIONS_ERROR, "%s", err.text);
}

/* The name of a user that exists. */
static struct view
take_user_name(struct import *in, const json_t *object)
{
    struct view name = take_text(in, object, "user", NULL);

    if (json_is_string(json_object_get(object, "user")) &&
        !auth_has_user(in->definitions->auth, name))
        say_unlike(in, "user", "a user that exists", json_object_get(object, "user"));
    return name;
}

void
take_permission(struct import *in, const json_t *object)
{
    struct metadata_permission row = {
        .user = take_user_name(in, object),
        .vhost = id_of(find_vhost(in, object)),
        .configure = take_text(in, object, "configure", NULL),
        .write = take_text(in, object, "write", NULL),
        .read = take_text(in, object, "read", NULL),
    };
    struct err err;

    warn_others(in, object,
                (const char *const[]){"user", "vhost", "configure", "write", "read", NULL});
    if (!in->is_bad && !auth_put_permission(in->definitions->auth, &row, NULL, &err))
        say(in, DEFINITIONS_ERROR, "%s", err.text);
}

void
take_topic_permission(struct import *in, const json_t *object)
{
    struct metadata_topic_permission row = {
        .user = take_user_name(in, object),
        .vhost = id_of(find_vhost(in, object)),
        .exchange = take_name(in, object, "exchange", NULL),
        .write = take_text(in, object, "write", NULL),
        .read = take_text(in, object, "read", NULL),
    };
    struct err err;

    warn_others(in, object,
                (const char *const[]){"user", "vhost", "exchange", "write", "read", NULL});
    if (!in->is_bad && !auth_put_topic_permission(in->definitions->auth, &row, NULL, &err))
        say(in, DEFINITIONS_ERROR, "%s", err.text);
}

/* --- policies and parameters ------------------------------------------------------------- */

/* RabbitMQ writes some of its objects as a list of pairs: [["max-length", 10], ...]. */
static json_t *
object_of_pairs(const json_t *list)
{
    json_t *object = json_object(), *pair;
    const json_t *name;
    size_t i;

    json_array_foreach(list, i, pair)
    {
        name = json_array_get(pair, 0);
        if (json_array_size(pair) != 2 || !json_is_string(name) ||
            json_object_getn(object, json_string_value(name), json_string_length(name)) != NULL) {
            json_decref(object);
            return NULL;
        }
        json_object_setn(object, json_string_value(name), json_string_length(name),
                         json_array_get(pair, 1));
    }
    return object;
}

/* As a json column; the caller frees. */
static char *
take_definition(struct import *in, const json_t *object)
{
    const json_t *definition = json_object_get(object, "definition");
    json_t *made = json_is_array(definition) ? object_of_pairs(definition) : NULL;
    char *text = NULL;

    if (json_is_object(definition) || made != NULL)
        text = json_text(made != NULL ? made : definition);
    else
        say_unlike(in, "definition", "an object", definition);
    json_decref(made);
    return text;
}

/* RabbitMQ would not take these: the rest of the policy holds all the same. */
static void
warn_unknown_keys(struct import *in, const char *text, bool is_operator)
{
    json_error_t ignored;
    json_t *definition = json_of_text(view_str(text), &ignored), *value;
    const char *name;
    size_t n;

    json_object_keylen_foreach(definition, name, n, value)
    {
        if (!policy_knows_key(view_of(name, n), is_operator))
            say(in, DEFINITIONS_WARNING, "definition: '%.*s' is no setting of %s: kept, unused",
                (int)n, name, is_operator ? "operator policies" : "policies");
    }
    json_decref(definition);
}

/* What may be inside a "policy", whose members stand in `object`. */
static void
put_policy(struct import *in, const json_t *object, struct vhost *vhost, struct view name,
           bool is_operator)
{
    static const char *const things[] = {"all",           "queues",  "exchanges", "classic_queues",
                                         "quorum_queues", "streams", NULL};
    struct policy_spec spec = {
        .name = name,
        .is_operator = is_operator,
        .pattern = take_text(in, object, "pattern", NULL),
        .apply_to = take_text(in, object, "apply-to", "all"),
        .priority = take_number(in, object, "priority", 0),
    };
    char *text = take_definition(in, object);
    struct err err;

    if (!is_one_of((const char *)spec.apply_to.at, spec.apply_to.len, things))
        say_unlike(in, "apply-to", "all, queues, exchanges or a kind of queues",
                   json_object_get(object, "apply-to"));
    if (text != NULL && !in->is_bad) {
        spec.definition = view_str(text);
        warn_unknown_keys(in, text, is_operator);
        if (!policy_put(vhost, &spec, POLICY_KEEPS_UNKNOWN, NULL, &err))
            say(in, DEFINITIONS_ERROR, "%s", err.text);
    }
    free(text);
}

void
take_policy(struct import *in, const json_t *object)
{
    warn_others(in, object,
                (const char *const[]){"vhost", "name", "pattern", "apply-to", "priority",
                                      "definition", NULL});
    put_policy(in, object, find_vhost(in, object), take_name(in, object, "name", NULL), false);
}

/* A policy in the dress of a parameter. */
static void
take_policy_parameter(struct import *in, const json_t *object, struct vhost *vhost,
                      const struct metadata_parameter *row)
{
    const json_t *value = json_object_get(object, "value");
    size_t before;

    if (!json_is_object(value)) {
        say_unlike(in, "value", "an object", value);
        return;
    }
    before = json_path_enter(&in->path, "value", strlen("value"));
    warn_others(in, value,
                (const char *const[]){"pattern", "apply-to", "priority", "definition", NULL});
    put_policy(in, value, vhost, row->name,
               view_equal(row->component, VIEW_LIT("operator_policy")));
    json_path_leave(&in->path, before);
}

void
take_parameter(struct import *in, const json_t *object)
{
    struct vhost *vhost = find_vhost(in, object);
    struct metadata_parameter row = {
        .vhost = id_of(vhost),
        .component = take_text(in, object, "component", NULL),
        .name = take_text(in, object, "name", NULL),
    };
    char *text;

    warn_others(in, object, (const char *const[]){"vhost", "component", "name", "value", NULL});
    if (view_equal(row.component, VIEW_LIT("operator_policy")) ||
        view_equal(row.component, VIEW_LIT("policy"))) {
        take_policy_parameter(in, object, vhost, &row);
        return;
    }
    if (view_equal(row.component, VIEW_LIT(VHOST_LIMITS)))
        check_limits(in, take_object(in, object, "value"),
                     (const char *const[]){"max-connections", "max-queues", NULL});
    text = take_json(in, object, "value");
    if (text != NULL && !in->is_bad) {
        row.value = view_str(text);
        metadata_put_parameter(in->definitions->metadata, &row);
        definitions_apply_parameter(in->definitions->topology, &row);
    }
    free(text);
}

void
take_global_parameter(struct import *in, const json_t *object)
{
    struct metadata_global_parameter row = {.name = take_text(in, object, "name", NULL)};
    char *text = take_json(in, object, "value");

    warn_others(in, object, (const char *const[]){"name", "value", NULL});
    if (text != NULL && !in->is_bad) {
        row.value = view_str(text);
        metadata_put_global_parameter(in->definitions->metadata, &row);
    }
    free(text);
}
