/* print.h: what `adamas decode` shows. */
#ifndef ADM_KERNELS_DECODE_PRINT_H
#define ADM_KERNELS_DECODE_PRINT_H

#include <jansson.h>

#include "kernels/decode/run.h"

/* --dry-run: memory, and bytes of a step, of every batch; device NULL: none was found. */
adm_status adm_decode_print_plan(const adm_decode_job *job, const adm_device_info *device, bool as_json, adm_error *err);

void adm_decode_print(const adm_decode_job *job, const adm_decode_result *result);

/* NULL when out of memory. */
json_t *adm_decode_json(const adm_decode_job *job, const adm_decode_result *result, int64_t run_id);

#endif
