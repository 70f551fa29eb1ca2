/* decode.h: decode steps of whole models, as `adamas decode` measured them, for the document. */
#ifndef ADM_ANALYSIS_REPORT_READ_DECODE_H
#define ADM_ANALYSIS_REPORT_READ_DECODE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Appends to the document's "decodings" each GPU that complete decode runs are from, measured here and recorded elsewhere
 * apart,
 * and to "decoded" the latest measurement of every step on it; with run_ids, of those runs alone: see web-report/README.md. */
adm_status adm_report_decode_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *document,
                                  adm_error *err);

#endif
