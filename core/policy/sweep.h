/* sweep.h: which policies and variants are compared, read from the command line.
 *
 *   --policies oracle,adamas,adamas:metric=l1+dot,bits=2+3,quest:select=group
 *              item | item | item: a policy and its settings                 | item
 *
 * The list is split at commas. A word that begins with a policy's name starts an item, one with an equals sign is a setting of
 * the item before it, and any other goes on with the value before it (thresholds=fixed:-10,0,10). Several values, joined by
 * `+`, give every combination. Which settings there are, and what an item takes that does not say, stands in the policies'
 * rows. */
#ifndef ADM_CORE_POLICY_SWEEP_H
#define ADM_CORE_POLICY_SWEEP_H

#include <stdint.h>

#include "core/policy/policy.h"

/* Each variant once, in the order of the policies' rows and then of the items. */
typedef struct adm_sweep {
    adm_variant *variant; /* owned: adm_sweep_clear() */
    size_t n_variants;
    uint32_t taken; /* bit d: some item takes default d of adm_sweep_parse(), whether it has values or not */
} adm_sweep;

/* Values of a setting for items that do not say, from an option of the command line. A value may be several, joined by `+`. */
typedef struct adm_sweep_default {
    const char *setting, *option; /* "thresholds", "--thresholds" */
    const char *const *values;
    size_t n; /* 0: none */
} adm_sweep_default;

/* ADM_EINPUT names the option, the item and what is wrong with it: an unknown policy, setting or value, a setting given twice.
 * On failure the sweep is clear. */
adm_status adm_sweep_parse(const char *policies, const adm_sweep_default *defaults, size_t n_defaults, adm_sweep *sweep,
                           adm_error *err);
void adm_sweep_clear(adm_sweep *sweep);

/* Adds a variant, unless it is there, and puts them in order again. */
adm_status adm_sweep_add(adm_sweep *sweep, const adm_variant *variant, adm_error *err);

/* "dense, oracle, adamas": the names of all policies. */
void adm_sweep_policies(char *text, size_t text_bytes);

#endif
