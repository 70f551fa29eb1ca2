/* kernels.h: comparing kernels within the same runs: a candidate's times on one side, the registry's on the other. Runs made
 * with `--candidate` hold both, measured in the same way. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_KERNELS_H
#define ADM_ANALYSIS_REGRESS_COMPARE_KERNELS_H

#include "analysis/regress/series_set.h"

/* Whether a name on the command line is a kernel's file: [STAGE=]FILE that ends in .c, .cu, .so or .json. */
bool adm_compare_is_kernel(const char *named);

/* Whether a series has the times of that kernel: its variant is the file's name, with parameters or an implementation's name
 * behind it. */
bool adm_compare_is_of_kernel(const adm_series *series, const char *named);

/* Leaves in `cand` the times of the kernel, of several settings in one configuration the fastest, and in `base` for each those
 * that it is compared with: of the row `against`, or where that is NULL of the fastest that is nobody's candidate. ADM_EINPUT:
 * a side has none. */
adm_status adm_compare_keep_kernel(adm_series_set *base, adm_series_set *cand, const char *named, const char *against,
                                   adm_error *err);

#endif
