/* test_contention.c: what the loop's times are taken to mean, and that waiting ends. */
#include "tests/support/stage_check.h"

#include "core/system/clock.h"
#include "core/system/contention.h"

static void slower_by_a_sixteenth_is_contended(void **state) {
    (void)state;
    adm_contention q = {.fastest_ns = UINT64_MAX};
    assert_true(adm_contention_judge(&q, 1600)); /* the first is the fastest so far */
    assert_true(adm_contention_judge(&q, 1700));
    assert_false(adm_contention_judge(&q, 1701));
    assert_true(adm_contention_judge(&q, 960));
    assert_int_equal(q.fastest_ns, 960);
    assert_true(adm_contention_judge(&q, 1020));
    assert_false(adm_contention_judge(&q, 1021));
    assert_false(adm_contention_judge(&q, 1600));
    assert_int_equal(q.fastest_ns, 960);
}

static void waiting_ends(void **state) {
    (void)state;
    adm_contention q;
    adm_contention_start(&q);
    assert_true(q.fastest_ns > 0 && q.fastest_ns < UINT64_MAX);
    q.fastest_ns = 1; /* no loop is ever that fast */
    q.may_wait_ns = 2000000;
    const uint64_t start_ns = adm_clock_ns();
    adm_contention_wait(&q);
    assert_true(adm_clock_ns() - start_ns >= 2000000);
    assert_int_equal(q.may_wait_ns, 0);
    assert_false(adm_contention_none(&q));
    assert_true(q.last_ns > 1);
    adm_contention_wait(&q); /* returns, for nothing is left */
}

static void what_is_spent_is_gone(void **state) {
    (void)state;
    adm_contention q = {.fastest_ns = 1000, .may_wait_ns = 500};
    assert_true(adm_contention_spend(&q, 499));
    assert_false(adm_contention_spend(&q, 1));
    assert_false(adm_contention_spend(&q, 7));
    assert_int_equal(q.may_wait_ns, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slower_by_a_sixteenth_is_contended),
        cmocka_unit_test(waiting_ends),
        cmocka_unit_test(what_is_spent_is_gone),
    };
    return cmocka_run_group_tests_name("contention", tests, NULL, NULL);
}
