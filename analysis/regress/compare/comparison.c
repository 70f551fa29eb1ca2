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

size_t adm_processes_needed(size_t n_times, double alpha) {
    size_t n = ADM_MIN_PROCESSES;
    while (adm_smallest_p(n, n) * (double)n_times > alpha) n++;
    return n;
}

const char *adm_compare_group_of(const adm_compare_row *row) {
    const char *behind = strstr(row->shown->config->title, ", ");
    return behind != NULL ? behind + 2 : row->shown->config->title;
}

void adm_compare_say(adm_compare_row *row, const char *format, ...) {
    size_t used = strlen(row->why);
    va_list values;
    va_start(values, format);
    vsnprintf(row->why + used, sizeof row->why - used, format, values);
    va_end(values);
}
