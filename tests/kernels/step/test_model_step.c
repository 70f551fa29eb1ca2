/* test_model_step.c: a decode step on a program's own memory, on the host, against the stages' references one by one. */
#include "core/contract/adamas.h"

#include "kernels/attention/attention.h"
#include "kernels/distance/asym4.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"
#include "tests/support/stage_check.h"

enum { MAX_D = 256, N_Q = 6, N_KV = 2, GROUP = N_Q / N_KV, BATCH = 3, CAPACITY = 160, BUDGET = 48, GUARD = 64 };

static unsigned char k[BATCH * N_KV * CAPACITY * MAX_D * 4], v[sizeof k], q[BATCH * N_Q * MAX_D * 4];
static unsigned char k_new[BATCH * N_KV * MAX_D * 4], v_new[sizeof k_new], out[sizeof q + GUARD];
static uint8_t codes[BATCH * N_KV * CAPACITY * MAX_D / 4];
static uint32_t index_of[BATCH][N_Q][BUDGET], count_of[BATCH][N_Q];
static float channels[N_KV][4][MAX_D]; /* of head_dim 256; others have [N_KV][4][d] of them */
static const uint32_t length[BATCH] = {CAPACITY, 0, 77};

static adm_model_step step_of(uint32_t d, adm_dtype dtype, adm_selection selection, adm_code_metric metric) {
    return (adm_model_step){.shape = {N_Q, N_KV, d},
                            .dtype = dtype,
                            .batch = BATCH,
                            .capacity = CAPACITY,
                            .rule = {.budget = BUDGET, .n_sinks = 2, .n_recent = 3},
                            .selection = selection,
                            .threshold = {-0.7f, 0.1f, 0.9f},
                            .scale = 0.11f,
                            .q = q,
                            .k_new = k_new,
                            .v_new = v_new,
                            .k = k,
                            .v = v,
                            .codes = codes,
                            .length = length,
                            .out = out,
                            .index = &index_of[0][0][0],
                            .n_selected = &count_of[0][0],
                            .metric = metric,
                            .channels = metric == ADM_METRIC_ASYM4 ? &channels[0][0][0] : NULL};
}

/* Random rows of `dtype`. */
static void fill(adm_rng *rng, adm_dtype dtype, size_t n, void *to) {
    float row[MAX_D];
    for (size_t at = 0; at < n; at += MAX_D) {
        for (size_t i = 0; i < MAX_D; i++) row[i] = (float)adm_rng_normal(rng);
        adm_from_f32(dtype, row, n - at < MAX_D ? n - at : MAX_D, (char *)to + at * adm_dtype_bytes(dtype));
    }
}

/* Thresholds that ascend, and scales, of every channel. */
static void fill_channels(adm_rng *rng, uint32_t d) {
    for (uint32_t h = 0; h < N_KV; h++)
        for (uint32_t c = 0; c < d; c++) {
            float *at = &channels[0][0][0] + 4 * h * d + c, centre = (float)(adm_rng_normal(rng) * 0.3);
            for (uint32_t i = 0; i < 3; i++) at[i * d] = centre + (float)i * 0.8f - 0.8f;
            at[3 * d] = 0.5f + (float)c / (float)d;
        }
}

static const unsigned char *row_of(const adm_model_step *s, const void *x, size_t row) {
    return (const unsigned char *)x + row * s->shape.head_dim * adm_dtype_bytes(s->dtype);
}

static void encode(const adm_model_step *s, uint32_t head, bool is_query, const void *x, uint8_t *packed) {
    const uint32_t d = s->shape.head_dim;
    float y[MAX_D];
    uint8_t code[MAX_D];
    adm_hadamard_reference(s->dtype, x, 1, d, y);
    if (s->metric == ADM_METRIC_ASYM4) {
        const float *t = s->channels + 4 * head * d;
        if (is_query) adm_asym4_query(y, t + 3 * d, d, packed);
        else adm_encode_reference(y, 1, d, t, 2, packed);
        return;
    }
    adm_bucket_reference(y, s->shape.head_dim, s->threshold, code);
    adm_pack_reference(code, 1, s->shape.head_dim, packed);
}

/* One query head of a sequence: its tokens and output by the references, from K and V as the step left them. */
static void expect_head(const adm_model_step *s, uint32_t b, uint32_t h, uint32_t *index, float *expected) {
    const uint32_t d = s->shape.head_dim, n = length[b], first = s->selection == ADM_SELECT_GROUP ? h / GROUP * GROUP : h;
    const uint32_t last = s->selection == ADM_SELECT_GROUP ? first + GROUP : h + 1;
    const size_t kv_row = (size_t)b * N_KV + h / GROUP;
    const bool is_asym4 = s->metric == ADM_METRIC_ASYM4;
    const uint32_t largest = (is_asym4 ? 24 : 3) * d * (last - first);
    uint16_t sum[CAPACITY] = {0};
    uint32_t histogram[24 * MAX_D * GROUP + 1];
    double score[CAPACITY];
    for (uint32_t g = first; g < last; g++) {
        uint8_t query[MAX_D / 2], key[MAX_D / 4];
        encode(s, h / GROUP, true, row_of(s, q, (size_t)b * N_Q + g), query);
        for (uint32_t t = 0; t < n; t++) {
            uint16_t distance;
            encode(s, h / GROUP, false, row_of(s, k, kv_row * CAPACITY + t), key);
            assert_memory_equal(key, codes + (kv_row * CAPACITY + t) * d / 4, d / 4);
            (is_asym4 ? adm_distance_asym4_reference : adm_distance_reference)(query, key, 1, d, &distance);
            sum[t] = (uint16_t)(sum[t] + distance);
        }
    }
    const uint32_t n_selected = adm_topk_reference(sum, n, largest, &s->rule, histogram, index, NULL);
    assert_int_equal(n_selected, n < BUDGET ? n : BUDGET);
    adm_attention_reference(s->dtype, row_of(s, q, (size_t)b * N_Q + h), row_of(s, k, kv_row * CAPACITY),
                            row_of(s, v, kv_row * CAPACITY), index, n_selected, d, (double)s->scale, score, expected);
}

static void check_step(const adm_model_step *s) {
    const uint32_t d = s->shape.head_dim, rows = s->selection == ADM_SELECT_GROUP ? N_KV : N_Q;
    for (uint32_t b = 0; b < BATCH; b++)
        for (uint32_t h = 0; h < N_Q; h++) {
            uint32_t index[BUDGET];
            float expected[MAX_D] = {0}, got[MAX_D];
            check_case("d=%u dtype=%s selection=%s %s sequence=%u head=%u", d, adm_dtype_name(s->dtype),
                       adm_selection_name(s->selection), s->channels != NULL ? "asym4" : "l1", b, h);
            adm_to_f32(s->dtype, row_of(s, out, (size_t)b * N_Q + h), d, got);
            const size_t selection = (size_t)b * rows + (rows == N_KV ? h / GROUP : h);
            assert_int_equal((&count_of[0][0])[selection], length[b] < BUDGET ? length[b] : BUDGET);
            if (length[b] == 0) {
                assert_memory_equal(got, expected, d * sizeof *got);
                continue;
            }
            expect_head(s, b, h, index, expected);
            const uint32_t *found = &index_of[0][0][0] + selection * BUDGET;
            assert_memory_equal(found, index, (length[b] < BUDGET ? length[b] : BUDGET) * sizeof *index);
            const double limit = s->dtype == ADM_F32 ? 1e-6 : s->dtype == ADM_F16 ? 0x1p-11 : 0x1p-8; /* its rounding */
            assert_true(check_relative_l2(got, expected, d) <= limit);
        }
}

static void a_step_is_its_stages(void **state) {
    static const uint32_t dims[] = {64, 128, 256};
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int i = 0; i < 36; i++) {
        const adm_model_step s = step_of(dims[i % 3], (adm_dtype)(i / 3 % 3),
                                         i / 9 % 2 == 0 ? ADM_SELECT_HEAD : ADM_SELECT_GROUP,
                                         i < 18 ? ADM_METRIC_L1 : ADM_METRIC_ASYM4);
        const size_t d = s.shape.head_dim, bytes = adm_dtype_bytes(s.dtype);
        uint32_t before[BATCH];
        adm_error err = {0};
        fill_channels(&rng, s.shape.head_dim);
        fill(&rng, s.dtype, BATCH * N_KV * CAPACITY * d, k);
        fill(&rng, s.dtype, BATCH * N_KV * CAPACITY * d, v);
        fill(&rng, s.dtype, BATCH * N_Q * d, q);
        fill(&rng, s.dtype, BATCH * N_KV * d, k_new);
        fill(&rng, s.dtype, BATCH * N_KV * d, v_new);
        memset(codes, CHECK_CANARY, sizeof codes);
        memset(out, CHECK_CANARY, sizeof out);
        adm_model_step prompt = s;
        for (int b = 0; b < BATCH; b++) before[b] = length[b] > 0 ? length[b] - 1 : 0;
        prompt.length = before;
        if (adm_model_encode_host(&prompt, &err) != ADM_OK || adm_model_step_host(&s, &err) != ADM_OK) fail_msg("%s", err.text);
        for (size_t row = 0; row < BATCH * N_KV; row++)
            for (int x = 0; x < 2 && length[row / N_KV] > 0; x++)
                assert_memory_equal(row_of(&s, x ? v : k, row * CAPACITY + length[row / N_KV] - 1),
                                    row_of(&s, x ? v_new : k_new, row), d * bytes);
        check_step(&s);
        for (size_t byte = BATCH * N_Q * d * bytes; byte < sizeof out; byte++) assert_int_equal(out[byte], CHECK_CANARY);
        for (size_t byte = ((size_t)2 * N_KV * CAPACITY + 77) * d / 4; byte < ((size_t)2 * N_KV + 1) * CAPACITY * d / 4; byte++)
            assert_int_equal(codes[byte], CHECK_CANARY); /* behind the length */
    }
}

static void what_is_no_step_says_why(void **state) {
    static const uint32_t long_length[BATCH] = {CAPACITY, CAPACITY + 1, 1};
    (void)state;
    adm_error err;
    adm_model_step s = step_of(64, ADM_F32, ADM_SELECT_HEAD, ADM_METRIC_L1);
    s.shape.head_dim = 96;
    assert_int_equal(adm_model_step_host(&s, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "96"));
    s = step_of(64, ADM_F32, ADM_SELECT_HEAD, ADM_METRIC_L1);
    s.rule.budget = 4;
    assert_int_equal(adm_model_step_host(&s, &err), ADM_EINPUT);
    s = step_of(64, ADM_F32, ADM_SELECT_HEAD, ADM_METRIC_L1);
    s.length = long_length;
    assert_int_equal(adm_model_step_host(&s, &err), ADM_EINPUT);
    assert_string_equal(err.text, "sequence 1 has 161 tokens, and the cache has room for 160");
    assert_int_equal(adm_model_encode_host(&s, &err), ADM_EINPUT);
    s = step_of(64, ADM_F32, ADM_SELECT_HEAD, ADM_METRIC_ASYM4);
    s.channels = NULL;
    assert_int_equal(adm_model_step_host(&s, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "asym4, which needs them"));
    s.metric = ADM_METRIC_DOT;
    assert_int_equal(adm_model_encode_host(&s, &err), ADM_EINPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_its_stages),
        cmocka_unit_test(what_is_no_step_says_why),
    };
    return cmocka_run_group_tests_name("model_step", tests, NULL, NULL);
}
