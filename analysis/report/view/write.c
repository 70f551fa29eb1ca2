/* write.c: what views write: headings, frames, tables and cells. */
#include "analysis/report/view/write.h"

#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/shards.h"

void adm_write_part_start(adm_text *page, const char *kind, size_t index) {
    adm_text_format(page, "<noscript data-%s=\"%zu\">\n", kind, index);
}

void adm_write_part_end(adm_text *page) { adm_text_add(page, "</noscript>\n"); }

void adm_write_recorded_badge(adm_text *page, const json_t *run) {
    if (strncmp(adm_field_text(run, "label"), "recorded:", 9) == 0)
        adm_text_add(page, " <span class=\"badge recorded\">recorded on another machine</span>");
}

void adm_write_run_link(adm_text *page, int64_t run_id) {
    adm_text_format(page, "<a href=\"#run-%lld\">run %lld</a>", (long long)run_id, (long long)run_id);
}

void adm_write_when(adm_text *page, const char *utc) {
    char shown[32];
    if (strlen(utc) >= 16) snprintf(shown, sizeof shown, "%.10s %.5s UTC", utc, utc + 11);
    adm_text_escaped(page, strlen(utc) >= 16 ? shown : utc);
}

void adm_write_run_cell(adm_text *page, const json_t *document, int64_t run_id) {
    if (adm_run_is_shown(document, run_id))
        adm_text_format(page, "<td><a href=\"#run-%lld\">%lld</a></td>", (long long)run_id, (long long)run_id);
    else adm_text_format(page, "<td>%lld</td>", (long long)run_id);
}

void adm_write_run(adm_text *page, const json_t *document, const json_t *run) {
    adm_write_run_link(page, adm_field_int(run, "run_id"));
    if (adm_field_text(run, "label")[0]) {
        adm_text_add(page, " \u201c");
        adm_text_escaped(page, adm_field_text(run, "label"));
        adm_text_add(page, "\u201d");
    }
    const char *when = adm_field_text(run, "started_utc");
    if (when[0] != '\0') adm_text_add(page, ", ");
    adm_write_when(page, when);
    adm_text_add(page, "</p>\n");
    adm_write_joined(page, document, adm_field_int(run, "run_id"));
    const char *status = adm_field_text(run, "status");
    if (strcmp(status, "complete") == 0) return;
    adm_text_add(page, "<p class=\"warning\"><strong>This run is not complete: ");
    adm_text_escaped(page, status);
    adm_text_add(page, "</strong> (");
    const char *reason = adm_field_text(run, "reason");
    adm_text_escaped(page, reason[0] ? reason : "it is still at work, or was killed");
    adm_text_add(page, "). Its figures cover what was finished by then.</p>\n");
}

void adm_write_session_heading(adm_text *page, const json_t *document, size_t session) {
    const json_t *run = adm_session_run(document, session), *trace = adm_session_trace(document, session);
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, adm_field_text(trace, "name"));
    const char *kind = adm_field_text(trace, "kind");
    adm_text_format(page, " <span class=\"badge %s\">", strcmp(kind, "real") == 0 ? "real" : "not-real");
    adm_text_escaped(page, kind);
    adm_text_add(page, "</span>");
    adm_write_recorded_badge(page, run);
    adm_text_add(page, "</h3>\n<p class=\"about\">");
    const char *model = adm_field_text(trace, "model");
    adm_text_escaped(page, model[0] ? model : "model not stated");
    adm_text_add(page, " \u00b7 ");
    adm_write_run(page, document, run);
}

void adm_write_frame_end(adm_text *page, adm_markup caption) {
    adm_text_add(page, "><figcaption>");
    adm_text_markup(page, caption);
    adm_text_add(page, "</figcaption><p class=\"nothing unscripted\">A chart is drawn here where scripts may run. The tables "
                       "hold every figure of it.</p></figure>\n");
}

void adm_write_plot(adm_text *page, const char *plot, size_t session, const char *metric, adm_markup caption) {
    adm_text_format(page, "<figure class=\"plot\" data-plot=\"%s\" data-session=\"%zu\"", plot, session);
    if (metric) {
        adm_text_add(page, " data-metric=\"");
        adm_text_escaped(page, metric);
        adm_text_add(page, "\"");
    }
    adm_write_frame_end(page, caption);
}

void adm_write_gpu_plot(adm_text *page, const char *plot, size_t profile, adm_markup caption) {
    adm_text_format(page, "<figure class=\"plot\" data-plot=\"%s\" data-profile=\"%zu\"", plot, profile);
    adm_write_frame_end(page, caption);
}

void adm_write_table_start(adm_text *page, const json_t *document, const char *title, size_t n_rows, bool open,
                           const char *metric) {
    char count[ADM_NUMBER_CHARS];
    adm_shown_count((int64_t)n_rows, count);
    adm_text_markup(page,
                    open ? ADM_MARKUP("<details open><summary>") : ADM_MARKUP("<details open class=\"folded\"><summary>"));
    adm_text_escaped(page, title);
    adm_text_format(page,
                    " <span class=\"count\">%s row%s</span></summary>\n<div class=\"scroll\" tabindex=\"0\">"
                    "<table aria-label=\"",
                    count, n_rows == 1 ? "" : "s");
    adm_text_escaped(page, title);
    adm_text_add(page, "\">\n");
    const char *description = metric ? adm_field_text(adm_metric_row(document, metric), "description") : "";
    if (!description[0]) return;
    adm_text_add(page, "<caption>");
    adm_text_escaped(page, description);
    adm_text_add(page, "</caption>\n");
}

const char *adm_sql_text(const char *text, char out[ADM_SQL_TEXT_BYTES]) {
    size_t n = 0;
    out[n++] = '\'';
    for (; *text != '\0' && n + 4 < ADM_SQL_TEXT_BYTES; text++) {
        if (*text == '\'') out[n++] = '\'';
        out[n++] = *text;
    }
    if (*text != '\0') n = 1;
    out[n++] = '\'';
    out[n] = '\0';
    return out;
}

void adm_write_setting_sql(adm_text *page, const json_t *document, const json_t *setting) {
    const json_t *profile = json_array_get(adm_document_rows(document, "profiles"), (size_t)adm_field_int(setting, "profile"));
    adm_text_format(
        page,
        ADM_SQL("SELECT stage, variant, seq_len, budget, metric, median, p10, p90, n, status, reason FROM stage_summary WHERE "
                "run_id = %lld AND kv_heads = %lld AND batch = %lld AND metric IN ('time_ns', 'floor_ns', 'limit_ratio') "
                "ORDER BY seq_len, stage, variant, budget"),
        (long long)adm_field_int(profile, "run_id"), (long long)adm_field_int(setting, "n_kv_heads"),
        (long long)adm_field_int(setting, "batch"));
}

void adm_write_table_head(adm_text *page, const char *titles) {
    adm_text_add(page, "<thead><tr>");
    for (const char *at = titles; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, "|");
        bool is_text = *at == '<';
        adm_text_markup(page, is_text ? ADM_MARKUP("<th scope=\"col\" class=\"text\">") : ADM_MARKUP("<th scope=\"col\">"));
        adm_text_format(page, "%.*s</th>", (int)(length - is_text), at + is_text);
        at += length + (at[length] == '|');
    }
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
}

void adm_write_row_start(adm_text *page, bool is_first) {
    adm_text_markup(page, is_first ? ADM_MARKUP("<tr class=\"first\">") : ADM_MARKUP("<tr>"));
}

void adm_write_table_end(adm_text *page) { adm_text_add(page, "</tbody></table></div></details>\n"); }

void adm_write_text_cell(adm_text *page, const json_t *row, const char *key) {
    adm_text_add(page, "<td class=\"text\">");
    adm_text_escaped(page, adm_field_text(row, key));
    adm_text_add(page, "</td>");
}

void adm_write_long_cell(adm_text *page, const json_t *row, const char *key) {
    adm_text_add(page, "<td class=\"text wrap\">");
    adm_text_escaped(page, adm_field_text(row, key));
    adm_text_add(page, "</td>");
}

void adm_write_count_cell(adm_text *page, const json_t *row, const char *key, const char *if_null) {
    char shown[ADM_NUMBER_CHARS];
    if (!json_is_integer(json_object_get(row, key))) {
        adm_text_format(page, "<td>%s</td>", if_null);
        return;
    }
    adm_shown_count(adm_field_int(row, key), shown);
    adm_text_format(page, "<td>%s</td>", shown);
}

void adm_write_number_cell(adm_text *page, double value, const char *unit) {
    char precise[ADM_NUMBER_CHARS];
    adm_precise_value(value, unit, precise);
    adm_text_format(page, "<td>%s</td>", precise);
}

void adm_write_value_cell(adm_text *page, const json_t *row, const char *key, const char *unit) {
    double value;
    if (adm_field_number(row, key, &value)) adm_write_number_cell(page, value, unit);
    else adm_text_add(page, "<td>\u2013</td>");
}

void adm_write_series_cell(adm_text *page, const json_t *row) {
    const char *note = adm_field_text(row, "note");
    adm_text_add(page, "<th scope=\"row\"");
    if (note[0]) {
        adm_text_add(page, " title=\"");
        adm_text_escaped(page, note);
        adm_text_add(page, "\"");
    }
    adm_text_add(page, ">");
    adm_text_escaped(page, adm_field_text(row, "series"));
    adm_text_markup(page, note[0] ? ADM_MARKUP("&nbsp;*</th>") : ADM_MARKUP("</th>"));
}

/* True if one of the first `end` rows of the session and metric has this note. */
static bool was_noted(const json_t *rows, size_t end, size_t session, const char *metric, const char *note) {
    for (size_t i = 0; i < end; i++) {
        const json_t *row = json_array_get(rows, i);
        if (adm_row_is(row, session, metric) && strcmp(adm_field_text(row, "note"), note) == 0) return true;
    }
    return false;
}

void adm_write_notes(adm_text *page, const json_t *document, size_t session, const char *metric) {
    const json_t *rows = adm_document_rows(document, "quality");
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        const char *note = adm_field_text(row, "note");
        if (!adm_row_is(row, session, metric) || !note[0] || was_noted(rows, i, session, metric, note)) continue;
        adm_text_add(page, "<p class=\"about\">* ");
        adm_text_escaped(page, note);
        adm_text_add(page, ".</p>\n");
    }
}

void adm_write_ratio_interval(adm_text *page, const json_t *over, const json_t *under, double scale, int n_digits) {
    const adm_timing_spread a = adm_row_spread(over), b = adm_row_spread(under);
    const adm_ratio_interval interval = adm_ratio_of_times(over != NULL ? &a : NULL, under != NULL ? &b : NULL);
    char words[ADM_RATIO_WORDS_BYTES];
    adm_ratio_words(&interval, scale, n_digits, words);
    adm_text_escaped(page, words);
}

void adm_write_verdict_cell(adm_text *page, const char *verdict) {
    const bool bad = strcmp(verdict, "regressed") == 0 || strcmp(verdict, "crashed") == 0;
    const bool good = strcmp(verdict, "passed") == 0 || strcmp(verdict, "improved") == 0;
    adm_text_markup(page, bad    ? ADM_MARKUP("<td class=\"loss\">")
                          : good ? ADM_MARKUP("<td class=\"gain\">")
                                 : ADM_MARKUP("<td class=\"text\">"));
    adm_text_format(page, "%s</td>", verdict);
}

void adm_write_reason_cell(adm_text *page, const json_t *row, int n_columns) {
    adm_text_format(page, "<td class=\"none text wrap\" colspan=\"%d\">", n_columns);
    adm_text_escaped(page, adm_field_text(row, "status"));
    adm_text_add(page, ": ");
    adm_text_escaped(page, adm_field_text(row, "reason"));
    adm_text_add(page, "</td>");
}

void adm_write_nothing(adm_text *page, const char *sentence) {
    adm_text_format(page, "<p class=\"nothing\">%s</p>\n", sentence);
}
