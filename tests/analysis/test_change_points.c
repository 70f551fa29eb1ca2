/* test_change_points.c: where a series changed its level, and where it did not. The noise has a fixed seed: what is found in
 * noise is a matter of probability, and a test must not fail one day in a hundred. */
#include "tests/support/stage_check.h"

#include "analysis/regress/statistics/change_points.h"
#include "core/base/mem.h"

enum { SEED = 20 };

static adm_error err;
static const adm_change_options defaults = ADM_CHANGE_DEFAULTS;

/* n values about `level` with a relative spread and lag-1 correlation. */
static void make_noise(adm_rng *rng, double *value, size_t n, double spread, double rho) {
    double last = adm_rng_normal(rng);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) last = rho * last + sqrt(1 - rho * rho) * adm_rng_normal(rng);
        value[i] = 1000 * exp(spread * last);
    }
}

static size_t find(const double *value, size_t n, adm_change_point found[16]) {
    adm_change_point *list = NULL;
    size_t n_found = 0;
    assert_int_equal(adm_change_points(value, n, &defaults, &list, &n_found, &err), ADM_OK);
    assert_true(n_found <= 16 && (n_found == 0) == (list == NULL));
    for (size_t i = 0; i < n_found; i++) found[i] = list[i];
    adm_free(&list);
    return n_found;
}

static void a_step_is_found(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    for (int round = 0; round < 50; round++) {
        double value[100];
        adm_change_point found[16];
        size_t at = 10 + adm_rng_below(&rng, 81);
        make_noise(&rng, value, 100, 0.01, 0);
        for (size_t i = at; i < 100; i++) value[i] *= 1.1;
        assert_int_equal(find(value, 100, found), 1);
        assert_true(found[0].at + 2 >= at && found[0].at <= at + 2);
        assert_true(fabs(found[0].after / found[0].before - 1.1) < 0.03 && found[0].p <= defaults.level);
    }
}

/* 600 series: at the promised 1% there would be 6, and 15 or fewer have 99.9% probability. */
static void noise_is_none(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    for (int correlated = 0; correlated < 2; correlated++) {
        int n_false = 0;
        for (int round = 0; round < 600; round++) {
            double value[100];
            adm_change_point found[16];
            make_noise(&rng, value, 100, 0.05, correlated ? 0.3 : 0);
            n_false += find(value, 100, found) > 0;
        }
        print_message("# lag-1 correlation %.1f: %d of 600 series with a false change\n", correlated ? 0.3 : 0, n_false);
        assert_true(n_false <= 15);
    }
}

static void one_bad_run_is_none(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    double value[60];
    adm_change_point found[16];
    make_noise(&rng, value, 60, 0.005, 0);
    value[30] *= 2;
    value[59] *= 1.5;
    assert_int_equal(find(value, 60, found), 0);
    /* Two slow runs at the end are not yet a change; six are. */
    value[30] /= 2;
    value[58] *= 1.5;
    assert_int_equal(find(value, 60, found), 0);
    for (size_t i = 54; i < 58; i++) value[i] *= 1.5;
    assert_int_equal(find(value, 60, found), 1);
    assert_int_equal(found[0].at, 54);
}

static void several_steps(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    double value[300];
    adm_change_point found[16];
    make_noise(&rng, value, 300, 0.01, 0);
    for (size_t i = 100; i < 200; i++) value[i] *= 1.15;
    for (size_t i = 200; i < 300; i++) value[i] *= 1.01; /* back, but for less than the least magnitude */
    assert_int_equal(find(value, 300, found), 2);
    assert_true(found[0].at >= 98 && found[0].at <= 102 && found[1].at >= 198 && found[1].at <= 202);
    assert_true(found[0].after > found[0].before && found[1].after < found[1].before);
}

/* Counts do not scatter: a constant is constant to the last bit, and any step of them shows. */
static void figures_without_noise(void **state) {
    (void)state;
    double value[40];
    adm_change_point found[16];
    for (size_t i = 0; i < 40; i++) value[i] = 0.1 * 3;
    assert_int_equal(find(value, 40, found), 0);
    for (size_t i = 25; i < 40; i++) value[i] *= 1.05;
    assert_int_equal(find(value, 40, found), 1);
    assert_int_equal(found[0].at, 25);
    /* Zeros have no logarithm. */
    for (size_t i = 0; i < 40; i++) value[i] = i < 30 ? 0 : 16;
    assert_int_equal(find(value, 40, found), 1);
    assert_true(found[0].at == 30 && found[0].before == 0 && found[0].after == 16);
    for (size_t i = 0; i < 40; i++) value[i] = 0;
    assert_int_equal(find(value, 40, found), 0);
    assert_int_equal(find(value, 5, found), 0);
    assert_int_equal(find(value, 0, found), 0);
}

static void the_same_seed_finds_the_same(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    double value[100];
    adm_change_point one[16], two[16];
    make_noise(&rng, value, 100, 0.02, 0.2);
    for (size_t i = 70; i < 100; i++) value[i] *= 1.06;
    size_t n = find(value, 100, one);
    assert_int_equal(find(value, 100, two), n);
    for (size_t i = 0; i < n; i++) assert_true(one[i].at == two[i].at && one[i].p == two[i].p);
}

/* A slow change is one drift with its two ends, not a staircase; a step stays a step, and so do two in one direction. */
static void a_drift_is_a_drift(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    for (int round = 0; round < 30; round++) {
        double drift[100], steps[100];
        adm_change_point found[16];
        make_noise(&rng, drift, 100, 0.005, 0);
        make_noise(&rng, steps, 100, 0.005, 0);
        for (int i = 0; i < 100; i++) {
            drift[i] *= 1 + 0.1 * i / 99;
            steps[i] *= i < 40 ? 1 : i < 70 ? 1.05 : 1.1;
        }
        assert_int_equal(find(drift, 100, found), 1);
        assert_true(found[0].is_drift && found[0].from == 0 && found[0].to == 100);
        assert_true(fabs(found[0].before / 1000 - 1) < 0.01 && fabs(found[0].after / 1100 - 1) < 0.01);
        assert_int_equal(find(steps, 100, found), 2);
        assert_true(!found[0].is_drift && !found[1].is_drift);
    }
}

/* Replicates of one commit: no change lies between them. */
static void replicates_are_not_split(void **state) {
    (void)state;
    double value[40];
    size_t group[40], n_found = 0;
    adm_rng rng;
    adm_rng_seed(&rng, SEED);
    make_noise(&rng, value, 40, 0.005, 0);
    for (size_t i = 0; i < 40; i++) {
        value[i] *= i < 17 ? 1 : 1.2;
        group[i] = i / 10;
    }
    adm_change_options options = defaults;
    adm_change_point *found = NULL;
    options.group = group;
    assert_int_equal(adm_change_points(value, 40, &options, &found, &n_found, &err), ADM_OK);
    for (size_t i = 0; i < n_found; i++) assert_int_equal(found[i].at % 10, 0);
    adm_free(&found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_found),       cmocka_unit_test(noise_is_none),
        cmocka_unit_test(one_bad_run_is_none),   cmocka_unit_test(several_steps),
        cmocka_unit_test(figures_without_noise), cmocka_unit_test(the_same_seed_finds_the_same),
        cmocka_unit_test(a_drift_is_a_drift),    cmocka_unit_test(replicates_are_not_split),
    };
    return cmocka_run_group_tests_name("change points", tests, NULL, NULL);
}
