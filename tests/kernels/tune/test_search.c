/* test_search.c: successive halving on planted grids of times: near the best, for a quarter of the samples, whatever fails. */
#include "tests/support/stage_check.h"

#include <math.h>

#include "core/stats/rng.h"
#include "kernels/tune/search.h"

enum { N_FULL = 20 }; /* samples by which a session times one setting at least */

/* A grid of times and noise on every sample. */
typedef struct grid {
    double ns[200];
    double noise; /* relative, of one sample */
    size_t n_out; /* the first settings that fail */
    adm_rng rng;
} grid;

static adm_status measure(void *user, const size_t *which, size_t n, size_t n_samples, double *ns, adm_error *err) {
    grid *g = user;
    (void)err;
    for (size_t i = 0; i < n; i++)
        ns[i] = which[i] < g->n_out ? NAN
                                    : g->ns[which[i]] * (1 + g->noise * adm_rng_normal(&g->rng) / sqrt((double)n_samples));
    return ADM_OK;
}

/* Times as tile sizes and depths give them: a bowl in each parameter, some settings far off. */
static size_t make_grid(grid *g, uint64_t seed, size_t n) {
    size_t best = 0;
    adm_rng_seed(&g->rng, seed);
    for (size_t i = 0; i < n; i++) {
        const double x = (double)(i % 9) - 4 + adm_rng_unit(&g->rng), y = (double)(i / 9 % 9) - 4;
        g->ns[i] = 5000 * (1 + 0.02 * x * x + 0.03 * y * y) * (adm_rng_below(&g->rng, 8) == 0 ? 1.6 : 1);
        if (i >= g->n_out && (best < g->n_out || g->ns[i] < g->ns[best])) best = i;
    }
    return best;
}

static void search_is_near_the_best_for_a_quarter_of_the_samples(void **state) {
    static const size_t sizes[] = {24, 27, 81, 200};
    size_t n_near = 0, n_all = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++, n_all++) {
            grid g = {.noise = 0.01};
            size_t finalist[ADM_SEARCH_FINALISTS], n_finalists, n_measured;
            const size_t best = make_grid(&g, seed, sizes[s]);
            double found = INFINITY;
            assert_int_equal(
                adm_search_halve(sizes[s], ADM_SEARCH_FIRST_SAMPLES, measure, &g, finalist, &n_finalists, &n_measured, NULL),
                ADM_OK);
            assert_int_equal(n_finalists, ADM_SEARCH_FINALISTS);
            for (size_t i = 0; i < n_finalists; i++) found = fmin(found, g.ns[finalist[i]]);
            n_near += found <= 1.02 * g.ns[best];
            assert_true((double)(n_measured + n_finalists * N_FULL) <= 0.25 * (double)(sizes[s] * N_FULL));
        }
    if (n_near < n_all) print_message("within 2%% of the best in %zu of %zu searches\n", n_near, n_all);
    assert_true(n_near >= n_all * 98 / 100);
}

/* Where a round has enough samples for a median, more rounds would measure the same again. */
static void a_round_of_enough_samples_is_the_only_one(void **state) {
    grid g = {.noise = 0.01};
    size_t finalist[ADM_SEARCH_FINALISTS], n_finalists, n_measured, n_best = 0;
    const size_t best = make_grid(&g, 7, 81);
    (void)state;
    assert_int_equal(adm_search_halve(81, ADM_SEARCH_ENOUGH, measure, &g, finalist, &n_finalists, &n_measured, NULL), ADM_OK);
    assert_in_range(n_finalists, 1, ADM_SEARCH_FINALISTS);
    assert_int_equal(n_measured, 81 * ADM_SEARCH_ENOUGH);
    for (size_t i = 0; i < n_finalists; i++) n_best += finalist[i] == best;
    assert_int_equal(n_best, 1);
}

/* A finalist costs more than the whole round, so that one which cannot win is none; of few settings all three are shown. */
static void a_sure_round_leaves_out_what_cannot_win(void **state) {
    grid g = {.noise = 0, .ns = {900, 1000, 1020, 1040}, .n_out = 1};
    size_t finalist[ADM_SEARCH_FINALISTS], n_finalists, n_measured;
    (void)state;
    adm_rng_seed(&g.rng, 1);
    for (size_t i = 4; i < 20; i++) g.ns[i] = 2000;
    assert_int_equal(adm_search_halve(20, ADM_SEARCH_ENOUGH, measure, &g, finalist, &n_finalists, &n_measured, NULL), ADM_OK);
    assert_int_equal(n_finalists, 2);
    assert_int_equal(finalist[0], 1);
    assert_int_equal(finalist[1], 2);
    assert_int_equal(
        adm_search_halve(ADM_SEARCH_FEW, ADM_SEARCH_ENOUGH, measure, &g, finalist, &n_finalists, &n_measured, NULL), ADM_OK);
    assert_int_equal(n_finalists, 3);
    g.n_out = 20;
    assert_int_equal(adm_search_halve(20, ADM_SEARCH_ENOUGH, measure, &g, finalist, &n_finalists, &n_measured, NULL), ADM_OK);
    assert_int_equal(n_finalists, 0);
}

static void settings_that_fail_are_never_finalists(void **state) {
    (void)state;
    for (size_t n_out = 0; n_out <= 24; n_out++) {
        grid g = {.noise = 0, .n_out = n_out};
        size_t finalist[ADM_SEARCH_FINALISTS], n_finalists, n_measured;
        const size_t best = make_grid(&g, 7, 24);
        assert_int_equal(adm_search_halve(24, ADM_SEARCH_FIRST_SAMPLES, measure, &g, finalist, &n_finalists, &n_measured, NULL),
                         ADM_OK);
        assert_int_equal(n_finalists, 24 - n_out < ADM_SEARCH_FINALISTS ? 24 - n_out : ADM_SEARCH_FINALISTS);
        for (size_t i = 0; i < n_finalists; i++) assert_true(finalist[i] >= n_out);
        if (n_out < 24) assert_int_equal(finalist[0], best);
    }
}

static void a_candidate_runs_through_its_settings(void **state) {
    adm_candidate c = {.n_parameters = 2, .parameter = {{"A", {1, 2}, 2}, {"B", {10, 20, 30}, 3}}};
    static const int64_t expected[6][2] = {{1, 10}, {1, 20}, {1, 30}, {2, 10}, {2, 20}, {2, 30}};
    (void)state;
    assert_int_equal(adm_search_n_settings(&c), 6);
    for (size_t i = 0; i < 6; i++) {
        adm_search_choose(&c, i);
        assert_int_equal(c.chosen[0], expected[i][0]);
        assert_int_equal(c.chosen[1], expected[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_is_near_the_best_for_a_quarter_of_the_samples),
        cmocka_unit_test(a_round_of_enough_samples_is_the_only_one),
        cmocka_unit_test(a_sure_round_leaves_out_what_cannot_win),
        cmocka_unit_test(settings_that_fail_are_never_finalists),
        cmocka_unit_test(a_candidate_runs_through_its_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
