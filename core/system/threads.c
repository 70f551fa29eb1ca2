/* threads.c: a pool of threads that share out numbered tasks. */
#include "core/system/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/mem.h"

typedef struct worker {
    adm_pool *pool;
    pthread_t thread;
    size_t number;
} worker;

struct adm_pool {
    size_t n_threads, n_started; /* the caller is counted in the first */
    worker *workers;             /* [n_threads]; [0] is the caller's and has no thread */
    pthread_mutex_t lock;        /* guards what follows up to `task` */
    pthread_cond_t begin, done;
    size_t round;                /* grows by one with every adm_pool_run() */
    size_t n_busy;               /* threads, the caller not counted, that have not finished the round */
    bool ending;
    adm_task_fn *task;           /* set before a round, read-only during it */
    void *user;
    size_t n_tasks;
    atomic_size_t next;
    atomic_bool stopped;
};

size_t adm_threads_available(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > ADM_MAX_THREADS ? ADM_MAX_THREADS : (size_t)n;
}

static void take_tasks(adm_pool *pool, size_t number, bool (*should_stop)(void)) {
    while (!atomic_load_explicit(&pool->stopped, memory_order_relaxed)) {
        if (should_stop != NULL && should_stop()) {
            atomic_store(&pool->stopped, true);
            return;
        }
        size_t task = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (task >= pool->n_tasks) return;
        pool->task(pool->user, task, number);
    }
}

static void *work(void *argument) {
    worker *self = argument;
    adm_pool *pool = self->pool;
    size_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->ending) pthread_cond_wait(&pool->begin, &pool->lock);
        if (pool->ending) break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        take_tasks(pool, self->number, NULL);
        pthread_mutex_lock(&pool->lock);
        if (--pool->n_busy == 0) pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Threads inherit the mask: what asks the program to stop goes to the caller; faults stay with the thread at fault. */
static void block_signals(sigset_t *before) {
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

adm_status adm_pool_create(size_t n_threads, adm_pool **out, adm_error *err) {
    adm_pool *pool = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&pool, 1, sizeof *pool, "a thread pool", err);
    if (status != ADM_OK) return status;
    status = adm_alloc(&pool->workers, n_threads, sizeof *pool->workers, "the threads of a pool", err);
    if (status != ADM_OK) {
        adm_free(&pool);
        return status;
    }
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->done, NULL);
    sigset_t before;
    block_signals(&before);
    for (size_t i = 1; status == ADM_OK && i < n_threads; i++) {
        pool->workers[i] = (worker){.pool = pool, .number = i};
        int rc = pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i]);
        if (rc == 0) pool->n_started++;
        else
            status = adm_fail(err, ADM_EENVIRONMENT, "thread %zu of %zu could not be started: %s; give fewer", i + 1, n_threads,
                              strerror(rc));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != ADM_OK) adm_pool_free(&pool);
    *out = pool;
    return status;
}

void adm_pool_free(adm_pool **out) {
    adm_pool *pool = *out;
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 1; i <= pool->n_started; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    adm_free(&pool->workers);
    adm_free(out);
}

size_t adm_pool_size(const adm_pool *pool) { return pool->n_threads; }

bool adm_pool_run(adm_pool *pool, size_t n_tasks, adm_task_fn *task, void *user, bool (*should_stop)(void)) {
    pthread_mutex_lock(&pool->lock);
    pool->task = task;
    pool->user = user;
    pool->n_tasks = n_tasks;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->stopped, false);
    pool->n_busy = pool->n_started;
    pool->round++;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    take_tasks(pool, 0, should_stop);
    pthread_mutex_lock(&pool->lock);
    while (pool->n_busy > 0) pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return !atomic_load(&pool->stopped);
}
