/* track.h: rows of regression tracking (schema/4.sql): which side of a check a run was, margins of this machine, and
 * what people said of change points, and what a check decided (schema/9.sql). Appended to the batch, like measurements
 * (store.h). */
#ifndef ADM_CORE_STORE_TRACK_H
#define ADM_CORE_STORE_TRACK_H

#include <stddef.h>
#include <stdint.h>

#include "core/store/file/database.h"

/* side is "baseline" or "candidate". The run must be there; a run belongs to one check. */
adm_status adm_store_check_run(adm_store *store, const char *run_uuid, const char *check_uuid, const char *side,
                               int64_t position, const char *subject, adm_error *err);

/* One series: a configuration of this database, and what was measured of it. */
typedef struct adm_series_id {
    int64_t config_id, metric_id;
    const char *source, *stage; /* stage NULL or "": quality */
} adm_series_id;

/* What a check decided as a whole. */
typedef struct adm_check_result {
    const char *check_uuid, *baseline, *candidate, *baseline_commit, *candidate_commit; /* commits: "" if not one */
    int exit_code;       /* 0, 1, 3 or 4 */
    const char *failure; /* why nothing was compared; NULL: it was */
    size_t n_regressed, n_inconclusive, n_improved, n_equivalent;
} adm_check_result;

adm_status adm_store_check_result(adm_store *store, const adm_check_result *result, int64_t *check_result_id, adm_error *err);

/* One row of a check. Numbers that are NaN or infinite are NULL. */
typedef struct adm_check_row {
    int64_t check_result_id;
    adm_series_id series;
    const char *verdict, *why;
    double baseline, candidate, shift_ratio, low_ratio, high_ratio, p_adjusted, margin_ratio;
    size_t n_baseline, n_candidate;
} adm_check_row;

adm_status adm_store_check_row(adm_store *store, const adm_check_row *row, adm_error *err);

typedef struct adm_machine_id {
    const char *host_name, *cpu_model, *gpu_name; /* gpu_name NULL or "": none */
} adm_machine_id;

adm_status adm_store_margin(adm_store *store, const adm_series_id *series, const adm_machine_id *machine, double margin_ratio,
                            int64_t n_processes, adm_error *err);

/* verdict is "acknowledged" or "ignored". */
adm_status adm_store_acknowledge(adm_store *store, const adm_series_id *series, const char *run_uuid, const char *verdict,
                                 const char *who, const char *why, adm_error *err);

#endif
