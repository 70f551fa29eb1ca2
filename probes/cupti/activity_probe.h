/* activity_probe.h: the probe that traces what the GPU does, through CUPTI's activity records: kernels, copies, sets, each
 * with the innermost range in which it was launched.
 *
 *     begin   push the range's number as an external correlation id
 *     launch  CUPTI notes correlation id -> that number; the record of the kernel carries the correlation id
 *     end     pop
 *     stop    flush, join, deliver range by range
 *
 * Needs no privileges. Tracing costs about a microsecond a kernel on the GPU and some on the host: time nothing
 * meanwhile. One such probe traces at a time. */
#ifndef ADM_PROBES_CUPTI_ACTIVITY_PROBE_H
#define ADM_PROBES_CUPTI_ACTIVITY_PROBE_H

#include <stdint.h>

#include "core/contract/probe.h"

typedef struct adm_activity_probe adm_activity_probe;

adm_status adm_activity_probe_open(adm_activity_probe **out, adm_error *err);
void adm_activity_probe_close(adm_activity_probe **probe);

/* What to attach. start() is ADM_EUNSUPPORTED with the reason where CUPTI is missing or another profiler attached. */
adm_probe *adm_activity_probe_of(adm_activity_probe *probe);

/* Where records go; call before start(). user is borrowed. */
void adm_activity_probe_deliver_to(adm_activity_probe *probe, adm_activity_sink *sink, void *user);

/* Records of the collection being delivered or last delivered that were lost: dropped by CUPTI for want of buffers, or
 * beyond the 131,072 that a collection keeps. */
uint64_t adm_activity_probe_dropped(const adm_activity_probe *probe);

#endif
