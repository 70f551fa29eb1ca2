/* history.c: how figures changed over the runs of a database: change points, and the series that were looked
 * at. */
#include "analysis/report/view/changes/history.h"

#include <math.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static const json_t *run_at(const json_t *history, int64_t index) {
    return json_array_get(json_object_get(history, "runs"), (size_t)index);
}

/* "topk, cluster, 32768 tokens, budget 256": what a series is of. */
static void write_series_name(adm_text *page, const json_t *series) {
    const char *stage = adm_field_text(series, "stage");
    adm_text_escaped(page, stage[0] ? stage : adm_field_text(series, "policy"));
    adm_text_add(page, ", ");
    adm_text_escaped(page, adm_field_text(series, "title"));
}

static void write_commits(adm_text *page, const json_t *change) {
    const char *before = adm_field_text(change, "commit_before"), *after = adm_field_text(change, "commit_after");
    adm_text_add(page, "<td class=\"text\"><code>");
    if (strcmp(before, after) == 0) {
        adm_text_format(page, "%.10s", after);
    } else {
        adm_text_format(page, "%.10s..%.10s", before, after);
    }
    adm_text_add(page, "</code></td>");
}

static void write_change(adm_text *page, const json_t *series, const json_t *change) {
    const char *unit = adm_field_text(series, "unit");
    bool is_worse = json_is_true(json_object_get(change, "is_worse"));
    double before, after, p;
    adm_text_format(page, "<tr><th scope=\"row\"><code>%s</code></th><td class=\"text\">", adm_field_text(change, "id"));
    write_series_name(page, series);
    adm_text_add(page, "<br><small>");
    adm_text_escaped(page, adm_field_text(series, "metric"));
    adm_text_add(page, ", ");
    adm_text_escaped(page, adm_field_text(series, "source"));
    adm_text_add(page, "; ");
    adm_text_escaped(page, adm_field_text(series, "shape"));
    adm_text_add(page, "</small></td>");
    if (adm_field_number(change, "before", &before) && adm_field_number(change, "after", &after) && before != 0)
        adm_text_format(page, "<td class=\"%s\">%s%.2f %s</td>", is_worse ? "loss" : "gain", after < before ? "\u2212" : "+",
                        100 * fabs(after / before - 1), is_worse ? "worse" : "better");
    else adm_text_add(page, "<td>\u2013</td>");
    adm_write_value_cell(page, change, "before", unit);
    adm_write_value_cell(page, change, "after", unit);
    adm_text_add(page, "<td class=\"text\">");
    adm_text_escaped(page, adm_shown_unit(unit));
    adm_text_format(page, "</td><td>%.2g</td>", adm_field_number(change, "p", &p) ? p : 1.0);
    adm_text_format(page, "<td>%lld, %lld</td>", (long long)adm_field_int(change, "n_before"),
                    (long long)adm_field_int(change, "n_after"));
    write_commits(page, change);
    adm_text_add(page, "<td class=\"text\">");
    adm_write_when(page, adm_field_text(change, "started_utc"));
    adm_text_add(page, "</td><td class=\"text wrap\">");
    if (adm_field_text(change, "verdict")[0]) {
        adm_text_escaped(page, adm_field_text(change, "verdict"));
        adm_text_add(page, " by ");
        adm_text_escaped(page, adm_field_text(change, "who"));
        adm_text_add(page, ": ");
        adm_text_escaped(page, adm_field_text(change, "why"));
    }
    adm_text_add(page, "</td></tr>\n");
}

/* The points of every series of times. */
static void write_sql(adm_text *page) {
    adm_text_format(page,
                    ADM_SQL("SELECT s.source, s.stage, s.variant, s.seq_len, s.budget, s.run_id, r.git_commit, s.median FROM "
                            "stage_summary s JOIN run r USING (run_id) WHERE s.metric = 'time_ns' AND s.status = 'ok' AND NOT "
                            "r.label LIKE 'recorded:%%' ORDER BY 1, 2, 3, 4, 5, r.started_utc"));
}

static void write_changes(adm_text *page, const json_t *document, const json_t *history) {
    const json_t *list = json_object_get(history, "series");
    size_t n_rows = 0, i, c;
    json_t *series, *change;
    json_array_foreach(list, i, series) n_rows += json_array_size(json_object_get(series, "changes"));
    if (n_rows == 0) {
        adm_write_nothing(page, "No series changed its level.");
        return;
    }
    adm_write_table_start(page, document, "Change points", n_rows, true, NULL);
    write_sql(page);
    adm_write_table_head(page,
                         "<id|<of|change, %|before|after|<unit|p|runs before, after|<commits|<first run after|<acknowledged");
    json_array_foreach(list, i, series) json_array_foreach(json_object_get(series, "changes"), c, change)
        write_change(page, series, change);
    adm_write_table_end(page);
}

/* Every series shown: its first and latest figure, and the range between. */
static void write_series(adm_text *page, const json_t *document, const json_t *history) {
    const json_t *list = json_object_get(history, "series");
    size_t i, p;
    json_t *series, *point;
    adm_write_table_start(page, document, "The series", json_array_size(list), false, NULL);
    write_sql(page);
    adm_write_table_head(page, "<of|<metric|<unit|runs|first|latest|lowest|highest");
    json_array_foreach(list, i, series) {
        const json_t *points = json_object_get(series, "points");
        const char *unit = adm_field_text(series, "unit");
        size_t n = json_array_size(points);
        double first = 0, last = 0, low = 0, high = 0;
        json_array_foreach(points, p, point) {
            last = json_number_value(json_array_get(point, 1));
            if (p == 0) first = low = high = last;
            if (last < low) low = last;
            if (last > high) high = last;
        }
        adm_text_add(page, "<tr><th scope=\"row\">");
        write_series_name(page, series);
        adm_text_add(page, "</th>");
        adm_write_text_cell(page, series, "metric");
        adm_text_add(page, "<td class=\"text\">");
        adm_text_escaped(page, adm_shown_unit(unit));
        adm_text_format(page, "</td><td>%zu</td>", n);
        const double shown[] = {first, last, low, high};
        for (int v = 0; v < 4; v++) adm_write_number_cell(page, shown[v], unit);
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

void adm_view_history(adm_text *page, const json_t *document) {
    const json_t *history = json_object_get(document, "history");
    if (!json_is_object(history)) return;
    size_t n_runs = json_array_size(json_object_get(history, "runs"));
    size_t n_shown = json_array_size(json_object_get(history, "series"));
    const char *first = adm_field_text(run_at(history, 0), "started_utc");
    const char *last = adm_field_text(run_at(history, (int64_t)n_runs - 1), "started_utc");
    const bool is_one_day = strncmp(first, last, 10) == 0;
    adm_text_format(
        page,
        "<p>Medians of the latest %zu complete runs, %s%.10s%s%.10s. Shown are %zu of the %lld series with at least %lld "
        "runs, those that changed first; %lld more have fewer runs. A change point is where the level of a series changed, by "
        "at least 2%% and with at least three runs on either side; another machine, GPU, driver or CUDA begins a new series. "
        "<code>adamas history</code> analyses every metric, <code>adamas history ack ID</code> stores what is known about a "
        "change",
        n_runs, is_one_day ? "of " : "from ", first, is_one_day ? "" : " to ", is_one_day ? "" : last, n_shown,
        (long long)(adm_field_int(history, "n_series") - adm_field_int(history, "n_short")),
        (long long)adm_field_int(history, "min_runs"), (long long)adm_field_int(history, "n_short"));
    if (adm_field_int(history, "n_ignored") > 0)
        adm_text_format(page, " (%lld ignored with it, not shown)", (long long)adm_field_int(history, "n_ignored"));
    adm_text_add(page, ".</p>\n<figure class=\"plot\" data-plot=\"history\"");
    adm_write_frame_end(
        page, ADM_MARKUP("<strong>A series over its runs</strong>: one point per run, its median; the line is the level "
                         "between change points."));
    write_changes(page, document, history);
    write_series(page, document, history);
}
