/* write.c: a comparison for people: terminal and Markdown. For programs: compare_export.c. */
#include "analysis/regress/compare/write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "core/base/printable.h"

void adm_compare_headline(const adm_comparison *c, adm_text *out) {
    if (c->failure[0] != '\0') {
        adm_text_format(out, "not compared: %s", c->failure);
        return;
    }
    const size_t *n = c->n_verdicts;
    adm_text_format(out, "%zu regressed, %zu inconclusive, %zu improved, %zu equivalent of %zu", n[ADM_VERDICT_REGRESSED],
                    n[ADM_VERDICT_INCONCLUSIVE], n[ADM_VERDICT_IMPROVED], n[ADM_VERDICT_EQUIVALENT], c->n_rows);
    if (c->n_missing > 0) adm_text_format(out, "; %zu rows are on one side only", c->n_missing);
    if (c->n_throttled > 0 || c->n_samples_out > 0)
        adm_text_format(out, "; left out, throttled or on a shared core: %zu times of processes, %zu samples", c->n_throttled,
                        c->n_samples_out);
    if (c->faster_but_less_accurate) adm_text_add(out, "; faster but less accurate");
}

/* "host topk", "quality" */
static void name_of(const adm_compare_row *row, char *out, size_t out_bytes) {
    const adm_series *s = row->shown;
    if (s->stage[0] == '\0') snprintf(out, out_bytes, "%s quality", s->config->policy);
    else snprintf(out, out_bytes, "%s %s", s->source, s->stage);
}

/* "+3.1% [+2.4%, +3.9%]" of a time with enough processes for an interval, "+12.5%" of anything else. */
static void change_text(const adm_compare_row *row, char *out, size_t out_bytes) {
    if (row->has_shift && isfinite(row->shift.low))
        snprintf(out, out_bytes, "%+.2f%% [%+.2f%%, %+.2f%%]", 100 * expm1(row->shift.shift), 100 * expm1(row->shift.low),
                 100 * expm1(row->shift.high));
    else if (isnan(row->base_value) || isnan(row->cand_value)) snprintf(out, out_bytes, "-");
    else if (row->base_value == row->cand_value) snprintf(out, out_bytes, "equal");
    else if (row->base_value == 0) snprintf(out, out_bytes, "from 0");
    else snprintf(out, out_bytes, "%+.3g%%", 100 * (row->cand_value / row->base_value - 1));
}

static void margin_text(const adm_compare_row *row, char *out, size_t out_bytes) {
    if (row->margin > 0) snprintf(out, out_bytes, "%.3g%%", 100 * row->margin);
    else snprintf(out, out_bytes, "exact");
}

typedef struct cells {
    char name[128], before[ADM_NUMBER_CHARS], after[ADM_NUMBER_CHARS], change[96], cycles[32], margin[32], p[32];
} cells;

static void fill(const adm_compare_row *row, cells *c) {
    name_of(row, c->name, sizeof c->name);
    adm_shown_figure(row->base_value, row->shown->metric->unit, c->before);
    adm_shown_figure(row->cand_value, row->shown->metric->unit, c->after);
    change_text(row, c->change, sizeof c->change);
    margin_text(row, c->margin, sizeof c->margin);
    snprintf(c->cycles, sizeof c->cycles, row->has_cycles ? "%+.2f%%" : "", 100 * expm1(row->cycles.shift));
    snprintf(c->p, sizeof c->p, isnan(row->p_adjusted) ? "" : "%.2g", row->p_adjusted);
}

/* --- Rows that only one side has ---------------------------------------------------------------------------------- */

static bool is_missing(const adm_compare_row *row) { return row->base == NULL || row->cand == NULL; }

static bool same_group(const adm_compare_row *a, const adm_compare_row *b) {
    return is_missing(a) && is_missing(b) && (a->base == NULL) == (b->base == NULL) &&
           strcmp(a->shown->config->shape, b->shown->config->shape) == 0 &&
           strcmp(adm_compare_group_of(a), adm_compare_group_of(b)) == 0;
}

static void cell(adm_text *out, const char *text);

/* One line per group, at its first row. */
static void missing_lines(const adm_comparison *c, bool markdown, adm_text *out) {
    for (size_t i = 0; i < c->n_rows; i++) {
        char group[600], clean[604];
        size_t n = 0, earlier = 0;
        if (!is_missing(&c->row[i])) continue;
        for (size_t k = 0; k < c->n_rows; k++) {
            n += same_group(&c->row[k], &c->row[i]);
            earlier += k < i && same_group(&c->row[k], &c->row[i]);
        }
        if (earlier > 0) continue;
        snprintf(group, sizeof group, "%.300s; %.280s", c->row[i].shown->config->shape, adm_compare_group_of(&c->row[i]));
        adm_text_format(
            out, markdown ? "- inconclusive: only the %s has %zu rows of " : "inconclusive  only the %s has %zu rows of ",
            c->row[i].base != NULL ? "baseline" : "candidate", n);
        if (markdown) cell(out, group);
        else adm_text_add(out, adm_printable(group, clean, sizeof clean));
        adm_text_add(out, "\n");
    }
}

/* --- Terminal ----------------------------------------------------------------------------------------------------- */

static void text_row(const adm_compare_row *row, adm_text *out) {
    char title[256], why[sizeof row->why + 4];
    cells c;
    fill(row, &c);
    adm_printable(row->shown->config->title, title, sizeof title);
    adm_printable(row->why, why, sizeof why);
    adm_text_format(out, "%-12s  %-18s %s: %s\n", adm_verdict_name(row->verdict), c.name, row->shown->metric->name, title);
    adm_text_format(out, "              %s to %s, %s", c.before, c.after, c.change);
    if (c.cycles[0] != '\0') adm_text_format(out, ", cycles %s", c.cycles);
    if (c.p[0] != '\0') adm_text_format(out, "; p %s", c.p);
    adm_text_format(out, "; margin %s; %zu and %zu processes\n", c.margin, row->n_base, row->n_cand);
    if (why[0] != '\0') adm_text_format(out, "              %s\n", why);
}

void adm_compare_text(const adm_comparison *c, bool all, adm_text *out) {
    char subject[2][sizeof c->subject[0] + 4];
    for (int i = 0; i < 2; i++) adm_printable(c->subject[i], subject[i], sizeof subject[i]);
    adm_text_format(out, "baseline %s, candidate %s\n", subject[0], subject[1]);
    for (size_t i = 0; i < c->n_rows; i++)
        if (!is_missing(&c->row[i]) && (all || c->row[i].verdict != ADM_VERDICT_EQUIVALENT)) text_row(&c->row[i], out);
    missing_lines(c, false, out);
    adm_compare_headline(c, out);
    adm_text_add(out, "\n");
}

/* --- Markdown ----------------------------------------------------------------------------------------------------- */

/* Text of others in a table's cell: entities for what is markup, in HTML or in Markdown. */
static void cell(adm_text *out, const char *text) {
    char clean[768];
    adm_printable(text, clean, sizeof clean);
    for (const char *c = clean; *c != '\0'; c++) {
        if (strchr("&<>|`*_[]\\~#", *c) != NULL) adm_text_format(out, "&#%d;", (unsigned char)*c);
        else adm_text_bytes(out, c, 1);
    }
}

/* GitHub takes 65,536 characters in a comment and in a check's summary; the rest is room for what a workflow puts around it. */
enum { MOST_MARKDOWN_BYTES = 59000 };

static void markdown_row(const adm_compare_row *row, adm_text *out) {
    cells f;
    fill(row, &f);
    const bool strong = row->verdict == ADM_VERDICT_REGRESSED;
    adm_text_format(out, "| %s%s%s | ", strong ? "**" : "", adm_verdict_name(row->verdict), strong ? "**" : "");
    cell(out, f.name);
    adm_text_add(out, " ");
    cell(out, row->shown->metric->name);
    adm_text_add(out, " | ");
    cell(out, row->shown->config->title);
    adm_text_format(out, " | %s | %s | %s | %s | %s | %s | ", f.before, f.after, f.change, f.cycles, f.margin, f.p);
    cell(out, row->why);
    adm_text_add(out, " |\n");
}

/* Rows while there is room; returns how many had none. */
static size_t markdown_table(const adm_comparison *c, bool equivalent, adm_text *out) {
    size_t n_left = 0;
    adm_text_add(
        out, "| verdict | what | configuration | baseline | candidate | change [99% interval] | cycles | margin | p | why |\n"
             "|---|---|---|---:|---:|---:|---:|---:|---:|---|\n");
    for (size_t i = 0; i < c->n_rows; i++) {
        adm_text one = {0};
        if (is_missing(&c->row[i]) || (c->row[i].verdict == ADM_VERDICT_EQUIVALENT) != equivalent) continue;
        markdown_row(&c->row[i], &one);
        if (one.data == NULL || out->length + one.length > MOST_MARKDOWN_BYTES) n_left++;
        else adm_text_bytes(out, one.data, one.length);
        adm_text_free(&one);
    }
    return n_left;
}

static void say_left(size_t n_left, adm_text *out) {
    if (n_left == 0) return;
    adm_text_format(out, "\n%zu more rows have no room here: `adamas compare --all`, `--json` and `--junit` have them all.\n",
                    n_left);
}

/* Groups of missing rows, cut where they would take more than a third of the room. */
static void markdown_missing(const adm_comparison *c, adm_text *out) {
    adm_text lines = {0};
    if (c->n_missing == 0) return;
    missing_lines(c, true, &lines);
    size_t length = lines.length;
    if (length > MOST_MARKDOWN_BYTES / 3)
        for (length = MOST_MARKDOWN_BYTES / 3; length > 0 && lines.data[length - 1] != '\n';) length--;
    adm_text_add(out, "\n");
    if (length > 0) adm_text_bytes(out, lines.data, length);
    if (length < lines.length) adm_text_add(out, "- more such groups: `adamas compare` lists them\n");
    adm_text_free(&lines);
}

void adm_compare_markdown(const adm_comparison *c, adm_text *out) {
    adm_text headline = {0};
    adm_compare_headline(c, &headline);
    adm_text_add(out, "## Adamas: ");
    cell(out, headline.data != NULL ? headline.data : "");
    adm_text_free(&headline);
    adm_text_add(out, "\n\nBaseline ");
    cell(out, c->subject[0]);
    adm_text_add(out, ", candidate ");
    cell(out, c->subject[1]);
    if (c->machine[0] != '\0') {
        adm_text_add(out, ", on ");
        cell(out, c->machine);
    }
    adm_text_add(out, ". Times are medians over processes; an interval is of the Hodges-Lehmann shift; p is adjusted over all "
                      "times.\n");
    if (c->failure[0] != '\0') return;
    size_t n_equivalent = c->n_verdicts[ADM_VERDICT_EQUIVALENT];
    markdown_missing(c, out);
    if (n_equivalent + c->n_missing < c->n_rows) {
        adm_text_add(out, "\n");
        say_left(markdown_table(c, false, out), out);
    }
    if (n_equivalent == 0) return;
    adm_text_format(out, "\n<details><summary>%zu equivalent</summary>\n\n", n_equivalent);
    say_left(markdown_table(c, true, out), out);
    adm_text_add(out, "\n</details>\n");
}
