/* cupti_features.h: what newer CUPTI releases offer, found by symbol or version at run time and recorded with every profile
 * that counts or traces: which release it is, whether kernel times come from the hardware, whether CUPTI resets caches
 * between passes, and whether somebody has locked the clocks. Nothing here locks or sets a clock. */
#ifndef ADM_PROBES_CUPTI_CUPTI_FEATURES_H
#define ADM_PROBES_CUPTI_CUPTI_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/contract/probe.h"

enum { ADM_CUPTI_N_FACTS = 4 };

typedef struct adm_cupti_features {
    adm_counter fact[ADM_CUPTI_N_FACTS]; /* name, unit, meaning; its reason: why there is no value, or NULL */
    double value[ADM_CUPTI_N_FACTS];     /* NAN where there is a reason */
    char reason[ADM_CUPTI_N_FACTS][320];
} adm_cupti_features;

/* Asks for hardware timestamps of kernels (HES), which Blackwell and later have, and which cost a short kernel less than
 * CUPTI's own code around it. Call once a process, before it has a CUDA context; the choice then holds until its end.
 * wanted false: they are left off, and the reason says so. */
void adm_cupti_features_prepare(bool wanted, adm_cupti_features *features);

/* Fills in the rest, once there is a CUDA context. */
void adm_cupti_features_read(adm_cupti_features *features);

#endif
