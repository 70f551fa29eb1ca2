/* test_threads.c: the thread pool: every task once, stopping, reuse. */
#include "tests/support/stage_check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/system/threads.h"

enum { N_TASKS = 5000, MOST_THREADS = 7 };

typedef struct tally {
    atomic_int n_runs[N_TASKS];
    atomic_int n_of_worker[MOST_THREADS];
    pthread_t thread[MOST_THREADS];
} tally;

static void count(void *user, size_t task, size_t worker) {
    tally *t = user;
    atomic_fetch_add(&t->n_runs[task], 1);
    if (atomic_fetch_add(&t->n_of_worker[worker], 1) == 0) t->thread[worker] = pthread_self();
    else if (!pthread_equal(t->thread[worker], pthread_self())) abort(); /* a worker is one thread, for its scratch */
}

static void every_task_runs_once(void **state) {
    (void)state;
    for (size_t n_threads = 1; n_threads <= MOST_THREADS; n_threads++) {
        adm_pool *pool = NULL;
        assert_int_equal(adm_pool_create(n_threads, &pool, NULL), ADM_OK);
        assert_int_equal(adm_pool_size(pool), n_threads);
        for (size_t n = 0; n <= N_TASKS; n = n * 7 + 1) {
            tally *t = calloc(1, sizeof *t);
            assert_true(adm_pool_run(pool, n, count, t, NULL));
            for (size_t i = 0; i < N_TASKS; i++) assert_int_equal(t->n_runs[i], i < n);
            free(t);
        }
        adm_pool_free(&pool);
        assert_null(pool);
    }
}

static int n_asked;
static bool stop_at_the_third(void) { return ++n_asked == 3; }

static void stopping_finishes_what_has_begun(void **state) {
    (void)state;
    for (size_t n_threads = 1; n_threads <= 3; n_threads += 2) {
        adm_pool *pool = NULL;
        tally *t = calloc(1, sizeof *t);
        size_t n_run = 0;
        n_asked = 0;
        assert_int_equal(adm_pool_create(n_threads, &pool, NULL), ADM_OK);
        bool whole = adm_pool_run(pool, N_TASKS, count, t, stop_at_the_third);
        for (size_t i = 0; i < N_TASKS; i++) n_run += (size_t)t->n_runs[i];
        /* Alone, the caller runs two tasks. With others it may find none left before it asks a third time. */
        if (n_threads == 1) assert_true(!whole && n_run == 2);
        else assert_true(whole == (n_run == N_TASKS));
        assert_true(adm_pool_run(pool, 1, count, t, NULL)); /* the pool is as good as before */
        adm_pool_free(&pool);
        free(t);
    }
}

static void there_is_a_processor(void **state) {
    (void)state;
    assert_in_range(adm_threads_available(), 1, ADM_MAX_THREADS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(stopping_finishes_what_has_begun),
        cmocka_unit_test(there_is_a_processor),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
