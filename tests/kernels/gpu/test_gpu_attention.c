/* test_gpu_attention.c: attention on the GPU, over selected tokens and over all, against the host's double
 * reference.
 *
 * Rows of K and V that belong to no token are NaN, `out` is NaN before every run, and 256 bytes on either side
 * of it are watched: a stray read or write shows. Every launch is made twice, since the workspace must come back
 * usable and the result may not depend on which block is last. */
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/context.h"

#include "tests/support/need_gpu.h"

enum { GUARD_BYTES = 256, MAX_BATCH = 64 };

/* ---- problems ---- */

typedef enum value_kind { VALUES_EASY, VALUES_HUGE } value_kind;

/* One problem: on the host the inputs as the device has them, elements as bits. */
typedef struct problem {
    adm_gpu_shape shape;
    uint32_t length[MAX_BATCH];
    uint16_t *q, *k, *v;
    int32_t *pages;
    uint32_t *index, *n_selected; /* NULL for dense */
    size_t n_q, n_kv;             /* elements of q and out; of k and v */
    char *d_out;                  /* with its guards */
    adm_gpu_buffers buffers;
} problem;

static void must(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fail_msg("%s", err->text);
}

static void *host_new(size_t count, size_t size) {
    void *p = calloc(count > 0 ? count : 1, size);
    assert_non_null(p);
    return p;
}

/* Sums of four uniform numbers, of variance 1: a normal number costs too much for a million rows. HUGE: the
 * scores reach what the type's largest number allows without an infinite product in float32. */
static uint16_t value(adm_rng *rng, adm_dtype dtype, value_kind kind) {
    uint64_t bits = adm_rng_u64(rng);
    float sum = (float)(bits & 0xffff) + (float)(bits >> 16 & 0xffff) + (float)(bits >> 32 & 0xffff) + (float)(bits >> 48);
    float x = (sum - 131070.0f) * 2.6429e-5f;
    if (kind == VALUES_HUGE) x = (x < 0 ? -1.0f : 1.0f) * (dtype == ADM_F16 ? 65504.0f : 1e15f);
    return dtype == ADM_F16 ? adm_f32_to_f16(x) : adm_f32_to_bf16(x);
}

static size_t row_of(const problem *p, uint32_t b, uint32_t kv_head, uint32_t token) {
    const adm_gpu_shape *s = &p->shape;
    if (s->page_size == 0) return ((size_t)b * s->heads.n_kv_heads + kv_head) * s->capacity + token;
    size_t page = (size_t)p->pages[(size_t)b * s->max_pages + token / s->page_size];
    return (page * s->heads.n_kv_heads + kv_head) * s->page_size + token % s->page_size;
}

static void shuffle(adm_rng *rng, int32_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (int32_t)i;
    for (size_t i = n; i > 1; i--) {
        size_t other = adm_rng_below(rng, i);
        int32_t kept = x[i - 1];
        x[i - 1] = x[other];
        x[other] = kept;
    }
}

static void *to_device(const void *host, size_t bytes) {
    adm_error err = {0};
    void *device;
    must(adm_gpu_allocate(bytes, 0xff, &device, &err), &err);
    must(adm_gpu_write(device, host, bytes, &err), &err);
    return device;
}

/* Indices are random and may repeat; a head's count is 0, the budget or between. */
static void make_selection(problem *p, adm_rng *rng) {
    const adm_gpu_shape *s = &p->shape;
    size_t rows = (size_t)s->batch * s->heads.n_q_heads;
    p->index = host_new(rows * s->rule.budget, sizeof *p->index);
    p->n_selected = host_new(rows, sizeof *p->n_selected);
    for (size_t r = 0; r < rows; r++) {
        uint32_t length = p->length[r / s->heads.n_q_heads], budget = s->rule.budget;
        uint64_t which = adm_rng_below(rng, 4);
        p->n_selected[r] = length == 0 ? 0 : which == 0 ? (uint32_t)adm_rng_below(rng, budget + 1) : budget;
        for (uint32_t j = 0; j < budget; j++) /* beyond the count: nonsense that must not be followed */
            p->index[r * budget + j] = j < p->n_selected[r] ? (uint32_t)adm_rng_below(rng, length) : 0xffffffffu;
    }
}

static problem problem_new(adm_rng *rng, adm_gpu_shape shape, const uint32_t *length, value_kind kind, bool dense) {
    problem p = {.shape = shape};
    const adm_shape *h = &shape.heads;
    memcpy(p.length, length, shape.batch * sizeof *length);
    if (shape.page_size > 0) {
        p.shape.max_pages = (shape.capacity + shape.page_size - 1) / shape.page_size;
        p.pages = host_new((size_t)shape.batch * p.shape.max_pages, sizeof *p.pages);
        shuffle(rng, p.pages, (size_t)shape.batch * p.shape.max_pages);
    }
    size_t tokens = shape.page_size > 0 ? (size_t)p.shape.max_pages * shape.page_size : shape.capacity;
    p.n_q = (size_t)shape.batch * h->n_q_heads * h->head_dim;
    p.n_kv = (size_t)shape.batch * h->n_kv_heads * tokens * h->head_dim;
    p.q = host_new(p.n_q, 2);
    p.k = host_new(p.n_kv, 2);
    p.v = host_new(p.n_kv, 2);
    memset(p.k, 0xff, p.n_kv * 2);
    memset(p.v, 0xff, p.n_kv * 2);
    for (size_t i = 0; i < p.n_q; i++) p.q[i] = value(rng, shape.dtype, kind);
    for (uint32_t b = 0; b < shape.batch; b++)
        for (uint32_t head = 0; head < h->n_kv_heads; head++)
            for (uint32_t t = 0; t < length[b]; t++)
                for (size_t i = 0, row = row_of(&p, b, head, t) * h->head_dim; i < h->head_dim; i++) {
                    p.k[row + i] = value(rng, shape.dtype, kind);
                    p.v[row + i] = value(rng, shape.dtype, kind);
                }
    if (!dense) make_selection(&p, rng);
    return p;
}

/* Places the inputs on the device, `out` between its guards. */
static void problem_place(problem *p) {
    adm_error err = {0};
    const adm_gpu_shape *s = &p->shape;
    adm_gpu_buffers *d = &p->buffers;
    size_t rows = (size_t)s->batch * s->heads.n_q_heads;
    void *out, *workspace;
    d->q = to_device(p->q, p->n_q * 2);
    d->k = to_device(p->k, p->n_kv * 2);
    d->v = to_device(p->v, p->n_kv * 2);
    d->length = to_device(p->length, s->batch * sizeof *p->length);
    if (p->pages) d->page_table = to_device(p->pages, (size_t)s->batch * s->max_pages * sizeof *p->pages);
    if (p->index) {
        d->index = to_device(p->index, rows * s->rule.budget * sizeof *p->index);
        d->n_selected = to_device(p->n_selected, rows * sizeof *p->n_selected);
    }
    must(adm_gpu_allocate(p->n_q * 2 + 2 * GUARD_BYTES, CHECK_CANARY, &out, &err), &err);
    must(adm_gpu_allocate(adm_gpu_dense_workspace_bytes(s), 0, &workspace, &err), &err);
    p->d_out = out;
    d->out = p->d_out + GUARD_BYTES;
    d->workspace = workspace;
}

static void problem_free(problem *p) {
    adm_gpu_buffers *d = &p->buffers;
    const void *all[] = {d->q, d->k, d->v, d->length, d->page_table, d->index, d->n_selected, p->d_out, d->workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) adm_gpu_release(&all[i]);
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->pages);
    free(p->index);
    free(p->n_selected);
}

/* ---- running and checking ---- */

/* Launch parameters; zeros for the defaults. */
typedef struct tuning {
    unsigned splits, n_warps; /* of attention */
    adm_dense_tuning dense;
} tuning;

static void run(problem *p, tuning t, uint16_t *out) {
    adm_error err = {0};
    unsigned char *all = host_new(p->n_q * 2 + 2 * GUARD_BYTES, 1);
    must(adm_gpu_fill(p->buffers.out, 0xff, p->n_q * 2, &err), &err);
    adm_gpu_stream stream = adm_gpu_stream_of(gpu);
    must(p->index ? adm_gpu_attention_tuned(&p->shape, &p->buffers, t.splits, t.n_warps, stream, &err)
                  : adm_gpu_dense_tuned(&p->shape, &p->buffers, &t.dense, stream, &err),
         &err);
    must(adm_gpu_read(gpu, p->d_out, p->n_q * 2 + 2 * GUARD_BYTES, all, &err), &err);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (all[i] != CHECK_CANARY || all[GUARD_BYTES + p->n_q * 2 + i] != CHECK_CANARY)
            fail_msg("a byte %zu in front of out, or %zu behind it, was overwritten", GUARD_BYTES - i, i);
    memcpy(out, all + GUARD_BYTES, p->n_q * 2);
    free(all);
}

/* The rows one query head attends to, gathered: k and v [n][d]. */
typedef struct gathered {
    uint32_t n;
    uint16_t *k, *v;
} gathered;

static gathered gather(const problem *p, uint32_t b, uint32_t head) {
    const adm_gpu_shape *s = &p->shape;
    size_t r = (size_t)b * s->heads.n_q_heads + head, d = s->heads.head_dim;
    gathered g = {.n = p->index ? p->n_selected[r] : p->length[b]};
    g.k = host_new(g.n * d, 2);
    g.v = host_new(g.n * d, 2);
    for (uint32_t j = 0; j < g.n; j++) {
        size_t row = row_of(p, b, adm_kv_head(&s->heads, head), p->index ? p->index[r * s->rule.budget + j] : j);
        memcpy(g.k + j * d, p->k + row * d, d * 2);
        memcpy(g.v + j * d, p->v + row * d, d * 2);
    }
    return g;
}

/* How far element i may be from the reference. With u the type's roundoff (2^-11, or 2^-8 for bfloat16), w the
 * softmax weights and A_i = sum_j w_j |v_ji|:
 *
 *   score    d exact products added in float32 by the tensor core, which may truncate, so 2^-22 an addition rather
 *            than 2^-24; then scaled and compared: e = (d + 4) 2^-22 S, S = scale * max_j sum_i |q_i k_ji|, and
 *            a weight is off by a factor of exp(+-e), a normalised one of exp(+-2e); the exponential itself
 *            rounds by 2^-22
 *   weights  are rounded to the type and then normalised by their own sum: 2 u A_i
 *   sums     n_steps additions of 2^-22 on either side of the division: 2 n_steps 2^-22 A_i
 *   underflow a weight below 2^-24 of float16, or 2^-126, is lost up to half of that; scaled as in
 *   attention_dev.cuh, that is
 *            2^-40 of the largest weight, n times: n 2^-40 max |v|
 *   result   rounded once: u |out_i|, or half the smallest subnormal, 2^-25 */
static void allowed(const problem *p, const gathered *g, const float *q, const double *score, const float *expected,
                    double n_steps, double *out) {
    const uint32_t d = p->shape.heads.head_dim;
    const double u = p->shape.dtype == ADM_F16 ? 0x1p-11 : 0x1p-8;
    double *sum = host_new(d, sizeof *sum), largest = -INFINITY, total = 0, max_score = 0, max_v = 0;
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t j = 0; j < g->n; j++) largest = fmax(largest, score[j]);
    for (uint32_t j = 0; j < g->n; j++) {
        double absolute = 0, weight = exp(score[j] - largest);
        adm_to_f32(p->shape.dtype, g->k + (size_t)j * d, d, row);
        for (uint32_t i = 0; i < d; i++) absolute += fabs((double)q[i] * row[i]);
        max_score = fmax(max_score, absolute * (double)p->shape.scale);
        adm_to_f32(p->shape.dtype, g->v + (size_t)j * d, d, row);
        for (uint32_t i = 0; i < d; i++) {
            sum[i] += weight * fabs((double)row[i]);
            max_v = fmax(max_v, fabs((double)row[i]));
        }
        total += weight;
    }
    double relative = expm1(2 * (d + 4) * 0x1p-22 * max_score) + 2 * u + (2 * n_steps + 4) * 0x1p-22;
    for (uint32_t i = 0; i < d; i++)
        out[i] = g->n == 0 ? 0 : relative * sum[i] / total + u * fabs((double)expected[i]) + g->n * 0x1p-40 * max_v + 0x1p-25;
    free(sum);
}

/* The largest number of additions behind one sum: a warp's tiles, at least one warp per block sharing the tiles of the batch or
 * of a head, then warps, then blocks. */
static double steps_of(const problem *p, tuning t) {
    double tiles = 0;
    for (uint32_t b = 0; b < p->shape.batch; b++) tiles += p->length[b] / 16 + 1;
    tiles *= p->shape.heads.n_kv_heads * ((p->shape.heads.n_q_heads / p->shape.heads.n_kv_heads + 7) / 8);
    int n_sms = adm_gpu_device(gpu)->n_sms;
    double blocks = t.dense.n_blocks > 0 ? (double)t.dense.n_blocks : n_sms;
    if (p->index) return p->shape.rule.budget / 16.0 + 32;
    return tiles / (0.9 * blocks) + 2 + 16 + blocks;
}

static void check_head(const problem *p, uint32_t b, uint32_t head, double n_steps, const uint16_t *out) {
    const adm_gpu_shape *s = &p->shape;
    const uint32_t d = s->heads.head_dim;
    size_t at = ((size_t)b * s->heads.n_q_heads + head) * d;
    gathered g = gather(p, b, head);
    float q[ADM_MAX_HEAD_DIM], expected[ADM_MAX_HEAD_DIM], got[ADM_MAX_HEAD_DIM];
    double limit[ADM_MAX_HEAD_DIM], *score = host_new(g.n, sizeof *score);
    adm_to_f32(s->dtype, p->q + at, d, q);
    adm_to_f32(s->dtype, out + at, d, got);
    adm_attention_reference(s->dtype, p->q + at, g.k, g.v, NULL, g.n, d, (double)s->scale, score, expected);
    allowed(p, &g, q, score, expected, n_steps, limit);
    for (uint32_t i = 0; i < d; i++)
        if (!(fabs((double)got[i] - expected[i]) <= limit[i]))
            fail_msg("sequence %u of %u tokens, head %u (%u attended), element %u: %g, not %g +- %g", b, p->length[b], head,
                     g.n, i, (double)got[i], (double)expected[i], limit[i]);
    free(score);
    free(g.k);
    free(g.v);
}

static void check(problem *p, tuning t) {
    const adm_gpu_shape *s = &p->shape;
    check_case("%s, %s, d=%u, heads %u/%u, batch %u, length[0]=%u, page size %u, budget %u, splits %u, warps %u; "
               "blocks %u, team %u, warps %u, stages %u, tiles of %u, %s copies",
               p->index ? "attention" : "dense", adm_dtype_name(s->dtype), s->heads.head_dim, s->heads.n_q_heads,
               s->heads.n_kv_heads, s->batch, p->length[0], s->page_size, s->rule.budget, t.splits, t.n_warps, t.dense.n_blocks,
               t.dense.team, t.dense.n_warps, t.dense.n_stages, t.dense.tile_tokens, t.dense.plain_copies ? "plain" : "bulk");
    uint16_t *out = host_new(p->n_q, 2), *again = host_new(p->n_q, 2);
    run(p, t, out);
    run(p, t, again);
    assert_memory_equal(out, again, p->n_q * 2);
    for (uint32_t b = 0; b < p->shape.batch; b++)
        for (uint32_t head = 0; head < p->shape.heads.n_q_heads; head++) check_head(p, b, head, steps_of(p, t), out);
    free(out);
    free(again);
}

static const tuning defaults = {0};

static void check_new_problem(adm_rng *rng, adm_gpu_shape shape, const uint32_t *length, value_kind kind, bool dense) {
    problem p = problem_new(rng, shape, length, kind, dense);
    problem_place(&p);
    check(&p, defaults);
    problem_free(&p);
    check_case_end();
}

static adm_gpu_shape shape_of(adm_shape heads, adm_dtype dtype, uint32_t batch, uint32_t capacity, uint32_t page_size,
                              uint32_t budget) {
    return (adm_gpu_shape){.heads = heads,
                           .dtype = dtype,
                           .batch = batch,
                           .capacity = capacity,
                           .page_size = page_size,
                           .rule = {.budget = budget},
                           .threshold = {-10, 0, 10},
                           .scale = 1.0f / sqrtf((float)heads.head_dim)};
}

/* ---- tests ---- */

static const adm_shape head_counts[] = {{32, 32, 0}, {32, 8, 0}, {9, 3, 0}, {8, 1, 0}, {20, 1, 0}};
static const uint32_t page_sizes[] = {0, 1, 7, 16, 64};

/* Every head count, head dimension, type and page size, on a batch of mixed lengths. */
static void every_shape(bool dense, const char *test_name) {
    static const uint32_t length[] = {0, 1, 33, 2, 190, 16, 17, 0};
    static const uint32_t budgets[] = {1, 5, 16, 65, 257};
    adm_rng rng = check_rng(test_name);
    for (size_t n = 0; n < sizeof head_counts / sizeof *head_counts; n++)
        for (int h = 0; h < 3; h++)
            for (int t = 1; t < 3; t++)
                for (size_t g = 0; g < sizeof page_sizes / sizeof *page_sizes; g++) {
                    adm_shape heads = head_counts[n];
                    heads.head_dim = check_head_dims[h];
                    uint32_t budget = dense ? 1 : budgets[(n + g + (size_t)h) % 5];
                    check_new_problem(&rng, shape_of(heads, check_dtypes[t], 8, 192, page_sizes[g], budget), length,
                                      VALUES_EASY, dense);
                }
}

static void attention_of_every_shape(void **state) {
    (void)state;
    needs_gpu();
    every_shape(false, __func__);
}

static void dense_of_every_shape(void **state) {
    (void)state;
    needs_gpu();
    every_shape(true, __func__);
}

/* Longer sequences, odd lengths, more items than blocks and fewer. */
static void dense_of_many_lengths(void **state) {
    (void)state;
    needs_gpu();
    static const uint32_t alone[] = {1, 15, 255, 4097, 30011};
    adm_rng rng = check_rng(__func__);
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        for (uint32_t kv_heads = 1; kv_heads <= 4; kv_heads *= 2) {
            adm_shape heads = {4, kv_heads, 128};
            check_new_problem(&rng, shape_of(heads, ADM_F16, 1, (alone[i] + 31) / 32 * 32, 0, 1), &alone[i], VALUES_EASY, true);
        }
    uint32_t mixed[MAX_BATCH];
    for (int b = 0; b < MAX_BATCH; b++) mixed[b] = b == 17 ? 5000 : (uint32_t)adm_rng_below(&rng, 300);
    check_new_problem(&rng, shape_of((adm_shape){8, 4, 64}, ADM_BF16, MAX_BATCH, 5024, 7, 1), mixed, VALUES_EASY, true);
}

/* The largest cache: a million tokens. Their weights would all be alike and a lost chunk drown in the tolerance,
 * so a query is made to lean on 32 keys spread over the whole length. */
static void a_million_tokens(void **state) {
    (void)state;
    needs_gpu();
    enum { TOKENS = 1 << 20, NEEDLES = 32, D = 64 };
    const uint32_t length[] = {TOKENS};
    adm_rng rng = check_rng(__func__);
    for (int dense = 0; dense < 2; dense++) {
        adm_gpu_shape shape = shape_of((adm_shape){2, 1, D}, ADM_F16, 1, TOKENS, dense ? 0 : 16, dense ? 1 : 4096);
        problem p = problem_new(&rng, shape, length, VALUES_EASY, dense != 0);
        for (size_t n = 0; n < NEEDLES; n++) {
            size_t row = row_of(&p, 0, 0, (uint32_t)((TOKENS - 1) / (NEEDLES - 1) * n)) * D;
            for (size_t i = 0; i < D; i++) p.k[row + i] = adm_f32_to_f16(2.0f * adm_f16_to_f32(p.q[i]));
        }
        problem_place(&p);
        check(&p, defaults);
        problem_free(&p);
        check_case_end();
    }
}

/* The exponential of such scores overflows any type: only the differences may enter it. */
static void huge_scores_do_not_overflow(void **state) {
    (void)state;
    needs_gpu();
    static const uint32_t length[] = {97, 1, 0, 200};
    adm_rng rng = check_rng(__func__);
    for (int dense = 0; dense < 2; dense++)
        for (int t = 1; t < 3; t++)
            for (int h = 0; h < 3; h++) {
                adm_gpu_shape s = shape_of((adm_shape){4, 2, check_head_dims[h]}, check_dtypes[t], 4, 224, 0, 40);
                problem p = problem_new(&rng, s, length, VALUES_HUGE, dense != 0);
                problem_place(&p);
                uint16_t *out = host_new(p.n_q, 2);
                run(&p, defaults, out);
                for (size_t i = 0; i < p.n_q; i++) {
                    float x;
                    adm_to_f32(s.dtype, &out[i], 1, &x);
                    if (!isfinite(x))
                        fail_msg("%s, d=%u, element %zu is %g", adm_dtype_name(s.dtype), s.heads.head_dim, i, (double)x);
                }
                free(out);
                problem_free(&p);
            }
}

static void every_launch_parameter(void **state) {
    (void)state;
    needs_gpu();
    static const uint32_t length[] = {700, 0, 3};
    static const adm_dense_tuning dense[] = {{.n_blocks = 1},
                                             {.n_blocks = 2, .plain_copies = true, .n_stages = 2},
                                             {.n_blocks = 7, .n_warps = 3, .n_stages = 4},
                                             {.n_blocks = 131, .n_warps = 1, .plain_copies = true},
                                             {.n_blocks = 512, .n_warps = 1, .n_stages = 2, .tile_tokens = 32},
                                             {.n_blocks = 2, .team = 2, .n_warps = 1, .n_stages = 8},
                                             {.n_blocks = 12, .team = 4, .tile_tokens = 32, .n_warps = 2, .n_stages = 2},
                                             {.n_blocks = 8, .team = 8, .n_warps = 6, .n_stages = 2},
                                             {.n_blocks = 128, .team = 8, .n_warps = 1, .n_stages = 2, .tile_tokens = 64},
                                             {.n_blocks = 64, .team = 2}};
    adm_rng rng = check_rng(__func__);
    for (int h = 0; h < 3; h++) {
        adm_shape heads = {6, 3, check_head_dims[h]};
        problem p = problem_new(&rng, shape_of(heads, ADM_F16, 3, 704, 0, 333), length, VALUES_EASY, false);
        problem_place(&p);
        bool clusters = adm_gpu_device(gpu)->compute_major >= 9;
        const unsigned most = heads.head_dim == 256 ? 8 : 16;
        for (unsigned splits = 1; splits <= (clusters ? 8 : 1); splits += splits < 4 ? 1 : 4) {
            for (unsigned warps = 1; warps < most; warps += 1 + warps / 2)
                check(&p, (tuning){.splits = splits, .n_warps = warps});
            check(&p, (tuning){.splits = splits, .n_warps = most});
        }
        problem_free(&p);
        p = problem_new(&rng, shape_of(heads, ADM_F16, 3, 704, 0, 1), length, VALUES_EASY, true);
        problem_place(&p);
        for (size_t i = 0; i < sizeof dense / sizeof *dense; i++)
            if (clusters || dense[i].team <= 1) check(&p, (tuning){.dense = dense[i]});
        problem_free(&p);
        check_case_end();
    }
}

static void what_cannot_be_launched_says_why(void **state) {
    (void)state;
    needs_gpu();
    adm_error err = {0};
    adm_gpu_buffers buffers = {0};
    adm_gpu_shape shape = shape_of((adm_shape){4, 2, 64}, ADM_F32, 1, 32, 0, 1);
    assert_int_equal(adm_gpu_dense_launch(&shape, &buffers, NULL, &err), ADM_EUNSUPPORTED);
    assert_int_equal(adm_gpu_attention_launch(&shape, &buffers, NULL, &err), ADM_EUNSUPPORTED);
    assert_true(err.text[0] != '\0');
    shape.dtype = ADM_F16;
    buffers.k = (void *)8;
    assert_int_equal(adm_gpu_dense_launch(&shape, &buffers, NULL, &err), ADM_EINPUT);
    buffers.k = NULL;
    assert_int_equal(adm_gpu_attention_tuned(&shape, &buffers, 9, 1, NULL, &err), ADM_EINPUT);
    assert_int_equal(adm_gpu_attention_tuned(&shape, &buffers, 1, 17, NULL, &err), ADM_EINPUT);
    assert_int_equal(adm_gpu_dense_tuned(&shape, &buffers, &(adm_dense_tuning){.n_blocks = 513}, NULL, &err), ADM_EINPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_every_shape),
        cmocka_unit_test(dense_of_every_shape),
        cmocka_unit_test(dense_of_many_lengths),
        cmocka_unit_test(a_million_tokens),
        cmocka_unit_test(huge_scores_do_not_overflow),
        cmocka_unit_test(every_launch_parameter),
        cmocka_unit_test(what_cannot_be_launched_says_why),
    };
    return cmocka_run_group_tests_name("gpu_attention", tests, open_gpu, close_gpu);
}
