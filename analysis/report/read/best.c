/* best.c: which selection loses least of what was measured, and which budgets need a note. Both are read from the document's
 * rows, so that they say nothing that the tables do not hold. */
#include "analysis/report/read/best.h"

#include <string.h>

#include "analysis/output/rows.h"
#include "core/policy/policy.h"

/* What `adamas replay` measures by default and the GPU kernels run. */
static const char default_series[] = "adamas l1 calibrated";

static const char *text_of(const json_t *row, const char *key) {
    const char *text = json_string_value(json_object_get(row, key));
    return text != NULL ? text : "";
}

static json_int_t int_of(const json_t *row, const char *key) { return json_integer_value(json_object_get(row, key)); }

static double median_of(const json_t *row) { return json_number_value(json_object_get(row, "median")); }

/* An output error at a budget that leaves tokens out. */
static bool is_measured(const json_t *row) {
    return strcmp(text_of(row, "metric"), "output_rel_l2") == 0 && strcmp(text_of(row, "status"), "ok") == 0 &&
           json_is_number(json_object_get(row, "median")) && json_is_integer(json_object_get(row, "budget")) &&
           int_of(row, "budget") < int_of(row, "seq_len");
}

/* The oracle needs every score, and random is there to compare with. */
static bool is_candidate(const json_t *row) {
    static const char *const yardsticks[] = {"dense", "oracle", "random"};
    for (size_t i = 0; i < sizeof yardsticks / sizeof yardsticks[0]; i++)
        if (strcmp(text_of(row, "policy"), yardsticks[i]) == 0) return false;
    return true;
}

/* What a kernel can scan: codes of 2 bits, and a query of whole numbers. Variants are named by core/policy/coding.h. */
static bool is_sketch(const json_t *row) {
    const char *variant = text_of(row, "variant");
    return strcmp(text_of(row, "policy"), "adamas") == 0 && strncmp(variant, "asymmetric", 10) != 0 &&
           strstr(variant, " bit") == NULL && strstr(variant, "no Hadamard") == NULL;
}

static bool is_default(const json_t *row) { return strcmp(text_of(row, "series"), default_series) == 0; }

static bool is_same_place(const json_t *a, const json_t *b) {
    return int_of(a, "session") == int_of(b, "session") && int_of(a, "seq_len") == int_of(b, "seq_len") &&
           int_of(a, "budget") == int_of(b, "budget");
}

static json_t *series_of(const json_t *row) {
    return json_pack("{s:O, s:O, s:O}", "series", json_object_get(row, "series"), "median", json_object_get(row, "median"), "n",
                     json_object_get(row, "n"));
}

/* Takes a candidate into the row of its session, length and budget. */
static adm_status take_in(json_t *best, const json_t *row, adm_error *err) {
    static const char *const keys[] = {"series", "policy", "variant", "median", "n"};
    const double median = median_of(row), min_median = median_of(best);
    const json_t *sketch = json_object_get(best, "sketch");
    const json_int_t n_compared = int_of(best, "n_compared");
    adm_status status = adm_rows_set(best, "n_compared", json_integer(n_compared + 1), err);
    if (status == ADM_OK && is_default(row)) status = adm_rows_set(best, "default", series_of(row), err);
    if (status == ADM_OK && is_sketch(row) && (!json_is_object(sketch) || median < median_of(sketch)))
        status = adm_rows_set(best, "sketch", series_of(row), err);
    if (n_compared > 0 && median == min_median && status == ADM_OK)
        return adm_rows_set(best, "n_equal", json_integer(int_of(best, "n_equal") + 1), err);
    if (n_compared > 0 && median >= min_median) return status;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0] && status == ADM_OK; k++)
        status = adm_rows_set(best, keys[k], json_incref(json_object_get(row, keys[k])), err);
    return status == ADM_OK ? adm_rows_set(best, "n_equal", json_integer(0), err) : status;
}

adm_status adm_report_best(json_t *document, adm_error *err) {
    json_t *bests = json_array(), *row;
    size_t i;
    adm_status status = adm_rows_set(document, "best", bests, err);
    json_array_foreach(json_object_get(document, "quality"), i, row) {
        json_t *best = NULL;
        if (status != ADM_OK) return status;
        if (!is_measured(row) || !is_candidate(row)) continue;
        for (size_t b = 0; b < json_array_size(bests) && best == NULL; b++)
            if (is_same_place(json_array_get(bests, b), row)) best = json_array_get(bests, b);
        if (best == NULL) {
            best = json_pack("{s:O, s:O, s:O, s:i, s:i, s:n, s:n}", "session", json_object_get(row, "session"), "seq_len",
                             json_object_get(row, "seq_len"), "budget", json_object_get(row, "budget"), "n_compared", 0,
                             "n_equal", 0, "default", "sketch");
            status = adm_rows_append(bests, best, err);
        }
        if (status == ADM_OK) status = take_in(best, row, err);
    }
    return status;
}

static adm_status note_rows(const json_t *rows, adm_error *err) {
    json_t *row;
    size_t i;
    adm_status status = ADM_OK;
    json_array_foreach((json_t *)rows, i, row) {
        const adm_policy *policy = adm_policy_find(text_of(row, "policy"));
        const json_int_t budget = int_of(row, "budget"); /* 0: none */
        const char *said = text_of(row, "status"); /* a task has none: it is measured */
        if (policy == NULL || policy->note == NULL || budget <= 0 || (size_t)budget >= policy->noted_budget ||
            (said[0] != '\0' && strcmp(said, "ok") != 0))
            continue;
        status = adm_rows_set(row, "note", adm_rows_string(policy->note), err);
        if (status != ADM_OK) return status;
    }
    return status;
}

adm_status adm_report_note_budgets(json_t *document, adm_error *err) {
    adm_status status = note_rows(json_object_get(document, "quality"), err);
    return status == ADM_OK ? note_rows(json_object_get(document, "tasks"), err) : status;
}
