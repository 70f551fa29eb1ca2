/* threads.h: a pool of threads that share out numbered tasks.
 *
 * Tasks are handed out in ascending order, each to whichever thread is free, so nothing may depend on which thread runs
 * a task or on what ran beside it. Results stay the same on any number of threads if every task writes only to places
 * of its own and sums over tasks are made afterwards, in the order of the tasks. */
#ifndef ADM_CORE_SYSTEM_THREADS_H
#define ADM_CORE_SYSTEM_THREADS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

enum { ADM_MAX_THREADS = 1024 };

typedef struct adm_pool adm_pool;

/* worker: 0 .. n_threads - 1, of the thread that runs the task; scratch memory goes by it. Must not allocate without
 * bound and cannot fail: it leaves a note for whoever called adm_pool_run(). */
typedef void adm_task_fn(void *user, size_t task, size_t worker);

/* Processors that this process may run on, 1 .. ADM_MAX_THREADS. */
size_t adm_threads_available(void);

/* A pool of n_threads >= 1, the caller of adm_pool_run() being one of them. The others take no signal that asks the
 * program to stop. ADM_EENVIRONMENT when the system has no more threads. */
adm_status adm_pool_create(size_t n_threads, adm_pool **out, adm_error *err);

/* Ends the threads. NULL is fine; nulls the caller's pointer. */
void adm_pool_free(adm_pool **pool);

size_t adm_pool_size(const adm_pool *pool);

/* Runs tasks 0 .. n_tasks - 1 and returns when all are done. should_stop (may be NULL) is asked in the calling thread,
 * as worker 0, before each of its tasks; once it says yes no further task begins, those begun are finished, and false is
 * returned. One call at a time, from the thread that made the pool. */
bool adm_pool_run(adm_pool *pool, size_t n_tasks, adm_task_fn *task, void *user, bool (*should_stop)(void));

#endif
