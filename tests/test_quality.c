/* test_quality.c: the quality metrics against their definitions, written out without the identities the engine uses. */
#include "tests/stage_check.h"

#include <stdbool.h>

#include "core/quality.h"

enum { N = 300, D = 64 };

typedef struct problem {
    float q[D], k[N * D], v[N * D];
    double scale;
    adm_reference *reference;
} problem;

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
    assert_int_equal(adm_reference_create(N, &p->reference, NULL), ADM_OK);
    adm_reference_compute(p->reference, ADM_F32, p->q, ADM_F32, p->k, ADM_F32, p->v, N, D, p->scale);
    return p;
}

static void drop_problem(problem *p) {
    adm_reference_free(&p->reference);
    assert_null(p->reference);
    free(p);
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
        float rounded[D];
        for (int i = 0; i < D; i++) {
            rounded[i] = (float)out[i];
            difference += (rounded[i] - dense[i]) * (rounded[i] - dense[i]);
            norm += (long double)rounded[i] * rounded[i];
            dense_norm += dense[i] * dense[i];
            dot += rounded[i] * dense[i];
        }

        adm_quality quality = adm_quality_of(p->reference, selected, n, rounded);
        /* Sums of 300 doubles of one sign and an exp each: a few hundred units of 1e-16, relative. */
        assert_true(fabsl(quality.mass - mass) < 1e-12L);
        assert_true(fabsl(quality.tv - tv) < 1e-12L);
        assert_true(fabsl(quality.kl - kl) < 1e-12L);
        assert_true(fabsl(quality.output_rel_l2 - sqrtl(difference / dense_norm)) < 1e-11L);
        assert_true(fabsl(quality.output_cosine - dot / sqrtl(norm * dense_norm)) < 1e-11L);
        drop_problem(p);
    }
}

static void everything_selected_loses_nothing(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    uint32_t all[N];
    float out[D];
    for (uint32_t t = 0; t < N; t++) all[t] = t;
    for (int i = 0; i < D; i++) out[i] = (float)p->reference->out[i];
    adm_quality quality = adm_quality_of(p->reference, all, N, out);
    assert_true(quality.mass == 1 && quality.tv == 0 && quality.kl == 0 && quality.recall == 1);
    assert_false(signbit(quality.kl));
    assert_true(quality.output_rel_l2 < 1e-7); /* one rounding to float32 an element: at most 2^-24 */
    drop_problem(p);
}

static void oracle_is_the_exact_top_k(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    for (size_t k = 1; k <= N + 5; k += 13) {
        uint32_t selected[N + 5];
        size_t n = adm_oracle_select(p->reference, k, selected);
        assert_int_equal(n, k < N ? k : N);
        double lowest_in = INFINITY;
        bool in[N] = {false};
        for (size_t j = 0; j < n; j++) {
            assert_true(j == 0 || selected[j - 1] < selected[j]);
            in[selected[j]] = true;
            if (p->reference->score[selected[j]] < lowest_in) lowest_in = p->reference->score[selected[j]];
        }
        for (int t = 0; t < N; t++) assert_true(in[t] || p->reference->score[t] <= lowest_in);
        assert_true(adm_recall(p->reference, selected, n) == 1.0);
    }
    drop_problem(p);
}

static void recall_counts_tied_tokens_as_equals(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    /* Scores 5, 3, 3, 3, 3, then lower ones: an exact top-3 is token 0 and any two of tokens 1 to 4. */
    for (int t = 0; t < N; t++)
        for (int i = 0; i < D; i++) p->k[t * D + i] = i == 0 ? (t == 0 ? 5 : t < 5 ? 3 : -1.0f - (float)t) : 0;
    p->q[0] = 1;
    adm_reference_compute(p->reference, ADM_F32, p->q, ADM_F32, p->k, ADM_F32, p->v, N, D, 1.0);
    assert_true(adm_recall(p->reference, (uint32_t[]){0, 1, 2}, 3) == 1.0);
    assert_true(adm_recall(p->reference, (uint32_t[]){0, 3, 4}, 3) == 1.0);
    assert_true(adm_recall(p->reference, (uint32_t[]){1, 2, 3}, 3) == 2.0 / 3);
    assert_true(adm_recall(p->reference, (uint32_t[]){0, 4, 9}, 3) == 2.0 / 3);
    assert_true(adm_recall(p->reference, (uint32_t[]){7, 8, 9}, 3) == 0.0);
    uint32_t selected[3];
    assert_int_equal(adm_oracle_select(p->reference, 3, selected), 3);
    assert_int_equal(selected[1], 3); /* the most recent of those tied: tokens 3 and 4 */
    assert_int_equal(selected[2], 4);
    drop_problem(p);
}

static void zero_outputs_have_defined_errors(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    float zero[D] = {0}, one[D] = {1};
    memset(p->v, 0, sizeof p->v);
    adm_reference_compute(p->reference, ADM_F32, p->q, ADM_F32, p->k, ADM_F32, p->v, N, D, p->scale);
    adm_quality both = adm_quality_of(p->reference, (uint32_t[]){1}, 1, zero);
    adm_quality only_dense = adm_quality_of(p->reference, (uint32_t[]){1}, 1, one);
    assert_true(both.output_rel_l2 == 0 && both.output_cosine == 1);
    assert_true(only_dense.output_rel_l2 == 1 && only_dense.output_cosine == 0);
    drop_problem(p);
}

static void huge_scores_stay_finite(void **state) {
    (void)state;
    problem *p = make_problem(check_seed());
    for (int i = 0; i < D; i++) p->q[i] *= 1e15f;
    adm_reference_compute(p->reference, ADM_F32, p->q, ADM_F32, p->k, ADM_F32, p->v, N, D, p->scale);
    assert_true(isfinite(p->reference->out_norm));
    uint32_t best[1];
    adm_oracle_select(p->reference, 1, best);
    assert_true(adm_quality_of(p->reference, best, 1, p->v + best[0] * D).mass > 0.99);
    drop_problem(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_match_their_definitions), cmocka_unit_test(everything_selected_loses_nothing),
        cmocka_unit_test(oracle_is_the_exact_top_k),       cmocka_unit_test(recall_counts_tied_tokens_as_equals),
        cmocka_unit_test(zero_outputs_have_defined_errors), cmocka_unit_test(huge_scores_stay_finite),
    };
    return cmocka_run_group_tests_name("quality", tests, NULL, NULL);
}
