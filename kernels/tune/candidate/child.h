/* child.h: a process in which somebody's code runs, and from which nothing but figures comes back.
 *
 *   judge                                      child
 *     adm_child_start() ---- fork ---->          limits, own process group, output into a file
 *     adm_child_ask()   ---- request ---->       serve()
 *                       <---- reply ----
 *
 * The child can only answer, crash, hang or leave; each becomes a sentence. What it says of its results is not believed: the
 * judge compares them itself, in memory that both map (arena.h). */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_CHILD_H
#define ADM_KERNELS_TUNE_CANDIDATE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/error.h"

/* What both processes see while the child lives. Written by the child. */
typedef struct adm_child_page {
    volatile uint32_t at_case, at_call; /* what it is doing */
    volatile int32_t signal;            /* that ended it */
    volatile uintptr_t address;         /* of a fault */
    volatile uintptr_t arena[3];        /* where it has mapped its arenas; 0: none */
} adm_child_page;

typedef struct adm_child {
    pid_t pid;
    int socket, log;          /* the judge's end; what the child prints */
    adm_child_page *page;
    uint64_t limit_ns;        /* for one answer */
    bool has_ended;
} adm_child;

/* What runs in the child: answers requests from `socket` until it is closed. The return value is the exit status. */
typedef int adm_child_serve(void *user, int socket, adm_child_page *page);

/* memory_bytes: what it may map beyond what it starts with; 0: no limit (CUDA maps terabytes). */
adm_status adm_child_start(adm_child_serve *serve, void *user, uint64_t limit_ns, uint64_t memory_bytes, adm_child *child,
                           adm_error *err);

/* Sends a request (none where request is NULL) and waits for the answer. ADM_EINTERNAL with a sentence where none comes: the
 * child crashed, left or took too long; it is then ended. */
adm_status adm_child_ask(adm_child *child, const void *request, size_t request_bytes, void *reply, size_t reply_bytes,
                         adm_error *err);

/* Ends it and everything that it started. */
void adm_child_end(adm_child *child);

/* Threads that it has now, and processes that it started; -1: not known. */
int adm_child_n_tasks(const adm_child *child);

/* Processor time that it has used so far, all threads; 0: not known. */
uint64_t adm_child_cpu_ns(const adm_child *child);

/* The last line that it printed, "" for none; control characters become '?'. */
void adm_child_last_words(const adm_child *child, char *out, size_t bytes);

/* The child's side: false when the judge is gone. */
bool adm_child_receive(int socket, void *request, size_t bytes);
bool adm_child_answer(int socket, const void *reply, size_t bytes);

/* Closes every file but the socket and the three standard ones: what the judge had open is not the candidate's. */
void adm_child_close_others(int socket);

#endif
