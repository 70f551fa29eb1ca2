/* pack.h: the document as the page carries it: lists of like rows become columns, and numbers have five digits.
 *
 *     [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, ...]  ->  {"packed": 2, "columns": {"a": [1, 2, ...], "b": {"all": "x"}}}
 *
 * A column is a list of values; {"all": VALUE}; {"of": [VALUES], "at": [INDEXES]}; {"of": [VALUES], "runs": [INDEX, HOW OFTEN,
 * ...]}; {"sparse": COLUMN}, in which null means that the row has no such member; or, where all values are objects, packed
 * itself. web-report/src/unpack.js turns it back. */
#ifndef ADM_ANALYSIS_REPORT_PACK_H
#define ADM_ANALYSIS_REPORT_PACK_H

#include <jansson.h>

#include "core/base/error.h"

/* What the page's scripts do not read, because the tables show it, is left out: see left_out[] in pack.c. A new document; the
 * other stays as it is. Whole numbers below 1e15 stay exact. */
adm_status adm_report_pack(const json_t *document, json_t **packed, adm_error *err);

#endif
