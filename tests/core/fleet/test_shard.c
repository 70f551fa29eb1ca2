/* test_shard.c: dividing a grid among machines: every item once, the same everywhere, and even. */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/fleet/shard.h"
#include "tests/support/stage_check.h"

static void texts_are_read_or_refused(void **state) {
    static const char *const wrong[] = {"",     "3",    "/",    "0/4",     "5/4",   "1/0",
                                        "-1/4", "1/4x", "1 /4", "1/70000", "1/2/3", "99999999999/99999999999"};
    adm_error err;
    adm_shard shard;
    (void)state;
    assert_int_equal(adm_shard_parse("3/16", &shard, &err), ADM_OK);
    assert_int_equal(shard.index, 3);
    assert_int_equal(shard.count, 16);
    assert_int_equal(adm_shard_parse("65536/65536", &shard, &err), ADM_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(adm_shard_parse(wrong[i], &shard, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, "such as 3/16"));
        assert_int_equal(shard.count, 0);
    }
}

static double sum(const double *load, uint32_t n) {
    double all = 0;
    for (uint32_t i = 0; i < n; i++) all += load[i];
    return all;
}

static void the_largest_first_is_within_a_third_of_the_best(void **state) {
    enum { N = 300 };
    adm_shard_item item[N];
    uint32_t part[N], again[N];
    double load[16], found[16], all = 0, largest = 0;
    adm_rng rng;
    adm_error err;
    (void)state;
    adm_rng_seed(&rng, 7);
    for (size_t i = 0; i < N; i++) {
        item[i] = (adm_shard_item){exp(3 * adm_rng_unit(&rng)), i};
        all += item[i].cost;
        largest = fmax(largest, item[i].cost);
    }
    for (uint32_t n = 1; n <= 16; n++) {
        memset(found, 0, sizeof found);
        assert_int_equal(adm_shard_split(item, N, NULL, n, part, load, &err), ADM_OK);
        assert_int_equal(adm_shard_split(item, N, NULL, n, again, NULL, &err), ADM_OK);
        assert_memory_equal(part, again, sizeof part);
        for (size_t i = 0; i < N; i++) {
            assert_in_range(part[i], 1, n);
            found[part[i] - 1] += item[i].cost;
        }
        for (uint32_t s = 0; s < n; s++) {
            assert_true(fabs(found[s] - load[s]) < 1e-9 * all);
            /* Graham: 4/3 of the best, which is at least the mean and the largest item. */
            assert_true(load[s] <= 4.0 / 3 * fmax(all / n, largest));
        }
        assert_true(adm_shard_imbalance(load, n) < 1.05);
    }
}

static void neighbours_stay_together(void **state) {
    enum { GROUPS = 28, PER_GROUP = 29, N = GROUPS * PER_GROUP };
    static adm_shard_item item[N];
    static uint32_t part[N];
    double group_cost[GROUPS], load[16];
    adm_error err;
    (void)state;
    for (size_t g = 0; g < GROUPS; g++) {
        group_cost[g] = 0.01 * (double)(g % 4 + 1);
        for (size_t u = 0; u < PER_GROUP; u++) item[g * PER_GROUP + u] = (adm_shard_item){0.02 + 0.01 * (double)(u % 3), g};
    }
    for (uint32_t n = 1; n <= 16; n++) {
        double expected[16] = {0};
        assert_int_equal(adm_shard_split(item, N, group_cost, n, part, load, &err), ADM_OK);
        for (size_t i = 0; i < N; i++) {
            const bool is_new = i == 0 || part[i] != part[i - 1];
            if (i > 0) assert_in_range(part[i], part[i - 1], part[i - 1] + 1);
            expected[part[i] - 1] += item[i].cost +
                                     (is_new || item[i].group != item[i - 1].group ? group_cost[item[i].group] : 0);
        }
        for (uint32_t s = 0; s < n; s++) assert_true(fabs(load[s] - expected[s]) < 1e-9);
        assert_true(sum(load, n) > 0 && adm_shard_imbalance(load, n) < 1.1);
    }
}

static void more_shards_than_items_leave_some_without_work(void **state) {
    const adm_shard_item item[] = {{1, 0}, {2, 1}, {3, 2}};
    const double group_cost[] = {0, 0, 0};
    uint32_t part[3];
    double load[8];
    adm_error err;
    (void)state;
    assert_int_equal(adm_shard_split(item, 3, NULL, 8, part, load, &err), ADM_OK);
    assert_true(part[0] != part[1] && part[1] != part[2] && part[0] != part[2]);
    assert_int_equal(adm_shard_split(item, 3, group_cost, 8, part, load, &err), ADM_OK);
    assert_true(part[0] != part[1] && part[1] != part[2]);
    assert_true(fabs(sum(load, 8) - 6) < 1e-12);
    assert_int_equal(adm_shard_split(NULL, 0, NULL, 2, NULL, load, &err), ADM_OK);
    assert_true(adm_shard_imbalance(load, 2) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_read_or_refused),
        cmocka_unit_test(the_largest_first_is_within_a_third_of_the_best),
        cmocka_unit_test(neighbours_stay_together),
        cmocka_unit_test(more_shards_than_items_leave_some_without_work),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
