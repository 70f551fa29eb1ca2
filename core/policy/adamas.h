/* adamas.h: what a replay stores of the policy adamas beside its selections: the variant's coding, its thresholds, and how
 * often each code occurs. */
#ifndef ADM_CORE_POLICY_ADAMAS_H
#define ADM_CORE_POLICY_ADAMAS_H

#include "core/policy/coding.h"
#include "core/policy/policy.h"

enum { ADM_CODES = 1 << ADM_MAX_CODE_BITS };

/* The coding of a variant, with a calibration that of layers which it does not list; NULL of another policy. */
const adm_coding *adm_adamas_coding(const adm_variant *variant);

/* Makes a variant of adamas take metric and thresholds of each layer from a calibration, which is borrowed, and its other
 * settings from where it has them. */
void adm_adamas_calibrate(adm_variant *variant, const adm_calibration *calibration);

/* A layer's thresholds as the codebook has them (core/policy/codebook.h), once it is learnt; [ADM_MAX_THRESHOLDS]. */
const float *adm_adamas_thresholds(const adm_policy_state *state, size_t variant, size_t layer);

/* How often each code occurs among the keys of a layer appended since it was begun: [n_kv_heads][ADM_CODES]. */
const uint64_t *adm_adamas_code_counts(const adm_policy_state *state, size_t variant, size_t layer);

#endif
