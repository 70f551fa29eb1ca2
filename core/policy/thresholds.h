/* thresholds.h: what a user may ask for as bucketing thresholds. core/policy/codebook.h turns it into the thresholds of a
 * layer.
 *
 *   fixed:a,b,c           the same for every layer; the paper's are fixed:-10,0,10
 *   quantile:p,q,r        per layer: these quantiles of the keys of the prompt, as they are coded (transformed, or not)
 *   calibrated            quantile:DEFAULTS, see adm_threshold_defaults()
 *   centred[:p,q,r]       per layer, KV head and channel: the channel's mean, plus the layer's quantiles of what is left of
 *                         the keys when each channel's mean is taken off
 *   channel[:p,q,r]       per layer, KV head and channel: the channel's own quantiles
 *   scaled[:tau]          per layer, KV head and channel: the channel's mean, and tau (default 1) standard deviations below and
 *                         above it; scaled:a,b,c: these multiples of the standard deviation. Codes of 2 bits only
 *
 * Codes of b bits take 2^b - 1 numbers: one, three or seven. With the first three kinds queries and keys of a layer share
 * the thresholds, as in the paper. With `centred`, `channel` and `scaled` only the keys' channel means are allowed for: a query
 * is coded by the same thresholds less those means, since q.(k - mean) ranks keys as q.k does and q - mean would not.
 * Calibration sees only tokens before the first replayed step, as a serving system would: all of them up to 4,096, of a longer
 * prompt 4,096 at equal distances (core/policy/adamas.c). */
#ifndef ADM_CORE_POLICY_THRESHOLDS_H
#define ADM_CORE_POLICY_THRESHOLDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/stage.h"

enum { ADM_MAX_THRESHOLDS = (1 << ADM_MAX_CODE_BITS) - 1 };

typedef enum adm_threshold_kind {
    ADM_THRESHOLDS_FIXED,
    ADM_THRESHOLDS_LAYER, /* quantile and calibrated */
    ADM_THRESHOLDS_CENTRED,
    ADM_THRESHOLDS_CHANNEL,
    ADM_THRESHOLDS_SCALED
} adm_threshold_kind;

typedef struct adm_threshold_spec {
    char text[64]; /* as the user wrote it; part of the variant's name in the database */
    adm_threshold_kind kind;
    bool per_layer; /* learnt from keys (every kind but fixed): value[] are quantiles, or with `scaled` multiples of the
                       standard deviation, not thresholds */
    uint32_t n_values; /* 1, 3 or 7; 0: by default, which depends on the width and metric of the codes */
    float value[ADM_MAX_THRESHOLDS]; /* ascending */
} adm_threshold_spec;

/* Parses a specification. ADM_EINPUT names what is wrong: an unknown kind, not one, three or seven numbers, not ascending,
 * not finite, a quantile outside 0..1. `calibrated` gets the values of 2-bit codes compared by L1. */
adm_status adm_threshold_parse(const char *text, adm_threshold_spec *spec, adm_error *err);

/* The quantiles that `calibrated`, `centred` and `channel` stand for with codes of `bits` bits: value [2^bits - 1].
 * `products`: for metrics that multiply codes (dot, asymmetric), which want the outer codes rarer than those that subtract
 * them. Measured on the bundled session, see thresholds.c. */
void adm_threshold_defaults(uint32_t bits, bool products, float *value);

/* value = -tau, 0, tau; returns 3. */
uint32_t adm_threshold_scaled(float tau, float *value);

/* out [n_q]: the quantiles q [n_q], ascending, each in 0..1, of y [n], n >= 1, interpolated between neighbours. Reorders y;
 * time proportional to n. No NaN. */
void adm_quantiles(float *y, size_t n, const float *q, uint32_t n_q, float *out);

/* Writes a layer's three thresholds of 2-bit codes for the kinds fixed and quantile. y: n key elements (float32), reordered
 * in place; for a fixed specification it is not read and may be NULL. ADM_EINPUT: a specification of another kind or width, or
 * one per layer and n = 0, nothing to learn from. Quantiles that coincide (constant keys) are allowed. */
adm_status adm_threshold_resolve(const adm_threshold_spec *spec, float *y, size_t n, float thresholds[3], adm_error *err);

#endif
