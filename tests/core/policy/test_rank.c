/* test_rank.c: orders and cuts against the definition: sorted by comparison. */
#include "tests/support/stage_check.h"

#include <stdbool.h>

#include "core/policy/rank.h"
#include "core/policy/rank_collect.h"
#include "core/system/cpu.h"

enum { MOST = 30000 }; /* beyond some 8,000 the candidates are guessed from a sample */

static const double *compared;

static int by_definition(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (compared[x] != compared[y]) return compared[x] < compared[y] ? 1 : -1;
    return (x < y) - (x > y);
}

/* Kinds of scores: 0 normal, 1 few values with many ties, 2 all alike, 3 heavy tails of both signs, 4 with infinities and
 * zeros of both signs, 5 ascending, 6 one far above all others, 7 those far above that a sample of 2,048 sees. */
enum { N_KINDS = 8 };

static void fill(adm_rng *rng, int kind, double *score, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double x = adm_rng_normal(rng);
        uint64_t one_in_five = adm_rng_below(rng, 5);
        score[i] = kind == 0   ? x
                   : kind == 1 ? floor(2 * x)
                   : kind == 2 ? -3.5
                   : kind == 3 ? x * x * x * exp(20 * fabs(x))
                   : kind == 4 ? (double[]){INFINITY, -INFINITY, -0.0, 0.0, x}[one_in_five]
                   : kind == 5 ? (double)i
                   : kind == 6 ? (i == n / 3 ? 1e300 : x)
                               : x + ((i * 2048 + n - 1) / n * n < (i + 1) * 2048 ? 1000 : 0);
    }
}

static void orders_are_those_of_a_sort(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static double score[MOST];
    static uint32_t order[MOST], expected[MOST];
    static adm_ranked scratch[2 * MOST];
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t n = 0; n <= MOST; n = n < 3 ? n + 1 : n * 3 + 1) {
            check_case("kind %d, n=%zu", kind, n);
            fill(&rng, kind, score, n);
            for (size_t t = 0; t < n; t++) expected[t] = (uint32_t)t;
            compared = score;
            qsort(expected, n, sizeof *expected, by_definition);
            adm_rank(score, n, scratch, order);
            assert_memory_equal(order, expected, n * sizeof *order);
            if (n > 0) assert_true(adm_largest(score, n) == score[expected[0]]);
        }
    check_case_end();
}

static void cuts_are_where_the_order_is_cut(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static double score[MOST];
    static uint32_t expected[MOST], token[2][MOST];
    static double token_score[2][MOST];
    static adm_ranked scratch[2 * MOST];
    static bool in[MOST];
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t n = 1; n <= MOST; n = n * 3 + 1) {
            adm_score_cut cut[5];
            size_t k = 0, n_cuts = 0;
            while (n_cuts < 5 && k < n) {
                k += 1 + adm_rng_below(&rng, n_cuts == 0 ? 2 : (n - k + 1) / 2 + 1);
                cut[n_cuts++] = (adm_score_cut){.k = k < n ? k : n};
            }
            check_case("kind %d, n=%zu", kind, n);
            fill(&rng, kind, score, n);
            for (size_t t = 0; t < n; t++) expected[t] = (uint32_t)t;
            compared = score;
            qsort(expected, n, sizeof *expected, by_definition);
            adm_candidates candidates = {0, token[0], token_score[0]}, taken = {0, token[1], token_score[1]};
            adm_rank_cut(score, n, cut, n_cuts, scratch, &candidates);
            for (size_t c = 0; c < n_cuts; c++) {
                assert_int_equal(cut[c].token, expected[cut[c].k - 1]);
                assert_true(cut[c].score == score[cut[c].token]);
                size_t n_tied = 0;
                for (size_t j = 0; j < cut[c].k; j++) n_tied += score[expected[j]] == cut[c].score;
                assert_int_equal(cut[c].n_tied, n_tied);
                adm_rank_take(&candidates, &cut[c], &taken);
                assert_int_equal(taken.n, cut[c].k);
                memset(in, 0, sizeof in);
                for (size_t j = 0; j < cut[c].k; j++) {
                    in[taken.token[j]] = true;
                    assert_true(taken.score[j] == score[taken.token[j]]);
                    assert_true(j == 0 || taken.token[j - 1] < taken.token[j]);
                }
                for (size_t j = 0; j < cut[c].k; j++) assert_true(in[expected[j]]);
            }
        }
    check_case_end();
}

/* Of every set of instructions, on bounds that ties meet, and on bounds that all and none reach. */
static void scores_that_reach_a_bound_are_found_in_their_order(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    enum { N = 4099 };
    static double score[N], found[N + 1];
    static uint32_t token[N + 1];
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t n = 0; n <= N; n = n < 20 ? n + 1 : n * 2 + 3) {
            fill(&rng, kind, score, n);
            const double bound[] = {-INFINITY, INFINITY, n > 0 ? score[adm_rng_below(&rng, n)] : 0, 1.5};
            for (size_t b = 0; b < sizeof bound / sizeof *bound; b++) {
                adm_rank_collect_fn *collect[] = {adm_rank_collect_plain, adm_rank_collect,
#if defined(__x86_64__)
                                                  adm_cpu_has_avx512() ? adm_rank_collect_avx512 : NULL
#endif
                };
                for (size_t f = 0; f < sizeof collect / sizeof *collect; f++) {
                    size_t n_expected = 0;
                    if (collect[f] == NULL) continue;
                    check_case("kind %d, n=%zu, bound %g, function %zu", kind, n, bound[b], f);
                    token[n] = 77; /* guards */
                    found[n] = 77;
                    const size_t n_found = collect[f](score, n, bound[b], token, found);
                    for (size_t t = 0; t < n; t++) {
                        if (!(score[t] >= bound[b])) continue;
                        assert_true(n_expected < n_found && token[n_expected] == t);
                        assert_memory_equal(&found[n_expected], &score[t], sizeof *score);
                        n_expected++;
                    }
                    assert_int_equal(n_found, n_expected);
                    assert_true(token[n] == 77 && found[n] == 77);
                }
            }
        }
    check_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_those_of_a_sort),
        cmocka_unit_test(cuts_are_where_the_order_is_cut),
        cmocka_unit_test(scores_that_reach_a_bound_are_found_in_their_order),
    };
    return cmocka_run_group_tests_name("rank", tests, NULL, NULL);
}
