/* cost.h: what a profile takes by the wall clock, in parts: estimated here, for the balance of shards; measured by
 * kernels/profile/grid/spent.h. */
#ifndef ADM_KERNELS_PROFILE_GRID_COST_H
#define ADM_KERNELS_PROFILE_GRID_COST_H

#include "kernels/profile/grid/grid.h"

typedef enum adm_profile_part {
    ADM_PROFILE_INPUTS,    /* of a configuration: memory on the device, filled */
    ADM_PROFILE_REFERENCE, /* and what the host expects */
    ADM_PROFILE_PREPARE,   /* of a unit: the stages before it */
    ADM_PROFILE_CHECK,     /* compared with the host */
    ADM_PROFILE_TIMING,
    ADM_PROFILE_STORE,
    ADM_PROFILE_N_PARTS
} adm_profile_part;

const char *adm_profile_part_name(adm_profile_part part);

typedef struct adm_profile_cost {
    double s[ADM_PROFILE_N_PARTS]; /* seconds; 0 for parts of the other kind */
} adm_profile_cost;

double adm_profile_cost_sum(const adm_profile_cost *cost);

/* Of a configuration before its first unit, and of a unit. They depend on the options alone, not on the machine: an H200 with
 * all of its memory free. is_first: of the units at its budget, for which the host selects and attends anew. */
adm_profile_cost adm_profile_case_cost(const adm_profile_options *options, const adm_profile_case *c);
adm_profile_cost adm_profile_unit_cost(const adm_profile_options *options, const adm_profile_case *c,
                                       const adm_profile_unit *unit, bool is_first);

#endif
