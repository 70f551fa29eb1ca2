/* advice.c: asks the rules of `adamas explain` about every stage of a profile. */
#include "analysis/report/advice.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/explain/figures.h"
#include "analysis/explain/rules.h"
#include "analysis/output/rows.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "core/base/embedded.h"
#include "core/base/mem.h"
#include "core/contract/stage.h"

/* What is worked with, too large for the stack. */
typedef struct advisor {
    adm_rules rules;
    adm_explained explained;
    adm_finding finding[ADM_MAX_RULES];
} advisor;

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *figure(const adm_explained *e, const char *name) {
    double value;
    return adm_figures_find(&e->figures, name, &value) ? number(value) : json_null();
}

/* The sentence with its microseconds as the page writes them: a terminal may lack the letter. */
static json_t *said(const char *text) {
    char out[2 * sizeof((adm_finding *)0)->say + 64];
    size_t n = 0;
    for (const char *at = text; *at != '\0' && n + 8 < sizeof out; at++) {
        const bool is_unit = strncmp(at, " us", 3) == 0 && (at[3] == '\0' || strchr(" ,.:;)", at[3]) != NULL);
        n += (size_t)snprintf(out + n, sizeof out - n, is_unit ? " \u00b5s" : "%c", *at);
        if (is_unit) at += 2;
    }
    out[n] = '\0';
    return adm_rows_string(out);
}

static json_t *row_of(const advisor *a, size_t profile, const char *stage) {
    const adm_explained *e = &a->explained;
    const adm_finding *f = &a->finding[0];
    char say[sizeof f->say + 64];
    const bool is_near = e->stalls_kv_heads != 0 && strstr(f->rule->when, "stall_") != NULL;
    if (is_near) snprintf(say, sizeof say, "%s (counted with %lld KV heads)", f->say, (long long)e->stalls_kv_heads);
    else snprintf(say, sizeof say, "%s", f->say);
    return json_pack("{s:I, s:s, s:o, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "profile",
                     (json_int_t)profile, "stage", stage, "variant", adm_rows_string(e->variant), "seq_len",
                     (json_int_t)e->seq_len, "n_kv_heads", (json_int_t)e->kv_heads, "batch", (json_int_t)e->batch, "budget",
                     (json_int_t)e->budget, "has_counters", e->has_counters, "time_ns", figure(e, "time_ns"), "floor_ns",
                     figure(e, "floor_ns"), "say", said(say), "advice", adm_rows_string(f->rule->advice), "saves_ns",
                     number(f->saves_ns), "rule", f->rule->name, "source", adm_rows_string(f->rule->source));
}

/* What would save most comes first among the rows of a profile. Takes the row. */
static adm_status insert(json_t *rows, json_t *row, adm_error *err) {
    size_t at = json_array_size(rows);
    const json_t *saves = json_object_get(row, "saves_ns");
    while (row != NULL && at > 0) {
        const json_t *before = json_array_get(rows, at - 1);
        if (adm_field_int(before, "profile") != adm_field_int(row, "profile") ||
            json_number_value(json_object_get(before, "saves_ns")) >= json_number_value(saves))
            break;
        at--;
    }
    if (row != NULL && json_array_insert_new(rows, at, row) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
}

/* True if a profile shown has a time of the stage; a run that only adds counters to another's times has them too. */
static adm_status advise(adm_store *store, advisor *a, const json_t *document, size_t profile, adm_stage stage, json_t *rows,
                         adm_error *err) {
    const json_t *one = adm_profile(document, profile), *headline = json_object_get(one, "headline");
    const json_t *setting = headline != NULL ? json_array_get(adm_document_rows(document, "settings"),
                                                              (size_t)adm_field_int(headline, "setting"))
                                             : NULL;
    const bool budgeted = stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
    const adm_explain_subject subject = {.run_id = adm_field_int(one, "run_id"),
                                         .stage = adm_stage_name(stage),
                                         .seq_len = (uint32_t)adm_field_int(headline, "seq_len"),
                                         .kv_heads = (uint32_t)adm_field_int(setting, "n_kv_heads"),
                                         .batch = (uint32_t)adm_field_int(setting, "batch"),
                                         .budget = budgeted ? (uint32_t)adm_field_int(headline, "budget") : 0};
    adm_error none = {0};
    a->explained = (adm_explained){0};
    adm_status status = adm_explain_read(store, &subject, &a->explained, &none);
    if (status == ADM_EINPUT) return ADM_OK; /* the profile has no such stage */
    if (status != ADM_OK) return adm_fail(err, status, "%s", none.text);
    if (adm_rules_apply(&a->rules, &a->explained.figures, a->finding) == 0) return ADM_OK;
    return insert(rows, row_of(a, profile, subject.stage), err);
}

adm_status adm_report_advice(adm_store *store, json_t *document, adm_error *err) {
    json_t *rows = json_array();
    advisor *a = NULL;
    adm_status status = adm_rows_set(document, "advice", rows, err);
    if (status == ADM_OK && adm_n_profiles(document) == 0) return ADM_OK;
    if (status == ADM_OK) status = adm_alloc(&a, 1, sizeof *a, "the report's advice", err);
    if (status == ADM_OK) status = adm_rules_read(adm_embedded("analysis/explain/limits.rules")->data, &a->rules, err);
    for (size_t p = 0; status == ADM_OK && p < adm_n_profiles(document); p++)
        for (adm_stage s = 0; status == ADM_OK && s < ADM_N_STAGES; s++) status = advise(store, a, document, p, s, rows, err);
    adm_free(&a);
    return status;
}
