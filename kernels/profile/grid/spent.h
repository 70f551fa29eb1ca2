/* spent.h: what a profile took by the wall clock, beside what it was estimated to take (cost.h): tab-separated text, a line
 * per part of a configuration and of a unit. */
#ifndef ADM_KERNELS_PROFILE_GRID_SPENT_H
#define ADM_KERNELS_PROFILE_GRID_SPENT_H

#include "core/system/output_file.h"
#include "kernels/profile/grid/cost.h"

typedef struct adm_profile_spent {
    adm_output output;
    uint64_t since_ns; /* the end of the part before */
    uint32_t budget; /* of the unit checked last */
} adm_profile_spent;

/* Errors name the option. The file is there after adm_output_commit(&spent->output). */
adm_status adm_profile_spent_open(adm_profile_spent *spent, const char *path, adm_error *err);

/* NULL: nobody asked. A configuration's first part begins here, every other where the one before ended. */
void adm_profile_spent_begin(adm_profile_spent *spent);

/* A part of the configuration ends here, or of a unit of it. */
void adm_profile_spent_end(adm_profile_spent *spent, const adm_profile_options *options, const adm_profile_case *c,
                           const adm_profile_unit *unit, adm_profile_part part);

#endif
