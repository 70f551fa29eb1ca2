/* bench_changes.c: finds the change points of series that come on standard input, a line of numbers each; prints a line per
 * series: the places of its steps, and "drift" where its level drifted. bench_changes.py makes the series and counts. */
#include <stdio.h>
#include <stdlib.h>

#include "analysis/regress/statistics/change_points.h"
#include "core/base/mem.h"

enum { MOST = 4096 };

int main(void) {
    static char line[1 << 20];
    static double value[MOST];
    adm_error err;
    while (fgets(line, sizeof line, stdin) != NULL) {
        const adm_change_options options = ADM_CHANGE_DEFAULTS;
        adm_change_point *found = NULL;
        size_t n = 0, n_found = 0;
        char *at = line, *end;
        for (double v; n < MOST && (v = strtod(at, &end), end != at); at = end) value[n++] = v;
        if (adm_change_points(value, n, &options, &found, &n_found, &err) != ADM_OK) {
            fprintf(stderr, "bench_changes: %s\n", err.text);
            return 4;
        }
        for (size_t i = 0; i < n_found; i++) printf("%s%zu ", found[i].is_drift ? "drift:" : "", found[i].at);
        printf("\n");
        adm_free(&found);
    }
    return 0;
}
