/* clock_probe.h: the probe that times ranges on the host's monotonic clock. */
#ifndef ADM_PROBES_CLOCK_PROBE_H
#define ADM_PROBES_CLOCK_PROBE_H

#include "core/contract/probe.h"

enum { ADM_CLOCK_PROBE_DEPTH = 16 }; /* session > step > layer > stage is 4 */

/* Zero-initialised storage is the caller's; one thread. */
typedef struct adm_clock_probe {
    adm_probe probe;       /* attach &clock.probe, last, so that it times no other probe */
    adm_range_sink *sink;
    void *user;
    int depth;             /* open ranges; may exceed the array, then the deepest are not timed */
    uint64_t n_too_deep;   /* ranges lost that way, reported by stop() */
    uint64_t start_ns[ADM_CLOCK_PROBE_DEPTH];
} adm_clock_probe;

/* Prepares the probe: every finished range goes to sink(user, range, start, end). user is borrowed. */
void adm_clock_probe_init(adm_clock_probe *clock, adm_range_sink *sink, void *user);

#endif
