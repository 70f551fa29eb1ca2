/* contended.c: which times were taken while another thread shared the core, by the reference loop that was timed with them
 * (core/system/contention.h). */
#include "analysis/regress/contended.h"

#include <string.h>

#include "core/base/mem.h"

/* Each loop's metric, and the times it belongs to. */
static const char *const loops[][2] = {{ADM_TIME_LOOP, "time_ns"}, {ADM_ENCODE_LOOP, "encode_ns_per_key"}};

/* Another thread on the core slows the loop down by a third or more; alone it varies by 2% at most (core/system/contention.h).
 * */
static const double max_loop_ratio = 1.1;

/* machine[i]: the first run on the host and CPU of run i. */
static void number_hosts(const adm_series_set *set, size_t *machine) {
    for (size_t i = 0; i < set->n_runs; i++) {
        machine[i] = i;
        for (size_t k = 0; k < i; k++) {
            if (machine[k] != k || strcmp(set->run[k].host_name, set->run[i].host_name) != 0 ||
                strcmp(set->run[k].cpu_model, set->run[i].cpu_model) != 0)
                continue;
            machine[i] = k;
            break;
        }
    }
}

/* Gives the times their loops. fastest: scratch, one value per run. */
static void mark_contended(adm_series_set *set, const adm_series *loop, const adm_series *times, const size_t *machine,
                           double *fastest) {
    for (size_t i = 0; i < loop->n_points; i++) fastest[machine[loop->point[i].run]] = 0;
    for (size_t i = 0; i < loop->n_points; i++) {
        double *smallest = &fastest[machine[loop->point[i].run]];
        if (*smallest == 0 || loop->point[i].median < *smallest) *smallest = loop->point[i].median;
    }
    adm_point *point = set->point + (times->point - set->point);
    for (size_t i = 0, k = 0; i < times->n_points; i++) {
        while (k < loop->n_points && loop->point[k].run < point[i].run) k++;
        if (k == loop->n_points || loop->point[k].run != point[i].run || !loop->point[k].ok) continue;
        point[i].loop_id = loop->point[k].measurement_id;
        point[i].max_loop_ns = max_loop_ratio * fastest[machine[point[i].run]];
        point[i].is_contended = loop->point[k].median > point[i].max_loop_ns;
    }
}

bool adm_is_core_loop(const char *metric) { return strcmp(metric, ADM_TIME_LOOP) == 0 || strcmp(metric, ADM_ENCODE_LOOP) == 0; }

/* The series of one configuration, source and stage are adjacent. */
adm_status adm_series_mark_contended(adm_series_set *set, adm_error *err) {
    size_t *machine = NULL;
    double *fastest = NULL;
    adm_status status = adm_alloc(&machine, set->n_runs, sizeof *machine, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&fastest, set->n_runs, sizeof *fastest, "runs", err);
    if (status == ADM_OK) number_hosts(set, machine);
    for (size_t from = 0, to; status == ADM_OK && from < set->n_series; from = to) {
        const adm_series *s = set->series;
        for (to = from + 1; to < set->n_series && s[to].config == s[from].config && s[to].source == s[from].source &&
                            s[to].stage == s[from].stage;)
            to++;
        for (size_t i = from; i < to; i++)
            for (size_t k = from; k < to; k++)
                for (size_t m = 0; m < sizeof loops / sizeof loops[0]; m++)
                    if (strcmp(s[i].metric->name, loops[m][0]) == 0 && strcmp(s[k].metric->name, loops[m][1]) == 0)
                        mark_contended(set, &s[i], &s[k], machine, fastest);
    }
    adm_free(&machine);
    adm_free(&fastest);
    return status;
}
