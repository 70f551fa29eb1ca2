/* recorded_samples.h: the raw samples of a recorded run's GPU times. They are a list of their own in the run, so that a program
 * which does not know of them reads the rest:
 *
 *   "samples": [[3, "distance", [12.1, 12.2, ...]], ...]          configuration's position, stage, time_ns of each sample
 *              [3, "topk", [6.1, ...], [0, 4, ...]]               and throttle of each, where that was watched
 *
 * A run without the list, or with an empty one, was recorded without samples. */
#ifndef ADM_ANALYSIS_DB_RECORDED_SAMPLES_H
#define ADM_ANALYSIS_DB_RECORDED_SAMPLES_H

#include <stdio.h>

#include "analysis/db/recorded_read.h"

/* Writes the list of a run, with five digits like every figure. position: config_id as text -> position in the file. */
adm_status adm_recorded_put_samples(adm_store *store, int64_t run_id, const json_t *position, FILE *out, adm_error *err);

/* Inserts the list of run number `run` of the file, whose measurements are in the database. ADM_EINPUT: it is no such list,
 * it names a time that the run lacks, or has not n values. */
adm_status adm_recorded_read_samples(adm_store *store, adm_recorded_file *file, const json_t *samples, size_t run,
                                     int64_t run_id, const int64_t *config_ids, size_t n_configs, adm_error *err);

#endif
