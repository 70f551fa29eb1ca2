/* expression.h: whole-number formulas of a manifest: + - * / % and parentheses, min(a, b), max(a, b), cdiv(a, b) (rounded up),
 * and names. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_EXPRESSION_H
#define ADM_KERNELS_TUNE_CANDIDATE_EXPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct adm_name_value {
    const char *name;
    int64_t value;
} adm_name_value;

/* ADM_EINPUT: the formula, and what is wrong with it: an unknown name, a division by 0, a number that does not fit. */
adm_status adm_expression_evaluate(const char *text, const adm_name_value *names, size_t n_names, int64_t *value,
                                   adm_error *err);

#endif
