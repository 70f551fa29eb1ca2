/* checks.c: every check of the database with its verdict, and the rows that were not equivalent. */
#include "analysis/report/view/changes/checks.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

/* "main~1 <code>12ab34cd56</code>" */
static void write_side(adm_text *page, const json_t *check, const char *name, const char *commit) {
    adm_text_format(page, "<td class=\"text wrap\">%s", adm_field_text(check, name));
    if (adm_field_text(check, commit)[0] != '\0') adm_text_format(page, " <code>%.10s</code>", adm_field_text(check, commit));
    adm_text_add(page, "</td>");
}

static void write_check(adm_text *page, const json_t *check) {
    adm_write_row_start(page, false);
    adm_text_format(page, "<th scope=\"row\"><code>%.8s</code></th>", adm_field_text(check, "check"));
    adm_text_format(page, "<td class=\"text\">%.10s %.5s</td>", adm_field_text(check, "made_utc"),
                    adm_field_text(check, "made_utc") + (strlen(adm_field_text(check, "made_utc")) > 11 ? 11 : 0));
    write_side(page, check, "baseline", "baseline_commit");
    write_side(page, check, "candidate", "candidate_commit");
    adm_write_verdict_cell(page, adm_field_text(check, "verdict"));
    static const char *const counts[] = {"n_regressed", "n_inconclusive", "n_improved", "n_equivalent"};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) adm_write_count_cell(page, check, counts[i], "\u2013");
    adm_text_format(page, "<td class=\"text wrap\">%s</td></tr>\n", adm_field_text(check, "failure"));
}

/* "+80.1% [+79.6%, +80.7%]", as far as it is known. */
static void write_change(adm_text *page, const json_t *row) {
    double shift, low, high;
    if (!adm_field_number(row, "shift_ratio", &shift)) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    adm_text_format(page, "<td>%+.2f%%", 100 * shift);
    if (adm_field_number(row, "low_ratio", &low) && adm_field_number(row, "high_ratio", &high))
        adm_text_format(page, " [%+.2f%%, %+.2f%%]", 100 * low, 100 * high);
    adm_text_add(page, "</td>");
}

static void write_figure(adm_text *page, const json_t *row, const char *key) {
    char shown[ADM_NUMBER_CHARS] = "\u2013";
    double value;
    if (adm_field_number(row, key, &value)) adm_shown_figure(value, adm_field_text(row, "unit"), shown);
    adm_text_format(page, "<td>%s</td>", shown);
}

static void write_row(adm_text *page, const json_t *row) {
    const char *stage = adm_field_text(row, "stage");
    adm_write_row_start(page, false);
    adm_text_format(page, "<th scope=\"row\"><code>%.8s</code></th>", adm_field_text(row, "check"));
    adm_write_verdict_cell(page, adm_field_text(row, "verdict"));
    adm_text_format(page, "<td class=\"text wrap\">%s %s, %s, %lld tokens",
                    stage[0] != '\0' ? stage : adm_field_text(row, "policy"), adm_field_text(row, "metric"),
                    adm_field_text(row, "variant"), (long long)adm_field_int(row, "seq_len"));
    if (adm_field_int(row, "budget") > 0) adm_text_format(page, ", budget %lld", (long long)adm_field_int(row, "budget"));
    adm_text_add(page, "</td>");
    write_figure(page, row, "baseline");
    write_figure(page, row, "candidate");
    write_change(page, row);
    adm_text_format(page, "<td>%lld, %lld</td><td class=\"text wrap\">%s</td></tr>\n",
                    (long long)adm_field_int(row, "n_baseline"), (long long)adm_field_int(row, "n_candidate"),
                    adm_field_text(row, "why"));
}

/* What was found: the answer, before the list of checks. */
static void write_rows(adm_text *page, const json_t *document, const json_t *rows) {
    size_t i;
    json_t *one;
    adm_write_table_start(page, document, "Rows that are not equivalent", json_array_size(rows), true, NULL);
    adm_text_format(page,
                    ADM_SQL("SELECT k.check_uuid, r.* FROM check_row r JOIN check_result k USING (check_result_id) WHERE NOT "
                            "r.verdict = 'equivalent' ORDER BY k.made_utc DESC, r.check_row_id"));
    adm_write_table_head(page, "<check|<verdict|<what|baseline|candidate|change [99% interval]|processes|<why");
    json_array_foreach(rows, i, one) write_row(page, one);
    adm_write_table_end(page);
}

void adm_view_checks(adm_text *page, const json_t *document) {
    const json_t *checks = adm_document_rows(document, "checks"), *rows = adm_document_rows(document, "check_rows");
    size_t i;
    json_t *one;
    if (json_array_size(checks) == 0) return;
    adm_text_add(page,
                 "<p>Each check ran two programs alternately in fresh processes of one machine (<code>adamas check</code>). "
                 "The history takes the candidates of those that did not fail.</p>\n");
    if (json_array_size(rows) > 0) write_rows(page, document, rows);
    adm_write_table_start(page, document, "Checks", json_array_size(checks), true, NULL);
    adm_text_format(page, ADM_SQL("SELECT * FROM check_result ORDER BY made_utc DESC"));
    adm_write_table_head(
        page, "<check|<ended (UTC)|<baseline|<candidate|<verdict|regressed|inconclusive|improved|equivalent|<failure");
    json_array_foreach(checks, i, one) write_check(page, one);
    adm_write_table_end(page);
}
