/* test_gpu_decode.c: what a decode step does beside attention, on the GPU, against the host's references: every kernel by itself,
 * with 256 bytes watched behind what it writes. */
#include "kernels/decode/ops.h"
#include "kernels/gpu/input.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/plan.h"

#include <math.h>

#include "tests/support/need_gpu.h"

enum { GUARD_BYTES = 256 };

static void must(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fail_msg("%s", err->text);
}

static void *host_new(size_t bytes) {
    void *p = calloc(bytes > 0 ? bytes : 1, 1);
    assert_non_null(p);
    return p;
}

static uint16_t *halves(adm_rng *rng, size_t n, float scale) {
    uint16_t *x = host_new(n * 2);
    for (size_t i = 0; i < n; i++) x[i] = adm_f32_to_f16(((float)(adm_rng_u64(rng) >> 40) / 0x1p23f - 1) * 1.7320508f * scale);
    return x;
}

static float *floats(adm_rng *rng, size_t n) {
    float *x = host_new(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(adm_rng_u64(rng) >> 40) / 0x1p23f - 1;
    return x;
}

/* A copy on the device; host NULL: NaN. Behind it are guards. */
static void *device_new(const void *host, size_t bytes) {
    adm_error err = {0};
    void *device;
    must(adm_gpu_allocate(bytes + GUARD_BYTES, 0xff, &device, &err), &err);
    if (host != NULL) must(adm_gpu_write(device, host, bytes, &err), &err);
    return device;
}

/* What a kernel left there; fails if it wrote behind it. */
static void *fetch(const void *device, size_t bytes) {
    adm_error err = {0};
    unsigned char *host = host_new(bytes + GUARD_BYTES);
    must(adm_gpu_read(gpu, device, bytes + GUARD_BYTES, host, &err), &err);
    for (size_t i = 0; i < GUARD_BYTES; i++) assert_int_equal(host[bytes + i], 0xff);
    return host;
}

static void release(void *pointers[], size_t n) {
    for (size_t i = 0; i < n; i++) adm_gpu_release(&pointers[i]);
}

/* Relative L2 error; of NaN and infinity infinite. */
static double error_of(const float *got, const float *wanted, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        difference += ((double)got[i] - wanted[i]) * ((double)got[i] - wanted[i]);
        size += (double)wanted[i] * wanted[i];
    }
    return difference == 0 ? 0 : sqrt(difference / size);
}

/* A rounding to F16 is 2^-11 at most, and float32 sums differ from double ones by less. */
static void expect_halves(const void *got, const uint16_t *wanted, size_t n, const char *what) {
    float *a = host_new(n * 4), *b = host_new(n * 4);
    adm_to_f32(ADM_F16, got, n, a);
    adm_to_f32(ADM_F16, wanted, n, b);
    const double error = error_of(a, b, n);
    if (!(error < 0x1p-10)) fail_msg("%s: relative error %g", what, error);
    free(a);
    free(b);
}

static void try_embed(bool tiled) {
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed());
    const adm_decode_sizes s = {3, 576, 32, 50, {1, 1, 64}, tiled};
    const int32_t token[] = {49, 0, 73}; /* the last is beyond a rank's words, and wraps */
    const size_t bytes = (size_t)adm_decode_rows(tiled, s.vocab) * s.hidden * 2;
    uint16_t *table = halves(&rng, (size_t)s.vocab * s.hidden, 1), *laid_out = host_new(bytes);
    float *wanted = host_new(s.batch * s.hidden * 4);
    if (tiled) adm_decode_tile(table, s.vocab, s.hidden, laid_out);
    else memcpy(laid_out, table, bytes);
    void *d[] = {device_new(laid_out, bytes), device_new(token, sizeof token), device_new(NULL, s.batch * s.hidden * 4)};
    must(adm_gpu_decode_embed(&s, d[1], d[0], d[2], adm_gpu_stream_of(gpu), &err), &err);
    for (uint32_t b = 0; b < s.batch; b++)
        adm_to_f32(ADM_F16, table + (size_t)(token[b] % 50) * s.hidden, s.hidden, wanted + (size_t)b * s.hidden);
    float *got = fetch(d[2], s.batch * s.hidden * 4);
    assert_memory_equal(got, wanted, s.batch * s.hidden * 4);
    adm_decode_embed(&s, token, laid_out, got);
    assert_memory_equal(got, wanted, s.batch * s.hidden * 4);
    release(d, 3);
    free(table);
    free(laid_out);
    free(wanted);
    free(got);
}

static void embeds_tokens(void **state) {
    (void)state;
    needs_gpu();
    try_embed(false);
    try_embed(true);
}

static void try_norm(uint32_t batch, uint32_t hidden, bool adds) {
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed() + hidden);
    const adm_decode_sizes s = {batch, hidden, 32, 32, {1, 1, 64}, false};
    const size_t n = (size_t)batch * hidden;
    float *residual = floats(&rng, n), *gain = floats(&rng, hidden);
    uint16_t *y = halves(&rng, n, 2), *x = host_new(n * 2);
    void *d[] = {device_new(residual, n * 4), device_new(y, n * 2), device_new(gain, hidden * 4), device_new(NULL, n * 2)};
    must(adm_gpu_decode_norm(&s, d[0], adds ? d[1] : NULL, d[2], 1e-5f, d[3], adm_gpu_stream_of(gpu), &err), &err);
    adm_decode_norm(&s, residual, adds ? y : NULL, gain, 1e-5f, x);
    float *got_residual = fetch(d[0], n * 4);
    uint16_t *got = fetch(d[3], n * 2);
    assert_memory_equal(got_residual, residual, n * 4); /* one addition each */
    expect_halves(got, x, n, "norm");
    release(d, 4);
    free(residual);
    free(gain);
    free(y);
    free(x);
    free(got_residual);
    free(got);
}

static void normalises_rows(void **state) {
    (void)state;
    needs_gpu();
    try_norm(1, 4096, true);
    try_norm(3, 576, false);
    try_norm(2, 8192, true);
    try_norm(1, 32, true);
}

static void try_rope(adm_shape heads, uint32_t page_size, bool appends, bool has_bias) {
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed() + heads.head_dim);
    enum { BATCH = 3, CAPACITY = 64 };
    const uint32_t length[BATCH] = {1, 50, 64}, d = heads.head_dim;
    adm_gpu_shape s = {.heads = heads,
                       .dtype = ADM_F16,
                       .batch = BATCH,
                       .capacity = CAPACITY,
                       .page_size = page_size,
                       .max_pages = page_size > 0 ? (CAPACITY + page_size - 1) / page_size : 0,
                       .rule = {.budget = 1}};
    const size_t rows = adm_decode_qkv_rows(&heads), n_q = (size_t)heads.n_q_heads * d, n_kv = (size_t)heads.n_kv_heads * d;
    const size_t pool = BATCH * n_kv * (page_size > 0 ? s.max_pages * page_size : CAPACITY);
    uint16_t *qkv = halves(&rng, BATCH * rows, 1), *wanted = host_new(BATCH * rows * 2);
    float *bias = floats(&rng, rows), frequency[ADM_MAX_HEAD_DIM / 2];
    int32_t *pages = host_new(BATCH * (s.max_pages + 1) * sizeof *pages);
    for (uint32_t i = 0; i < d / 2; i++) frequency[i] = (float)pow(1e4, -2.0 * i / d);
    if (page_size > 0) adm_gpu_plan_pages(&s, pages);
    void *dev[] = {device_new(qkv, BATCH * rows * 2),
                   device_new(bias, rows * 4),
                   device_new(frequency, sizeof frequency),
                   device_new(length, sizeof length),
                   device_new(pages, BATCH * (s.max_pages + 1) * sizeof *pages),
                   device_new(NULL, BATCH * n_q * 2),
                   device_new(NULL, BATCH * n_kv * 2),
                   device_new(NULL, BATCH * n_kv * 2),
                   device_new(NULL, pool * 2),
                   device_new(NULL, pool * 2)};
    const adm_gpu_buffers b = {.q = dev[5],
                               .k_new = dev[6],
                               .v_new = dev[7],
                               .k = dev[8],
                               .v = dev[9],
                               .length = dev[3],
                               .page_table = page_size > 0 ? dev[4] : NULL};
    must(adm_gpu_decode_rope(&s, &b, dev[0], has_bias ? dev[1] : NULL, dev[2], appends, adm_gpu_stream_of(gpu), &err), &err);
    uint16_t *q = wanted, *k = q + BATCH * n_q, *v = k + BATCH * n_kv;
    for (uint32_t i = 0; i < BATCH; i++)
        adm_decode_rope(&heads, qkv + i * rows, has_bias ? bias : NULL, frequency, length[i] - 1, q + i * n_q, k + i * n_kv,
                        v + i * n_kv);
    uint16_t *got[] = {fetch(dev[5], BATCH * n_q * 2), fetch(dev[6], BATCH * n_kv * 2), fetch(dev[7], BATCH * n_kv * 2),
                       fetch(dev[8], pool * 2), fetch(dev[9], pool * 2)};
    expect_halves(got[0], q, BATCH * n_q, "q");
    expect_halves(got[1], k, BATCH * n_kv, "k");
    expect_halves(got[2], v, BATCH * n_kv, "v");
    size_t written = 0;
    for (size_t i = 0; i < pool; i++) written += got[3][i] != 0xffff;
    assert_true(written == (appends ? BATCH * n_kv : 0));
    for (uint32_t i = 0; i < BATCH && appends; i++)
        for (uint32_t h = 0; h < heads.n_kv_heads; h++) {
            const uint32_t t = length[i] - 1;
            const size_t row = page_size == 0
                                   ? ((size_t)i * heads.n_kv_heads + h) * CAPACITY + t
                                   : ((size_t)pages[i * s.max_pages + t / page_size] * heads.n_kv_heads + h) * page_size +
                                         t % page_size;
            assert_memory_equal(got[3] + row * d, got[1] + i * n_kv + h * d, d * 2);
            assert_memory_equal(got[4] + row * d, got[2] + i * n_kv + h * d, d * 2);
        }
    release(dev, sizeof dev / sizeof dev[0]);
    for (int i = 0; i < 5; i++) free(got[i]);
    free(qkv);
    free(wanted);
    free(bias);
    free(pages);
}

static void rotates_and_appends(void **state) {
    (void)state;
    needs_gpu();
    try_rope((adm_shape){4, 2, 64}, 0, true, false);
    try_rope((adm_shape){3, 1, 128}, 16, true, true);
    try_rope((adm_shape){2, 2, 256}, 5, true, false);
    try_rope((adm_shape){7, 1, 128}, 16, false, false);
}

static void gates_elements(void **state) {
    (void)state;
    needs_gpu();
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed());
    const adm_decode_sizes s = {3, 32, 1536, 32, {1, 1, 64}, false};
    const size_t n = (size_t)s.batch * s.inner;
    uint16_t *gate_up = halves(&rng, 2 * n, 4), *wanted = host_new(n * 2);
    gate_up[0] = adm_f32_to_f16(-60000); /* exp() of it is infinite, and the gate shut */
    void *d[] = {device_new(gate_up, n * 4), device_new(NULL, n * 2)};
    must(adm_gpu_decode_gate(&s, d[0], d[1], adm_gpu_stream_of(gpu), &err), &err);
    adm_decode_gate(&s, gate_up, wanted);
    uint16_t *got = fetch(d[1], n * 2);
    expect_halves(got, wanted, n, "gate");
    release(d, 2);
    free(gate_up);
    free(wanted);
    free(got);
}

static void the_first_of_the_largest_is_sampled(void **state) {
    (void)state;
    needs_gpu();
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed());
    const adm_decode_sizes s = {4, 32, 32, 5003, {1, 1, 64}, false};
    float *logits = floats(&rng, (size_t)s.batch * s.vocab);
    logits[5002] = logits[4000] = 2; /* a tie */
    logits[s.vocab + 5002] = 3;
    for (uint32_t i = 0; i < s.vocab; i++) logits[2 * s.vocab + i] = -1;
    int32_t wanted[4];
    void *d[] = {device_new(logits, (size_t)s.batch * s.vocab * 4), device_new(NULL, sizeof wanted)};
    must(adm_gpu_decode_argmax(&s, d[0], d[1], adm_gpu_stream_of(gpu), &err), &err);
    adm_decode_argmax(&s, logits, wanted);
    int32_t *got = fetch(d[1], sizeof wanted);
    assert_memory_equal(got, wanted, sizeof wanted);
    assert_true(wanted[0] == 4000 && wanted[1] == 5002 && wanted[2] == 0);
    release(d, 2);
    free(logits);
    free(got);
}

static void try_product(uint32_t n, uint32_t k, uint32_t batch, bool wide, bool gated) {
    adm_rng rng;
    adm_error err = {0};
    adm_rng_seed(&rng, check_seed() + n + k + batch);
    uint16_t *matrix = halves(&rng, (size_t)n * k, 1 / sqrtf((float)k)), *x = halves(&rng, (size_t)batch * k, 1);
    const size_t n_y = (size_t)batch * n / (gated ? 2 : 1), bytes = n_y * (wide ? 4 : 2);
    const size_t tiled_bytes = (size_t)adm_decode_rows(true, n) * k * 2;
    uint16_t *tiles = host_new(tiled_bytes);
    void *wanted = host_new(bytes), *again = host_new(bytes);
    adm_decode_tile(matrix, n, k, tiles);
    void *d[] = {device_new(tiles, tiled_bytes), device_new(x, (size_t)batch * k * 2), device_new(NULL, bytes)};
    adm_decode_product p = {n, k, batch, wide, true, gated, d[0], d[1], d[2]};
    must(adm_gpu_decode_product(&p, adm_gpu_stream_of(gpu), &err), &err);
    p.tiled = false;
    p.matrix = matrix;
    p.x = x;
    p.y = wanted;
    adm_decode_product_reference(&p);
    void *got = fetch(d[2], bytes);
    if (wide) assert_true(error_of(got, wanted, n_y) < 0x1p-18);
    else expect_halves(got, wanted, n_y, "product");
    p.tiled = true; /* the reference reads tiles, too */
    p.matrix = tiles;
    p.y = again;
    adm_decode_product_reference(&p);
    assert_memory_equal(again, wanted, bytes);
    release(d, 3);
    free(matrix);
    free(tiles);
    free(x);
    free(wanted);
    free(again);
    free(got);
}

static void multiplies(void **state) {
    (void)state;
    needs_gpu();
    try_product(16, 32, 1, false, false);
    try_product(48, 1024, 1, true, false);
    try_product(37, 1120, 3, true, false); /* rows that fill no tile, elements that fill no warp's share */
    try_product(64, 4096, 8, false, false);
    try_product(20, 2080, 8, true, false);
    try_product(1, 64, 2, true, false);
    try_product(64, 1536, 1, false, true);
    try_product(24, 288, 5, false, true);
    adm_error err;
    adm_decode_product p = {.n = 16, .k = 32, .batch = 9, .tiled = true};
    assert_int_equal(adm_gpu_decode_product(&p, adm_gpu_stream_of(gpu), &err), ADM_EUNSUPPORTED);
    p = (adm_decode_product){.n = 16, .k = 40, .batch = 1, .tiled = true};
    assert_int_equal(adm_gpu_decode_product(&p, adm_gpu_stream_of(gpu), &err), ADM_EUNSUPPORTED);
    p = (adm_decode_product){.n = 16, .k = 32, .batch = 1};
    assert_int_equal(adm_gpu_decode_product(&p, adm_gpu_stream_of(gpu), &err), ADM_EUNSUPPORTED);
}

static void random_weights_have_their_scale(void **state) {
    (void)state;
    needs_gpu();
    enum { N = 30000 };
    adm_error err = {0};
    void *d[] = {device_new(NULL, N * 2), device_new(NULL, N * 2), device_new(NULL, N * 2)};
    for (int i = 0; i < 3; i++)
        must(adm_gpu_decode_fill(d[i], N, 5 + (uint64_t)(i / 2), 0.25f, adm_gpu_stream_of(gpu), &err), &err);
    uint16_t *x[] = {fetch(d[0], N * 2), fetch(d[1], N * 2), fetch(d[2], N * 2)};
    float *values = host_new(N * 4);
    double sum = 0, squares = 0;
    adm_to_f32(ADM_F16, x[0], N, values);
    for (int i = 0; i < N; i++) {
        sum += values[i];
        squares += (double)values[i] * values[i];
    }
    /* Six standard errors of the mean and of the variance. */
    assert_true(fabs(sum / N) < 6 * 0.25 / sqrt(N) && fabs(squares / N / 0.0625 - 1) < 6 * sqrt(2.0 / N));
    assert_memory_equal(x[0], x[1], N * 2);
    assert_memory_not_equal(x[0], x[2], N * 2);
    release(d, 3);
    for (int i = 0; i < 3; i++) free(x[i]);
    free(values);
}

static void random_keys_are_the_profile_s(void **state) {
    (void)state;
    needs_gpu();
    enum { CAPACITY = 64, D = 64 };
    adm_error err = {0};
    const adm_gpu_shape s = {.heads = {2, 2, D}, .dtype = ADM_F16, .batch = 2, .capacity = CAPACITY, .rule = {.budget = 1}};
    const uint32_t length[] = {40, 64};
    const size_t bytes = 2 * 2 * CAPACITY * D * 2;
    void *d[] = {device_new(NULL, bytes), device_new(NULL, bytes), device_new(length, sizeof length)};
    const adm_gpu_buffers b = {.k = d[0], .v = d[1], .length = d[2]};
    must(adm_gpu_decode_fill_cache(&s, &b, 9, adm_gpu_stream_of(gpu), &err), &err);
    uint16_t *k = fetch(d[0], bytes), *v = fetch(d[1], bytes);
    for (uint32_t q = 0; q < 2; q++)
        for (uint32_t h = 0; h < 2; h++)
            for (uint32_t t = 0; t < CAPACITY; t++)
                for (uint32_t i = 0; i < D; i++) {
                    const size_t at = ((q * 2 + h) * CAPACITY + t) * D + i;
                    const bool there = t < length[q];
                    assert_int_equal(k[at], there ? adm_f32_to_f16(adm_input_value(9, ADM_INPUT_K, q, h, h, t, i, D)) : 0xffff);
                    assert_int_equal(v[at], there ? adm_f32_to_f16(adm_input_value(9, ADM_INPUT_V, q, h, h, t, i, D)) : 0xffff);
                }
    release(d, 3);
    free(k);
    free(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeds_tokens),
        cmocka_unit_test(normalises_rows),
        cmocka_unit_test(rotates_and_appends),
        cmocka_unit_test(gates_elements),
        cmocka_unit_test(the_first_of_the_largest_is_sampled),
        cmocka_unit_test(multiplies),
        cmocka_unit_test(random_weights_have_their_scale),
        cmocka_unit_test(random_keys_are_the_profile_s),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
