/* counters.h: GPU counters of a candidate, taken in its process after its times: what is counted, and what came of it. This room
 * knows no probe; gpu/count.c, which `adamas tune` hands in, does. */
#ifndef ADM_KERNELS_TUNE_HOST_COUNTERS_H
#define ADM_KERNELS_TUNE_HOST_COUNTERS_H

#include "core/contract/probe.h"

enum { ADM_TUNE_MAX_COUNTERS = 96 };

/* Texts are copies: they come from another process. */
typedef struct adm_tune_counter {
    char name[96], unit[16], better[8], description[240];
    char reason[200]; /* why there is no value; "": there is */
    double value;
} adm_tune_counter;

typedef struct adm_tune_counted {
    adm_tune_counter counter[ADM_TUNE_MAX_COUNTERS]; /* [n] */
    size_t n;
    char reason[320]; /* why nothing was counted; "": something was, or nothing was asked for */
} adm_tune_counted;

/* Work that is counted: run once per pass, after put_back() has put its inputs and the L2 into the same state. */
typedef struct adm_tune_counting {
    void *user;
    adm_status (*put_back)(void *user, adm_error *err);
    adm_status (*run)(void *user, adm_error *err); /* returns when it is done */
    adm_range range;
} adm_tune_counting;

/* Counts the metrics of a set. A failure is also out->reason. */
typedef adm_status adm_tune_count_fn(const char *set, int device, const adm_tune_counting *what, adm_tune_counted *out,
                                     adm_error *err);

#endif
