/* contended.h: which times of a series set were taken while another thread shared the core. */
#ifndef ADM_ANALYSIS_REGRESS_CONTENDED_H
#define ADM_ANALYSIS_REGRESS_CONTENDED_H

#include <stdbool.h>

#include "analysis/regress/series_set.h"

/* Metrics of the reference loops that are timed with the samples (core/system/contention.h). */
#define ADM_TIME_LOOP "core_loop_ns"
#define ADM_ENCODE_LOOP "encode_core_loop_ns"

/* True for the metric of a reference loop: a measure of noise, never a figure of its own. */
bool adm_is_core_loop(const char *metric);

/* Fills loop_id, max_loop_ns and is_contended of every point that has a loop. Part of adm_series_load(). */
adm_status adm_series_mark_contended(adm_series_set *set, adm_error *err);

#endif
