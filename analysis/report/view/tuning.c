/* tuning.c: kernels of one's own: every version of a session with its time, beside the registry's rows and the floor. */
#include "analysis/report/view/tuning.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static void write_heading(adm_text *page, const json_t *t) {
    char n[ADM_NUMBER_CHARS];
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, adm_field_text(t, "stage"));
    adm_text_add(page, " on ");
    adm_text_escaped(page, adm_field_text(t, "device"));
    adm_shown_count(adm_field_int(t, "seq_len"), n);
    adm_text_format(page, "</h3>\n<p class=\"about\">");
    adm_write_run_link(page, adm_field_int(t, "run_id"));
    adm_text_add(page, ", ");
    adm_write_when(page, adm_field_text(t, "started"));
    adm_text_format(page, " \u00b7 %s tokens, %lld query heads, %lld KV heads, d = %lld, ", n,
                    (long long)adm_field_int(t, "q_heads"), (long long)adm_field_int(t, "kv_heads"),
                    (long long)adm_field_int(t, "head_dim"));
    adm_text_escaped(page, adm_field_text(t, "dtype"));
    if (json_is_integer(json_object_get(t, "budget")))
        adm_text_format(page, ", budget %lld", (long long)adm_field_int(t, "budget"));
    adm_text_add(page, "</p>\n");
}

static void write_duration_cell(adm_text *page, const json_t *row, const char *field) {
    char shown[ADM_NUMBER_CHARS], exact[ADM_NUMBER_CHARS];
    double value;
    if (!adm_field_number(row, field, &value)) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    adm_shown_duration(value, shown);
    adm_exact_value(value, exact);
    adm_text_format(page, "<td title=\"%s ns, n = %lld\">", exact, (long long)adm_field_int(row, "n"));
    adm_text_escaped(page, shown);
    adm_text_add(page, "</td>");
}

/* "right", or the verdict with its reason. */
static void write_verdict_cell(adm_text *page, const json_t *row) {
    const char *reason = adm_field_text(row, "reason");
    adm_text_add(page, "<td class=\"text wrap\">");
    adm_text_escaped(page, adm_field_text(row, "verdict"));
    if (reason[0] != '\0') {
        adm_text_add(page, ": ");
        adm_text_escaped(page, reason);
    }
    adm_text_add(page, "</td>");
}

static void write_candidate(adm_text *page, const json_t *row) {
    adm_write_row_start(page, false);
    adm_text_add(page, "<th scope=\"row\">");
    adm_text_escaped(page, adm_field_text(row, "name"));
    adm_text_add(page, "</th>");
    adm_write_text_cell(page, row, "hash");
    write_duration_cell(page, row, "median_ns");
    write_duration_cell(page, row, "floor_ns");
    adm_write_count_cell(page, row, "registers", "");
    adm_write_count_cell(page, row, "spill_bytes", "");
    adm_write_text_cell(page, row, "limiter");
    write_verdict_cell(page, row);
    adm_text_add(page, "</tr>\n");
}

static bool is_of(const json_t *row, size_t tuning) { return adm_field_int(row, "tuning") == (int64_t)tuning; }

static void write_table(adm_text *page, const json_t *document, size_t tuning) {
    size_t n_rows = 0, i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "candidates"), i, row) n_rows += is_of(row, tuning);
    adm_write_table_start(page, document, "Candidates", n_rows, false, NULL);
    adm_text_add(page,
                 "<caption>In the order in which they were judged: the registry\u2019s rows, then one\u2019s own</caption>\n");
    adm_text_format(
        page,
        ADM_SQL("SELECT t.*, c.variant FROM candidate t JOIN config c USING (config_id) WHERE t.run_id = %lld ORDER "
                "BY t.version"),
        (long long)adm_field_int(json_array_get(json_object_get(document, "tunings"), tuning), "run_id"));
    adm_write_table_head(page, "<candidate|<file|median|floor|registers|local memory, bytes|<limited by|<verdict");
    json_array_foreach(adm_document_rows(document, "candidates"), i, row) if (is_of(row, tuning)) write_candidate(page, row);
    adm_text_add(page, "</tbody></table></div>\n</details>\n");
}

static bool any_timed(const json_t *document, size_t tuning) {
    size_t i;
    json_t *row;
    double value;
    json_array_foreach(adm_document_rows(document, "candidates"), i,
                       row) if (is_of(row, tuning) && adm_field_number(row, "median_ns", &value)) return true;
    return false;
}

void adm_view_tuning(adm_text *page, const json_t *document) {
    const size_t n = json_array_size(json_object_get(document, "tunings"));
    for (size_t i = 0; i < n; i++) {
        adm_write_part_start(page, "tuning", i);
        write_heading(page, json_array_get(json_object_get(document, "tunings"), i));
        if (any_timed(document, i)) {
            adm_text_format(page, "<figure class=\"plot\" data-plot=\"tuning\" data-tuning=\"%zu\"", i);
            adm_write_frame_end(page,
                                ADM_MARKUP("<strong>Time of every version</strong>, in the order in which they were judged; a "
                                           "gap is a candidate that was refused. The floor is the compulsory bytes at the "
                                           "measured read bandwidth."));
        }
        write_table(page, document, i);
        adm_write_part_end(page);
    }
}
