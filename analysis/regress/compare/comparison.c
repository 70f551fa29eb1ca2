/* comparison.c: the result of a comparison. */
#include "analysis/regress/compare/comparison.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

void adm_comparison_free(adm_comparison *c) {
    adm_free(&c->row);
    c->n_rows = 0;
}

int adm_comparison_exit_code(const adm_comparison *c) {
    return c->n_verdicts[ADM_VERDICT_REGRESSED] > 0 ? 1 : c->n_verdicts[ADM_VERDICT_INCONCLUSIVE] > 0 ? 3 : 0;
}

void adm_compare_say(adm_compare_row *row, const char *format, ...) {
    size_t used = strlen(row->why);
    va_list values;
    va_start(values, format);
    vsnprintf(row->why + used, sizeof row->why - used, format, values);
    va_end(values);
}
