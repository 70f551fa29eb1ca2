/* write.c: a comparison for people: terminal and Markdown. For programs: compare_export.c. */
#include "analysis/regress/compare/write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"

void adm_compare_headline(const adm_comparison *c, adm_text *out) {
    if (c->failure[0] != '\0') {
        adm_text_format(out, "not compared: %s", c->failure);
        return;
    }
    const size_t *n = c->n_verdicts;
    adm_text_format(out, "%zu regressed, %zu inconclusive, %zu improved, %zu equivalent of %zu", n[ADM_VERDICT_REGRESSED],
                    n[ADM_VERDICT_INCONCLUSIVE], n[ADM_VERDICT_IMPROVED], n[ADM_VERDICT_EQUIVALENT], c->n_rows);
    if (c->n_within_own > 0) adm_text_format(out, " (%zu only within the baseline's own scatter)", c->n_within_own);
    if (c->n_missing > 0)
        adm_text_format(out, "; %zu %s on one side only", c->n_missing, c->n_missing == 1 ? "row is" : "rows are");
    if (c->n_throttled > 0 || c->n_samples_out > 0) adm_text_add(out, "; left out, throttled or on a shared core: ");
    if (c->n_throttled > 0)
        adm_text_format(out, "%zu process median%s%s", c->n_throttled, c->n_throttled == 1 ? "" : "s",
                        c->n_samples_out > 0 ? ", " : "");
    if (c->n_samples_out > 0) adm_text_format(out, "%zu sample%s", c->n_samples_out, c->n_samples_out == 1 ? "" : "s");
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

static bool is_first_of_group(const adm_comparison *c, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (same_group(&c->row[k], &c->row[i])) return false;
    return true;
}

static size_t size_of_group(const adm_comparison *c, size_t first) {
    size_t n = 0;
    for (size_t k = first; k < c->n_rows; k++) n += same_group(&c->row[k], &c->row[first]);
    return n;
}

/* One line per group, at its first row, while the text is shorter than max_bytes; returns how many groups had no room. */
static size_t missing_lines(const adm_comparison *c, size_t max_bytes, adm_text *out) {
    size_t n_left = 0;
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        if (!is_missing(row) || !is_first_of_group(c, i)) continue;
        if (out->length > max_bytes) {
            n_left++;
            continue;
        }
        const size_t n = size_of_group(c, i);
        adm_text_markup(out, out->dialect == ADM_TEXT_MARKDOWN ? ADM_MARKUP("- inconclusive: ") : ADM_MARKUP("inconclusive  "));
        adm_text_format(out, "only the %s has %zu row%s of %s; %s\n", row->base != NULL ? "baseline" : "candidate", n,
                        n == 1 ? "" : "s", row->shown->config->shape, adm_compare_group_of(row));
    }
    return n_left;
}

/* --- Terminal ----------------------------------------------------------------------------------------------------- */

static void text_row(const adm_compare_row *row, adm_text *out) {
    cells c;
    fill(row, &c);
    adm_text_format(out, "%-12s  %-18s %s: %s\n", adm_verdict_name(row->verdict), c.name, row->shown->metric->name,
                    row->shown->config->title);
    adm_text_format(out, "              %s to %s, %s", c.before, c.after, c.change);
    if (c.cycles[0] != '\0') adm_text_format(out, ", cycles %s", c.cycles);
    if (c.p[0] != '\0') adm_text_format(out, "; p %s", c.p);
    adm_text_format(out, "; margin %s; %zu and %zu processes\n", c.margin, row->n_base, row->n_cand);
    if (row->why[0] != '\0') adm_text_format(out, "              %s\n", row->why);
}

void adm_compare_text(const adm_comparison *c, bool all, adm_text *out) {
    adm_text_format(out, "baseline %s, candidate %s\n", c->subject[0], c->subject[1]);
    for (size_t i = 0; i < c->n_rows; i++)
        if (!is_missing(&c->row[i]) && (all || c->row[i].verdict != ADM_VERDICT_EQUIVALENT)) text_row(&c->row[i], out);
    missing_lines(c, SIZE_MAX, out);
    adm_compare_headline(c, out);
    adm_text_add(out, "\n");
}

/* --- Markdown ----------------------------------------------------------------------------------------------------- */

/* GitHub takes 65,536 characters in a comment and in a check's summary; the rest is room for what a workflow puts around it. */
enum { MOST_MARKDOWN_BYTES = 59000 };

static void markdown_row(const adm_compare_row *row, adm_text *out) {
    cells f;
    fill(row, &f);
    const bool strong = row->verdict == ADM_VERDICT_REGRESSED;
    adm_text_markup(out, strong ? ADM_MARKUP("| **") : ADM_MARKUP("| "));
    adm_text_escaped(out, adm_verdict_name(row->verdict));
    adm_text_markup(out, strong ? ADM_MARKUP("** | ") : ADM_MARKUP(" | "));
    adm_text_format(out, "%s %s | %s | ", f.name, row->shown->metric->name, row->shown->config->title);
    adm_text_format(out, "%s | %s | %s | %s | %s | %s | ", f.before, f.after, f.change, f.cycles, f.margin, f.p);
    adm_text_format(out, "%s |\n", row->why);
}

/* Rows while there is room, and how many had none. */
static void markdown_table(const adm_comparison *c, bool equivalent, adm_text *out) {
    size_t n_left = 0;
    adm_text_add(
        out, "| verdict | what | configuration | baseline | candidate | change [99% interval] | cycles | margin | p | why |\n"
             "|---|---|---|---:|---:|---:|---:|---:|---:|---|\n");
    for (size_t i = 0; i < c->n_rows; i++) {
        adm_text one = {.dialect = out->dialect};
        if (is_missing(&c->row[i]) || (c->row[i].verdict == ADM_VERDICT_EQUIVALENT) != equivalent) continue;
        markdown_row(&c->row[i], &one);
        if (out->length + one.length > MOST_MARKDOWN_BYTES) n_left++;
        else adm_text_append(out, &one);
        adm_text_free(&one);
    }
    if (n_left > 0)
        adm_text_format(
            out, "\n%zu more rows have no room here: `adamas compare --all`, `--json` and `--junit` have them all.\n", n_left);
}

void adm_compare_markdown(const adm_comparison *c, adm_text *out) {
    adm_text_add(out, "## Adamas: ");
    adm_compare_headline(c, out);
    adm_text_add(out, "\n\nBaseline ");
    adm_text_escaped(out, c->subject[0]);
    adm_text_add(out, ", candidate ");
    adm_text_escaped(out, c->subject[1]);
    if (c->machine[0] != '\0') {
        adm_text_add(out, ", on ");
        adm_text_escaped(out, c->machine);
    }
    adm_text_add(out, ". Times are medians over processes; an interval is of the Hodges-Lehmann shift; p is adjusted over all "
                      "times.\n");
    if (c->failure[0] != '\0') return;
    size_t n_equivalent = c->n_verdicts[ADM_VERDICT_EQUIVALENT];
    if (c->n_missing > 0) {
        adm_text_add(out, "\n");
        size_t n_left = missing_lines(c, MOST_MARKDOWN_BYTES / 3, out);
        if (n_left > 0) adm_text_format(out, "- %zu more such groups: `adamas compare` lists them\n", n_left);
    }
    if (n_equivalent + c->n_missing < c->n_rows) {
        adm_text_add(out, "\n");
        markdown_table(c, false, out);
    }
    if (n_equivalent == 0) return;
    adm_text_format(out, "\n<details><summary>%zu equivalent</summary>\n\n", n_equivalent);
    markdown_table(c, true, out);
    adm_text_add(out, "\n</details>\n");
}
