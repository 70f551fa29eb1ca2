/* count.h: counts a candidate through CUPTI; see counters.h. */
#ifndef ADM_KERNELS_TUNE_GPU_COUNT_H
#define ADM_KERNELS_TUNE_GPU_COUNT_H

#include "kernels/tune/host/counters.h"

adm_tune_count_fn adm_tune_count;

/* ADM_EINPUT: a set that is not known or not right. */
adm_status adm_tune_count_check(const char *set, adm_error *err);

#endif
