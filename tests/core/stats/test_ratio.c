/* test_ratio.c: the interval of a ratio of two median times. */
#include "tests/support/stage_check.h"

#include "core/stats/ratio.h"

static const adm_timing_spread sure = {20, 100, 90, 120, 0.1};

static adm_timing_spread of_n(int64_t n) {
    adm_timing_spread spread = sure;
    spread.n = n;
    return spread;
}

static void enough_timings_on_both_sides_need_none(void **state) {
    (void)state;
    const adm_timing_spread few = of_n(19);
    assert_int_equal(adm_ratio_of_times(&sure, &sure).basis, ADM_RATIO_OF_ENOUGH);
    assert_int_equal(adm_ratio_of_times(NULL, &sure).basis, ADM_RATIO_OF_ENOUGH);
    assert_int_not_equal(adm_ratio_of_times(&few, &sure).basis, ADM_RATIO_OF_ENOUGH);
    assert_int_not_equal(adm_ratio_of_times(&sure, &few).basis, ADM_RATIO_OF_ENOUGH);
    assert_int_not_equal(adm_ratio_of_times(NULL, &few).basis, ADM_RATIO_OF_ENOUGH);
}

/* 300 +- 10% over 100 +- 10%: from 270 / 110 to 330 / 90. */
static void medians_intervals_give_opposite_ends(void **state) {
    (void)state;
    const adm_timing_spread few = of_n(6);
    adm_timing_spread dense = of_n(50);
    dense.median = 300;
    const adm_ratio_interval interval = adm_ratio_of_times(&dense, &few), of_floor = adm_ratio_of_times(NULL, &few);
    assert_int_equal(interval.basis, ADM_RATIO_OF_MEDIANS);
    assert_true(fabs(interval.low - 270.0 / 110) < 1e-12 && fabs(interval.high - 330.0 / 90) < 1e-12);
    assert_true(fabs(of_floor.low - 1.0 / 110) < 1e-12 && fabs(of_floor.high - 1.0 / 90) < 1e-12);
}

/* Both sides must have the better basis, or neither uses it. */
static void spreads_stand_in_where_a_median_has_no_interval(void **state) {
    (void)state;
    const adm_timing_spread five = of_n(5);
    adm_timing_spread without = of_n(19);
    without.median_ci_ratio = NAN;
    const adm_timing_spread *const cases[] = {&five, &without};
    for (size_t i = 0; i < 2; i++) {
        const adm_ratio_interval interval = adm_ratio_of_times(cases[i], &sure);
        assert_int_equal(interval.basis, ADM_RATIO_OF_SPREADS);
        assert_true(fabs(interval.low - 90.0 / 120) < 1e-12 && fabs(interval.high - 120.0 / 90) < 1e-12);
    }
}

static void what_has_neither_says_so(void **state) {
    (void)state;
    const adm_timing_spread one = of_n(1);
    adm_timing_spread bare = {19, 100, NAN, NAN, NAN};
    char words[ADM_RATIO_WORDS_BYTES];
    const adm_timing_spread *const cases[] = {&one, &bare};
    for (size_t i = 0; i < 2; i++) {
        const adm_ratio_interval interval = adm_ratio_of_times(&sure, cases[i]);
        assert_int_equal(interval.basis, ADM_RATIO_NO_INTERVAL);
        adm_ratio_words(&interval, 1, 2, words);
        assert_string_equal(words, " (n < 20, no interval)");
    }
}

static void words_name_the_basis(void **state) {
    (void)state;
    char words[ADM_RATIO_WORDS_BYTES];
    adm_ratio_words(&(adm_ratio_interval){ADM_RATIO_OF_MEDIANS, 1.8, 2.25}, 1, 2, words);
    assert_string_equal(words, " (1.80 to 2.25, from the medians' 95% intervals)");
    adm_ratio_words(&(adm_ratio_interval){ADM_RATIO_OF_SPREADS, 0.018, 0.0225}, 100, 1, words);
    assert_string_equal(words, " (1.8 to 2.2, from p10 and p90)");
    adm_ratio_words(&(adm_ratio_interval){ADM_RATIO_OF_ENOUGH, 0, 0}, 1, 1, words);
    assert_string_equal(words, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(enough_timings_on_both_sides_need_none),
                                       cmocka_unit_test(medians_intervals_give_opposite_ends),
                                       cmocka_unit_test(spreads_stand_in_where_a_median_has_no_interval),
                                       cmocka_unit_test(what_has_neither_says_so), cmocka_unit_test(words_name_the_basis)};
    return cmocka_run_group_tests_name("ratio", tests, NULL, NULL);
}
