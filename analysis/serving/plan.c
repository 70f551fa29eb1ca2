/* plan.c: budgets per layer. */
#include "analysis/serving/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add(adm_plan *plan, uint32_t budget, uint32_t n_layers) {
    if (n_layers == 0) return true;
    size_t i = 0;
    while (i < plan->n_groups && plan->group[i].budget != budget) i++;
    if (i == ADM_PLAN_MAX_GROUPS) return false;
    if (i == plan->n_groups) plan->group[plan->n_groups++] = (adm_plan_group){budget, 0};
    plan->group[i].n_layers += n_layers;
    if (budget > 0) plan->n_sparse += n_layers;
    return true;
}

void adm_plan_uniform(const adm_model *model, uint32_t budget, uint32_t n_dense, adm_plan *plan) {
    *plan = (adm_plan){.budget = budget};
    if (budget == 0 || n_dense > model->n_layers) n_dense = model->n_layers;
    add(plan, 0, n_dense);
    add(plan, budget, model->n_layers - n_dense);
}

/* A whole number, moving *text behind it. */
static bool take(const char **text, uint32_t *value) {
    char *end;
    if (**text < '0' || **text > '9') return false;
    const unsigned long number = strtoul(*text, &end, 10);
    *value = (uint32_t)number;
    *text = end;
    return number <= 1u << 24;
}

static adm_status parse_part(const adm_model *model, const char **text, uint32_t *next, adm_plan *plan, adm_error *err) {
    const char *t = *text;
    uint32_t first, last, budget = 0;
    bool good = take(&t, &first);
    last = first;
    if (good && *t == '-') {
        t++;
        good = take(&t, &last);
    }
    good = good && *t == ':';
    if (good && strncmp(t + 1, "dense", 5) == 0) t += 6;
    else if (good) {
        t++;
        good = take(&t, &budget) && budget > 0;
    }
    if (!good || (*t != ',' && *t != '\0'))
        return adm_fail(err, ADM_EINPUT, "--layer-budgets: '%s' is no LAYERS:BUDGET such as 0-1:dense or 2-31:256", *text);
    if (first != *next || last < first || last >= model->n_layers)
        return adm_fail(err, ADM_EINPUT, "--layer-budgets: layers %u-%u come where layer %u of 0-%u is due", first, last, *next,
                        model->n_layers - 1);
    if (!add(plan, budget, last - first + 1))
        return adm_fail(err, ADM_EINPUT, "--layer-budgets: more than %d different budgets", ADM_PLAN_MAX_GROUPS);
    *next = last + 1;
    *text = *t == ',' ? t + 1 : t;
    return ADM_OK;
}

adm_status adm_plan_parse(const adm_model *model, const char *text, adm_plan *plan, adm_error *err) {
    uint32_t next = 0;
    *plan = (adm_plan){0};
    if (strlen(text) >= sizeof plan->layers)
        return adm_fail(err, ADM_EINPUT, "--layer-budgets: is longer than %zu characters", sizeof plan->layers - 1);
    snprintf(plan->layers, sizeof plan->layers, "%s", text);
    adm_status status = ADM_OK;
    while (status == ADM_OK && *text != '\0') status = parse_part(model, &text, &next, plan, err);
    if (status == ADM_OK && next != model->n_layers)
        status = adm_fail(err, ADM_EINPUT, "--layer-budgets: layers %u-%u of %s have no budget", next, model->n_layers - 1,
                          model->name);
    return status;
}
