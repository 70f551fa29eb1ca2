/* history_write.c: prints a history. */
#include "analysis/regress/history_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/output/rows.h"
#include "core/base/print.h"

void adm_history_missing(const adm_history *h, const adm_checks *checks, size_t n_runs, char *out, size_t out_bytes) {
    const adm_history_kind *times = &h->kind[ADM_FIGURE_TIME];
    size_t n_judged = 0;
    for (size_t i = 0; i <= ADM_FIGURE_QUALITY; i++) n_judged += h->kind[i].n_judged;
    out[0] = '\0';
    if (checks->n_judged > 0 || (n_judged > 0 && (times->n_parts == 0 || times->n_judged > 0))) return;
    size_t used = (size_t)snprintf(out, out_bytes, n_judged > 0 ? "no time was judged" : "nothing was judged");
    if (h->n_series == 0)
        used += (size_t)snprintf(out + used, out_bytes - used, ": %zu runs hold no series that was asked for", n_runs);
    else if (h->n_short > 0)
        used += (size_t)snprintf(out + used, out_bytes - used,
                                 ": %zu of %zu series have fewer than 6 runs on one machine, or runs of one commit only",
                                 h->n_short, h->n_parts);
    if (h->n_contended > 0 && used < out_bytes)
        snprintf(out + used, out_bytes - used, "; %zu points were left out, taken on a shared core", h->n_contended);
}

/* --- Text --------------------------------------------------------------------------------------------------------- */

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

static double change_ratio(const adm_history_change *c) { return c->before != 0 ? c->after / c->before - 1 : INFINITY; }

static const char *kind_of(const adm_history_change *c, const adm_failed_check *check) {
    return check != NULL ? "check" : c->is_drift ? "drift" : "step";
}

/* "12ab34cd56ef..99aa88bb77cc", a range that `git log` takes; one commit if both sides are of it. */
static void commits(const adm_history_change *c, char out[160]) {
    const char *a = c->before_run->commit, *b = c->after_run->commit;
    if (strcmp(a, b) == 0) snprintf(out, 160, "%.12s", a);
    else snprintf(out, 160, "%.12s..%.12s", a, b);
}

static void print_change(const adm_history_change *c, const adm_failed_check *check) {
    char range[160], before[ADM_NUMBER_CHARS], after[ADM_NUMBER_CHARS];
    const adm_series *s = c->series;
    commits(c, range);
    adm_shown_figure(c->before, s->metric->unit, before);
    adm_shown_figure(c->after, s->metric->unit, after);
    adm_print("%s  %s  %s %s %s: %s\n", c->id, c->is_worse ? "worse " : "better", s->source,
              s->stage[0] != '\0' ? s->stage : s->config->policy, s->metric->name, s->config->title);
    adm_print("              %s%s to %s (%+.2f%%)", c->is_drift ? "drift, " : "", before, after, 100 * change_ratio(c));
    if (!isnan(c->p)) adm_print(", p %.2g", c->p);
    adm_print(", %zu run%s before and %zu after\n", c->n_before, plural(c->n_before), c->n_after);
    if (check != NULL)
        adm_print("              check %.8s of %s: the candidate regressed, %s\n", check->uuid, check->made_utc,
                  check->candidate);
    adm_print("              %s%s, %s, on %s\n", range, c->after_run->dirty ? " (modified)" : "", c->after_run->started_utc,
              c->after_run->gpu_name[0] != '\0' ? c->after_run->gpu_name : c->after_run->cpu_model);
    if (c->verdict[0] != '\0') adm_print("              %s by %s: %s\n", c->verdict, c->who, c->why);
}

static bool shown(const adm_history_document *d, const adm_history_change *change) {
    return d->all || strcmp(change->verdict, "ignored") != 0;
}

static void print_order(const adm_history_document *d) {
    const adm_commit_order *o = d->order;
    if (o->n_by_git == d->set->n_runs) return;
    adm_print("order of runs: %zu by git, %zu by the date of their commit, %zu by their start, as no date is known%s%s\n",
              o->n_by_git, o->n_by_date, o->n_by_start, o->git_says[0] != '\0' ? "; " : "", o->git_says);
}

/* Prints the changes that are shown, and returns how many they are. checks: NULL, or the failed check of each. */
static size_t print_changes(const adm_history_document *d, const adm_history_change *change, size_t n,
                            const adm_failed_check *const *checks) {
    size_t n_shown = 0;
    for (size_t i = 0; i < n; i++) {
        if (!shown(d, &change[i])) continue;
        n_shown++;
        print_change(&change[i], checks != NULL ? checks[i] : NULL);
    }
    return n_shown;
}

static void print_series(const adm_history_document *d, size_t n_changes) {
    const adm_history *h = d->history;
    if (d->set->n_runs == 0 && d->checks->n_checks > 0) {
        adm_print("no series: runs of a failed check make none");
        return;
    }
    adm_print("%zu change%s in %zu series over %zu run%s", n_changes, plural(n_changes), h->n_series, d->set->n_runs,
              plural(d->set->n_runs));
    if (h->n_parts != h->n_series) adm_print(" (%zu with each machine by itself)", h->n_parts);
    if (h->n_renamed > 0) adm_print("; %zu renamed", h->n_renamed);
    if (h->n_short > 0) adm_print("; %zu too short to judge: fewer than 6 runs, or runs of one commit", h->n_short);
    if (h->n_contended > 0) adm_print("; %zu point%s left out, taken on a shared core", h->n_contended, plural(h->n_contended));
}

/* What failed checks found is counted by itself: it is no change of a series. */
static void print_checks(const adm_checks *checks, size_t n_regressions) {
    if (checks->n_checks == 0) return;
    adm_print("; %zu check%s, %zu failed", checks->n_checks, plural(checks->n_checks), checks->n_failed);
    if (n_regressions > 0) adm_print(" with %zu regression%s", n_regressions, plural(n_regressions));
}

void adm_history_print(const adm_history_document *d) {
    const size_t n_regressions = print_changes(d, d->checks->change, d->checks->n_changes, d->checks->of);
    const size_t n_changes = print_changes(d, d->history->change, d->history->n_changes, NULL);
    print_order(d);
    print_series(d, n_changes);
    print_checks(d->checks, n_regressions);
    adm_print("\n");
    if (d->missing[0] != '\0') adm_print("%s\n", d->missing);
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static json_t *change_json(const adm_history_change *c, const adm_failed_check *check) {
    const bool said = c->verdict[0] != '\0';
    char range[160];
    commits(c, range);
    return json_pack(
        "{s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o}",
        "id", c->id, "kind", kind_of(c, check), "worse", c->is_worse, "modified", c->after_run->dirty, "source",
        adm_rows_string(c->series->source), "stage",
        c->series->stage[0] != '\0' ? adm_rows_string(c->series->stage) : json_null(), "policy",
        adm_rows_string(c->series->config->policy), "metric", adm_rows_string(c->series->metric->name), "unit",
        adm_rows_string(c->series->metric->unit), "configuration", adm_rows_string(c->series->config->title), "before",
        c->before, "after", c->after, "p", isnan(c->p) ? json_null() : json_real(c->p), "n_before", (json_int_t)c->n_before,
        "n_after", (json_int_t)c->n_after, "last_commit_before", adm_rows_string(c->before_run->commit), "first_commit_after",
        adm_rows_string(c->after_run->commit), "commit_range", adm_rows_string(range), "check",
        check != NULL ? adm_rows_string(check->uuid) : json_null(), "first_run_after", adm_rows_string(c->after_run->uuid),
        "started_utc", adm_rows_string(c->after_run->started_utc), "verdict", said ? adm_rows_string(c->verdict) : json_null(),
        "who", said ? adm_rows_string(c->who) : json_null(), "why", said ? adm_rows_string(c->why) : json_null());
}

json_t *adm_history_json(const adm_history_document *d) {
    const adm_history *h = d->history;
    json_t *rows = json_array();
    for (size_t i = 0; rows != NULL && i < d->checks->n_changes; i++)
        if (shown(d, &d->checks->change[i]) &&
            json_array_append_new(rows, change_json(&d->checks->change[i], d->checks->of[i])) != 0)
            json_decref(rows), rows = NULL;
    for (size_t i = 0; rows != NULL && i < h->n_changes; i++)
        if (shown(d, &h->change[i]) && json_array_append_new(rows, change_json(&h->change[i], NULL)) != 0)
            json_decref(rows), rows = NULL;
    if (rows == NULL) return NULL;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:o, s:o}", "n_runs",
                     (json_int_t)d->set->n_runs, "n_series", (json_int_t)h->n_series, "n_parts", (json_int_t)h->n_parts,
                     "n_too_short", (json_int_t)h->n_short, "n_renamed", (json_int_t)h->n_renamed, "n_contended",
                     (json_int_t)h->n_contended, "n_checks", (json_int_t)d->checks->n_checks, "n_checks_failed",
                     (json_int_t)d->checks->n_failed, "order", "git", (json_int_t)d->order->n_by_git, "commit_date",
                     (json_int_t)d->order->n_by_date, "start", (json_int_t)d->order->n_by_start, "missing",
                     d->missing[0] != '\0' ? adm_rows_string(d->missing) : json_null(), "changes", rows);
}
