/* timeline_export.h: a run's events as Chrome trace-event JSON, which Perfetto (ui.perfetto.dev) and chrome://tracing
 * open.
 *
 *   {"displayTimeUnit": "ns", "otherData": {run, ...},
 *    "traceEvents": [{"ph": "X", "name": "topk", "cat": "stage", "ts": 12.345, "dur": 6.789, "pid": 1, "tid": 1,
 *                     "args": {"variant": ..., "step": ..., "layer": ..., "seq_len": ..., "budget": ...}}, ...]}
 *
 * ts and dur are microseconds, exact to the nanosecond. Each clock is a thread, whose time begins with its first event:
 * what two clocks say cannot be compared. Events stand in the order of their start, enclosing ones first. Kernels and copies
 * are a third thread with the GPU clock's time: a kernel that was launched before the one before it ended begins at that end,
 * and its argument early_ns says by how much, since slices of one thread must not overlap. */
#ifndef ADM_ANALYSIS_DB_TIMELINE_EXPORT_H
#define ADM_ANALYSIS_DB_TIMELINE_EXPORT_H

#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Writes the run's timeline to out and counts its events, kernels included. ADM_EINPUT, with nothing written: there is no such
 * run, or it has no events. ADM_EENVIRONMENT: out cannot be written. The caller flushes and checks what is still buffered. */
adm_status adm_timeline_export(adm_store *store, int64_t run_id, FILE *out, uint64_t *n_events, adm_error *err);

#endif
