/* counter_plan.c: plans metric sets and computes their values; see counter_plan.h. */
#include "probes/cupti/counter_plan.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "probes/metrics/formula.h"

adm_status adm_counter_plan_open(const adm_metric_set *set, const char *chip, const uint8_t *availability,
                                 adm_counter_plan **out, adm_error *err) {
    adm_counter_plan *plan = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&plan, 1, sizeof *plan, "a counter plan", err);
    if (status != ADM_OK) return status;
    plan->set = set;
    snprintf(plan->chip, sizeof plan->chip, "%s", chip);
    status = adm_alloc(&plan->reason, set->n, sizeof *plan->reason, "a counter plan", err);
    if (status == ADM_OK) status = adm_alloc(&plan->hardware, set->n, sizeof *plan->hardware, "a counter plan", err);
    if (status == ADM_OK) status = adm_cupti_host_open(chip, availability, &plan->host, err);
    for (size_t i = 0; status == ADM_OK && i < set->n; i++) {
        adm_cupti_words words;
        adm_error why;
        if (set->metric[i].formula != NULL) continue;
        adm_status known = adm_cupti_host_describe(plan->host, set->metric[i].name, &words, &why);
        if (known == ADM_OK) plan->hardware[plan->n_hardware++] = set->metric[i].name;
        else snprintf(plan->reason[i], sizeof plan->reason[i], "%.300s", why.text);
    }
    if (status == ADM_OK && plan->n_hardware > 0)
        status = adm_cupti_host_schedule(plan->host, plan->hardware, plan->n_hardware, &plan->image, &plan->image_bytes,
                                         &plan->n_passes, err);
    if (status == ADM_OK) *out = plan;
    else adm_counter_plan_close(&plan);
    return status;
}

void adm_counter_plan_close(adm_counter_plan **address) {
    adm_counter_plan *plan = *address;
    if (plan == NULL) return;
    adm_cupti_host_close(&plan->host);
    adm_free(&plan->image);
    adm_free(&plan->hardware);
    adm_free(&plan->reason);
    adm_free(address);
}

/* --- Values ------------------------------------------------------------------------------------------------------- */

typedef struct scope {
    const adm_metric_set *set;
    const adm_range *range;
    const double *value;
    char (*reason)[ADM_REASON_BYTES];
} scope;

static adm_status look_up(void *user, const char *name, size_t length, double *value, adm_error *err) {
    const scope *s = user;
    const struct {
        const char *name;
        double value;
    } model[] = {{"model.bytes", s->range->model_bytes},
                 {"model.write_bytes", s->range->model_write_bytes},
                 {"model.flops", s->range->model_flops},
                 {"timed.ns", s->range->timed_ns}};
    for (size_t i = 0; i < sizeof model / sizeof model[0]; i++) {
        if (strlen(model[i].name) != length || memcmp(model[i].name, name, length) != 0) continue;
        *value = model[i].value;
        const bool given = i == 3 ? s->range->timed_ns > 0 : s->range->model_bytes > 0;
        if (given) return ADM_OK;
        return adm_fail(err, ADM_EUNSUPPORTED,
                        i == 3 ? "the same work was not timed" : "the range came without a model of its work");
    }
    const adm_set_metric *metric = adm_metric_set_find(s->set, name, length);
    if (metric == NULL) return adm_fail(err, ADM_EINPUT, "there is no metric %.*s", (int)length, name);
    size_t i = (size_t)(metric - s->set->metric);
    *value = s->value[i];
    return s->reason[i][0] == '\0' ? ADM_OK : adm_fail(err, ADM_EUNSUPPORTED, "%s", s->reason[i]);
}

void adm_counter_values(const adm_metric_set *set, const adm_range *range, const char (*lacking)[ADM_REASON_BYTES],
                        adm_counter_read *read, void *user, double *value, char (*reason)[ADM_REASON_BYTES]) {
    scope s = {set, range, value, reason};
    for (size_t i = 0; i < set->n; i++) {
        const adm_set_metric *m = &set->metric[i];
        adm_error err;
        reason[i][0] = '\0';
        value[i] = (double)NAN;
        if (lacking[i][0] != '\0') {
            snprintf(reason[i], sizeof reason[i], "%s", lacking[i]);
        } else if (m->formula == NULL) {
            value[i] = read(user, m->name);
            if (!isfinite(value[i])) snprintf(reason[i], sizeof reason[i], "the hardware gave no value for %.200s", m->name);
        } else if (adm_formula_evaluate(m->formula, look_up, &s, &value[i], &err) != ADM_OK) {
            snprintf(reason[i], sizeof reason[i], "%.300s", err.text);
        }
        if (reason[i][0] != '\0') value[i] = (double)NAN;
    }
}
