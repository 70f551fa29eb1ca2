/* print.h: what `adamas tune` shows. */
#ifndef ADM_KERNELS_TUNE_PRINT_H
#define ADM_KERNELS_TUNE_PRINT_H

#include "core/cli/command.h"
#include "core/store/store.h"
#include "kernels/tune/host/host_session.h"

/* One session's table. default_index: the row that gains refer to; n: none. */
void adm_tune_print_table(const adm_tune_options *options, adm_stage stage, const char *device, const adm_candidate *candidates,
                          const adm_tune_result *results, size_t n, size_t default_index);

/* The same rows appended to a JSON array. */
void adm_tune_json_rows(struct json_t *rows, const adm_candidate *candidates, const adm_tune_result *results, size_t n,
                        size_t default_index);

/* The choices in a database: one row per device, stage and shape. */
adm_status adm_tune_print_tuned(adm_store *store, const adm_common *common, adm_error *err);

/* A line with the counters that most often decide, as far as the set has them; all are in the database. */
void adm_tune_print_counters(const adm_tune_counted *counted);

#endif
