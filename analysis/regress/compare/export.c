/* export.c: a comparison for other programs: JUnit XML, JSON, and the JSON of GitHub's benchmark action. */
#include "analysis/regress/compare/export.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "core/base/printable.h"

/* --- JUnit -------------------------------------------------------------------------------------------------------- */

static void name_case(const adm_compare_row *row, adm_text *out) {
    const adm_series *s = row->shown;
    adm_text_add(out, "<testcase classname=\"adamas.");
    adm_text_escaped(out, s->stage[0] != '\0' ? s->source : "quality");
    adm_text_add(out, ".");
    adm_text_escaped(out, s->stage[0] != '\0' ? s->stage : s->config->policy);
    adm_text_add(out, "\" name=\"");
    adm_text_escaped(out, s->metric->name);
    adm_text_add(out, ": ");
    adm_text_escaped(out, s->config->title);
    adm_text_add(out, "\">");
}

static void describe(const adm_compare_row *row, adm_text *out) {
    adm_text_format(out, "%s: baseline %.6g, candidate %.6g ", adm_verdict_name(row->verdict), row->base_value,
                    row->cand_value);
    adm_text_escaped(out, row->shown->metric->unit);
    if (!isnan(row->p_adjusted))
        adm_text_format(out, ", shift %+.2f%% [%+.2f%%, %+.2f%%], p %.2g", 100 * expm1(row->shift.shift),
                        100 * expm1(row->shift.low), 100 * expm1(row->shift.high), row->p_adjusted);
    if (row->has_cycles) adm_text_format(out, ", cycles %+.2f%%", 100 * expm1(row->cycles.shift));
    adm_text_format(out, ", margin %.3g%%, %zu and %zu processes", 100 * row->margin, row->n_base, row->n_cand);
    if (row->why[0] != '\0') {
        adm_text_add(out, "; ");
        adm_text_escaped(out, row->why);
    }
}

void adm_compare_junit(const adm_comparison *c, adm_text *out) {
    bool failed = c->failure[0] != '\0';
    adm_text_add(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"adamas check\"");
    adm_text_format(out, " tests=\"%zu\" failures=\"%zu\" errors=\"%d\" skipped=\"%zu\">\n<properties>\n", c->n_rows + failed,
                    c->n_verdicts[ADM_VERDICT_REGRESSED], failed, c->n_verdicts[ADM_VERDICT_INCONCLUSIVE]);
    const struct {
        const char *name, *value;
    } properties[] = {
        {"baseline", c->subject[0]}, {"candidate", c->subject[1]}, {"machine", c->machine}, {"check", c->check_uuid}};
    for (size_t i = 0; i < 4; i++) {
        adm_text_format(out, "<property name=\"%s\" value=\"", properties[i].name);
        adm_text_escaped(out, properties[i].value);
        adm_text_add(out, "\"/>\n");
    }
    adm_text_add(out, "</properties>\n");
    if (failed) {
        adm_text_add(out, "<testcase classname=\"adamas\" name=\"comparison\"><error message=\"");
        adm_text_escaped(out, c->failure);
        adm_text_add(out, "\"/></testcase>\n");
    }
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        const char *element = row->verdict == ADM_VERDICT_REGRESSED      ? "failure"
                              : row->verdict == ADM_VERDICT_INCONCLUSIVE ? "skipped"
                                                                         : NULL;
        name_case(row, out);
        if (element != NULL) adm_text_format(out, "<%s message=\"", element);
        else adm_text_add(out, "<system-out>");
        describe(row, out);
        adm_text_markup(out, element != NULL ? ADM_MARKUP("\"/>") : ADM_MARKUP("</system-out>"));
        adm_text_add(out, "</testcase>\n");
    }
    adm_text_add(out, "</testsuite>\n</testsuites>\n");
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *interval_json(const adm_shift *s) {
    return json_pack("{s:o, s:o, s:o, s:o}", "shift_ratio", number(expm1(s->shift)), "low_ratio",
                     number(isfinite(s->low) ? expm1(s->low) : s->low), "high_ratio", number(expm1(s->high)), "p",
                     number(s->p));
}

static json_t *row_json(const adm_compare_row *row) {
    static const char *const kinds[] = {"context", "time", "count", "quality"};
    const adm_series *s = row->shown;
    bool tested = row->has_shift;
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "verdict",
                     adm_verdict_name(row->verdict), "kind", kinds[row->figure], "source", adm_rows_string(s->source), "stage",
                     s->stage[0] != '\0' ? adm_rows_string(s->stage) : json_null(), "policy",
                     adm_rows_string(s->config->policy), "variant", adm_rows_string(s->config->variant), "configuration",
                     adm_rows_string(s->config->title), "metric", adm_rows_string(s->metric->name), "unit",
                     adm_rows_string(s->metric->unit), "baseline", number(row->base_value), "n_baseline",
                     (json_int_t)row->n_base, "n_candidate", (json_int_t)row->n_cand, "n_throttled",
                     (json_int_t)row->n_throttled, "candidate", number(row->cand_value), "time",
                     tested ? interval_json(&row->shift) : json_null(), "cycles",
                     row->has_cycles ? interval_json(&row->cycles) : json_null(), "p_adjusted", number(row->p_adjusted), "why",
                     adm_rows_string(row->why));
}

json_t *adm_compare_json(const adm_comparison *c) {
    json_t *rows = json_array();
    for (size_t i = 0; rows != NULL && i < c->n_rows; i++) {
        json_t *row = row_json(&c->row[i]);
        if (row != NULL) json_object_set_new(row, "margin_ratio", json_real(c->row[i].margin));
        if (json_array_append_new(rows, row) != 0) {
            json_decref(rows);
            rows = NULL;
        }
    }
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:o}", "baseline",
        adm_rows_string(c->subject[0]), "candidate", adm_rows_string(c->subject[1]), "machine", adm_rows_string(c->machine),
        "check", c->check_uuid[0] != '\0' ? adm_rows_string(c->check_uuid) : json_null(), "failure",
        c->failure[0] != '\0' ? adm_rows_string(c->failure) : json_null(), "exit_code",
        c->failure[0] != '\0' ? 4 : adm_comparison_exit_code(c), "n_regressed",
        (json_int_t)c->n_verdicts[ADM_VERDICT_REGRESSED], "n_inconclusive", (json_int_t)c->n_verdicts[ADM_VERDICT_INCONCLUSIVE],
        "n_improved", (json_int_t)c->n_verdicts[ADM_VERDICT_IMPROVED], "n_equivalent",
        (json_int_t)c->n_verdicts[ADM_VERDICT_EQUIVALENT], "faster_but_less_accurate", c->faster_but_less_accurate, "n_missing",
        (json_int_t)c->n_missing, "n_samples_left_out", (json_int_t)c->n_samples_out, "n_processes_left_out",
        (json_int_t)c->n_throttled, "n_open", (json_int_t)c->n_open, "n_within_own_scatter", (json_int_t)c->n_within_own,
        "rows", rows);
}

json_t *adm_compare_benchmark_json(const adm_comparison *c) {
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        const adm_series *s = row->shown;
        if (isnan(row->cand_value) || strcmp(s->metric->better, "lower") != 0) continue;
        char name[512], range[64], extra[256];
        snprintf(name, sizeof name, "%s %s %s: %s", s->stage[0] != '\0' ? s->source : s->config->policy,
                 s->stage[0] != '\0' ? s->stage : "quality", s->metric->name, s->config->title);
        double width = isnan(row->p_adjusted) || !isfinite(row->shift.high) ? 0 : expm1((row->shift.high - row->shift.low) / 2);
        snprintf(range, sizeof range, "\u00b1 %.3g%%", 100 * width);
        snprintf(extra, sizeof extra, "%s against %s (%.6g)", adm_verdict_name(row->verdict), c->subject[0], row->base_value);
        json_t *entry = json_pack("{s:o, s:o, s:f, s:s, s:o}", "name", adm_rows_string(name), "unit",
                                  adm_rows_string(s->metric->unit), "value", row->cand_value, "range", range, "extra",
                                  adm_rows_string(extra));
        if (json_array_append_new(array, entry) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}
