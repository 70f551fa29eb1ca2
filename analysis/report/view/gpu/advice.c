/* advice.c: one sentence a stage with its advice; and the distance to the limit in words. */
#include "analysis/report/view/gpu/advice.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"
#include "core/contract/stage.h"

/* A stage, what limits it and what to do, as one sentence each, in one cell. */
static void write_finding(adm_text *page, const json_t *row) {
    static const char *const times[] = {"time_ns", "saves_ns"};
    char shown[ADM_NUMBER_CHARS];
    double ns;
    adm_text_format(page, "<tr><th scope=\"row\"><strong>%s</strong> <small>%s</small></th>", adm_field_text(row, "stage"),
                    adm_field_text(row, "variant"));
    for (size_t i = 0; i < 2; i++) {
        if (i == 1)
            adm_text_format(page, "<td class=\"text wrap\">%s. <strong>%s.</strong></td>", adm_field_text(row, "say"),
                            adm_field_text(row, "advice"));
        if (adm_field_number(row, times[i], &ns) && ns > 0) {
            adm_shown_duration(ns, shown);
            adm_text_format(page, "<td>%s</td>", shown);
        } else {
            adm_text_add(page, "<td>\u2013</td>");
        }
    }
    adm_text_add(page, "</tr>\n");
}

static void write_place(adm_text *page, const json_t *row) {
    char length[ADM_NUMBER_CHARS];
    adm_shown_count(adm_field_int(row, "seq_len"), length);
    adm_text_format(
        page,
        "<p class=\"about\">What <code>adamas explain</code> finds at %s tokens with %lld KV heads, batch %lld: per stage "
        "the finding that would save most, the largest first.%s</p>\n",
        length, (long long)adm_field_int(row, "n_kv_heads"), (long long)adm_field_int(row, "batch"),
        json_is_true(json_object_get(row, "has_counters"))
            ? ""
            : " Without counters it judges bytes and launches alone; profile --counters full --timeline takes them.");
}

void adm_view_advice(adm_text *page, const json_t *document) {
    const json_t *rows = adm_document_rows(document, "advice");
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        const json_t *first = NULL;
        size_t i, n = 0;
        json_t *row;
        json_array_foreach(rows, i, row) {
            if (!adm_row_is_of(row, profile)) continue;
            n++;
            if (first == NULL) first = row;
        }
        if (n == 0) continue;
        adm_write_part_start(page, "gpu", profile);
        if (json_object_get(adm_profile(document, profile), "headline") == NULL) /* else the chart above is of it */
            adm_write_profile_heading(page, document, profile);
        write_place(page, first);
        adm_text_add(page, "<div class=\"advice\">\n");
        adm_write_table_start(page, document, "One finding per stage", n, true, NULL);
        adm_text_format(
            page,
            ADM_SQL("SELECT stage, variant, seq_len, kv_heads, batch, budget, metric, median FROM stage_summary WHERE run_id "
                    "= %lld AND seq_len = %lld AND kv_heads = %lld AND batch = %lld AND status = 'ok' ORDER BY stage, "
                    "variant, metric"),
            (long long)adm_field_int(adm_profile(document, profile), "run_id"), (long long)adm_field_int(first, "seq_len"),
            (long long)adm_field_int(first, "n_kv_heads"), (long long)adm_field_int(first, "batch"));
        adm_write_table_head(page, "<stage|takes|<what limits it, and what to do|saves at most");
        json_array_foreach(rows, i, row) if (adm_row_is_of(row, profile)) write_finding(page, row);
        adm_write_table_end(page);
        adm_text_add(page, "</div>\n");
        adm_write_part_end(page);
    }
}

/* --- One step ------------------------------------------------------------------------------------------------------ */

void adm_view_step(adm_text *page, const json_t *document) {
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        if (json_object_get(adm_profile(document, profile), "headline") == NULL) continue;
        adm_write_part_start(page, "gpu", profile);
        adm_write_profile_heading(page, document, profile);
        adm_write_gpu_plot(
            page, "step", profile,
            ADM_MARKUP("<strong>One layer of one decode step</strong>, as six kernels, as one launch, and as dense attention. "
                       "Each stage was timed alone; hatched is what the six take together beyond that: launch gaps and "
                       "waiting. A step of one launch shows its phases where <code>profile --phases</code> took them."));
        adm_write_part_end(page);
    }
}

/* --- How far ------------------------------------------------------------------------------------------------------- */

static const char *distance_in_words(double ratio) {
    if (ratio >= 0.8) return "at the read limit: only fewer bytes make it faster";
    if (ratio >= 0.5) return "near the read limit";
    if (ratio >= 0.1) return "held up by more than bytes: latency, arithmetic or too few blocks";
    return "so few bytes that its launch and latency are all it costs";
}

static void write_distance(adm_text *page, const json_t *document, const json_t *unit) {
    double ns, floor_ns, ratio, flops = 0, bytes = 0;
    if (!adm_field_number(unit, "median", &ns) || !adm_field_number(unit, "limit_ratio", &ratio)) return;
    adm_text_format(page, "<tr><th scope=\"row\">%s</th><td class=\"text\">%s</td>", adm_field_text(unit, "stage"),
                    adm_field_text(adm_row_config(document, unit), "variant"));
    adm_write_number_cell(page, ns, "ns");
    if (adm_field_number(unit, "floor_ns", &floor_ns)) adm_write_number_cell(page, floor_ns, "ns");
    else adm_text_add(page, "<td>\u2013</td>");
    adm_write_number_cell(page, ratio, "ratio");
    if (ratio > 0) adm_text_format(page, "<td>%.3g</td>", 1 / ratio);
    else adm_text_add(page, "<td>\u2013</td>");
    if (adm_field_number(unit, "flops", &flops) && flops > 0 && adm_field_number(unit, "bytes", &bytes) && bytes > 0) {
        adm_write_number_cell(page, flops / bytes, "");
        adm_write_number_cell(page, flops / ns / 1e3, "");
    } else {
        adm_text_add(page, "<td>\u2013</td><td>\u2013</td>");
    }
    adm_text_format(page, "<td class=\"text\">%s</td></tr>\n", distance_in_words(ratio));
}

void adm_view_distances(adm_text *page, const json_t *document, size_t profile) {
    const json_t *headline = json_object_get(adm_profile(document, profile), "headline");
    const int64_t seq_len = adm_field_int(headline, "seq_len"), budget = adm_field_int(headline, "budget");
    size_t s, i;
    json_t *setting, *unit;
    char length[ADM_NUMBER_CHARS], shown_budget[ADM_NUMBER_CHARS];
    if (headline == NULL) return;
    adm_shown_count(seq_len, length);
    adm_shown_count(budget, shown_budget);
    json_array_foreach(adm_document_rows(document, "settings"), s, setting) {
        size_t n = 0;
        adm_text rows = {0};
        if (!adm_row_is_of(setting, profile)) continue;
        for (adm_stage stage = 0; stage < ADM_N_STAGES; stage++)
            json_array_foreach(adm_document_rows(document, "units"), i, unit) {
                const json_t *config = adm_row_config(document, unit);
                const int64_t b = adm_field_int(config, "budget");
                if (strcmp(adm_field_text(unit, "stage"), adm_stage_name(stage)) != 0 || !adm_row_is_of(unit, profile) ||
                    adm_field_int(config, "seq_len") != seq_len || (b != 0 && b != budget) ||
                    !adm_setting_fits(setting, config))
                    continue;
                write_distance(&rows, document, unit);
                n++;
            }
        if (n > 0) {
            adm_text_format(page, "<div data-setting=\"%zu\">\n<p class=\"about\">At %s tokens and a budget of %s: %s</p>\n", s,
                            length, shown_budget, adm_field_text(setting, "name"));
            adm_write_table_start(page, document, "How far each stage is from its floor", n, true, NULL);
            adm_write_setting_sql(page, document, setting);
            adm_write_table_head(
                page, "<stage|<implementation|median, \u00b5s|floor, \u00b5s|% of the read limit|times its floor|flop per "
                      "byte|Tflop/s|<in words");
            adm_text_append(page, &rows);
            adm_write_table_end(page);
            adm_text_add(page, "</div>\n");
        }
        adm_text_free(&rows);
    }
}
