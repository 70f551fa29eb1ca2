/* test_replay_faults.c: what is left of a replay that could not go on: whole lengths, a sentence, and a run that resumes. */
#include "tests/support/replay_fixture.h"

#include <limits.h>
#include <stdatomic.h>

/* --- Out of memory: the n-th allocation of core/base/mem.h from now on fails ---------------------------------------------- */

static atomic_long n_until_failure = LONG_MAX, n_allocations;

/* In front of libc's, for every object of this program: adm_alloc() calls it. */
void *aligned_alloc(size_t alignment, size_t size) {
    void *memory = NULL;
    atomic_fetch_add(&n_allocations, 1);
    if (atomic_fetch_sub(&n_until_failure, 1) == 1) return NULL;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void nothing_is_lost_when_an_allocation_fails(void **state) {
    fixture *f = *state;
    int64_t run_id;
    set_policies(f, ALL_POLICIES);
    atomic_store(&n_allocations, 0);
    assert_int_equal(replay(f, &run_id), ADM_OK);
    const long n_needed = atomic_load(&n_allocations);
    assert_true(n_needed > 500);
    const double whole = number(f, "SELECT count(*) FROM measurement WHERE stage IS NULL");
    /* Every allocation at first, while the replay is opened; then some, spread over the rest. */
    long n_failed = 0;
    for (long n = 1; n <= n_needed; n += n < 60 ? 1 : 149) {
        char sql[256];
        atomic_store(&n_until_failure, n);
        adm_status status = replay(f, &run_id);
        atomic_store(&n_until_failure, LONG_MAX);
        if (status == ADM_OK) continue; /* what failed was not needed, or another thread's count came first */
        n_failed++;
        assert_int_equal(status, ADM_EENVIRONMENT);
        assert_non_null(strstr(f->err.text, "out of memory"));
        if (run_id == 0) continue;
        /* One length, or none. */
        snprintf(sql, sizeof sql, "SELECT count(*) FROM measurement WHERE run_id=%d AND stage IS NULL", (int)run_id);
        double n_rows = number(f, sql);
        assert_true(n_rows == 0 || n_rows == whole / 2 || n_rows == whole);
        assert_int_equal(replay_run(f, &run_id), ADM_OK);
        assert_true(number(f, sql) == whole);
    }
    assert_true(n_failed > 50);
}

/* --- Resuming ---------------------------------------------------------------------------------------------------------- */

static int steps_until_stop;
static bool stop_after_a_while(void) { return steps_until_stop-- <= 0; }

/* The rows of two runs, times excepted, that are not the same. */
static double n_different(const fixture *f, int64_t a, int64_t b) {
    char sql[1024];
    snprintf(
        sql, sizeof sql,
        "WITH rows AS (SELECT run_id, config_id, metric_id, layer, head, n, mean, min, median, p99, max, "
        "status FROM measurement WHERE stage IS NULL) SELECT count(*) FROM (SELECT config_id, metric_id, layer, head, n, "
        "mean, min, median, p99, max, status FROM rows WHERE run_id IN (%d, %d) GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 "
        "HAVING count(*) <> 2)",
        (int)a, (int)b);
    return number(f, sql);
}

static void a_resumed_run_is_as_one_never_interrupted(void **state) {
    fixture *f = *state;
    int64_t whole, resumed = 0;
    set_policies(f, ALL_POLICIES);
    f->options.n_threads = 1;
    assert_int_equal(replay(f, &whole), ADM_OK);
    f->options.should_stop = stop_after_a_while;
    /* Far enough for the first length and into the second, whatever the number of questions a length asks. */
    int n_asked = 0;
    steps_until_stop = 1 << 20;
    int64_t third;
    assert_int_equal(replay(f, &third), ADM_OK);
    n_asked = (1 << 20) - steps_until_stop;
    steps_until_stop = n_asked * 3 / 4;
    assert_int_equal(replay(f, &resumed), ADM_EINTERRUPTED);
    assert_non_null(strstr(f->err.text, "--resume"));
    assert_int_equal((int)number(f, "SELECT count(DISTINCT seq_len) FROM measurement JOIN config USING (config_id) WHERE "
                                    "run_id = (SELECT max(run_id) FROM run)"),
                     1);
    assert_int_equal((int)number(f, "SELECT count(*) FROM run WHERE status='interrupted' AND reason LIKE '%500 cached%'"), 1);
    f->options.should_stop = NULL;
    assert_int_equal(replay_run(f, &resumed), ADM_OK);
    assert_true(n_different(f, whole, resumed) == 0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM run WHERE status='complete'"), 3);
    assert_int_equal((int)number(f, "SELECT count(*) FROM calibration WHERE run_id = (SELECT max(run_id) FROM run)"),
                     2 * N_LAYERS);
    /* Complete is complete. */
    assert_int_equal(replay_run(f, &resumed), ADM_EINPUT);
    assert_non_null(strstr(f->err.text, "is complete"));
}

static void what_cannot_be_resumed_says_so(void **state) {
    fixture *f = *state;
    adm_store *store = NULL;
    adm_run_info other = fixture_run;
    int64_t run_id = 99;
    assert_int_equal(replay_run(f, &run_id), ADM_EINPUT);
    assert_non_null(strstr(f->err.text, "has no run 99"));
    assert_int_equal(adm_store_open(f->path, ADM_STORE_WRITE, &store, &f->err), ADM_OK);
    assert_int_equal(adm_store_begin_run(store, &fixture_run, &run_id, &f->err), ADM_OK);
    other.argv_json = "[\"other\"]";
    assert_int_equal(adm_store_resume_run(store, run_id, &other, &f->err), ADM_EINPUT);
    assert_non_null(strstr(f->err.text, "its command line was [] and is now [\"other\"]"));
    other = fixture_run;
    other.cpu_model = "another";
    assert_int_equal(adm_store_resume_run(store, run_id, &other, &f->err), ADM_EINPUT);
    assert_non_null(strstr(f->err.text, "processor"));
    /* One that crashed is still 'running'. */
    assert_int_equal(adm_store_resume_run(store, run_id, &fixture_run, &f->err), ADM_OK);
    adm_store_close(&store);
}

/* --- A trace that changes under the replay ------------------------------------------------------------------------------ */

static int n_checks;
static adm_status changed_at_the_second_look(const adm_trace *trace, adm_error *err) {
    return ++n_checks < 2 ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s: was changed", trace->path);
}

static void a_changed_trace_keeps_the_lengths_before(void **state) {
    fixture *f = *state;
    int64_t run_id;
    n_checks = 0;
    f->options.check_input = changed_at_the_second_look;
    assert_int_equal(replay(f, &run_id), ADM_EINPUT);
    assert_string_equal(f->err.text, "session: was changed");
    assert_int_equal((int)number(f, "SELECT count(DISTINCT seq_len) FROM measurement JOIN config USING (config_id)"), 1);
    assert_int_equal((int)number(f, "SELECT count(*) FROM run WHERE status='failed' AND reason='session: was changed'"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REPLAY_TEST(nothing_is_lost_when_an_allocation_fails),
        REPLAY_TEST(a_resumed_run_is_as_one_never_interrupted),
        REPLAY_TEST(what_cannot_be_resumed_says_so),
        REPLAY_TEST(a_changed_trace_keeps_the_lengths_before),
    };
    return cmocka_run_group_tests_name("replay_faults", tests, NULL, NULL);
}
