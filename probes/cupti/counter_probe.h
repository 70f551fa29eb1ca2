/* counter_probe.h: the probe that counts on the GPU, through CUPTI's Range Profiler: user ranges, user replay.
 *
 *     start    | chip, plan, profiler on                     fails with the reason: privileges, another profiler, MIG, ...
 *     pass 1   | begin range end ... begin range end         the outermost stage ranges, in the same order in every pass
 *     pass n   | ...                                         until adm_probes_pass() wants no more
 *     stop     | decode, evaluate, deliver, profiler off
 *
 * CUPTI restores nothing and flushes nothing between passes: whoever runs the work does (core/contract/probe.h). Whoever counts
 * times nothing: kernels are serialised and clocks may differ. */
#ifndef ADM_PROBES_CUPTI_COUNTER_PROBE_H
#define ADM_PROBES_CUPTI_COUNTER_PROBE_H

#include <stddef.h>

#include "core/contract/probe.h"
#include "probes/metrics/metric_set.h"

typedef struct adm_counter_probe adm_counter_probe;

/* Opens a metric set (its name or file) for the device with this CUDA number, at most most_ranges ranges a collection.
 * ADM_EINPUT: the set is not known or not right. What the machine lacks is said by start(). */
adm_status adm_counter_probe_open(const char *set, int device, size_t most_ranges, adm_counter_probe **out, adm_error *err);
void adm_counter_probe_close(adm_counter_probe **probe);

/* What to attach. */
adm_probe *adm_counter_probe_of(adm_counter_probe *probe);

/* What is counted, a counter a metric of the set; *n of them. Their reasons are those of the range being delivered. */
const adm_counter *adm_counter_probe_counters(const adm_counter_probe *probe, size_t *n);

/* Where values go; call before start(). user is borrowed. */
void adm_counter_probe_deliver_to(adm_counter_probe *probe, adm_counter_sink *sink, void *user);

/* Passes of the collection running or last run; 0: none yet. */
size_t adm_counter_probe_passes(const adm_counter_probe *probe);

#endif
