/* test_series.c: series of runs that measured nothing, or not the same. The sanitised build runs it too: arrays of nothing are
 * where NULL reaches the C library. */
#include "tests/support/store_fixture.h"

#include "analysis/regress/statistics/change_points.h"
#include "analysis/regress/compare/compare.h"
#include "analysis/regress/history.h"
#include "core/store/runs_find.h"
#include "analysis/regress/series.h"
#include "core/stats/aggregate.h"
#include "core/base/floatfmt.h"
#include "core/base/mem.h"

/* Complete runs; measured_every-th one holds a time (0: none does). */
static adm_store *runs(fixture *f, int n, int measured_every) {
    session s;
    OK(begin_session(f->db, &s, &f->err));
    for (int i = 0; i < n; i++) {
        adm_run_info run = some_run();
        if (i > 0) OK(adm_store_begin_run(s.store, &run, &s.run_id, &f->err));
        adm_measurement m = some_measurement(s.run_id, s.config_id);
        if (measured_every > 0 && i % measured_every == 0) OK(adm_store_measurement(s.store, &m, &f->err));
        OK(adm_store_end_run(s.store, s.run_id, "complete", NULL, &f->err));
    }
    return s.store;
}

static void load(fixture *f, adm_store *store, const char *named, const char *metric, adm_series_set *set) {
    int64_t *ids = NULL;
    size_t n;
    OK(adm_runs_find(store, named, ADM_RUNS_COMPLETE, "a.db", &ids, &n, &f->err));
    OK(adm_series_load(store, ids, n, metric, set, &f->err));
    adm_free(&ids);
}

static void runs_without_measurements_make_no_series(void **state) {
    fixture *f = *state;
    adm_store *store = runs(f, 4, 0);
    adm_series_set set;
    adm_history history = {0};
    const adm_history_options options = ADM_HISTORY_DEFAULTS;
    load(f, store, "all", NULL, &set);
    assert_int_equal(set.n_runs, 4);
    assert_int_equal(set.n_series + set.n_points + set.n_metrics, 0);
    assert_int_equal(set.n_configs, 1);
    OK(adm_history_find(&set, &options, &history, &f->err));
    assert_int_equal(history.n_changes + history.n_series, 0);
    adm_history_free(&history);
    adm_series_free(&set);
    adm_store_close(&store);
}

static void runs_without_measurements_are_not_compared(void **state) {
    fixture *f = *state;
    adm_store *store = runs(f, 2, 0);
    adm_series_set base, cand;
    adm_comparison out = {0};
    const adm_compare_options options = ADM_COMPARE_DEFAULTS;
    load(f, store, "1", NULL, &base);
    load(f, store, "2", NULL, &cand);
    FAILS(ADM_EINPUT, adm_compare(&base, &cand, &options, &out, &f->err), "no figure that can be compared");
    adm_comparison_free(&out);
    adm_series_free(&base);
    adm_series_free(&cand);
    adm_store_close(&store);
}

static void a_side_without_measurements_leaves_the_row_open(void **state) {
    fixture *f = *state;
    adm_store *store = runs(f, 2, 2);
    adm_series_set base, cand;
    adm_comparison out = {0};
    const adm_compare_options options = ADM_COMPARE_DEFAULTS;
    load(f, store, "1", NULL, &base);
    load(f, store, "2", NULL, &cand);
    assert_int_equal(base.n_series, 1);
    assert_int_equal(cand.n_series, 0);
    FAILS(ADM_EINPUT, adm_compare(&base, &cand, &options, &out, &f->err), "only the baseline has");
    adm_comparison_free(&out);
    adm_series_free(&base);
    adm_series_free(&cand);
    adm_store_close(&store);
}

static void a_metric_that_no_run_has_makes_no_series(void **state) {
    fixture *f = *state;
    adm_store *store = runs(f, 3, 1);
    adm_series_set set;
    load(f, store, "all", "recall", &set);
    assert_int_equal(set.n_series, 0);
    adm_series_free(&set);
    load(f, store, "all", "time_ns", &set);
    assert_int_equal(set.n_series, 1);
    assert_int_equal(set.series[0].n_points, 3);
    adm_series_free(&set);
    adm_store_close(&store);
}

/* A column that a later schema may add to config tells series apart without a change of this program. */
static void a_new_column_is_part_of_the_identity(void **state) {
    fixture *f = *state;
    adm_store *store = runs(f, 1, 1);
    adm_series_set set;
    load(f, store, "all", NULL, &set);
    char before[1024];
    snprintf(before, sizeof before, "%s", set.config[0].key);
    adm_series_free(&set);
    raw_exec(f->db, "ALTER TABLE config ADD COLUMN tile INTEGER"); /* while it is open: opening compares schemas */
    load(f, store, "all", NULL, &set);
    assert_string_equal(set.config[0].key, before); /* NULL, as in every row of before */
    adm_series_free(&set);
    raw_exec(f->db, "UPDATE config SET tile = 64");
    load(f, store, "all", NULL, &set);
    assert_non_null(strstr(set.config[0].key, "|tile=64"));
    assert_ptr_equal(strstr(set.config[0].key, before), NULL);
    adm_series_free(&set);
    adm_store_close(&store);
}

static int never(const void *a, const void *b) {
    (void)a, (void)b;
    fail_msg("nothing was to be compared");
    return 0;
}

static void arrays_of_nothing(void **state) {
    (void)state;
    double key = 0;
    adm_error err;
    adm_aggregate aggregate = {.max_exact = 4};
    adm_bin scratch[1];
    adm_change_point *points;
    size_t n_points = 1;
    const adm_change_options options = {.min_points = 3, .seed = 1};
    adm_copy(NULL, NULL, 0);
    adm_sort(NULL, 0, sizeof key, never);
    adm_sort(&key, 1, sizeof key, never);
    assert_null(adm_search(&key, NULL, 0, sizeof key, never));
    adm_to_f32(ADM_F32, NULL, 0, NULL);
    adm_from_f32(ADM_F32, NULL, 0, NULL);
    assert_int_equal(adm_distribution_of(NULL, 0).n, 0);
    assert_int_equal(adm_aggregate_add(&aggregate, NULL, 0, &err), ADM_OK);
    assert_int_equal(adm_aggregate_result(&aggregate, scratch).n, 0);
    adm_aggregate_free(&aggregate);
    assert_int_equal(adm_change_points(NULL, 0, &options, &points, &n_points, &err), ADM_OK);
    assert_int_equal(n_points, 0);
    assert_null(points);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(runs_without_measurements_make_no_series),
        STORE_TEST(runs_without_measurements_are_not_compared),
        STORE_TEST(a_side_without_measurements_leaves_the_row_open),
        STORE_TEST(a_metric_that_no_run_has_makes_no_series),
        STORE_TEST(a_new_column_is_part_of_the_identity),
        cmocka_unit_test(arrays_of_nothing),
    };
    return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
