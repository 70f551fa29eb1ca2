/* report_gpu.h: the GPU profiles of a report's document. Shared by the files that gather it; nothing else. */
#ifndef ADM_ANALYSIS_REPORT_REPORT_GPU_H
#define ADM_ANALYSIS_REPORT_REPORT_GPU_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Metrics of a GPU stage that are not counters, as lists in SQL: what comes with its time, and what NVML says of the
 * device. */
#define ADM_REPORT_TIME_METRICS "'time_ns', 'limit_ratio', 'median_ci_ratio'"
#define ADM_REPORT_DEVICE_METRICS "'sm_clock_hz', 'memory_clock_hz', 'power_w', 'temperature_c', 'throttled_ratio'"

/* What a report shows of a profile. */
enum { ADM_REPORT_TIMES = 1, ADM_REPORT_COUNTERS = 2, ADM_REPORT_TIMELINE = 4 };

/* Appends to `profiles` runs that have GPU figures, as {"run_id", "gpu", "is_recorded", "parts"}. With n_run_ids 0, of each
 * GPU, own and recorded runs apart, and runs of a trace from runs of random inputs: the latest complete one with counters, with
 * a timeline, and with times; and for whole steps that of the latest commit which has the most of them. Else the runs named,
 * for all that they have. */
adm_status adm_report_gpu_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *profiles, adm_error *err);

/* Fills document["configs"], ["settings"], ["units"], ["counters"] and ["timelines"] for the document's profiles, and the
 * what was measured of the devices themselves into the profiles: see web-report/README.md. */
adm_status adm_report_gpu_read(adm_store *store, json_t *document, adm_error *err);

#endif
