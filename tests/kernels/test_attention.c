/* test_attention.c: every row of the stages `attention` and `dense` against attention in long double, with an error
 * bound computed from the inputs, and the properties of a softmax average. */
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"

#include "tests/support/stage_check.h"

enum { MAX_TOKENS = 67, MAX_SELECTED = 80 };

/* One problem with guarded inputs and scratch. index.data is unused where `dense`. */
typedef struct problem {
    adm_dtype dtype;
    uint32_t d;
    size_t n_tokens, n; /* rows of k and v; tokens attended to */
    double scale;
    check_buffer q, k, v, index, score, out;
} problem;

static problem problem_new(adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d, size_t n_tokens, size_t n) {
    size_t slack = adm_rng_below(rng, 2);
    check_case("%s, d=%u, n=%zu of %zu tokens, %s inputs, slack=%zu of q and v, %zu of k", adm_dtype_name(dtype), d, n,
               n_tokens, check_kind_name(kind), slack, 1 - slack);
    problem p = {.dtype = dtype, .d = d, .n_tokens = n_tokens, .n = n, .scale = 1 / sqrt(d)};
    p.q = check_rows(rng, kind, dtype, 1, d, slack);
    p.k = check_rows(rng, kind, dtype, n_tokens, d, 1 - slack);
    p.v = check_rows(rng, kind, dtype, n_tokens, d, slack);
    p.index = check_new(n * sizeof(uint32_t), 0);
    for (size_t j = 0; j < n; j++) ((uint32_t *)(void *)p.index.data)[j] = (uint32_t)adm_rng_below(rng, n_tokens);
    p.score = check_new(n * sizeof(double), 0);
    p.out = check_new(d * sizeof(float), 0);
    return p;
}

static void problem_free(problem *p) {
    check_free(&p->q);
    check_free(&p->k);
    check_free(&p->v);
    check_free(&p->index);
    check_free(&p->score);
    check_free(&p->out);
}

static const uint32_t *index_of(const problem *p) { return (const uint32_t *)(const void *)p->index.data; }
static float *out_of(const problem *p) { return (float *)(void *)p->out.data; }

static const float *run(const adm_host_impl *row, const problem *p, const uint32_t *index) {
    memset(p->out.data, CHECK_CANARY, p->out.bytes);
    row->fn.attention(p->dtype, p->q.data, p->k.data, p->v.data, index, p->n, p->d, p->scale, (double *)(void *)p->score.data,
                      out_of(p));
    return out_of(p);
}

static float element(const problem *p, const check_buffer *rows, size_t token, uint32_t i) {
    float value;
    adm_to_f32(p->dtype, rows->data + (token * p->d + i) * adm_dtype_bytes(p->dtype), 1, &value);
    return value;
}

/* Attention in long double, and how far a double implementation may be from it, per element. With u = 2^-53:
 *
 *   score    products of two float32 are exact in double; adding d of them and scaling err by at most d u S, where
 *            S = scale * max_j sum_i |q_i k_ji|; subtracting the largest rounds by at most 2 u S more
 *   weight   a score off by e multiplies its weight by exp(+-e); the exponential itself rounds by 2 u. So
 *            e = (d + 2) u S + 2 u, and a normalised weight, a quotient of such, is off by at most exp(2 e) - 1
 *   sums     n products and additions, n additions below the line and the division: (2 n + 3) u
 *   result   all that relative to max_j |v_ji|; the rounding to float32 adds 2^-24 of the result, or 2^-150 */
static void exact_attention(const problem *p, const uint32_t *index, long double *out, double *allowed) {
    long double score[MAX_SELECTED], largest = -INFINITY, total = 0;
    double max_score = 0;
    for (size_t j = 0; j < p->n; j++) {
        size_t token = index ? index[j] : j;
        double absolute = 0;
        score[j] = 0;
        for (uint32_t i = 0; i < p->d; i++) {
            long double product = (long double)element(p, &p->q, 0, i) * element(p, &p->k, token, i);
            score[j] += product;
            absolute += (double)fabsl(product);
        }
        score[j] *= p->scale;
        max_score = fmax(max_score, absolute * p->scale);
        if (score[j] > largest) largest = score[j];
    }
    for (size_t j = 0; j < p->n; j++) total += score[j] = expl(score[j] - largest);
    double relative = expm1(2 * ((p->d + 2) * 0x1p-53 * max_score + 0x1p-52)) + (2 * (double)p->n + 3) * 0x1p-53;
    for (uint32_t i = 0; i < p->d; i++) {
        long double sum = 0;
        double largest_v = 0;
        for (size_t j = 0; j < p->n; j++) {
            float v = element(p, &p->v, index ? index[j] : j, i);
            sum += score[j] * v;
            largest_v = fmax(largest_v, fabs(v));
        }
        out[i] = p->n > 0 ? sum / total : 0;
        allowed[i] = relative * largest_v + 0x1p-24 * (double)fabsl(out[i]) + 0x1p-150;
    }
}

static double norm_of(const long double *x, size_t n) {
    long double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return (double)sqrtl(sum);
}

/* A row of lower precision has its tolerance, relative to the norm of the result, on top. */
static void compare(const adm_host_impl *row, const problem *p, const uint32_t *index) {
    long double exact[256];
    double allowed[256];
    exact_attention(p, index, exact, allowed);
    const float *out = run(row, p, index);
    for (uint32_t i = 0; i < p->d; i++)
        if (!(fabsl(out[i] - exact[i]) <= allowed[i] + row->tolerance * norm_of(exact, p->d)))
            fail_msg("element %u: %g, not %Lg", i, (double)out[i], exact[i]);
}

/* Calls f with every row of both stages, type, head dimension, and number of tokens, on inputs of each kind < limit. */
typedef void each_problem_fn(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d, size_t n);

static void for_each_problem(const char *test_name, int limit, each_problem_fn *f) {
    static const adm_stage stages[] = {ADM_STAGE_ATTENTION, ADM_STAGE_DENSE};
    static const size_t counts[] = {1, 2, 3, 16, MAX_TOKENS};
    for (int s = 0; s < 2; s++) CHECK_EACH_ROW(stages[s], row) {
            adm_rng rng = check_rng(test_name);
            for (int k = 0; k < limit; k++)
                for (int t = 0; t < 3; t++)
                    for (int h = 0; h < 3; h++)
                        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                            f(row, &rng, (check_kind)k, check_dtypes[t], check_head_dims[h], counts[c]);
        }
}

static void one_against_long_double(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d,
                                    size_t n) {
    problem p = problem_new(rng, kind, dtype, d, n, n);
    compare(row, &p, NULL);
    problem_free(&p);
    if (row->stage == ADM_STAGE_DENSE) return;
    p = problem_new(rng, kind, dtype, d, MAX_TOKENS, n); /* any order, with repetitions */
    compare(row, &p, index_of(&p));
    problem_free(&p);
}

static void every_row_is_attention(void **state) {
    (void)state;
    for_each_problem(__func__, CHECK_HUGE, one_against_long_double);
}

static void one_against_the_reference(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d,
                                      size_t n) {
    if (row->tolerance > 0) return; /* held to its tolerance above */
    static const adm_host_impl reference = {.name = "reference", .fn.attention = adm_attention_reference};
    problem p = problem_new(rng, kind, dtype, d, MAX_TOKENS, n);
    const uint32_t *index = row->stage == ADM_STAGE_DENSE ? NULL : index_of(&p);
    float expected[256];
    memcpy(expected, run(&reference, &p, index), d * sizeof(float));
    const float *out = run(row, &p, index);
    for (uint32_t i = 0; i < d; i++) assert_true(check_same_float(out[i], expected[i]));
    problem_free(&p);
}

static void exact_rows_equal_the_reference(void **state) {
    (void)state;
    for_each_problem(__func__, CHECK_N_KINDS, one_against_the_reference);
}

static void one_selecting_all(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d, size_t n) {
    if (row->stage == ADM_STAGE_DENSE) return;
    const adm_host_impl *dense = adm_registry_find(ADM_STAGE_DENSE, row->name);
    if (dense == NULL) return;
    problem p = problem_new(rng, kind, dtype, d, n, n);
    for (uint32_t j = 0; j < n; j++) ((uint32_t *)(void *)p.index.data)[j] = j;
    float selected[256];
    memcpy(selected, run(row, &p, index_of(&p)), d * sizeof(float));
    assert_memory_equal(selected, run(dense, &p, NULL), d * sizeof(float));
    problem_free(&p);
}

/* The rows on vectors sum in one order, so that figures do not depend on the CPU. */
static void one_against_its_siblings(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d,
                                     size_t n) {
    if (row->tolerance == 0) return;
    problem p = problem_new(rng, kind, dtype, d, MAX_TOKENS, n);
    float expected[256];
    memcpy(expected, run(row, &p, index_of(&p)), d * sizeof(float));
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *sibling = adm_registry_at(i);
        if (sibling->stage != row->stage || sibling->tolerance == 0 || !adm_host_impl_available(sibling)) continue;
        const float *out = run(sibling, &p, index_of(&p));
        for (uint32_t j = 0; j < d; j++)
            if (!check_same_float(out[j], expected[j]))
                fail_msg("%s and %s differ: %a, %a", row->name, sibling->name, (double)expected[j], (double)out[j]);
    }
    problem_free(&p);
}

static void rows_on_vectors_give_the_same_bits(void **state) {
    (void)state;
    for_each_problem(__func__, CHECK_N_KINDS, one_against_its_siblings);
}

static void all_tokens_selected_equals_dense(void **state) {
    (void)state;
    assert_non_null(adm_registry_find(ADM_STAGE_DENSE, "reference"));
    for_each_problem(__func__, CHECK_NONFINITE, one_selecting_all);
}

/* Up to rounding the result is an average: no larger than the largest V, no smaller than the smallest. So large
 * scores may not overflow, and one token alone gives its V to the last bit. */
static void one_average(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d, size_t n) {
    problem p = problem_new(rng, kind, dtype, d, n, n);
    const float *out = run(row, &p, NULL);
    for (uint32_t i = 0; i < d; i++) {
        float low = INFINITY, high = -INFINITY;
        for (size_t j = 0; j < n; j++) {
            low = fminf(low, element(&p, &p.v, j, i));
            high = fmaxf(high, element(&p, &p.v, j, i));
        }
        double slack = n == 1 ? 0 : (0x1p-24 + row->tolerance) * fmax(fabs(low), fabs(high));
        assert_true(isfinite(out[i]));
        assert_true(out[i] >= low - slack && out[i] <= high + slack);
    }
    problem_free(&p);
}

static void the_result_is_an_average_of_v(void **state) {
    (void)state;
    for_each_problem(__func__, CHECK_NONFINITE, one_average);
}

static void one_permuted(const adm_host_impl *row, adm_rng *rng, check_kind kind, adm_dtype dtype, uint32_t d, size_t n) {
    if (row->stage == ADM_STAGE_DENSE) return;
    problem p = problem_new(rng, kind, dtype, d, MAX_TOKENS, n);
    long double exact[256];
    double allowed[256];
    float before[256];
    exact_attention(&p, index_of(&p), exact, allowed);
    memcpy(before, run(row, &p, index_of(&p)), d * sizeof(float));
    uint32_t *index = (uint32_t *)(void *)p.index.data;
    for (size_t j = n; j > 1; j--) {
        size_t other = adm_rng_below(rng, j);
        uint32_t kept = index[j - 1];
        index[j - 1] = index[other];
        index[other] = kept;
    }
    const float *out = run(row, &p, index);
    for (uint32_t i = 0; i < d; i++)
        assert_true(fabs((double)out[i] - before[i]) <= 2 * (allowed[i] + row->tolerance * norm_of(exact, d)));
    problem_free(&p);
}

static void the_order_of_tokens_does_not_matter(void **state) {
    (void)state;
    for_each_problem(__func__, CHECK_HUGE, one_permuted);
}

static void no_tokens_give_zeros(void **state) {
    (void)state;
    adm_rng rng;
    CHECK_EACH_ROW_WITH(ADM_STAGE_ATTENTION, row, rng) {
        problem p = problem_new(&rng, CHECK_NORMAL, ADM_F16, 64, 1, 0);
        for (uint32_t i = 0; i < 64; i++) assert_true(run(row, &p, index_of(&p))[i] == 0);
        for (uint32_t i = 0; i < 64; i++) assert_true(run(row, &p, NULL)[i] == 0);
        problem_free(&p);
    }
}

/* Two tokens with scores 0 and log 3, by hand: weights 1/4 and 3/4. */
static void a_softmax_by_hand(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_ATTENTION, row) {
        float q[64] = {2}, k[2 * 64] = {0}, v[2 * 64] = {0}, out[64];
        double score[2];
        k[64] = 1;
        v[0] = 8;
        v[64] = 16;
        row->fn.attention(ADM_F32, q, k, v, NULL, 2, 64, log(3) / 2, score, out);
        assert_true(fabs(out[0] - 14.0) <= 14 * (0x1p-24 + row->tolerance));
        assert_true(out[1] == 0);
    }
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    const adm_shape shape = {32, 8, 128};
    /* K and V rows once a KV head, q, the indices, the output. */
    assert_true(adm_attention_bytes(&shape, ADM_F16, 256, 400) == 8 * 400.0 * 512 + 32 * 256.0 + 32 * 256.0 * 4 + 32 * 512.0);
    assert_true(adm_dense_bytes(&shape, ADM_F16, 1000) == 8 * 1000.0 * 512 + 32 * 256.0 + 32 * 512.0);
    assert_true(adm_attention_flops(&shape, 256) == 32 * 256 * (4 * 128 + 5.0));
    assert_true(adm_dense_flops(&shape, 256) == adm_attention_flops(&shape, 256));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_attention),
        cmocka_unit_test(exact_rows_equal_the_reference),
        cmocka_unit_test(rows_on_vectors_give_the_same_bits),
        cmocka_unit_test(all_tokens_selected_equals_dense),
        cmocka_unit_test(the_result_is_an_average_of_v),
        cmocka_unit_test(the_order_of_tokens_does_not_matter),
        cmocka_unit_test(no_tokens_give_zeros),
        cmocka_unit_test(a_softmax_by_hand),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
