/* map_guard.c: surviving a mapped file that loses its pages. The list is the one mutable global of this folder: a signal
 * handler has nowhere else to look. It is of atomics, so that the handler may run in any thread at any moment. */
#include "traces/format/map_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct guarded {
    atomic_uintptr_t begin, end; /* end 0: the slot is free */
    atomic_bool lost;
} guarded[ADM_MAX_GUARDED];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of changes to the list; never taken in the handler */
static size_t page_bytes; /* set before the handler is */

/* mmap() is a bare system call on Linux, and nothing else here is more than arithmetic. */
static void on_sigbus(int number, siginfo_t *info, void *context) {
    const uintptr_t at = (uintptr_t)info->si_addr;
    const int kept = errno;
    (void)context;
    for (size_t i = 0; i < ADM_MAX_GUARDED; i++) {
        const uintptr_t begin = atomic_load(&guarded[i].begin), end = atomic_load(&guarded[i].end);
        if (at < begin || at >= end) continue;
        const uintptr_t page = at / page_bytes * page_bytes;
        if (mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
        atomic_store(&guarded[i].lost, true);
        errno = kept;
        return;
    }
    /* Not ours: back to the default, and the access that is repeated on return ends the program. */
    signal(number, SIG_DFL);
    errno = kept;
}

adm_status adm_map_guard(const void *map, size_t n_bytes, adm_error *err) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    size_t i = 0;
    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&lock);
    if (page_bytes == 0) {
        page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        sigaction(SIGBUS, &action, NULL);
    }
    while (i < ADM_MAX_GUARDED && atomic_load(&guarded[i].end) != 0) i++;
    if (i < ADM_MAX_GUARDED) {
        atomic_store(&guarded[i].lost, false);
        atomic_store(&guarded[i].begin, (uintptr_t)map);
        atomic_store(&guarded[i].end, (uintptr_t)map + n_bytes);
    }
    pthread_mutex_unlock(&lock);
    if (i < ADM_MAX_GUARDED) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "more than %d files are mapped at once", ADM_MAX_GUARDED);
}

static struct guarded *find(const void *map) {
    for (size_t i = 0; i < ADM_MAX_GUARDED; i++)
        if (atomic_load(&guarded[i].end) != 0 && atomic_load(&guarded[i].begin) == (uintptr_t)map) return &guarded[i];
    return NULL;
}

void adm_map_unguard(const void *map) {
    pthread_mutex_lock(&lock);
    struct guarded *found = find(map);
    if (found != NULL) atomic_store(&found->end, 0);
    pthread_mutex_unlock(&lock);
}

bool adm_map_is_lost(const void *map) {
    struct guarded *found = find(map);
    return found != NULL && atomic_load(&found->lost);
}
