/* machines.h: which runs may share a series, by what a figure depends on.
 *
 *   times                     host, CPU, GPU, driver, CUDA and power limit
 *   counts of a GPU           the GPU's name
 *   quality, compiled figures, host counts     nothing of the machine
 *
 * Hosts of a pool are one host where their runs have the same machine label (ADAMAS_MACHINE), or where their names match
 * `same_machine`; the CPU and GPU models still tell them apart. */
#ifndef ADM_ANALYSIS_REGRESS_MACHINES_H
#define ADM_ANALYSIS_REGRESS_MACHINES_H

#include "analysis/regress/statistics/judge.h"
#include "analysis/regress/series_set.h"

typedef struct adm_machines {
    size_t *time_at, *count_at; /* by run of the set: the machine's number */
    size_t n_time, n_count;
} adm_machines;

/* same_machine: an extended regular expression for host names, or NULL. ADM_EINPUT: it is none. */
adm_status adm_machines_find(const adm_series_set *set, const char *same_machine, adm_machines *out, adm_error *err);
void adm_machines_free(adm_machines *machines);

/* The number of a run's machine for one kind of figure, and how many there are. */
size_t adm_machine_of(const adm_machines *machines, const adm_series *series, adm_figure figure, size_t run);
size_t adm_machines_n(const adm_machines *machines, const adm_series *series, adm_figure figure);

#endif
