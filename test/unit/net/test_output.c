#include "unit.h"

#include "lepus/base/mem.h"
#include "output_priv.h"

enum { MODEL_MAX = 4 << 20 };

struct model {
    uint8_t *bytes;
    size_t from, to;
    struct random random;
};

static void
write_some(struct output *out, struct model *model)
{
    size_t n = random_below(&model->random, 30) == 0 ? random_below(&model->random, 200000)
                                                     : random_below(&model->random, 3000);

    if (random_below(&model->random, 4) == 0) /* some are reserved and not used */
        output_make_room(out, random_below(&model->random, 100000));
    output_make_room(out, n);
    assert_true((size_t)(out->room.end - out->room.next) > n);
    for (size_t i = 0; i < n; i++)
        out->room.next[i] = model->bytes[model->to + i] = (uint8_t)random_u64(&model->random);
    out->room.next += n;
    model->to += n;
}

static void
put_some_blob(struct output *out, struct model *model)
{
    size_t size = 1 + random_below(&model->random, 40000), from, len;
    struct blob *blob = blob_new(size);

    for (size_t i = 0; i < size; i++)
        blob->bytes[i] = (uint8_t)random_u64(&model->random);
    blob->len = size;
    from = random_below(&model->random, size);
    len = 1 + random_below(&model->random, size - from);
    output_put_blob(out, blob, from, len);
    memcpy(model->bytes + model->to, blob->bytes + from, len);
    model->to += len;
    blob_unref(&blob);
}

static void
check(struct output *out, const struct model *model)
{
    struct iovec iov[64];
    size_t at = model->from;
    int n = output_gather(out, iov, 64);

    assert_int_equal(output_pending(out), model->to - model->from);
    assert_true(n <= 64);
    for (int i = 0; i < n; i++) {
        assert_true(iov[i].iov_len > 0 && iov[i].iov_len <= model->to - at);
        assert_memory_equal(iov[i].iov_base, model->bytes + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if (n < 64)
        assert_int_equal(at, model->to);
}

static void
random_steps_follow_the_model(void **state)
{
    struct chunk_pool pool = {0};
    struct model model = {.bytes = mem_alloc(MODEL_MAX), .random = {5}};
    struct output out;

    (void)state;
    output_init(&out, &pool);
    for (int step = 0; step < 4000; step++) {
        size_t waiting = model.to - model.from;

        if (model.to + 300000 > MODEL_MAX) {
            memmove(model.bytes, model.bytes + model.from, waiting);
            model.from = 0;
            model.to = waiting;
        }
        switch (random_below(&model.random, waiting > MODEL_MAX / 4 ? 1 : 4)) {
        case 0: {
            size_t n = random_below(&model.random, 3) == 0
                           ? waiting
                           : random_below(&model.random, waiting + 1);

            output_advance(&out, n);
            model.from += n;
            break;
        }
        case 1:
            put_some_blob(&out, &model);
            break;
        default:
            write_some(&out, &model);
            break;
        }
        check(&out, &model);
        if (model.to == model.from) {
            assert_null(out.pieces);
            assert_null(out.room.next);
        }
    }
    output_drop(&out);
    assert_int_equal(output_pending(&out), 0);
    assert_true(pool.count > 0 && pool.count <= CHUNKS_SPARE_MAX);
    chunk_pool_fini(&pool);
    free(model.bytes);
}

static void
blobs_are_held_until_they_are_out(void **state)
{
    struct chunk_pool pool = {0};
    struct blob *blob = blob_new(100);
    struct output out;

    (void)state;
    blob->len = 100;
    output_init(&out, &pool);
    output_put_blob(&out, blob, 0, 60);
    output_put_blob(&out, blob, 60, 40);
    assert_int_equal(atomic_load(&blob->refs), 3);
    output_advance(&out, 59);
    assert_int_equal(atomic_load(&blob->refs), 3);
    output_advance(&out, 1);
    assert_int_equal(atomic_load(&blob->refs), 2);
    output_drop(&out);
    assert_int_equal(atomic_load(&blob->refs), 1);
    blob_unref(&blob);
    chunk_pool_fini(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_follow_the_model),
        cmocka_unit_test(blobs_are_held_until_they_are_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
