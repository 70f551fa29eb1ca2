/* differences.c: stage by stage and configuration by configuration: the change, its interval, the verdict and the cause. */
#include "analysis/report/view/changes/differences.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static bool is_verdict(const json_t *row, const char *verdict) { return strcmp(adm_field_text(row, "verdict"), verdict) == 0; }

/* "+80.10% [+79.60%, +80.70%]": of a time the shift between processes, of anything else the ratio. */
static void write_change(adm_text *page, const json_t *row) {
    const json_t *time = json_object_get(row, "time");
    double shift, low, high, before, after;
    if (adm_field_number(time, "shift_ratio", &shift)) {
        adm_text_format(page, "<td>%+.2f%%", 100 * shift);
        if (adm_field_number(time, "low_ratio", &low) && adm_field_number(time, "high_ratio", &high))
            adm_text_format(page, " [%+.2f%%, %+.2f%%]", 100 * low, 100 * high);
        adm_text_add(page, "</td>");
    } else if (adm_field_number(row, "baseline", &before) && adm_field_number(row, "candidate", &after) && before != 0) {
        adm_text_format(page, "<td>%+.2f%%</td>", 100 * (after / before - 1));
    } else {
        adm_text_add(page, "<td>\u2013</td>");
    }
}

static void write_figure(adm_text *page, const json_t *row, const char *key) {
    char shown[ADM_NUMBER_CHARS] = "\u2013";
    double value;
    if (adm_field_number(row, key, &value)) adm_shown_figure(value, adm_field_text(row, "unit"), shown);
    adm_text_format(page, "<td>%s</td>", shown);
}

static void write_row(adm_text *page, const json_t *row, bool first) {
    const char *stage = adm_field_text(row, "stage");
    adm_write_row_start(page, first);
    adm_text_format(page, "<th scope=\"row\">%s</th><td class=\"text\">%s</td><td class=\"text\">%s</td>",
                    stage[0] != '\0' ? stage : adm_field_text(row, "policy"), adm_field_text(row, "configuration"),
                    adm_field_text(row, "metric"));
    write_figure(page, row, "baseline");
    write_figure(page, row, "candidate");
    write_change(page, row);
    adm_write_verdict_cell(page, adm_field_text(row, "verdict"));
    adm_text_format(page, "<td>%lld, %lld</td><td class=\"text wrap\">%s</td></tr>\n",
                    (long long)adm_field_int(row, "n_baseline"), (long long)adm_field_int(row, "n_candidate"),
                    adm_field_text(row, "why"));
}

static void write_table(adm_text *page, const json_t *document, const json_t *rows, bool equivalent) {
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(rows, i, row) n += is_verdict(row, "equivalent") == equivalent;
    if (n == 0) return;
    adm_write_table_start(page, document, equivalent ? "Unchanged" : "Changed, or undecided", n, !equivalent, NULL);
    adm_text_format(
        page, ADM_SQL("SELECT run_id, label, source, stage, variant, seq_len, budget, metric, median, n FROM stage_summary "
                      "WHERE status = 'ok' ORDER BY stage, variant, seq_len, budget, metric, run_id"));
    adm_write_table_head(page,
                         "<stage|<configuration|<metric|baseline|candidate|change [99% interval]|<verdict|processes|<why");
    json_array_foreach(rows, i, row) if (is_verdict(row, "equivalent") == equivalent) write_row(page, row, false);
    adm_write_table_end(page);
}

/* One line per group, not a row per figure. */
static void write_one_sided(adm_text *page, const json_t *groups) {
    size_t i;
    json_t *one;
    if (json_array_size(groups) == 0) return;
    adm_text_add(page, "<p class=\"about\">Only one side has:</p>\n<ul>\n");
    json_array_foreach(groups, i, one)
        adm_text_format(page, "<li>the %s: %s, %lld figure%s</li>\n", adm_field_text(one, "side"), adm_field_text(one, "group"),
                        (long long)adm_field_int(one, "n"), adm_field_int(one, "n") == 1 ? "" : "s");
    adm_text_add(page, "</ul>\n");
}

void adm_view_differences(adm_text *page, const json_t *document) {
    const json_t *differences = json_object_get(document, "differences");
    if (!json_is_object(differences)) {
        if (json_array_size(adm_document_rows(document, "checks")) == 0)
            adm_text_add(page,
                         "<p class=\"answer\">Nothing to compare yet. <code>adamas report --baseline RUNS</code> compares "
                         "stored runs; <code>adamas check --baseline HEAD~1 -- replay TRACE</code> runs both sides "
                         "alternately.</p>\n");
        return;
    }
    adm_text_format(page, "<p><strong>%s</strong> against the baseline, <strong>%s</strong>: ",
                    adm_field_text(differences, "candidate"), adm_field_text(differences, "baseline"));
    static const struct {
        const char *key, *word;
    } counts[] = {{"n_regressed", "regressed"},
                  {"n_improved", "improved"},
                  {"n_inconclusive", "inconclusive"},
                  {"n_equivalent", "unchanged"}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        adm_text_format(page, "%s%lld %s", i > 0 ? ", " : "", (long long)adm_field_int(differences, counts[i].key),
                        counts[i].word);
    adm_text_add(page, ".</p>\n");
    if (adm_field_text(differences, "machine")[0] != '\0')
        adm_text_format(page, "<p class=\"about\">%s</p>\n", adm_field_text(differences, "machine"));
    write_table(page, document, json_object_get(differences, "rows"), false);
    write_table(page, document, json_object_get(differences, "rows"), true);
    write_one_sided(page, json_object_get(differences, "only_one_side"));
}
