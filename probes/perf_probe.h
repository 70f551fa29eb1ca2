/* perf_probe.h: the probe that counts CPU events of stage ranges through Linux perf events: cycles, instructions and
 * cache misses, or any others, in one group, of the calling thread in user space only.
 *
 * A pair costs two read(2) calls, about a microsecond; of these only the caller's side, some tens of instructions, is in
 * the counts. Attach it in place of a clock, never beside one. */
#ifndef ADM_PROBES_PERF_PROBE_H
#define ADM_PROBES_PERF_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/contract/probe.h"

enum { ADM_PERF_MAX_EVENTS = 8 };

/* One event: type and config as in perf_event_open(2); the counter's reason is NULL. */
typedef struct adm_perf_event {
    uint32_t type;
    uint64_t config;
    adm_counter counter;
} adm_perf_event;

/* Opens one event of the calling thread as perf_event_open(2) would, as a member of group_fd or, with -1, as a leader.
 * Returns a file descriptor, or -1 with errno set. */
struct perf_event_attr;
typedef int adm_perf_open_fn(struct perf_event_attr *attributes, int group_fd);

/* Values of the group at one moment. */
typedef struct adm_perf_reading {
    uint64_t n, enabled_ns, running_ns, value[ADM_PERF_MAX_EVENTS];
} adm_perf_reading;

/* Storage is the caller's; the thread that opened it is the one that is counted. */
typedef struct adm_perf_probe {
    adm_probe probe;
    size_t n_counters;
    adm_counter counter[ADM_PERF_MAX_EVENTS];   /* give these to the replay; a reason marks those not open */
    char reason[ADM_PERF_MAX_EVENTS][256];
    int fd[ADM_PERF_MAX_EVENTS];                /* -1: not open */
    size_t slot[ADM_PERF_MAX_EVENTS];           /* the counter's place in a reading */
    size_t n_open;
    int leader_fd;                              /* the first that opened */
    adm_counter_sink *sink;
    void *user;
    int depth;                                  /* open stage ranges; the outermost is counted */
    bool begun;                                 /* at_begin was read */
    adm_perf_reading at_begin;
    uint64_t n_unread;                          /* ranges lost to a failed read, reported by stop() */
} adm_perf_probe;

/* Opens the events; n_events 0: cycles, instructions and cache misses; open_event NULL: the kernel. Never fails: an event
 * that the machine refuses becomes a counter with a reason. */
void adm_perf_probe_open(adm_perf_probe *perf, const adm_perf_event *events, size_t n_events, adm_perf_open_fn *open_event);

/* Where finished stages go; call before the probe is attached. user is borrowed. */
void adm_perf_probe_deliver_to(adm_perf_probe *perf, adm_counter_sink *sink, void *user);

void adm_perf_probe_close(adm_perf_probe *perf);

#endif
