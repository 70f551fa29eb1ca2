/* speedup.c: how much faster than dense attention a whole step is, by length and budget. */
#include "analysis/report/view/gpu/speedup.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"

enum { MAX_AXIS = 64 };

/* The lengths (or budgets) of a setting's steps, ascending; returns how many. */
static size_t values_of(const json_t *document, const json_t *setting, const char *key, int64_t value[MAX_AXIS]) {
    size_t n = 0, i;
    json_t *unit;
    json_array_foreach(adm_document_rows(document, "units"), i, unit) {
        const json_t *config = adm_row_config(document, unit);
        if (strcmp(adm_field_text(unit, "stage"), "step") != 0 ||
            adm_field_int(unit, "profile") != adm_field_int(setting, "profile") || !adm_setting_fits(setting, config))
            continue;
        int64_t here = adm_field_int(config, key);
        size_t at = 0;
        while (at < n && value[at] < here) at++;
        if ((at < n && value[at] == here) || n == MAX_AXIS) continue;
        memmove(value + at + 1, value + at, (n - at) * sizeof *value);
        value[at] = here;
        n++;
    }
    return n;
}

/* Of a joined run: where both were measured. */
static void write_places(adm_text *page, const json_t *step, const json_t *dense) {
    const char *of_step = adm_field_text(step, "place"), *of_dense = adm_field_text(dense, "place");
    if (of_step[0] == '\0' || of_dense[0] == '\0') return;
    adm_text_add(page, ", measured on ");
    adm_text_escaped(page, of_dense);
    if (strcmp(of_step, of_dense) == 0) return;
    adm_text_add(page, " and ");
    adm_text_escaped(page, of_step);
}

static void write_cell(adm_text *page, const json_t *document, const json_t *setting, int64_t length, int64_t budget) {
    const json_t *step = adm_find_unit(document, setting, "step", NULL, length, budget);
    const json_t *dense = adm_find_unit(document, setting, "dense", NULL, length, 0);
    double step_ns, dense_ns;
    if (!adm_field_number(step, "median", &step_ns) || !adm_field_number(dense, "median", &dense_ns) || step_ns <= 0) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    char shown_step[ADM_NUMBER_CHARS], shown_dense[ADM_NUMBER_CHARS];
    double gain = dense_ns / step_ns;
    adm_shown_duration(step_ns, shown_step);
    adm_shown_duration(dense_ns, shown_dense);
    adm_text_format(page, "<td class=\"%s\" title=\"dense (", gain >= 1 ? "gain" : "loss");
    adm_text_escaped(page, adm_field_text(adm_row_config(document, dense), "variant"));
    adm_text_format(page, ") %s (n = %lld), ", shown_dense, (long long)adm_field_int(dense, "n"));
    adm_text_escaped(page, adm_field_text(adm_row_config(document, step), "variant"));
    adm_text_format(page, " %s (n = %lld)", shown_step, (long long)adm_field_int(step, "n"));
    write_places(page, step, dense);
    adm_text_format(page, "\">%.*f <small>", gain < 10 ? 2 : 1, gain);
    adm_text_escaped(page, adm_field_text(adm_row_config(document, step), "variant"));
    adm_write_ratio_interval(page, dense, step, 1, gain < 10 ? 2 : 1);
    adm_text_add(page, "</small></td>");
}

/* True if a step and dense attention were timed at one length of the setting. */
static bool has_gain(const json_t *document, const json_t *setting, int64_t length, int64_t budget) {
    return adm_find_unit(document, setting, "step", NULL, length, budget) != NULL &&
           adm_find_unit(document, setting, "dense", NULL, length, 0) != NULL;
}

static bool setting_has_gain(const json_t *document, const json_t *setting, const int64_t *length, size_t n_lengths,
                             const int64_t *budget, size_t n_budgets) {
    for (size_t l = 0; l < n_lengths; l++)
        for (size_t b = 0; b < n_budgets; b++)
            if (has_gain(document, setting, length[l], budget[b])) return true;
    return false;
}

static void write_table(adm_text *page, const json_t *document, const json_t *setting, size_t number, bool open) {
    int64_t length[MAX_AXIS], budget[MAX_AXIS];
    size_t n_lengths = values_of(document, setting, "seq_len", length);
    size_t n_budgets = values_of(document, setting, "budget", budget);
    if (!setting_has_gain(document, setting, length, n_lengths, budget, n_budgets)) return;
    adm_text_format(page, "<div data-setting=\"%zu\">\n", number);
    adm_write_table_start(page, document, adm_field_text(setting, "name"), n_lengths, open, NULL);
    adm_write_setting_sql(page, document, setting);
    adm_text_add(page, "<thead><tr><th scope=\"col\">length, tokens</th>");
    for (size_t b = 0; b < n_budgets; b++) {
        char shown[ADM_NUMBER_CHARS];
        adm_shown_count(budget[b], shown);
        adm_text_format(page, "<th scope=\"col\">budget %s, times</th>", shown);
    }
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    for (size_t l = 0; l < n_lengths; l++) {
        char shown[ADM_NUMBER_CHARS];
        adm_shown_count(length[l], shown);
        adm_text_format(page, "<tr><th scope=\"row\">%s</th>", shown);
        for (size_t b = 0; b < n_budgets; b++) write_cell(page, document, setting, length[l], budget[b]);
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
    adm_text_add(page, "</div>\n");
}

void adm_view_speedup(adm_text *page, const json_t *document) {
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        const json_t *headline = json_object_get(adm_profile(document, profile), "headline");
        size_t s;
        json_t *setting;
        adm_text tables = {0};
        json_array_foreach(adm_document_rows(document, "settings"), s, setting) if (adm_row_is_of(setting, profile))
            write_table(&tables, document, setting, s, adm_field_int(headline, "setting") == (int64_t)s);
        if (tables.length > 0 || tables.error.status != ADM_OK) {
            adm_write_part_start(page, "gpu", profile);
            adm_write_profile_heading(page, document, profile);
            adm_write_gpu_plot(
                page, "speedup", profile,
                ADM_MARKUP("<strong>Speed-up over dense attention</strong>: median time of the fastest dense decode attention "
                           "known for the shape over that of a whole step (every stage and the append), for one layer. Dense "
                           "is ours, or another implementation recorded on this GPU model; a cell says which. The line is "
                           "break-even: on its far side sparse attention costs more than it saves."));
            adm_text_add(page, "<h4>Of the faster step</h4>\n");
            adm_text_append(page, &tables);
            adm_write_part_end(page);
        }
        adm_text_free(&tables);
    }
}
