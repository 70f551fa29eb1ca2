/* gpu_select.h: which GPU profiles a report is about. */
#ifndef ADM_ANALYSIS_REPORT_READ_GPU_SELECT_H
#define ADM_ANALYSIS_REPORT_READ_GPU_SELECT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/error.h"
#include "core/store/store.h"

/* What a report shows of a profile. */
enum { ADM_REPORT_TIMES = 1, ADM_REPORT_COUNTERS = 2, ADM_REPORT_TIMELINE = 4, ADM_REPORT_PHASES = 8 };

/* Appends to `profiles` runs that have GPU figures, as {"run_id", "gpu", "is_recorded", "parts"}. With n_run_ids 0, of each
 * GPU, own and recorded runs apart, and runs of a trace from runs of random inputs: the latest complete one with counters, with
 * a timeline, with phases, and with times; and for whole steps the run that has most of them, of own runs the latest commit's.
 * Otherwise the runs named, with everything they have. */
adm_status adm_report_gpu_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *profiles, adm_error *err);

#endif
