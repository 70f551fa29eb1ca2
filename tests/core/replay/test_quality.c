/* test_quality.c: the quality metrics against their definitions, written out without the identities the engine uses. */
#include "tests/support/stage_check.h"

#include <stdbool.h>

#include "core/replay/session/quality.h"
#include "kernels/attention/quality.h"

enum { N = 300, D = 64 };

typedef struct problem {
    float q[D], k[N * D], v[N * D];
    double scale, score[N];
    const adm_quality_impl *impl;
    adm_reference reference;
} problem;

static void compute(problem *p) {
    adm_reference_compute(p->impl, ADM_F32, p->q, &(size_t){N}, 1, p->k, p->v, D, p->scale, p->score, N, &p->reference);
}

static problem *make_problem(uint64_t seed) {
    adm_rng rng;
    problem *p = calloc(1, sizeof *p);
    adm_rng_seed(&rng, seed);
    for (int i = 0; i < D; i++) p->q[i] = (float)adm_rng_normal(&rng);
    for (int i = 0; i < N * D; i++) {
        p->k[i] = (float)adm_rng_normal(&rng) + (i % D == 7 ? 3.0f : 0.0f); /* an outlier channel, as real keys have */
        p->v[i] = (float)adm_rng_normal(&rng);
    }
    p->scale = 0.125;
    p->impl = adm_quality_fastest();
    compute(p);
    return p;
}

static void drop_problem(problem *p) { free(p); }

/* The metrics of nested selections: level b is selected[begin .. end[b] - 1], ascending. */
static void judge_levels(problem *p, const uint32_t *selected, const size_t *end, size_t n_levels, adm_quality *quality) {
    adm_score_cut cut[8];
    size_t n_cuts = 0;
    static uint32_t token[N];
    static double token_score[N];
    adm_candidates candidates = {0, token, token_score};
    static double scratch[10 * N], memory[4 * N + 8 * D + 256];
    for (size_t b = 0; b < n_levels; b++) cut[b] = (adm_score_cut){.k = end[b]};
    while (n_cuts < n_levels && end[n_cuts] < N) n_cuts++;
    if (n_cuts > 0) adm_rank_cut(p->score, N, cut, n_cuts, scratch, &candidates);
    const adm_nested nested = {p->impl, ADM_F32, p->v, selected, end, n_levels};
    adm_layout layout = {.base = (unsigned char *)memory};
    adm_judging judging;
    adm_judging_take(&layout, &nested, end[n_levels - 1], &p->reference, 1, &judging);
    assert_true(layout.bytes <= sizeof memory);
    adm_judging_weigh(&judging, cut, scratch);
    adm_judging_sum(&judging, 1);
    adm_judging_finish(&judging, scratch, quality);
}

static adm_quality judge(problem *p, const uint32_t *selected, size_t n) {
    adm_quality quality;
    judge_levels(p, selected, &n, 1, &quality);
    return quality;
}

/* The exact top-k, by the definition: sorted by insertion. */
static void exact_top_k(const problem *p, size_t k, uint32_t *selected) {
    bool in[N] = {false};
    for (size_t j = 0; j < k; j++) {
        int best = -1;
        for (int t = 0; t < N; t++)
            if (!in[t] && (best < 0 || p->score[t] >= p->score[best])) best = t; /* the most recent of equals */
        in[best] = true;
    }
    size_t n = 0;
    for (uint32_t t = 0; t < N; t++)
        if (in[t]) selected[n++] = t;
}

/* Full and truncated softmax in long double. */
static void distributions(const problem *p, const uint32_t *selected, size_t n, long double *full, long double *kept) {
    long double total = 0, kept_total = 0;
    for (int t = 0; t < N; t++) {
        long double dot = 0;
        for (int i = 0; i < D; i++) dot += (long double)p->q[i] * p->k[t * D + i];
        full[t] = expl(dot * p->scale);
        kept[t] = 0;
        total += full[t];
    }
    for (size_t j = 0; j < n; j++) kept_total += full[selected[j]];
    for (size_t j = 0; j < n; j++) kept[selected[j]] = full[selected[j]] / kept_total;
    for (int t = 0; t < N; t++) full[t] /= total;
}

static void metrics_match_their_definitions(void **state) {
    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        problem *p = make_problem(check_seed() + round);
        check_case("round %" PRIu64, round);
        adm_rng rng;
        adm_rng_seed(&rng, check_seed() ^ round);
        uint32_t selected[N];
        size_t n = 0;
        for (uint32_t t = 0; t < N; t++)
            if (adm_rng_unit(&rng) < 0.3 || t == N - 1) selected[n++] = t;

        long double full[N], kept[N], kl = 0, tv = 0, mass = 0, out[D] = {0}, dense[D] = {0};
        distributions(p, selected, n, full, kept);
        for (int t = 0; t < N; t++) {
            if (kept[t] > 0) kl += kept[t] * logl(kept[t] / full[t]);
            if (kept[t] > 0) mass += full[t];
            tv += fabsl(kept[t] - full[t]) / 2;
            for (int i = 0; i < D; i++) out[i] += kept[t] * p->v[t * D + i];
            for (int i = 0; i < D; i++) dense[i] += full[t] * p->v[t * D + i];
        }
        long double difference = 0, norm = 0, dense_norm = 0, dot = 0;
        for (int i = 0; i < D; i++) {
            float rounded = (float)out[i];
            difference += (rounded - dense[i]) * (rounded - dense[i]);
            norm += (long double)rounded * rounded;
            dense_norm += dense[i] * dense[i];
            dot += rounded * dense[i];
        }

        adm_quality quality = judge(p, selected, n);
        /* Sums of 300 doubles of one sign and an exp each: a few hundred units of 1e-16, relative. */
        assert_true(fabsl(quality.mass - mass) < 1e-12L);
        assert_true(fabsl(quality.tv - tv) < 1e-12L);
        assert_true(fabsl(quality.kl - kl) < 1e-12L);
        /* The output is rounded to float32; one that lies on a rounding boundary may fall either way, by 2^-24 of it. */
        assert_true(fabsl(quality.output_rel_l2 - sqrtl(difference / dense_norm)) < 1e-7L);
        assert_true(fabsl(quality.output_cosine - dot / sqrtl(norm * dense_norm)) < 1e-7L);
        drop_problem(p);
    }
    check_case_end();
}

static void everything_selected_loses_nothing(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    uint32_t all[N];
    for (uint32_t t = 0; t < N; t++) all[t] = t;
    adm_quality quality = judge(p, all, N), dense = adm_quality_of_dense(&p->reference);
    assert_true(quality.mass == 1 && quality.tv == 0 && quality.kl == 0 && quality.recall == 1);
    assert_false(signbit(quality.kl));
    assert_true(quality.output_rel_l2 < 1e-7); /* one rounding to float32 an element: at most 2^-24 */
    assert_memory_equal(&quality, &dense, sizeof dense);
    drop_problem(p);
}

/* Levels read V once and sum in another order: the same but for rounding, at most 300 units of 1e-16 and then float32's. */
static void nested_selections_are_judged_as_each_by_itself(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    uint32_t top[5][N], list[N], n_list = 0;
    const size_t end[5] = {1, 16, 17, 150, N};
    for (int b = 0; b < 5; b++) {
        exact_top_k(p, end[b], top[b]);
        for (size_t j = 0; j < end[b]; j++) {
            bool wider = true;
            for (size_t i = 0; b > 0 && i < end[b - 1]; i++) wider &= top[b - 1][i] != top[b][j];
            if (wider) list[n_list++] = top[b][j];
        }
    }
    assert_int_equal(n_list, N);
    adm_quality together[5];
    judge_levels(p, list, end, 5, together);
    for (int b = 0; b < 5; b++) {
        adm_quality alone = judge(p, top[b], end[b]);
        assert_true(together[b].recall == 1 && alone.recall == 1);
        assert_true(fabs(together[b].mass - alone.mass) < 1e-13);
        assert_true(fabs(together[b].kl - alone.kl) < 1e-12);
        assert_true(fabs(together[b].output_rel_l2 - alone.output_rel_l2) < 1e-7);
        assert_true(fabs(together[b].output_cosine - alone.output_cosine) < 1e-7);
    }
    drop_problem(p);
}

/* Several selections, of one query and of three that share one, over more tokens than a block of V holds: the sums of every
 * level are those of the level by itself, to the last bit. */
static void selections_are_summed_together_as_each_by_itself(void **state) {
    (void)state;
    enum { TOKENS = 9000, LISTS = 5, LEVELS = 3, WIDEST = 4000, QUERIES = 3 };
    const size_t end[LISTS][LEVELS] = {
        {1, 2, 3}, {100, 1500, WIDEST}, {1000, 2000, 3000}, {7, 500, TOKENS}, {TOKENS, TOKENS, TOKENS}};
    adm_rng rng = check_rng(__func__);
    float *v = calloc(TOKENS * D, sizeof *v);
    double *score = calloc(TOKENS, sizeof *score), *scratch = calloc(TOKENS, sizeof *scratch);
    uint32_t *list = calloc(LISTS * TOKENS, sizeof *list);
    adm_layout layout = {.base = calloc(LISTS * (TOKENS * 2 + 4096), sizeof(double))};
    adm_judging judging[LISTS];
    assert_true(v != NULL && score != NULL && scratch != NULL && list != NULL && layout.base != NULL);
    for (int i = 0; i < TOKENS * D; i++) v[i] = (float)adm_rng_normal(&rng);
    for (int t = 0; t < TOKENS; t++) score[t] = adm_rng_normal(&rng);
    adm_reference reference[QUERIES];
    for (int g = 0; g < QUERIES; g++)
        reference[g] = (adm_reference){.n = TOKENS, .head_dim = D, .score = score, .largest = 3 + g, .total_weight = 1e5};
    for (size_t i = 0; i < LISTS; i++)
        for (size_t b = 0, at = 0; b < LEVELS && end[i][b] < TOKENS; b++)
            for (uint32_t t = (uint32_t)adm_rng_below(&rng, 2); at < end[i][b]; at++, t += 1 + (uint32_t)adm_rng_below(&rng, 2))
                list[i * TOKENS + at] = t;
    for (size_t r = 0; adm_quality_at(r) != NULL; r++) {
        const adm_quality_impl *impl = adm_quality_at(r);
        if (impl->is_available != NULL && !impl->is_available()) continue;
        layout.bytes = 0;
        for (int i = 0; i < LISTS; i++) {
            const adm_nested nested = {impl, ADM_F32, v, list + i * TOKENS, end[i], LEVELS};
            const adm_score_cut cut[QUERIES * LEVELS] = {{.k = 1}};
            adm_judging_take(&layout, &nested, TOKENS, reference, i == 1 ? QUERIES : 1, &judging[i]);
            adm_judging_weigh(&judging[i], cut, scratch);
        }
        adm_judging_sum(judging, LISTS);
        for (int i = 0; i < LISTS; i++) {
            const adm_judging *j = &judging[i];
            check_case("%s, list %d", impl->name, i);
            for (size_t b = 0, begin = 0; b < LEVELS && end[i][b] < TOKENS; begin = end[i][b++]) {
                double sum[QUERIES * D] = {0};
                impl->combine(ADM_F32, v, j->nested.list + begin, end[i][b] - begin, D, j->weight + begin, j->widest, j->n_q,
                              sum);
                assert_memory_equal(sum, j->sum + b * j->n_q * D, j->n_q * D * sizeof *sum);
                assert_true(sum[0] != 0);
            }
        }
    }
    check_case_end();
    free(v);
    free(score);
    free(scratch);
    free(list);
    free(layout.base);
}

static void recall_counts_tied_tokens_as_equals(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    /* Scores 5, 3, 3, 3, 3, then lower ones: an exact top-3 is token 0 and any two of tokens 1 to 4. */
    for (int t = 0; t < N; t++)
        for (int i = 0; i < D; i++) p->k[t * D + i] = i == 0 ? (t == 0 ? 5 : t < 5 ? 3 : -1.0f - (float)t) : 0;
    p->q[0] = 1;
    p->scale = 1;
    compute(p);
    assert_true(judge(p, (uint32_t[]){0, 1, 2}, 3).recall == 1.0);
    assert_true(judge(p, (uint32_t[]){0, 3, 4}, 3).recall == 1.0);
    assert_true(judge(p, (uint32_t[]){1, 2, 3}, 3).recall == 2.0 / 3);
    assert_true(judge(p, (uint32_t[]){0, 4, 9}, 3).recall == 2.0 / 3);
    assert_true(judge(p, (uint32_t[]){7, 8, 9}, 3).recall == 0.0);
    drop_problem(p);
}

static void zero_outputs_have_defined_errors(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    memset(p->v, 0, sizeof p->v);
    compute(p);
    adm_quality both = judge(p, (uint32_t[]){1}, 1);
    assert_true(both.output_rel_l2 == 0 && both.output_cosine == 1);
    /* Two tokens of equal weight whose values cancel: dense attention gives zero, either alone does not. */
    memset(p->q, 0, sizeof p->q);
    for (int t = 0; t < N; t++) p->v[t * D] = t % 2 == 0 ? 1.0f : -1.0f;
    compute(p);
    adm_quality only_sparse = judge(p, (uint32_t[]){1}, 1);
    assert_true(only_sparse.output_rel_l2 == 1 && only_sparse.output_cosine == 0);
    drop_problem(p);
}

static void huge_scores_stay_finite(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    for (int i = 0; i < D; i++) p->q[i] *= 1e15f;
    compute(p);
    assert_true(isfinite(p->reference.out_norm));
    uint32_t best[1], worst[1] = {0};
    exact_top_k(p, 1, best);
    assert_true(judge(p, best, 1).mass > 0.99);
    for (uint32_t t = 1; t < N; t++)
        if (p->score[t] < p->score[worst[0]]) worst[0] = t;
    /* Nothing is left of the mass, but the output is that token's value, and the divergence the difference of scores. */
    adm_quality lost = judge(p, worst, 1);
    assert_true(lost.mass == 0 && lost.tv == 1 && isfinite(lost.kl));
    assert_true(fabs(lost.kl / (p->score[best[0]] - p->score[worst[0]]) - 1) < 1e-12);
    double dot = 0, norm = 0;
    for (uint32_t i = 0; i < D; i++) {
        dot += p->v[worst[0] * D + i] * p->reference.out[i];
        norm += (double)p->v[worst[0] * D + i] * p->v[worst[0] * D + i];
    }
    assert_true(fabs(lost.output_cosine - dot / (sqrt(norm) * p->reference.out_norm)) < 1e-12);
    drop_problem(p);
}

/* --- The rows ------------------------------------------------------------------------------------------------------- */

/* How far a row may be from the plain loops. Scores not at all: the products are exact and added in one order. With u = 2^-53,
 * the exponential is off by four u, and a sum of n weights in another order by n u of it. Outputs add the same products,
 * rounded first or not, in one order: each of n roundings is off by at most u of what is there, which is at most sum w |v|. */
static void rows_are_the_reference(void **state) {
    (void)state;
    enum { ROWS = 77, MOST_Q = 27, STRIDE = 80 };
    const adm_quality_impl *plain = adm_quality_at(0), *row;
    adm_rng rng = check_rng(__func__);
    size_t n_rows = 0;
    for (size_t r = 1; (row = adm_quality_at(r)) != NULL; r++) {
        if (row->is_available != NULL && !row->is_available()) {
            print_message("row %s is not checked: this processor cannot run it\n", row->name);
            continue;
        }
        for (size_t c = 0; c < 3 * 3 * 4; c++) {
            const uint32_t d = check_head_dims[c % 3], n_q = (uint32_t[]){1, 3, 4, MOST_Q}[c / 9];
            const adm_dtype dtype = check_dtypes[c / 3 % 3];
            check_case("%s, d=%u, %s, %u queries", row->name, d, adm_dtype_name(dtype), n_q);
            check_buffer k = check_rows(&rng, CHECK_OUTLIERS, dtype, ROWS, d, c % 2);
            check_buffer v = check_rows(&rng, CHECK_NORMAL, dtype, ROWS, d, c % 2);
            static double q[MOST_Q * ADM_MAX_HEAD_DIM], score[2][MOST_Q * STRIDE], weight[2][MOST_Q * STRIDE],
                out[2][MOST_Q * ADM_MAX_HEAD_DIM], o[ADM_MAX_HEAD_DIM];
            static float value[ROWS * ADM_MAX_HEAD_DIM];
            uint32_t index[ROWS];
            for (uint32_t i = 0; i < n_q * d; i++) q[i] = (float)adm_rng_normal(&rng) / 8;
            for (uint32_t i = 0; i < ROWS; i++) index[i] = (uint32_t)adm_rng_below(&rng, ROWS);
            adm_to_f32(dtype, v.data, ROWS * d, value);
            const adm_quality_impl *both[2] = {plain, row};
            for (int b = 0; b < 2; b++) both[b]->scores(dtype, q, n_q, k.data, ROWS, d, 0.1, score[b], STRIDE);
            for (uint32_t g = 0; g < n_q; g++)
                assert_memory_equal(score[0] + g * STRIDE, score[1] + g * STRIDE, ROWS * sizeof **score);
            for (uint32_t g = 0; g < n_q; g++) {
                const double *same = score[0] + g * STRIDE, largest = adm_largest(same, ROWS);
                double total[2];
                for (int b = 0; b < 2; b++) total[b] = both[b]->weights(same, ROWS, largest, weight[b] + g * STRIDE);
                for (size_t t = g * STRIDE; t < g * STRIDE + ROWS; t++)
                    assert_true(fabs(weight[0][t] - weight[1][t]) <= 4 * 0x1p-53 * weight[0][t]);
                assert_true(fabs(total[0] - total[1]) <= (ROWS + 4) * 0x1p-53 * total[0]);
            }
            for (int indexed = 0; indexed < 2; indexed++) {
                const uint32_t *rows = indexed ? index : NULL;
                memset(out, 0, sizeof out);
                for (int b = 0; b < 2; b++) both[b]->combine(dtype, v.data, rows, ROWS, d, weight[0], STRIDE, n_q, out[b]);
                for (uint32_t i = 0; i < n_q * d; i++) {
                    double sizes = 0;
                    for (size_t t = 0; t < ROWS; t++)
                        sizes += weight[0][i / d * STRIDE + t] * fabs((double)value[(rows ? rows[t] : t) * d + i % d]);
                    assert_true(fabs(out[0][i] - out[1][i]) <= 2 * ROWS * 0x1p-53 * sizes);
                }
            }
            for (uint32_t i = 0; i < d; i++) o[i] = out[0][i] / 10;
            for (int tenth = 0; tenth < 10; tenth++) { /* limits that no rounding decides */
                double limit = 2 + 17.3 * tenth;
                assert_int_equal(plain->within(dtype, v.data, index, ROWS, d, weight[0], o, limit),
                                 row->within(dtype, v.data, index, ROWS, d, weight[0], o, limit));
            }
            check_free(&k);
            check_free(&v);
        }
        n_rows++;
    }
    assert_true(n_rows > 0);
    check_case_end();
}

/* A row's dense output, rounded, is that of the attention row of the same instruction set: some 1e-15 of sum w |v| apart, they
 * may fall to neighbouring float32 numbers. */
static void the_reference_and_dense_attention_agree(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    for (size_t i = 0; adm_quality_at(i) != NULL; i++) {
        const adm_host_impl *dense = adm_registry_find(ADM_STAGE_DENSE, adm_quality_at(i)->name);
        float out[D];
        double score[N];
        assert_non_null(dense);
        if (!adm_host_impl_available(dense)) continue;
        p->impl = adm_quality_at(i);
        compute(p);
        dense->fn.attention(ADM_F32, p->q, p->k, p->v, NULL, N, D, p->scale, score, out);
        for (int e = 0; e < D; e++)
            assert_true(fabs(out[e] - p->reference.out[e]) <= 0x1p-23 * fabs(p->reference.out[e]) + 1e-14);
    }
    drop_problem(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_match_their_definitions),
        cmocka_unit_test(everything_selected_loses_nothing),
        cmocka_unit_test(nested_selections_are_judged_as_each_by_itself),
        cmocka_unit_test(selections_are_summed_together_as_each_by_itself),
        cmocka_unit_test(recall_counts_tied_tokens_as_equals),
        cmocka_unit_test(zero_outputs_have_defined_errors),
        cmocka_unit_test(huge_scores_stay_finite),
        cmocka_unit_test(rows_are_the_reference),
        cmocka_unit_test(the_reference_and_dense_attention_agree),
    };
    return cmocka_run_group_tests_name("quality", tests, NULL, NULL);
}
