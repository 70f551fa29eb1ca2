/* sweep.h: which policies and variants a replay compares, read from the command line.
 *
 *   --policies oracle,adamas,adamas:metric=l1+dot,bits=2+3,quest:select=group
 *              item | item | item: a policy and its settings                 | item
 *
 * The list is split at commas. A piece that begins with a policy's name starts an item, one with an equals sign is a
 * setting of the item before it, and any other goes on with the value before it (thresholds=fixed:-10,0,10). Several
 * values, joined by `+`, give every combination. Settings:
 *
 *   select=head|group                 of every policy but dense and random: a selection per query head or per GQA group
 *   metric=l1|xor|l2|sign|dot|asymmetric, bits=1|2|3, hadamard=on|off, thresholds=SPEC (core/policy/thresholds.h),
 *   sinks=N, recent=N (first and last tokens always selected)                                                   of adamas */
#ifndef ADM_CORE_POLICY_SWEEP_H
#define ADM_CORE_POLICY_SWEEP_H

#include "core/policy/coding.h"
#include "core/policy/policy.h"

typedef struct adm_sweep {
    bool policy[ADM_N_POLICIES];
    bool select_head[ADM_N_POLICIES], select_group[ADM_N_POLICIES]; /* of the policies named, adamas excepted */
    adm_coding *codings; /* complete; owned, adm_sweep_clear() */
    size_t n_codings;
} adm_sweep;

/* What items take that do not say. */
typedef struct adm_sweep_defaults {
    const char *const *thresholds;  /* specifications; with none a bare `adamas` takes calibrated and the paper's */
    size_t n_thresholds;            /* fixed:-10,0,10, an item with settings calibrated */
    const char *select;             /* as the value of select=; NULL: head */
    const uint32_t *sinks, *recent; /* with none 0 sinks, and the newest token alone */
    size_t n_sinks, n_recent;
} adm_sweep_defaults;

/* ADM_EINPUT names the option, the item and what is wrong with it: an unknown policy, setting or value, a variant given
 * twice, thresholds of another width. On failure the sweep is clear. */
adm_status adm_sweep_parse(const char *policies, const adm_sweep_defaults *defaults, adm_sweep *sweep, adm_error *err);
void adm_sweep_clear(adm_sweep *sweep);

#endif
