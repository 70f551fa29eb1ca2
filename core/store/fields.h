/* fields.h: a run's row from fields of text, for the functions that other programs call (store_api.h, core/fleet/fleet_api.h).
 * */
#ifndef ADM_CORE_STORE_FIELDS_H
#define ADM_CORE_STORE_FIELDS_H

#include "core/base/error.h"
#include "core/system/hostinfo.h"
#include "core/store/run.h"
#include "core/store/store_api.h"

/* Reads the columns of `run` that are given; the rest is this machine's and this library's. Text is borrowed, of `host` too.
 * ADM_EINPUT: a NULL pointer, an unknown column, a value of the wrong type; a batch of the store is rolled back then. */
adm_status adm_run_of_fields(adm_store *store, const adm_field *fields, size_t n_fields, const void *out, adm_host_info *host,
                             adm_run_info *run, adm_error *err);

/* The status as a number, with its sentence in the caller's buffer. */
int adm_answer(adm_status status, const adm_error *err, char *error, size_t error_bytes);

#endif
