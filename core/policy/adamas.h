/* adamas.h: what a replay stores of the policy adamas beside its selections: the variant's coding, its thresholds, and how
 * often each code occurs. */
#ifndef ADM_CORE_POLICY_ADAMAS_H
#define ADM_CORE_POLICY_ADAMAS_H

#include "core/policy/coding.h"
#include "core/policy/policy.h"

enum { ADM_CODES = 1 << ADM_MAX_CODE_BITS };

/* The coding of a variant; NULL of another policy. */
const adm_coding *adm_adamas_coding(const adm_variant *variant);

/* A layer's thresholds as the codebook has them (core/policy/codebook.h), once it is learnt; [ADM_MAX_THRESHOLDS]. */
const float *adm_adamas_thresholds(const adm_policy_state *state, size_t variant, size_t layer);

/* How often each code occurs among the keys appended of each layer since it was begun: [n_layers][n_kv_heads][ADM_CODES]. */
const uint64_t *adm_adamas_code_counts(const adm_policy_state *state, size_t variant);

#endif
