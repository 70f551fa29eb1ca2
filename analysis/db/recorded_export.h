/* recorded_export.h: writing runs as a recorded file (format: recorded_table.h). */
#ifndef ADM_ANALYSIS_DB_RECORDED_EXPORT_H
#define ADM_ANALYSIS_DB_RECORDED_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "core/base/error.h"
#include "core/store/store.h"

/* Writes the runs to `out`; each is labelled "recorded:" and then `label`, or if that is NULL what the run itself is
 * called: its label, its GPU, or its CPU. with_samples: also the raw samples of GPU times.
 * ADM_EINPUT, before anything is written: the database lacks such a run, or it did not complete.
 * ADM_EENVIRONMENT: out of memory, or `out` does not take it; what is still buffered is the caller's. */
adm_status adm_recorded_export(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, const char *label,
                               bool with_samples, FILE *out, adm_error *err);

#endif
