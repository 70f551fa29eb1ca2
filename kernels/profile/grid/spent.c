/* spent.c: the seconds of a profile's parts; see spent.h. */
#include "kernels/profile/grid/spent.h"

#include "core/base/print.h"
#include "core/policy/coding.h"
#include "core/system/clock.h"

adm_status adm_profile_spent_open(adm_profile_spent *s, const char *path, adm_error *err) {
    adm_status status = adm_output_open(&s->output, "--seconds", path, err);
    if (status != ADM_OK) return status;
    adm_print_to(s->output.file, "tokens\tkv_heads\tbatch\tmetric\tstage\tvariant\tbudget\tpart\tseconds\testimated\n");
    return ADM_OK;
}

void adm_profile_spent_begin(adm_profile_spent *s) {
    if (s == NULL) return;
    s->since_ns = adm_clock_ns();
    s->budget = 0;
}

void adm_profile_spent_end(adm_profile_spent *s, const adm_profile_options *o, const adm_profile_case *c,
                           const adm_profile_unit *unit, adm_profile_part part) {
    if (s == NULL) return;
    const uint64_t now_ns = adm_clock_ns();
    const adm_profile_cost cost = unit == NULL ? adm_profile_case_cost(o, c)
                                               : adm_profile_unit_cost(o, c, unit, unit->budget != s->budget);
    adm_print_to(s->output.file, "%u\t%u\t%u\t%s\t%s\t%s\t%u\t%s\t%.6f\t%.6f\n", c->seq_len, c->n_kv_heads, c->batch,
                 adm_code_metric_name(c->metric), unit != NULL ? adm_stage_name(unit->stage) : "",
                 unit != NULL ? unit->variant : "", unit != NULL ? unit->budget : 0, adm_profile_part_name(part),
                 (double)(now_ns - s->since_ns) * 1e-9, cost.s[part]);
    if (part == ADM_PROFILE_STORE) s->budget = unit->budget;
    s->since_ns = adm_clock_ns();
}
