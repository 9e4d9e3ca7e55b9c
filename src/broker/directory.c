/* directory: the queues of a vhost, by name and by id: declared, found, removed. */
#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "arguments_priv.h"
#include "exchange_priv.h"
#include "lepus/wire/table.h"
#include "policy_priv.h"

bool
err_no_queue(struct err *err, const struct vhost *vhost, struct view name)
{
    return err_set(err, NOT_FOUND, "no queue '" VIEW_FMT "' in vhost '%s'", VIEW_ARG(name),
                   vhost->name);
}

static bool
err_locked(struct err *err, const struct queue_entry *queue)
{
    return err_set(err, RESOURCE_LOCKED,
                   "cannot obtain exclusive access to locked queue '" VIEW_FMT "' in vhost '%s'. "
                   "It could be originally declared on another connection or the exclusive "
                   "property value does not match that of the original declaration.",
                   VIEW_ARG(queue_entry_name(queue)), queue->vhost->name);
}

struct queue_entry *
vhost_find_queue(const struct vhost *vhost, struct view name)
{
    struct map_node *node = map_find(&vhost->queues, name);

    return node != NULL ? container_of(node, struct queue_entry, node) : NULL;
}

bool
queue_entry_may_use(const struct queue_entry *queue, uint64_t connection, struct err *err)
{
    return queue->owner == 0 || queue->owner == connection || err_locked(err, queue);
}

static void
tell(const struct queue_entry *queue, struct queue_found *out)
{
    out->ref = queue->ref;
    out->owner = queue->owner;
    out->durable = queue->durable;
    out->type = queue->type;
    out->ticket = queue->ticket;
    out->name_len = queue->name_len;
    memcpy(out->name, queue->name, (size_t)queue->name_len + 1);
}

/* --- declaring ----------------------------------------------------------------------------- */

enum { GENERATED_PREFIX = 8, GENERATED_LEN = GENERATED_PREFIX + 22 };

/* amq.gen- and 16 random octets in the alphabet of base64 that URLs may hold. */
static void
generate_name(char out[GENERATED_LEN])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[16 + 2] = {0}; /* the last two only feed the last digit */
    size_t got = 0;

    while (got < 16) {
        ssize_t n = getrandom(random + got, 16 - got, 0);

        assert(n > 0 || errno == EINTR);
        got += n > 0 ? (size_t)n : 0;
    }
    memcpy(out, "amq.gen-", GENERATED_PREFIX);
    for (size_t i = 0; i < GENERATED_LEN - GENERATED_PREFIX; i++) {
        size_t bit = 6 * i, shift = 16 - 6 - bit % 8;
        unsigned pair = (unsigned)random[bit / 8] << 8 | random[bit / 8 + 1];

        out[GENERATED_PREFIX + i] = digits[pair >> shift & 63];
    }
}

/* An exclusive queue lives where its connection does: what they say to each other is a call. */
static uint32_t
choose_shard(const struct topology *topology, struct view name, bool exclusive, unsigned worker)
{
    unsigned here = 0;

    if (exclusive && worker < topology->shards)
        here = (topology->shards - worker - 1) / topology->workers + 1; /* shards on that worker */
    if (here > 0)
        return worker + (uint32_t)(view_hash(name) % here) * topology->workers;
    return (uint32_t)(view_hash(name) % topology->shards);
}

static struct queue_entry *
make(struct vhost *vhost, const struct queue_ref *ref, const struct queue_spec *spec,
     uint64_t connection)
{
    struct topology *topology = vhost->topology;
    struct queue_entry *queue =
        mem_alloc_zero(sizeof(struct queue_entry) + spec->name.len + 1 + spec->arguments.len);

    assert(spec->name.len <= NAME_MAX_LEN && spec->arguments.len <= UINT32_MAX);
    queue->ref = *ref;
    queue->vhost = vhost;
    queue->owner = spec->exclusive ? connection : 0;
    queue->durable = spec->durable;
    queue->auto_delete = spec->auto_delete;
    queue->type = queue_arguments_type(spec->arguments);
    list_init(&queue->bound);
    queue->name_len = (uint8_t)spec->name.len;
    queue->arguments_len = (uint32_t)spec->arguments.len;
    memcpy(queue->name, spec->name.at, spec->name.len);
    if (spec->arguments.len > 0)
        memcpy(queue->name + spec->name.len + 1, spec->arguments.at, spec->arguments.len);
    map_add(&vhost->queues, &queue->node, queue_entry_name(queue));
    idmap_add(&topology->queues, queue->ref.id, queue);
    topology->counts.queues++;
    return queue;
}

static struct queue_entry *
make_new(struct vhost *vhost, const struct queue_spec *spec, uint64_t connection, unsigned worker)
{
    struct queue_ref ref = {
        .id = ++vhost->topology->last_id,
        .shard = choose_shard(vhost->topology, spec->name, spec->exclusive, worker),
    };
    struct queue_entry *queue = make(vhost, &ref, spec, connection);

    queue->ticket = durable_add_queue(queue);
    return queue;
}

bool
queue_entry_restore(struct vhost *vhost, const struct metadata_queue *row, struct err *err)
{
    struct queue_ref ref = {row->id, (uint32_t)row->shard};
    struct queue_spec spec = {
        .name = row->name,
        .durable = true,
        .auto_delete = row->auto_delete,
        .arguments = row->arguments,
    };

    if (row->shard >= vhost->topology->shards)
        return err_set(err, INTERNAL_ERROR, "its shard is %llu, and there are %u",
                       (unsigned long long)row->shard, vhost->topology->shards);
    if (row->name.len == 0 || row->name.len > NAME_MAX_LEN ||
        vhost_find_queue(vhost, row->name) != NULL)
        return err_set(err, INTERNAL_ERROR, "its name is empty, too long, or another's too");
    make(vhost, &ref, &spec, 0);
    return true;
}

static bool
check_same(const struct queue_entry *queue, const struct queue_spec *spec, uint64_t connection,
           struct err *err)
{
    struct thing thing = {"queue", queue_entry_name(queue), queue->vhost->name};

    if (queue->owner != (spec->exclusive ? connection : 0))
        return err_locked(err, queue);
    return check_same_flag(&thing, "durable", queue->durable, spec->durable, err) &&
           check_same_flag(&thing, "auto_delete", queue->auto_delete, spec->auto_delete, err) &&
           queue_arguments_same(&thing, queue_entry_arguments(queue), spec->arguments, err);
}

static bool
may_have_one_more(const struct vhost *vhost, struct view name, struct err *err)
{
    int64_t max = limits_queues(vhost->topology->limits, view_str(vhost->name));

    return max < 0 || vhost->queues.count < (uint64_t)max ||
           err_set(err, PRECONDITION_FAILED,
                   "cannot declare queue '" VIEW_FMT
                   "': queue limit in vhost '%s' (%lld) is reached",
                   VIEW_ARG(name), vhost->name, (long long)max);
}

static enum queue_declare_result
declare_locked(struct vhost *vhost, const struct queue_spec *spec, uint64_t connection,
               unsigned worker, struct queue_found *out, struct err *err)
{
    const struct queue_entry *queue = vhost_find_queue(vhost, spec->name);
    struct thing thing = {"queue", spec->name, vhost->name};

    if (queue != NULL) {
        if (!check_same(queue, spec, connection, err)) {
            if (err->code == RESOURCE_LOCKED)
                out->owner = queue->owner;
            return QUEUE_FAILED;
        }
        tell(queue, out);
        return QUEUE_FOUND;
    }
    if (!vhost_may_declare(vhost, err) || !queue_arguments_check(&thing, spec, err) ||
        !may_have_one_more(vhost, spec->name, err) || !durable_has_ids(vhost->topology, 1, err))
        return QUEUE_FAILED;
    tell(make_new(vhost, spec, connection, worker), out);
    topology_changed(vhost); /* the default exchange has one more */
    return QUEUE_CREATED;
}

static bool
has_type(struct view arguments)
{
    struct field type;

    return table_find(arguments, VIEW_LIT("x-queue-type"), &type);
}

/* One that is there without a type was declared before the vhost had a default. */
static void
take_default_type(const struct vhost *vhost, struct queue_spec *spec, struct buf *arguments)
{
    const struct queue_entry *queue;

    if (vhost->default_type == NULL || spec->is_typed || !spec->durable || spec->exclusive ||
        spec->auto_delete || has_type(spec->arguments))
        return;
    queue = vhost_find_queue(vhost, spec->name);
    if (queue != NULL && !has_type(queue_entry_arguments(queue)))
        return;
    buf_append(arguments, spec->arguments.at, spec->arguments.len);
    table_put_longstr(arguments, VIEW_LIT("x-queue-type"), view_str(vhost->default_type));
    spec->arguments = buf_view(arguments);
}

enum queue_declare_result
topology_declare_queue(struct vhost *vhost, const struct queue_spec *spec, uint64_t connection,
                       unsigned worker, struct queue_found *out, struct err *err)
{
    struct queue_spec wanted = *spec;
    enum queue_declare_result result;
    char room[NAME_MAX_LEN];
    struct buf arguments;

    wanted.name = name_clean(spec->name, room);
    wanted.is_typed |= wanted.name.len == 0 || spec->is_generated;
    wanted.durable = spec->durable && !spec->exclusive; /* it ends with its connection */
    if ((wanted.name.len == 0 || spec->is_generated) &&
        !queue_arguments_may_be_nameless(spec->arguments, err))
        return QUEUE_FAILED;
    if (wanted.name.len == 0) {
        generate_name(room);
        wanted.name = view_of(room, GENERATED_LEN);
    } else if (name_is_reserved(wanted.name) && !spec->may_be_reserved && !spec->is_generated) {
        err_set(err, ACCESS_REFUSED, "queue name '" VIEW_FMT "' contains reserved prefix 'amq.*'",
                VIEW_ARG(wanted.name));
        return QUEUE_FAILED;
    }
    buf_init(&arguments, SIZE_MAX / 2);
    topology_write_lock(vhost->topology);
    take_default_type(vhost, &wanted, &arguments);
    result = declare_locked(vhost, &wanted, connection, worker, out, err);
    topology_unlock(vhost->topology);
    buf_fini(&arguments);
    return result;
}

/* --- finding ------------------------------------------------------------------------------- */

bool
topology_find_queue(struct vhost *vhost, struct view name, uint64_t connection,
                    struct queue_found *out, struct err *err)
{
    const struct queue_entry *queue;
    char room[NAME_MAX_LEN];
    struct view cleaned = name_clean(name, room);
    bool ok;

    topology_read_lock(vhost->topology);
    queue = vhost_find_queue(vhost, cleaned);
    ok = queue != NULL && queue_entry_may_use(queue, connection, err);
    if (ok)
        tell(queue, out);
    else if (queue != NULL)
        out->owner = queue->owner;
    topology_unlock(vhost->topology);
    return ok || (queue != NULL ? false : err_no_queue(err, vhost, cleaned));
}

bool
topology_queue_describe(struct topology *topology, uint64_t id, struct queue_description *out)
{
    const struct exchange *exchange;
    const struct queue_entry *queue;

    topology_read_lock(topology);
    queue = idmap_find(&topology->queues, id);
    if (queue != NULL) {
        struct view arguments = queue_entry_arguments(queue);
        struct buf policy;

        buf_init(&policy, SIZE_MAX / 2);
        policies_say(queue->vhost, policy_target_of(arguments), queue_entry_name(queue), &policy,
                     NULL);
        *out = (struct queue_description){
            .ref = queue->ref,
            .vhost = queue->vhost,
            .name = view_dup(queue_entry_name(queue)),
            .name_len = queue->name_len,
            .durable = queue->durable,
            .auto_delete = queue->auto_delete,
            .type = queue->type,
            .exclusive = queue->owner != 0,
            .owner = queue->owner,
            .arguments = (uint8_t *)view_dup(arguments),
            .arguments_len = arguments.len,
            .policy = policy.at,
            .policy_len = policy.len,
            .ticket = queue->ticket,
        };
    }
    exchange = queue == NULL ? idmap_find(&topology->exchanges_with_queue, id) : NULL;
    if (exchange != NULL)
        *out = (struct queue_description){
            .ref = exchange_queue(exchange),
            .vhost = exchange->vhost,
            .name = view_dup(exchange_name(exchange)),
            .name_len = exchange->name_len,
            .durable = exchange->durable,
            .ticket = exchange->ticket,
            .arguments = (uint8_t *)view_dup(exchange_arguments(exchange)),
            .arguments_len = exchange->arguments_len,
            .delays = true,
            .passes_on = exchange->type->passes_on,
        };
    topology_unlock(topology);
    return queue != NULL || exchange != NULL;
}

void
topology_on_queue_gone(struct topology *topology, topology_queue_gone_fn *gone, void *arg)
{
    topology->queue_gone = gone;
    topology->queue_gone_arg = arg;
}

void
topology_each_durable_queue(struct topology *topology, void (*each)(void *arg, uint64_t id),
                            void *arg)
{
    const struct exchange *exchange;
    const struct queue_entry *queue;

    topology_read_lock(topology);
    for (size_t at = 0; (queue = idmap_next(&topology->queues, &at)) != NULL;)
        if (queue->durable)
            each(arg, queue->ref.id);
    for (size_t at = 0; (exchange = idmap_next(&topology->exchanges_with_queue, &at)) != NULL;)
        if (exchange->durable)
            each(arg, exchange->id);
    topology_unlock(topology);
}

void
topology_each_queue(struct vhost *vhost, void (*each)(void *arg, const struct queue_ref *queue),
                    void *arg)
{
    topology_read_lock(vhost->topology);
    for (struct map_node *at = NULL; (at = map_next(&vhost->queues, at)) != NULL;)
        each(arg, &container_of(at, struct queue_entry, node)->ref);
    topology_unlock(vhost->topology);
}

void
queue_description_fini(struct queue_description *description)
{
    free(description->name);
    free(description->arguments);
    free(description->policy);
    *description = (struct queue_description){0};
}

/* --- removing ------------------------------------------------------------------------------ */

void
queue_entry_remove(struct queue_entry *queue)
{
    struct vhost *vhost = queue->vhost;
    struct topology *topology = vhost->topology;
    struct list condemned;

    idmap_remove(&topology->queues, queue->ref.id);
    list_init(&condemned);
    while (!list_is_empty(&queue->bound))
        binding_remove(container_of(queue->bound.next, struct binding, to), &condemned);
    exchanges_execute(&condemned);
    durable_remove_queue(queue);
    map_remove(&vhost->queues, &queue->node);
    topology->counts.queues--;
    free(queue);
    topology_changed(vhost);
}

bool
topology_queue_remove(struct topology *topology, uint64_t id)
{
    struct queue_entry *queue;

    topology_write_lock(topology);
    queue = idmap_find(&topology->queues, id);
    if (queue != NULL)
        queue_entry_remove(queue);
    topology_unlock(topology);
    return queue != NULL;
}
