/* counters.c: what the hardware counted of every stage, with unit, meaning and caveat, or why it could not. */
#include "analysis/report/view/gpu/counters.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"
#include "core/contract/stage.h"

/* --- Metrics -------------------------------------------------------------------------------------------------------- */

/* Metrics from counters, and metrics of launches from the timeline. */
typedef enum group { COUNTERS, LAUNCHES, N_GROUPS } group;

static const char *const group_titles[N_GROUPS] = {"Counters", "Launches"};

static group group_of(const char *metric) {
    static const char *const launches[] = {"kernel_time_ns", "launch_gap_ns", "kernel_launches", "activity_dropped"};
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++)
        if (strcmp(metric, launches[i]) == 0) return LAUNCHES;
    return COUNTERS;
}

static bool has_metric(const json_t *counters, const char *metric) {
    return json_object_get(json_object_get(counters, "value"), metric) != NULL ||
           json_object_get(json_object_get(counters, "missing"), metric) != NULL;
}

/* --- Which counters share a table ------------------------------------------------------------------------------ */

enum { MAX_COLUMNS = 64, MAX_REASONS = 24 };

/* What was counted at one length and budget in one setting: one column per stage and implementation. */
typedef struct table {
    const json_t *document, *setting;
    int64_t seq_len, budget;           /* budget 0: stages that do not depend on one, where nothing else was counted */
    const json_t *column[MAX_COLUMNS];
    size_t n_columns;
    const char *reason[MAX_REASONS];   /* distinct reasons, numbered from 1 below the table */
    size_t n_reasons;
} table;

static void fill(table *p) {
    size_t i;
    json_t *counters;
    p->n_columns = p->n_reasons = 0;
    for (adm_stage s = 0; s < ADM_N_STAGES; s++) json_array_foreach(adm_document_rows(p->document, "counters"), i, counters) {
            const json_t *config = adm_row_config(p->document, counters);
            int64_t budget = adm_field_int(config, "budget");
            if (p->n_columns < MAX_COLUMNS && strcmp(adm_field_text(counters, "stage"), adm_stage_name(s)) == 0 &&
                adm_field_int(counters, "profile") == adm_field_int(p->setting, "profile") &&
                adm_field_int(config, "seq_len") == p->seq_len && (budget == 0 || budget == p->budget) &&
                adm_setting_fits(p->setting, config))
                p->column[p->n_columns++] = counters;
        }
}

/* Moves on to the next (seq_len, budget) in ascending order; false if there is none. Stages without a budget are in every
 * table of their length, and have a table of their own only where no stage has a budget. */
static bool next_table(table *p) {
    int64_t seq_len = 0, budget = 0;
    size_t i;
    json_t *counters;
    json_array_foreach(adm_document_rows(p->document, "counters"), i, counters) {
        const json_t *config = adm_row_config(p->document, counters);
        int64_t l = adm_field_int(config, "seq_len"), b = adm_field_int(config, "budget");
        bool is_later = l > p->seq_len || (l == p->seq_len && b > p->budget);
        bool is_first = seq_len == 0 || l < seq_len || (l == seq_len && (budget == 0 || (b != 0 && b < budget)));
        if (is_later && is_first && adm_field_int(counters, "profile") == adm_field_int(p->setting, "profile") &&
            adm_setting_fits(p->setting, config)) {
            seq_len = l;
            budget = b;
        }
    }
    p->seq_len = seq_len;
    p->budget = budget;
    return seq_len != 0;
}

/* --- Writing -------------------------------------------------------------------------------------------------------- */

static size_t number_of_reason(table *p, const char *reason) {
    for (size_t i = 0; i < p->n_reasons; i++)
        if (strcmp(p->reason[i], reason) == 0) return i + 1;
    if (p->n_reasons == MAX_REASONS) return 0;
    p->reason[p->n_reasons++] = reason;
    return p->n_reasons;
}

/* How many values are behind a cell. */
static int64_t n_of(const json_t *counters, const char *metric) {
    const json_t *n = json_object_get(json_object_get(counters, "n"), metric);
    return n != NULL ? json_integer_value(n) : 1;
}

/* The n that all values of a metric share; 0 if they differ. */
static int64_t shared_n(const table *p, const char *metric) {
    int64_t shared = -1;
    for (size_t c = 0; c < p->n_columns; c++) {
        if (json_object_get(json_object_get(p->column[c], "value"), metric) == NULL) continue;
        const int64_t n = n_of(p->column[c], metric);
        shared = shared < 0 || shared == n ? n : 0;
        if (shared == 0) return 0;
    }
    return shared < 0 ? 0 : shared;
}

static void write_value(adm_text *page, table *p, const json_t *counters, const char *metric, const char *unit, bool with_n) {
    const json_t *value = json_object_get(json_object_get(counters, "value"), metric);
    const char *reason = json_string_value(json_object_get(json_object_get(counters, "missing"), metric));
    char precise[ADM_NUMBER_CHARS];
    if (value != NULL) {
        adm_precise_value(json_number_value(value), unit, precise);
        adm_text_format(page, "<td>%s", precise);
        if (with_n) adm_text_format(page, " <small>n = %lld</small>", (long long)n_of(counters, metric));
        adm_text_add(page, "</td>");
    } else if (reason != NULL) {
        adm_text_format(page, "<td>\u2013<sup>%zu</sup></td>", number_of_reason(p, reason));
    } else {
        adm_text_add(page, "<td>\u2013</td>");
    }
}

static size_t count_rows(const table *p, group of) {
    size_t n = 0, i;
    json_t *metric;
    json_array_foreach(adm_document_rows(p->document, "metrics"), i, metric) {
        const char *name = adm_field_text(metric, "name");
        bool is_there = false;
        for (size_t c = 0; c < p->n_columns; c++) is_there |= has_metric(p->column[c], name);
        n += is_there && group_of(name) == of;
    }
    return n;
}

static void write_rows(adm_text *page, table *p, group of) {
    size_t i;
    json_t *metric;
    if (count_rows(p, of) == 0) return;
    adm_text_format(page, "<tr class=\"first\"><th scope=\"colgroup\" class=\"text group\" colspan=\"%zu\">%s</th></tr>\n",
                    p->n_columns + 3, group_titles[of]);
    json_array_foreach(adm_document_rows(p->document, "metrics"), i, metric) {
        const char *name = adm_field_text(metric, "name"), *unit = adm_field_text(metric, "unit");
        bool is_there = false;
        for (size_t c = 0; c < p->n_columns; c++) is_there |= has_metric(p->column[c], name);
        if (!is_there || group_of(name) != of) continue;
        adm_text_add(page, "<tr><th scope=\"row\" class=\"metric\">");
        adm_text_escaped(page, name);
        adm_text_add(page, "</th><td class=\"text\">");
        adm_text_escaped(page, adm_shown_unit(unit));
        adm_text_add(page, "</td>");
        const int64_t n = shared_n(p, name);
        if (n > 0) adm_text_format(page, "<td>%lld</td>", (long long)n);
        else adm_text_add(page, "<td>\u2013</td>");
        for (size_t c = 0; c < p->n_columns; c++) write_value(page, p, p->column[c], name, unit, n == 0);
        adm_text_add(page, "</tr>\n");
    }
}

static void write_table(adm_text *page, table *p, bool open) {
    char title[900], length[ADM_NUMBER_CHARS], budget[ADM_NUMBER_CHARS];
    adm_shown_count(p->seq_len, length);
    adm_shown_count(p->budget, budget);
    snprintf(title, sizeof title, "%s tokens%s%s: %.700s", length, p->budget != 0 ? ", budget " : "",
             p->budget != 0 ? budget : "", adm_field_text(p->setting, "name"));
    size_t n_rows = 0;
    for (group g = COUNTERS; g < N_GROUPS; g++) n_rows += count_rows(p, g);
    adm_write_table_start(page, p->document, title, n_rows, open, NULL);
    adm_text_format(
        page,
        ADM_SQL("SELECT metric, unit, stage, variant, median, n, status, reason FROM stage_summary WHERE run_id = %lld AND "
                "seq_len = %lld AND kv_heads = %lld AND batch = %lld AND (budget IS NULL OR budget = %lld) ORDER BY metric, "
                "stage"),
        (long long)adm_field_int(adm_profile(p->document, (size_t)adm_field_int(p->setting, "profile")), "run_id"),
        (long long)p->seq_len, (long long)adm_field_int(p->setting, "n_kv_heads"),
        (long long)adm_field_int(p->setting, "batch"), (long long)p->budget);
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">metric</th><th scope=\"col\" class=\"text\">unit</th>"
                       "<th scope=\"col\">n</th>");
    for (size_t c = 0; c < p->n_columns; c++) {
        adm_text_add(page, "<th scope=\"col\">");
        adm_text_escaped(page, adm_field_text(p->column[c], "stage"));
        adm_text_add(page, "<br><small>");
        adm_text_escaped(page, adm_field_text(adm_row_config(p->document, p->column[c]), "variant"));
        adm_text_add(page, "</small></th>");
    }
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    for (group g = COUNTERS; g < N_GROUPS; g++) write_rows(page, p, g);
    adm_text_add(page, "</tbody></table></div>\n");
    if (p->n_reasons > 0) adm_text_add(page, "<ol class=\"reasons\">\n");
    for (size_t r = 0; r < p->n_reasons; r++) {
        adm_text_add(page, "<li>");
        adm_text_escaped(page, p->reason[r]);
        adm_text_add(page, "</li>\n");
    }
    adm_text_markup(page, p->n_reasons > 0 ? ADM_MARKUP("</ol></details>\n") : ADM_MARKUP("</details>\n"));
}

/* What each metric means: "MEANING Caveat: CAVEAT" in two columns. */
static void write_glossary(adm_text *page, const json_t *document, size_t profile) {
    static const char mark[] = " Caveat: ";
    size_t i, c, n_rows = 0;
    json_t *metric, *counters;
    adm_text rows = {0};
    json_array_foreach(adm_document_rows(document, "metrics"), i, metric) {
        const char *name = adm_field_text(metric, "name"), *description = adm_field_text(metric, "description");
        bool is_there = false;
        json_array_foreach(adm_document_rows(document, "counters"), c, counters)
            is_there |= adm_row_is_of(counters, profile) && has_metric(counters, name);
        if (!is_there) continue;
        const char *caveat = strstr(description, mark);
        char meaning[1024];
        snprintf(meaning, sizeof meaning, "%.*s", (int)(caveat != NULL ? caveat - description : 1000), description);
        adm_text_add(&rows, "<tr><th scope=\"row\" class=\"metric\">");
        adm_text_escaped(&rows, name);
        adm_text_add(&rows, "</th><td class=\"text\">");
        adm_text_escaped(&rows, adm_field_text(metric, "unit"));
        adm_text_add(&rows, "</td><td class=\"text wrap\">");
        adm_text_escaped(&rows, meaning);
        adm_text_add(&rows, "</td><td class=\"text wrap\">");
        adm_text_escaped(&rows, caveat != NULL ? caveat + sizeof mark - 1 : "");
        adm_text_add(&rows, "</td></tr>\n");
        n_rows++;
    }
    adm_write_table_start(page, document, "What each metric means", n_rows, false, NULL);
    adm_text_format(page, ADM_SQL("SELECT name, unit, better, description FROM metric ORDER BY name"));
    adm_write_table_head(page, "<metric|<unit|<meaning|<caveat");
    adm_text_append(page, &rows);
    adm_text_free(&rows);
    adm_write_table_end(page);
}

static bool profile_has_counters(const json_t *document, size_t profile) {
    size_t i;
    json_t *counters;
    json_array_foreach(adm_document_rows(document, "counters"), i, counters) if (adm_row_is_of(counters, profile)) return true;
    return false;
}

/* True if any stage's stalls or instruction mix were counted: stall_REASON_share, mix_KIND_share. */
static bool profile_has_shares(const json_t *document, size_t profile) {
    size_t i;
    json_t *counters, *value;
    const char *name;
    json_array_foreach(adm_document_rows(document, "counters"), i, counters) if (adm_row_is_of(counters, profile))
        json_object_foreach(json_object_get(counters, "value"), name,
                            value) if (strncmp(name, "stall_", 6) == 0 || strncmp(name, "mix_", 4) == 0) return true;
    return false;
}

/* Every table with counters, or every one for which only the timeline has figures. */
static void write_tables(adm_text *page, const json_t *document, size_t profile, bool with_counters, bool *open) {
    size_t s;
    json_t *setting;
    json_array_foreach(adm_document_rows(document, "settings"), s, setting) {
        table p = {.document = document, .setting = setting};
        if (!adm_row_is_of(setting, profile)) continue;
        while (next_table(&p)) {
            fill(&p);
            if ((count_rows(&p, COUNTERS) > 0) != with_counters) continue;
            write_table(page, &p, *open);
            *open = false;
        }
    }
}

void adm_view_counters(adm_text *page, const json_t *document) {
    for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
        bool open = true; /* the first */
        if (!profile_has_counters(document, profile)) continue;
        adm_write_part_start(page, "gpu", profile);
        adm_write_profile_heading(page, document, profile);
        adm_text_add(
            page, "<p class=\"about\">One column per stage and implementation. Counters are collected in separate passes, "
                  "never while a stage is timed; n says from how many passes or steps a value is. A dash "
                  "with a number marks a value that could not be read: the number leads to the reason below the table.</p>\n");
        if (profile_has_shares(document, profile))
            adm_write_gpu_plot(
                page, "counters", profile,
                ADM_MARKUP("<strong>What holds a stage up</strong>: what its warps wait for, or execute, as shares; and "
                           "the bytes read from memory, over those of the byte model."));
        write_tables(page, document, profile, true, &open);
        write_tables(page, document, profile, false, &open);
        write_glossary(page, document, profile);
        adm_write_part_end(page);
    }
}
