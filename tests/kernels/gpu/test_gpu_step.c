/* test_gpu_step.c: a decode step on a program's own memory (core/contract/model_step.h), on a GPU against the host: the
 * prompt's codes, then three tokens, each with the rows that the one before appended. */
#include "core/contract/model_step.h"

#include "kernels/attention/attention.h"
#include "kernels/gpu/memory.h"
#include "tests/support/need_gpu.h"

enum { N_STEPS = 3, MAX_BATCH = 3, POISON = 0xA5 };

typedef struct config {
    adm_shape shape;
    adm_dtype dtype;
    uint32_t batch, capacity, length[MAX_BATCH]; /* before the first of the steps */
    adm_select_rule rule;
    adm_selection selection;
    bool chained; /* no step of one launch takes it */
    adm_code_metric metric;
} config;

/* A buffer on both sides. */
typedef struct pair {
    size_t bytes;
    void *host, *device;
} pair;

enum { Q, K_NEW, V_NEW, K, V, CODES, LENGTH, OUT, INDEX, COUNTS, CHANNELS, N_PAIRS };

typedef struct sides {
    pair at[N_PAIRS];
    adm_model_step host, device;
    void *workspace;
} sides;

static void ok(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fail_msg("%s", err->text);
}

static void fill(adm_rng *rng, adm_dtype dtype, pair *p) {
    adm_error err;
    for (size_t i = 0; i < p->bytes / 2; i++) {
        const float value = (float)adm_rng_normal(rng);
        adm_from_f32(dtype, &value, 1, (char *)p->host + 2 * i);
    }
    ok(adm_gpu_write(p->device, p->host, p->bytes, &err), &err);
}

static adm_model_step step_of(const config *c, const sides *s, bool device) {
#define SIDE(x) (device ? s->at[x].device : s->at[x].host)
    return (adm_model_step){.shape = c->shape,
                            .dtype = c->dtype,
                            .batch = c->batch,
                            .capacity = c->capacity,
                            .rule = c->rule,
                            .selection = c->selection,
                            .threshold = {-0.4f, 0.05f, 0.5f},
                            .scale = 0.1f,
                            .q = SIDE(Q),
                            .k_new = SIDE(K_NEW),
                            .v_new = SIDE(V_NEW),
                            .k = SIDE(K),
                            .v = SIDE(V),
                            .codes = SIDE(CODES),
                            .length = SIDE(LENGTH),
                            .out = SIDE(OUT),
                            .index = SIDE(INDEX),
                            .n_selected = SIDE(COUNTS),
                            .metric = c->metric,
                            .channels = c->metric == ADM_METRIC_ASYM4 ? SIDE(CHANNELS) : NULL};
}

static size_t rows_of(const config *c) {
    return (size_t)c->batch * (c->selection == ADM_SELECT_GROUP ? c->shape.n_kv_heads : c->shape.n_q_heads);
}

static void create(const config *c, sides *s) {
    const size_t d = c->shape.head_dim, kv = (size_t)c->batch * c->shape.n_kv_heads, cache = kv * c->capacity * d;
    const size_t q_bytes = (size_t)c->batch * c->shape.n_q_heads * d * 2;
    const size_t bytes[N_PAIRS] = {q_bytes,
                                   kv * d * 2,
                                   kv * d * 2,
                                   cache * 2,
                                   cache * 2,
                                   cache / 4,
                                   c->batch * sizeof(uint32_t),
                                   q_bytes,
                                   rows_of(c) * c->rule.budget * sizeof(uint32_t),
                                   rows_of(c) * sizeof(uint32_t),
                                   (size_t)c->shape.n_kv_heads * 4 * d * sizeof(float)};
    adm_error err;
    for (int i = 0; i < N_PAIRS; i++) {
        s->at[i] = (pair){.bytes = bytes[i], .host = malloc(bytes[i])};
        assert_non_null(s->at[i].host);
        memset(s->at[i].host, POISON, bytes[i]);
        ok(adm_gpu_allocate(bytes[i], POISON, &s->at[i].device, &err), &err);
    }
    s->host = step_of(c, s, false);
    s->device = step_of(c, s, true);
    ok(adm_gpu_allocate(adm_model_step_workspace_bytes(&s->device), 0, &s->workspace, &err), &err);
}

static void destroy(sides *s) {
    for (int i = 0; i < N_PAIRS; i++) {
        free(s->at[i].host);
        adm_gpu_release(&s->at[i].device);
    }
    adm_gpu_release(&s->workspace);
}

/* Of each channel ascending thresholds and a scale. */
static void fill_channels(const config *c, adm_rng *rng, pair *p) {
    const size_t d = c->shape.head_dim;
    adm_error err;
    for (size_t at = 0; at < p->bytes / sizeof(float); at += at % d == d - 1 ? 3 * d + 1 : 1) {
        float *channel = (float *)p->host + at;
        for (size_t i = 0; i < 3; i++) channel[i * d] = (float)(adm_rng_normal(rng) * 0.1) + (float)i - 1.0f;
        channel[3 * d] = 0.5f + (float)(at % d) / (float)d;
    }
    ok(adm_gpu_write(p->device, p->host, p->bytes, &err), &err);
}

static void set_length(const config *c, sides *s, uint32_t more) {
    adm_error err;
    for (uint32_t b = 0; b < c->batch; b++)
        ((uint32_t *)s->at[LENGTH].host)[b] = c->length[b] == UINT32_MAX ? 0 : c->length[b] + more;
    ok(adm_gpu_write(s->at[LENGTH].device, s->at[LENGTH].host, s->at[LENGTH].bytes, &err), &err);
}

/* What the device wrote, [bytes]; the caller frees it. */
static void *read_back(const sides *s, int id) {
    adm_error err;
    void *got = malloc(s->at[id].bytes);
    assert_non_null(got);
    ok(adm_gpu_read(gpu, s->at[id].device, s->at[id].bytes, got, &err), &err);
    return got;
}

static void compare(const config *c, const sides *s) {
    void *k = read_back(s, K), *v = read_back(s, V), *out = read_back(s, OUT), *index = read_back(s, INDEX);
    void *counts = read_back(s, COUNTS);
    const size_t d = c->shape.head_dim;
    assert_memory_equal(k, s->at[K].host, s->at[K].bytes);
    assert_memory_equal(v, s->at[V].host, s->at[V].bytes);
    assert_memory_equal(index, s->at[INDEX].host, s->at[INDEX].bytes); /* what is not written is POISON on both sides */
    assert_memory_equal(counts, s->at[COUNTS].host, s->at[COUNTS].bytes);
    for (size_t row = 0; row < (size_t)c->batch * c->shape.n_q_heads; row++) {
        float got[ADM_MAX_HEAD_DIM], want[ADM_MAX_HEAD_DIM];
        adm_to_f32(c->dtype, (char *)out + row * d * 2, d, got);
        adm_to_f32(c->dtype, (char *)s->at[OUT].host + row * d * 2, d, want);
        assert_true(check_relative_l2(got, want, d) <= 2 * ADM_GPU_ATTENTION_TOLERANCE); /* both round */
    }
    free(k), free(v), free(out), free(index), free(counts);
}

static void check_config(const config *c, adm_rng *rng) {
    sides s;
    adm_error err;
    needs_gpu();
    check_case("%u/%u heads d=%u %s batch=%u budget=%u %s %s", c->shape.n_q_heads, c->shape.n_kv_heads, c->shape.head_dim,
               adm_dtype_name(c->dtype), c->batch, c->rule.budget, adm_selection_name(c->selection),
               c->metric == ADM_METRIC_ASYM4 ? "asym4" : "l1");
    create(c, &s);
    fill(rng, c->dtype, &s.at[K]);
    fill(rng, c->dtype, &s.at[V]);
    fill_channels(c, rng, &s.at[CHANNELS]);
    set_length(c, &s, 0);
    ok(adm_model_encode_host(&s.host, &err), &err);
    ok(adm_model_encode_cuda(&s.device, adm_gpu_stream_of(gpu), &err), &err);
    for (uint32_t i = 1; i <= N_STEPS; i++) {
        for (int id = Q; id <= V_NEW; id++) fill(rng, c->dtype, &s.at[id]);
        set_length(c, &s, i);
        ok(adm_model_step_host(&s.host, &err), &err);
        adm_status status = adm_model_step_cuda(&s.device, NULL, adm_gpu_stream_of(gpu), &err);
        assert_int_equal(status, c->chained && adm_gpu_device(gpu)->compute_major == 9 ? ADM_EUNSUPPORTED : status);
        if (status == ADM_EUNSUPPORTED) status = adm_model_step_cuda(&s.device, s.workspace, adm_gpu_stream_of(gpu), &err);
        ok(status, &err);
        compare(c, &s);
    }
    destroy(&s);
}

static void steps_are_the_hosts(void **state) {
    static const config configs[] = {
        {{9, 3, 64}, ADM_BF16, 1, 256, {250}, {64, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_L1},
        {{8, 2, 128}, ADM_F16, 3, 320, {317, UINT32_MAX, 40}, {48, 2, 5}, ADM_SELECT_HEAD, false, ADM_METRIC_L1},
        {{4, 1, 256}, ADM_BF16, 1, 160, {1}, {32, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_L1},
        {{4, 1, 64}, ADM_F16, 1, 16384, {16000}, {256, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_L1}, /* the grouped step */
        {{8, 2, 64}, ADM_F16, 2, 288, {280, 30}, {64, 0, 0}, ADM_SELECT_GROUP, false, ADM_METRIC_L1},
        {{16, 1, 64}, ADM_F16, 2, 288, {280, 30}, {64, 1, 3}, ADM_SELECT_GROUP, false, ADM_METRIC_L1},
        {{2, 1, 64}, ADM_F16, 1, 6016, {6000}, {4096, 1, 3}, ADM_SELECT_GROUP, true, ADM_METRIC_L1},
        {{9, 3, 64}, ADM_BF16, 1, 256, {250}, {64, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_ASYM4},
        {{8, 2, 128}, ADM_F16, 3, 320, {317, UINT32_MAX, 40}, {48, 2, 5}, ADM_SELECT_HEAD, false, ADM_METRIC_ASYM4},
        {{4, 1, 256}, ADM_F16, 1, 160, {1}, {32, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_ASYM4},
        {{8, 2, 64}, ADM_BF16, 2, 288, {280, 30}, {64, 1, 3}, ADM_SELECT_GROUP, false, ADM_METRIC_ASYM4},
    };
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) check_config(&configs[i], &rng);
}

static void what_the_kernels_do_not_take(void **state) {
    static const config odd = {{8, 2, 64}, ADM_F16, 1, 48, {40}, {16, 0, 0}, ADM_SELECT_HEAD, false, ADM_METRIC_L1};
    (void)state;
    adm_error err;
    needs_gpu();
    adm_model_step step = {.shape = odd.shape, .dtype = odd.dtype, .batch = 1, .capacity = 48, .rule = odd.rule};
    assert_int_equal(adm_model_step_cuda(&step, NULL, NULL, &err), ADM_EINPUT); /* no room for the tokens */
    step.index = step.n_selected = (uint32_t *)&step;
    assert_int_equal(adm_model_step_cuda(&step, NULL, NULL, &err), ADM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "48"));
    assert_int_equal(adm_model_encode_cuda(&step, NULL, &err), ADM_EUNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_kernels_do_not_take),
        cmocka_unit_test(steps_are_the_hosts),
    };
    return cmocka_run_group_tests_name("gpu_step", tests, open_gpu, close_gpu);
}
