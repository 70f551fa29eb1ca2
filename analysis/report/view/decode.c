/* decode.c: what a token costs in a whole model: dense attention and each budget, where the time goes, and the prediction. */
#include "analysis/report/view/decode.h"

#include <math.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"

static bool is_of(const json_t *row, size_t decoding) { return adm_field_int(row, "decoding") == (int64_t)decoding; }

static void write_heading(adm_text *page, const json_t *decoding) {
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, adm_field_text(decoding, "gpu"));
    if (adm_field_int(decoding, "is_recorded") != 0)
        adm_text_add(page, " <span class=\"badge recorded\">recorded on another machine</span>");
    adm_text_add(page, "</h3>\n");
}

/* --- In a sentence -------------------------------------------------------------------------------------------------- */

/* "Largest gain: llama-2-7b at 128K tokens, budget 256, batch 1: 3.28 times as fast as dense attention; ..." */
static void write_finding(adm_text *page, const json_t *document, size_t decoding) {
    const json_t *best = NULL;
    char tokens[ADM_NUMBER_CHARS], budget[ADM_NUMBER_CHARS];
    double max_gain = 0, gain, median, predicted, sum = 0;
    size_t i, n = 0;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "decoded"), i, row) {
        if (!is_of(row, decoding) || !adm_field_number(row, "median", &median)) continue;
        if (adm_field_number(row, "predicted_ns", &predicted)) n++, sum += fabs(predicted / median - 1);
        if (json_is_null(json_object_get(row, "budget")) || !adm_field_number(row, "gain", &gain) || gain <= max_gain) continue;
        max_gain = gain;
        best = row;
    }
    if (best == NULL) return;
    adm_shown_count(adm_field_int(best, "seq_len"), tokens);
    adm_shown_count(adm_field_int(best, "budget"), budget);
    adm_text_add(page, "<p>Largest gain: ");
    adm_text_escaped(page, adm_field_text(best, "model"));
    adm_text_format(page, " at %s tokens, budget %s, batch %lld is <strong>%.2f times</strong> as fast as dense attention.",
                    tokens, budget, (long long)adm_field_int(best, "batch"), max_gain);
    if (n > 0)
        adm_text_format(page, " The cost model predicts %zu of these steps with a mean error of %.2f%%.", n,
                        100 * sum / (double)n);
    adm_text_add(page, "</p>\n");
}

/* --- The table ------------------------------------------------------------------------------------------------------ */

static void write_plain_cell(adm_text *page, const json_t *row, const char *key, int n_digits) {
    double value;
    if (adm_field_number(row, key, &value)) adm_text_format(page, "<td>%.*f</td>", n_digits, value);
    else adm_text_add(page, "<td>\u2013</td>");
}

static void write_error_cell(adm_text *page, const json_t *row) {
    double predicted, median;
    if (adm_field_number(row, "predicted_ns", &predicted) && adm_field_number(row, "median", &median))
        adm_text_format(page, "<td>%+.2f</td>", 100 * (predicted / median - 1));
    else adm_text_add(page, "<td>\u2013</td>");
}

static bool same_group(const json_t *a, const json_t *b) {
    static const char *const keys[] = {"model", "batch", "page_size", "seq_len"};
    for (size_t i = 0; a != NULL && i < sizeof keys / sizeof keys[0]; i++)
        if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i]))) return false;
    return a != NULL;
}

static void write_step(adm_text *page, const json_t *row, bool is_first) {
    static const char *const times[] = {"median", "p10", "p90", "attention_ns", "linear_ns", "rest_ns"};
    adm_write_row_start(page, is_first);
    adm_write_text_cell(page, row, "model");
    adm_write_count_cell(page, row, "batch", "");
    adm_write_count_cell(page, row, "seq_len", "");
    adm_write_count_cell(page, row, "page_size", "");
    adm_write_count_cell(page, row, "budget", "dense");
    if (strcmp(adm_field_text(row, "status"), "ok") != 0) {
        adm_write_reason_cell(page, row, 12);
        adm_text_add(page, "</tr>\n");
        return;
    }
    adm_write_count_cell(page, row, "n", "");
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) adm_write_value_cell(page, row, times[i], "ns");
    write_plain_cell(page, row, "gain", 2);
    write_plain_cell(page, row, "tokens_per_s", 1);
    adm_write_value_cell(page, row, "linear_limit_ratio", "ratio");
    adm_write_value_cell(page, row, "predicted_ns", "ns");
    write_error_cell(page, row);
    adm_text_add(page, "</tr>\n");
}

static void write_table(adm_text *page, const json_t *document, size_t decoding) {
    const json_t *before = NULL;
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "decoded"), i, row) n += is_of(row, decoding);
    adm_write_table_start(page, document, "Decode steps of whole models", n, true, NULL);
    adm_text_add(page,
                 ADM_SQL("SELECT m.run_id, c.variant AS model, c.batch, c.seq_len, c.budget, k.name, m.n, m.median, m.p10, "
                         "m.p90 FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) WHERE "
                         "k.name IN ('token_time_ns', 'attention_layers_ns', 'linear_layers_ns', 'rest_of_step_ns', "
                         "'linear_limit_ratio') ORDER BY 1, 2, 3, 4, 5, 6"));
    adm_write_table_head(page,
                         "<model|batch|tokens|page|budget|n|time per token, \u00b5s|p10|p90|attention|matrix products|rest|"
                         "times as fast|tokens/s|of the read limit, %|predicted, \u00b5s|error, %");
    json_array_foreach(adm_document_rows(document, "decoded"), i, row) {
        if (!is_of(row, decoding)) continue;
        write_step(page, row, !same_group(before, row));
        before = row;
    }
    adm_write_table_end(page);
}

void adm_view_decode(adm_text *page, const json_t *document) {
    const json_t *decodings = adm_document_rows(document, "decodings");
    for (size_t i = 0; i < json_array_size(decodings); i++) {
        adm_write_part_start(page, "decoding", i);
        write_heading(page, json_array_get(decodings, i));
        write_finding(page, document, i);
        adm_text_format(page, "<figure class=\"plot\" data-plot=\"decode\" data-decoding=\"%zu\"", i);
        adm_write_frame_end(
            page, ADM_MARKUP("<strong>Time per token of a whole model, by part</strong>. Random weights and keys; each "
                             "step is one CUDA graph. Attention and matrix products are timed by themselves, and "
                             "the rest is what the whole step takes beyond both."));
        write_table(page, document, i);
        adm_write_part_end(page);
    }
}
