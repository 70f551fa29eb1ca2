/* serving.c: what a budget gives in serving: latency, throughput and memory, beside its quality; and by which rules. */
#include "analysis/report/view/serving.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static void write_heading(adm_text *page, const json_t *document, const json_t *serving) {
    char n[ADM_NUMBER_CHARS];
    size_t i;
    json_t *run;
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, adm_field_text(serving, "model"));
    adm_text_add(page, " on ");
    adm_text_escaped(page, adm_field_text(serving, "gpu"));
    adm_text_add(page, " <span class=\"badge not-real\">simulated</span></h3>\n<p class=\"about\">");
    adm_text_escaped(page, adm_field_text(serving, "trace"));
    adm_shown_count(adm_field_int(serving, "n_requests"), n);
    adm_text_format(page, ", %s requests \u00b7 ", n);
    json_array_foreach(adm_document_rows(document, "runs"), i, run) {
        if (adm_field_int(run, "run_id") != adm_field_int(serving, "run_id")) continue;
        adm_write_run(page, document, run);
        return;
    }
    adm_text_add(page, "</p>\n");
}

/* "dense", "256", "0-1:dense,2-31:256". */
static void write_name_cell(adm_text *page, const json_t *row) {
    char shown[ADM_NUMBER_CHARS];
    adm_text_add(page, "<th scope=\"row\">");
    if (json_is_integer(json_object_get(row, "budget"))) {
        adm_shown_count(adm_field_int(row, "budget"), shown);
        adm_text_escaped(page, shown);
    } else if (adm_field_text(row, "layer_budgets")[0] != '\0') adm_text_escaped(page, adm_field_text(row, "layer_budgets"));
    else adm_text_add(page, "dense");
    adm_text_add(page, "</th>");
}

/* A latency's quantile, "12.3 ms", with n and the exact value as its title. */
static void write_latency_cell(adm_text *page, const json_t *row, const char *metric, const char *quantile) {
    const json_t *m = json_object_get(json_object_get(row, "metric"), metric);
    char shown[ADM_NUMBER_CHARS], exact[ADM_NUMBER_CHARS];
    double value;
    if (!adm_field_number(m, quantile, &value)) {
        adm_text_add(page, "<td class=\"none\" title=\"");
        adm_text_escaped(page, adm_field_text(m, "reason"));
        adm_text_add(page, "\">\u2013</td>");
        return;
    }
    adm_shown_duration(value, shown);
    adm_exact_value(value, exact);
    adm_text_format(page, "<td title=\"%s ns, n = %lld\">", exact, (long long)adm_field_int(m, "n"));
    adm_text_escaped(page, shown);
    adm_text_add(page, "</td>");
}

/* A single figure in four digits; the exact one is its title. */
static void write_figure(adm_text *page, const json_t *row, const char *metric, double scale) {
    const json_t *m = json_object_get(json_object_get(row, "metric"), metric);
    char exact[ADM_NUMBER_CHARS];
    double value;
    if (!adm_field_number(m, "p50", &value)) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    adm_exact_value(value, exact);
    adm_text_format(page, "<td title=\"%s ", exact);
    adm_text_escaped(page, adm_field_text(m, "unit"));
    adm_text_format(page, "\">%.4g</td>", value * scale);
}

static void write_ratio(adm_text *page, const json_t *row, const char *group, const char *metric) {
    const json_t *m = json_object_get(json_object_get(row, group), metric);
    double value;
    if (adm_field_number(m, "p50", &value)) adm_write_number_cell(page, value, "ratio");
    else adm_text_add(page, "<td>\u2013</td>");
}

static void write_case(adm_text *page, const json_t *row) {
    static const char *const latencies[] = {"ttft_ns", "tpot_ns", "e2e_ns"}, *const quantiles[] = {"p50", "p95", "p99"};
    adm_text_add(page, "<tr>");
    write_name_cell(page, row);
    adm_write_text_cell(page, row, "memory");
    adm_write_text_cell(page, row, "variant");
    for (size_t i = 0; i < 3; i++)
        for (size_t q = 0; q < 3; q++) write_latency_cell(page, row, latencies[i], quantiles[q]);
    write_figure(page, row, "output_tokens_per_s", 1);
    write_figure(page, row, "goodput_requests_per_s", 1);
    write_ratio(page, row, "metric", "goodput_ratio");
    write_figure(page, row, "kv_peak_bytes", 1e-9);
    write_figure(page, row, "code_peak_bytes", 1e-9);
    write_ratio(page, row, "quality", "output_rel_l2");
    adm_text_add(page, "</tr>\n");
}

static bool is_of(const json_t *row, size_t serving) { return adm_field_int(row, "serving") == (int64_t)serving; }

/* "Output error: adamas l1 calibrated, SmolLM2 at 4,096 tokens": where the quality figures come from. */
static void write_quality_note(adm_text *page, const json_t *document, size_t serving) {
    size_t i;
    json_t *row;
    char shown[ADM_NUMBER_CHARS];
    json_array_foreach(adm_document_rows(document, "served"), i, row) {
        const json_t *q = json_object_get(json_object_get(row, "quality"), "output_rel_l2");
        if (!is_of(row, serving) || q == NULL || strcmp(adm_field_text(row, "policy"), "dense") == 0) continue;
        adm_text_add(page, "<p class=\"about\">Output error: median of a replay of ");
        adm_text_escaped(page, adm_field_text(q, "model"));
        adm_text_add(page, ", ");
        adm_text_escaped(page, adm_field_text(q, "trace"));
        adm_shown_count(adm_field_int(q, "seq_len"), shown);
        adm_text_format(page, " at %s tokens, adamas ", shown);
        adm_text_escaped(page, adm_field_text(q, "variant"));
        adm_text_add(page, ": of that model and text, not of the simulated ones.</p>\n");
        return;
    }
}

static void write_cases(adm_text *page, const json_t *document, size_t serving) {
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "served"), i, row) n += is_of(row, serving);
    adm_write_table_start(page, document, "Latency, throughput and memory", n, true, NULL);
    const json_t *simulated = json_array_get(adm_document_rows(document, "servings"), serving);
    adm_text_format(page,
                    ADM_SQL("SELECT budget, layer_budgets, memory, variant, source, metric, unit, n, p50, p95, p99 FROM "
                            "frontier_summary WHERE run_id = %lld ORDER BY simulation_id, metric"),
                    (long long)adm_field_int(simulated, "run_id"));
    adm_write_table_head(page,
                         "<budget|<memory|<variant|TTFT p50|p95|p99|TPOT p50|p95|p99|end to end p50|p95|p99|tokens/s|good "
                         "requests/s|good, %|K and V, GB|codes, GB|output error, %");
    json_array_foreach(adm_document_rows(document, "served"), i, row) if (is_of(row, serving)) write_case(page, row);
    adm_write_table_end(page);
    write_quality_note(page, document, serving);
}

static void write_uses(adm_text *page, const json_t *document, size_t serving) {
    size_t n = 0, i, u;
    json_t *row, *use;
    json_array_foreach(adm_document_rows(document, "served"), i, row) if (is_of(row, serving))
        n += json_array_size(json_object_get(row, "uses"));
    adm_write_table_start(page, document, "By which rule each part was predicted", n, false, NULL);
    adm_text_format(
        page,
        ADM_SQL("SELECT s.budget, s.memory, p.* FROM prediction p JOIN simulation s USING (simulation_id) WHERE s.run_id = "
                "%lld ORDER BY p.simulation_id, p.part"),
        (long long)adm_field_int(json_array_get(adm_document_rows(document, "servings"), serving), "run_id"));
    adm_write_table_head(page, "<budget|<memory|<part of a step|<rule|steps|time, \u00b5s|reach");
    json_array_foreach(adm_document_rows(document, "served"), i, row) {
        if (!is_of(row, serving)) continue;
        json_array_foreach(json_object_get(row, "uses"), u, use) {
            adm_write_row_start(page, u == 0);
            write_name_cell(page, row);
            adm_write_text_cell(page, row, "memory");
            adm_write_text_cell(page, use, "part");
            adm_write_text_cell(page, use, "rule");
            adm_write_count_cell(page, use, "n", "");
            adm_write_value_cell(page, use, "time_ns", "ns");
            adm_write_value_cell(page, use, "reach", "1");
            adm_text_add(page, "</tr>\n");
        }
    }
    adm_write_table_end(page);
}

static void write_validations(adm_text *page, const json_t *document) {
    const json_t *rows = adm_document_rows(document, "validations");
    size_t i;
    json_t *row;
    if (json_array_size(rows) == 0) return;
    adm_text_add(
        page,
        "<h3>How far the times can be trusted</h3>\n<p class=\"about\">Errors of predictions whose measurements were held "
        "out, by <code>adamas simulate --validate</code> on ");
    adm_text_escaped(page, adm_field_text(json_array_get(rows, 0), "calibration"));
    adm_text_format(page, " (run %lld).</p>\n", (long long)adm_field_int(json_array_get(rows, 0), "run_id"));
    adm_write_table_start(page, document, "Errors on held-out timings", json_array_size(rows), true, NULL);
    adm_text_format(page, ADM_SQL("SELECT * FROM validation WHERE run_id = %lld"),
                    (long long)adm_field_int(json_array_get(rows, 0), "run_id"));
    adm_write_table_head(page, "<held out|<stage|<variant|n|MAPE, %|bias, %|p50, %|p95, %|largest, %");
    json_array_foreach(rows, i, row) {
        static const char *const ratios[] = {"mape_ratio", "bias_ratio", "p50_ratio", "p95_ratio", "max_ratio"};
        adm_text_add(page, "<tr>");
        adm_write_text_cell(page, row, "held_out");
        adm_write_text_cell(page, row, "stage");
        adm_write_text_cell(page, row, "variant");
        adm_write_count_cell(page, row, "n", "");
        for (size_t r = 0; r < 5; r++) adm_write_value_cell(page, row, ratios[r], "ratio");
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

void adm_view_serving(adm_text *page, const json_t *document) {
    const json_t *servings = adm_document_rows(document, "servings");
    for (size_t i = 0; i < json_array_size(servings); i++) {
        adm_write_part_start(page, "serving", i);
        write_heading(page, document, json_array_get(servings, i));
        adm_text_format(page, "<figure class=\"plot\" data-plot=\"serving\" data-serving=\"%zu\"", i);
        adm_write_frame_end(
            page, ADM_MARKUP("<strong>Simulated latency and throughput per budget</strong>. Latencies: p50, p95 and p99 "
                             "over the requests."));
        write_cases(page, document, i);
        write_uses(page, document, i);
        adm_write_part_end(page);
    }
    write_validations(page, document);
}
