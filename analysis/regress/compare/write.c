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
    if (c->faster_but_less_accurate) adm_text_add(out, "; faster but less accurate");
}

/* "host topk", "quality" */
static void name_of(const adm_compare_row *row, char *out, size_t out_bytes) {
    const adm_series *s = row->shown;
    if (s->stage[0] == '\0') snprintf(out, out_bytes, "%s quality", s->config->policy);
    else snprintf(out, out_bytes, "%s %s", s->source, s->stage);
}

/* A figure in a unit that suits it. */
static void figure_text(double value, const char *unit, char out[ADM_NUMBER_CHARS]) {
    if (isnan(value)) snprintf(out, ADM_NUMBER_CHARS, "-");
    else if (strcmp(unit, "ns") == 0 && value >= 100) adm_shown_duration(value, out);
    else {
        bool plain = strcmp(unit, "1") == 0 || strcmp(unit, "ratio") == 0;
        snprintf(out, ADM_NUMBER_CHARS, "%.*g%s%s", strcmp(unit, "ns") == 0 ? 3 : 6, value, plain ? "" : " ",
                 plain ? "" : unit);
    }
}

/* "+3.1% [+2.4%, +3.9%]" of a time, "+12.5%" of anything else. */
static void change_text(const adm_compare_row *row, char *out, size_t out_bytes) {
    if (row->figure == ADM_FIGURE_TIME && !isnan(row->p_adjusted))
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
    figure_text(row->base_value, row->shown->metric->unit, c->before);
    figure_text(row->cand_value, row->shown->metric->unit, c->after);
    change_text(row, c->change, sizeof c->change);
    margin_text(row, c->margin, sizeof c->margin);
    snprintf(c->cycles, sizeof c->cycles, row->has_cycles ? "%+.2f%%" : "", 100 * expm1(row->cycles.shift));
    snprintf(c->p, sizeof c->p, isnan(row->p_adjusted) ? "" : "%.2g", row->p_adjusted);
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
        if (all || c->row[i].verdict != ADM_VERDICT_EQUIVALENT) text_row(&c->row[i], out);
    adm_compare_headline(c, out);
    adm_text_add(out, "\n");
}

/* --- Markdown ----------------------------------------------------------------------------------------------------- */

static void markdown_table(const adm_comparison *c, bool equivalent, adm_text *out) {
    adm_text_add(
        out, "| verdict | what | configuration | baseline | candidate | change [99% interval] | cycles | margin | p | why |\n"
             "|---|---|---|---:|---:|---:|---:|---:|---:|---|\n");
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        if ((row->verdict == ADM_VERDICT_EQUIVALENT) != equivalent) continue;
        cells f;
        fill(row, &f);
        const bool strong = row->verdict == ADM_VERDICT_REGRESSED;
        adm_text_markup(out, strong ? ADM_MARKUP("| **") : ADM_MARKUP("| "));
        adm_text_escaped(out, adm_verdict_name(row->verdict));
        adm_text_markup(out, strong ? ADM_MARKUP("** | ") : ADM_MARKUP(" | "));
        adm_text_escaped(out, f.name);
        adm_text_add(out, " ");
        adm_text_escaped(out, row->shown->metric->name);
        adm_text_add(out, " | ");
        adm_text_escaped(out, row->shown->config->title);
        adm_text_format(out, " | %s | %s | %s | %s | %s | %s | ", f.before, f.after, f.change, f.cycles, f.margin, f.p);
        adm_text_escaped(out, row->why);
        adm_text_add(out, " |\n");
    }
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
    if (n_equivalent < c->n_rows) {
        adm_text_add(out, "\n");
        markdown_table(c, false, out);
    }
    if (n_equivalent == 0) return;
    adm_text_format(out, "\n<details><summary>%zu equivalent</summary>\n\n", n_equivalent);
    markdown_table(c, true, out);
    adm_text_add(out, "\n</details>\n");
}
