/* thresholds.h: where the three bucketing thresholds of a layer come from.
 *
 *   fixed:a,b,c      the same three for every layer; the paper's are fixed:-10,0,10
 *   quantile:p,q,r   per layer, the p, q and r quantiles of the Hadamard-transformed keys of the prompt
 *   calibrated       quantile:DEFAULTS, see ADM_CALIBRATED_QUANTILES
 *
 * Queries and keys of a layer share its thresholds, as in the paper. Calibration sees only tokens that stand before the
 * first replayed step, as a serving system would. */
#ifndef ADM_CORE_THRESHOLDS_H
#define ADM_CORE_THRESHOLDS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

/* Thirds beat quarters, which would use the four codes equally often: on the bundled session the mean recall at budgets
 * 64 / 256 / 1024 is .33 / .42 / .61 against .31 / .40 / .59, and the relative output error .40 / .22 / .07 against
 * .44 / .24 / .08 (measured: adamas replay -t calibrated -t quantile:0.25,0.5,0.75, 4,096 tokens). */
#define ADM_CALIBRATED_QUANTILES {1.0f / 3, 0.5f, 2.0f / 3}

typedef struct adm_threshold_spec {
    char text[64];       /* as the user wrote it; part of the variant's name in the database */
    bool per_layer;      /* value[] are quantiles, not thresholds */
    float value[3];      /* ascending */
} adm_threshold_spec;

/* Parses a specification. ADM_EINPUT names what is wrong: an unknown kind, not three numbers, not ascending, not
 * finite, a quantile outside 0..1. */
adm_status adm_threshold_parse(const char *text, adm_threshold_spec *spec, adm_error *err);

/* Writes a layer's thresholds. y: n Hadamard-transformed key elements (float32), reordered in place; unused and may
 * be NULL for a fixed specification. With n = 0 a per-layer specification is ADM_EINPUT: there was nothing to learn
 * from. Quantiles that coincide (constant keys) are allowed. */
adm_status adm_threshold_resolve(const adm_threshold_spec *spec, float *y, size_t n, float thresholds[3],
                                 adm_error *err);

#endif
