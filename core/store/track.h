/* track.h: rows of regression tracking (schema/4.sql): which side of a check a run was, margins of this machine, and
 * what people said of change points. Appended to the batch, like measurements (store.h). */
#ifndef ADM_CORE_STORE_TRACK_H
#define ADM_CORE_STORE_TRACK_H

#include <stdint.h>

#include "core/store/database.h"

/* side is "baseline" or "candidate". The run must be there; a run belongs to one check. */
adm_status adm_store_check_run(adm_store *store, const char *run_uuid, const char *check_uuid, const char *side,
                               int64_t position, const char *subject, adm_error *err);

/* One series: a configuration of this database, and what was measured of it. */
typedef struct adm_series_id {
    int64_t config_id, metric_id;
    const char *source, *stage; /* stage NULL or "": quality */
} adm_series_id;

typedef struct adm_machine_id {
    const char *host_name, *cpu_model, *gpu_name; /* gpu_name NULL or "": none */
} adm_machine_id;

adm_status adm_store_margin(adm_store *store, const adm_series_id *series, const adm_machine_id *machine, double margin_ratio,
                            int64_t n_processes, adm_error *err);

/* verdict is "acknowledged" or "ignored". */
adm_status adm_store_acknowledge(adm_store *store, const adm_series_id *series, const char *run_uuid, const char *verdict,
                                 const char *who, const char *why, adm_error *err);

#endif
