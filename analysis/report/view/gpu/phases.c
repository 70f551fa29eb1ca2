/* phases.c: how long each phase of a step of one launch takes, from the stamps of an instrumented instance. */
#include "analysis/report/view/gpu/phases.h"

#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"

/* Whether a row of "phases" and the next are of one step. */
static bool same_step(const json_t *a, const json_t *b) {
    return b != NULL && json_equal(json_object_get(a, "config"), json_object_get(b, "config")) &&
           json_equal(json_object_get(a, "profile"), json_object_get(b, "profile"));
}

static void write_phase(adm_text *page, const json_t *document, const json_t *row, bool is_first) {
    static const char *const numbers[] = {"seq_len", "budget", "n_q_heads", "n_kv_heads", "batch"};
    const json_t *config = adm_row_config(document, row);
    adm_write_row_start(page, is_first);
    adm_text_add(page, "<th scope=\"row\">");
    adm_text_escaped(page, adm_field_text(config, "variant"));
    adm_text_add(page, "</th>");
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) adm_write_count_cell(page, config, numbers[k], "any");
    adm_write_text_cell(page, row, "phase");
    adm_write_value_cell(page, row, "median", "ns");
    adm_write_value_cell(page, row, "p10", "ns");
    adm_write_value_cell(page, row, "p90", "ns");
    adm_write_value_cell(page, row, "max", "ns");
    adm_write_count_cell(page, row, "n", "");
    adm_text_add(page, "</tr>\n");
}

static void write_profile(adm_text *page, const json_t *document, size_t profile) {
    const json_t *rows = adm_document_rows(document, "phases");
    size_t n_rows = 0, i;
    json_t *row;
    json_array_foreach(rows, i, row) n_rows += adm_row_is_of(row, profile);
    if (n_rows == 0) return;
    adm_write_part_start(page, "gpu", profile);
    adm_write_profile_heading(page, document, profile);
    adm_write_gpu_plot(page, "phases", profile,
                       ADM_MARKUP("<strong>Phases of a step of one launch</strong>: medians over blocks and launches. An "
                                  "instrumented instance of the kernel reads the SM\u2019s clock where a phase ends, and so "
                                  "takes a little longer than the step itself. The time from launch to launch is not in it, "
                                  "nor that a block waits for others at the end."));
    adm_write_table_start(page, document, "Every phase", n_rows, false, NULL);
    adm_text_format(
        page,
        ADM_SQL("SELECT variant, seq_len, budget, q_heads, kv_heads, batch, metric, median, p10, p90, n FROM stage_summary "
                "WHERE run_id = %lld AND metric LIKE 'phase%%' ORDER BY config_id"),
        (long long)adm_field_int(adm_profile(document, profile), "run_id"));
    adm_write_table_head(page, "<step|length, tokens|budget, tokens|query heads|KV heads|batch|<phase|median, \u00b5s|"
                               "p10, \u00b5s|p90, \u00b5s|max, \u00b5s|n");
    json_array_foreach(rows, i, row) if (adm_row_is_of(row, profile))
        write_phase(page, document, row, i == 0 || !same_step(row, json_array_get(rows, i - 1)));
    adm_write_table_end(page);
    adm_write_part_end(page);
}

void adm_view_phases(adm_text *page, const json_t *document) {
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) write_profile(page, document, profile);
}
