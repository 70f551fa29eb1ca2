/* counter_plan.c: plans metric sets and computes their values; see counter_plan.h. */
#include "probes/cupti/counter_plan.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/rng.h"
#include "probes/metrics/formula.h"

enum { N_ORDERS = 24 }; /* besides the set's own; 0.5 s for `full` on GH100, and one in four or five is a best one there */

/* --- One metric --------------------------------------------------------------------------------------------------- */

/* Whether the chip can collect a name. CUPTI 13.0 does not know a metric under a roll-up that it lacks, 13.1 describes it and
 * cannot collect it, and both describe a name without a roll-up: all of these are told from a name that is not there at all. */
static adm_status try_name(adm_counter_plan *plan, const char *name, adm_error *why) {
    adm_cupti_words words;
    size_t n_passes;
    char base[256];
    const size_t length = strcspn(name, ".");
    if (adm_cupti_host_describe(plan->host, name, &words, why) == ADM_OK &&
        adm_cupti_host_passes(plan->host, &name, 1, &n_passes, why) == ADM_OK)
        return ADM_OK;
    if (why->status != ADM_EINPUT || length >= sizeof base) return why->status;
    snprintf(base, sizeof base, "%.*s", (int)length, name);
    if (adm_cupti_host_describe(plan->host, base, &words, NULL) != ADM_OK) return why->status;
    if (name[length] == '\0')
        return adm_fail(why, ADM_EINPUT, "%s cannot collect %.200s: a name needs a roll-up, such as %.200s.sum", plan->chip,
                        name, base);
    return adm_fail(why, ADM_EINPUT, "%s cannot collect %.200s: it has %.200s, but not with .%.60s", plan->chip, name, base,
                    name + length + 1);
}

static void explain_absence(const adm_set_metric *m, const adm_error *first, char *reason) {
    int length = snprintf(reason, ADM_REASON_BYTES, "%.200s", first->text);
    for (size_t i = 0; i < m->n_alternatives && length < ADM_REASON_BYTES; i++)
        length += snprintf(reason + length, (size_t)(ADM_REASON_BYTES - length), ", nor %.60s", m->alternative[i]);
    if (m->absent != NULL && length < ADM_REASON_BYTES)
        snprintf(reason + length, (size_t)(ADM_REASON_BYTES - length), " (%.120s)", m->absent);
}

/* Finds the name under which the chip collects metric i. Fails only where CUPTI does. */
static adm_status choose_name(adm_counter_plan *plan, size_t i, adm_error *err) {
    const adm_set_metric *m = &plan->set->metric[i];
    adm_error first = {0}, why = {0};
    for (size_t k = 0; k <= m->n_alternatives; k++) {
        const char *name = k == 0 ? m->name : m->alternative[k - 1];
        adm_status status = try_name(plan, name, k == 0 ? &first : &why);
        if (status == ADM_OK) {
            plan->collected[i] = plan->hardware[plan->n_hardware++] = name;
            return ADM_OK;
        }
        if (status != ADM_EINPUT) {
            if (err != NULL) *err = k == 0 ? first : why;
            return status;
        }
    }
    explain_absence(m, &first, plan->reason[i]);
    return ADM_OK;
}

/* --- Their order -------------------------------------------------------------------------------------------------- */

static void shuffle(adm_rng *rng, const char **names, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t k = adm_rng_below(rng, i);
        const char *kept = names[i - 1];
        names[i - 1] = names[k];
        names[k] = kept;
    }
}

/* Puts plan->hardware into the order with the fewest passes. Orders that CUPTI refuses are passed by; if it refuses all, the
 * schedule that follows says why. */
static adm_status choose_order(adm_counter_plan *plan, adm_error *err) {
    const char **order = NULL;
    adm_rng rng;
    adm_status status = adm_alloc(&order, plan->n_hardware, sizeof *order, "a counter plan", err);
    if (status != ADM_OK) return status;
    memcpy(order, plan->hardware, plan->n_hardware * sizeof *order);
    adm_rng_seed(&rng, 1);
    size_t best = SIZE_MAX, n_passes;
    for (size_t i = 0; i <= N_ORDERS && best > 1; i++) {
        if (i > 0) shuffle(&rng, order, plan->n_hardware);
        if (adm_cupti_host_passes(plan->host, order, plan->n_hardware, &n_passes, NULL) != ADM_OK) continue;
        if (i == 0) plan->own_order_passes = n_passes;
        if (n_passes >= best) continue;
        best = n_passes;
        memcpy(plan->hardware, order, plan->n_hardware * sizeof *order);
    }
    adm_free(&order);
    return ADM_OK;
}

adm_status adm_counter_plan_open(const adm_metric_set *set, const char *chip, const uint8_t *availability,
                                 adm_counter_plan **out, adm_error *err) {
    adm_counter_plan *plan = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&plan, 1, sizeof *plan, "a counter plan", err);
    if (status != ADM_OK) return status;
    plan->set = set;
    snprintf(plan->chip, sizeof plan->chip, "%s", chip);
    status = adm_alloc(&plan->reason, set->n, sizeof *plan->reason, "a counter plan", err);
    if (status == ADM_OK) status = adm_alloc(&plan->collected, set->n, sizeof *plan->collected, "a counter plan", err);
    if (status == ADM_OK) status = adm_alloc(&plan->hardware, set->n, sizeof *plan->hardware, "a counter plan", err);
    if (status == ADM_OK) status = adm_cupti_host_open(chip, availability, &plan->host, err);
    for (size_t i = 0; status == ADM_OK && i < set->n; i++)
        if (set->metric[i].formula == NULL) status = choose_name(plan, i, err);
    if (status == ADM_OK && plan->n_hardware > 0) status = choose_order(plan, err);
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
    adm_free(&plan->collected);
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

void adm_counter_values(const adm_metric_set *set, const adm_range *range, const char *const *collected,
                        const char (*lacking)[ADM_REASON_BYTES], adm_counter_read *read, void *user, double *value,
                        char (*reason)[ADM_REASON_BYTES]) {
    scope s = {set, range, value, reason};
    for (size_t i = 0; i < set->n; i++) {
        const adm_set_metric *m = &set->metric[i];
        adm_error err;
        reason[i][0] = '\0';
        value[i] = (double)NAN;
        if (lacking[i][0] != '\0') {
            snprintf(reason[i], sizeof reason[i], "%s", lacking[i]);
        } else if (m->formula == NULL) {
            value[i] = read(user, collected[i]);
            if (!isfinite(value[i]))
                snprintf(reason[i], sizeof reason[i], "the hardware gave no value for %.200s", collected[i]);
        } else if (adm_formula_evaluate(m->formula, look_up, &s, &value[i], &err) != ADM_OK) {
            snprintf(reason[i], sizeof reason[i], "%.300s", err.text);
        }
        if (reason[i][0] != '\0') value[i] = (double)NAN;
    }
}
