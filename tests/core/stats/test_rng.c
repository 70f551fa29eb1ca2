/* test_rng.c: the generator against published values, and what is derived from it. */
#include "tests/support/stage_check.h"

/* From state 1, 2, 3, 4: the first values of the authors' own C program (prng.di.unimi.it/xoshiro256starstar.c). */
static void the_published_sequence(void **state) {
    (void)state;
    adm_rng rng = {{1, 2, 3, 4}};
    assert_true(adm_rng_u64(&rng) == 11520u);
    assert_true(adm_rng_u64(&rng) == 0u);
    assert_true(adm_rng_u64(&rng) == 1509978240u);
    assert_true(adm_rng_u64(&rng) == 1215971899390074240u);
}

/* Seed 42 through SplitMix64, computed with Python's integers from the two published definitions. */
static void the_seeded_sequence(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, 42);
    assert_true(adm_rng_u64(&rng) == 0x15780b2e0c2ec716u);
    assert_true(adm_rng_u64(&rng) == 0x6104d9866d113a7eu);
    assert_true(adm_rng_u64(&rng) == 0xae17533239e499a1u);
    assert_true(adm_rng_u64(&rng) == 0xecb8ad4703b360a1u);
}

/* 100,000 draws over 10 places with a fixed seed: chi-square with 9 degrees of freedom is below 27.9 in 99.9% of seeds. */
static void below_is_even(void **state) {
    (void)state;
    adm_rng rng;
    int count[10] = {0};
    double chi_square = 0;
    adm_rng_seed(&rng, 7);
    for (int i = 0; i < 100000; i++) count[adm_rng_below(&rng, 10)]++;
    for (int i = 0; i < 10; i++) chi_square += (count[i] - 10000.0) * (count[i] - 10000.0) / 10000.0;
    assert_true(chi_square < 27.9);
    assert_true(adm_rng_below(&rng, 0) == 0 && adm_rng_below(&rng, 1) == 0);
}

/* A million draws with a fixed seed: mean, variance and fourth moment within five standard errors of 0, 1 and 3. */
static void normal_is_normal(void **state) {
    (void)state;
    adm_rng rng;
    enum { N = 1000000 };
    double sum = 0, squares = 0, fourths = 0;
    adm_rng_seed(&rng, 11);
    for (int i = 0; i < N; i++) {
        double x = adm_rng_normal(&rng);
        sum += x;
        squares += x * x;
        fourths += x * x * x * x;
    }
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourths / N - 3) < 5 * sqrt(96.0 / N));
}

static void unit_stays_below_one(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int i = 0; i < 100000; i++) {
        double x = adm_rng_unit(&rng);
        assert_true(x >= 0 && x < 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_sequence), cmocka_unit_test(the_seeded_sequence),  cmocka_unit_test(below_is_even),
        cmocka_unit_test(normal_is_normal),       cmocka_unit_test(unit_stays_below_one),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
