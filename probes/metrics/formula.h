/* formula.h: arithmetic over named values, as metric sets write it: + - * / ( ), decimal numbers, names such as
 * dram__bytes_read.sum or model.bytes. */
#ifndef ADM_PROBES_METRICS_FORMULA_H
#define ADM_PROBES_METRICS_FORMULA_H

#include <stddef.h>

#include "core/base/error.h"

/* Gives the value of the name text[0..length-1]. ADM_EINPUT: there is no such name; ADM_EUNSUPPORTED: it has no value,
 * with the reason. */
typedef adm_status adm_formula_lookup(void *user, const char *text, size_t length, double *value, adm_error *err);

/* Evaluates from left to right, the usual precedence. ADM_EINPUT: it is no formula, the sentence says at which
 * character; ADM_EUNSUPPORTED: no value comes out, because a name has none, or of a division by zero or an overflow.
 * Other failures are the lookup's. */
adm_status adm_formula_evaluate(const char *formula, adm_formula_lookup *lookup, void *user, double *value, adm_error *err);

#endif
