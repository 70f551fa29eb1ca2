/* observer.c: what counting and tracing share; see observer.h. */
#include "kernels/profile/observe/observer.h"

adm_range adm_profile_range_of(const adm_profile_unit *unit, uint32_t seq_len) {
    return (adm_range){.kind = ADM_RANGE_STAGE,
                       .stage = unit->stage,
                       .variant = unit->variant,
                       .step = -1,
                       .layer = -1,
                       .seq_len = seq_len,
                       .budget = unit->budget};
}

adm_status adm_profile_prepare_set(const adm_profile_subject *s, const adm_profile_unit *unit, uint32_t set, adm_error *err) {
    adm_select_rule rule = s->rule;
    if (unit->budget > 0) rule.budget = unit->budget;
    adm_gpu_case_set_rule(s->gpu_case, &rule);
    adm_status status = adm_gpu_case_clear(s->gpu_case, err);
    for (size_t i = 0; status == ADM_OK && i < s->pipeline->n_impls; i++)
        status = adm_gpu_case_launch(s->gpu_case, s->pipeline->impl[i], set, err);
    return status;
}
