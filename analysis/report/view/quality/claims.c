/* claims.c: the paper's claims, what this database says of each, and its figures. */
#include "analysis/report/view/quality/claims.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

/* "35.80%" of a ratio, "6.88" of a plain number. */
static void add_number(adm_text *page, double value, const char *unit) {
    char shown[ADM_NUMBER_CHARS];
    if (strcmp(unit, "ratio") == 0) adm_shown_value(value, "ratio", shown);
    else snprintf(shown, sizeof shown, "%.3g", value);
    adm_text_escaped(page, shown);
    if (strcmp(unit, "ratio") == 0) adm_text_add(page, "%");
}

static void write_found(adm_text *page, const json_t *document, const json_t *found) {
    const char *unit = adm_field_text(found, "unit");
    char exact[ADM_NUMBER_CHARS];
    double value = 0, low, high;
    adm_write_long_cell(page, found, "what");
    adm_field_number(found, "value", &value);
    adm_exact_value(value, exact);
    adm_text_format(page, "<td title=\"%s\"><strong>", exact);
    add_number(page, value, unit);
    adm_text_add(page, "</strong></td><td>");
    if (adm_field_number(found, "low", &low) && adm_field_number(found, "high", &high)) {
        add_number(page, low, unit);
        adm_text_add(page, " to ");
        add_number(page, high, unit);
    }
    adm_text_add(page, "</td>");
    adm_write_count_cell(page, found, "n", "");
    adm_write_run_cell(page, document, adm_field_int(found, "run_id"));
    adm_write_long_cell(page, found, "place");
}

/* --- What became of each claim --------------------------------------------------------------------------------------- */

typedef enum answer { REACHED, SHORT, UNDECIDED } answer;

static bool is_perplexity(const json_t *found) { return strncmp(adm_field_text(found, "what"), "perplexity", 10) == 0; }

/* What one figure says of a claim. An output error decides nothing: the claim is about the model's answers. */
static answer answer_of(const json_t *claim, const json_t *found) {
    double least, value = 0, low;
    adm_field_number(found, "value", &value);
    if (adm_field_number(claim, "least", &least)) return value >= least ? REACHED : SHORT;
    if (!is_perplexity(found)) return UNDECIDED;
    return (adm_field_number(found, "low", &low) ? low : value) <= 1 ? REACHED : SHORT;
}

static const struct {
    const char *mark, *class, *words;
} answers[] = {
    [REACHED] = {"\u2714", "good", "reached"},
    [SHORT] = {"\u2716", "bad", "not reached"},
    [UNDECIDED] = {"?", "warn", "not decided"},
};

/* "reached: 6.88, dense over a step, fused (NVIDIA H200, ...); so say 4 of 4 figures": by the first figure, which is this
 * machine's and the latest. */
static void write_answer(adm_text *page, const json_t *claim) {
    const json_t *found = json_object_get(claim, "found"), *first = json_array_get(found, 0);
    const answer said = first != NULL ? answer_of(claim, first) : UNDECIDED;
    size_t n_alike = 0, i;
    json_t *one;
    double value = 0;
    json_array_foreach(found, i, one) n_alike += answer_of(claim, one) == said;
    adm_text_format(page,
                    "<li><span class=\"mark %s\" aria-hidden=\"true\">%s</span> <strong>%s</strong>: ", answers[said].class,
                    answers[said].mark, adm_field_text(claim, "claim"));
    if (first == NULL) {
        adm_text_format(page, "not measured: <code>%s</code></li>\n", adm_field_text(claim, "command"));
        return;
    }
    adm_field_number(first, "value", &value);
    adm_text_format(page, "%s: ", answers[said].words);
    add_number(page, value, adm_field_text(first, "unit"));
    adm_text_format(page, ", %s (%s)", adm_field_text(first, "what"), adm_field_text(first, "place"));
    if (said == UNDECIDED) adm_text_add(page, "; perplexity decides: <code>python3 traces/model/evaluate.py</code>");
    else if (json_array_size(found) > 1) adm_text_format(page, "; so say %zu of %zu figures", n_alike, json_array_size(found));
    adm_text_add(page, "</li>\n");
}

/* --- Every figure ---------------------------------------------------------------------------------------------------- */

/* A row for each figure; one that says so where there is none. */
static void write_claim(adm_text *page, const json_t *document, const json_t *claim) {
    const json_t *found = json_object_get(claim, "found");
    const size_t n = json_array_size(found);
    for (size_t i = 0; i < (n > 0 ? n : 1); i++) {
        adm_write_row_start(page, i == 0);
        adm_text_add(page, "<th scope=\"row\" class=\"wrap\">");
        adm_text_escaped(page, adm_field_text(claim, "claim"));
        adm_text_add(page, "</th>");
        if (n > 0) write_found(page, document, json_array_get(found, i));
        else adm_text_add(page, "<td class=\"none\" colspan=\"6\">not measured: see below</td>");
        adm_write_long_cell(page, claim, "paper");
        adm_text_add(page, "</tr>\n");
    }
}

void adm_view_claims(adm_text *page, const json_t *document) {
    const json_t *claims = adm_document_rows(document, "claims");
    size_t i, n_rows = 0;
    json_t *claim;
    if (json_array_size(claims) == 0) return;
    adm_text_add(
        page, "<p class=\"about\">What the paper claims on its models and GPU, beside what this database holds, on the models, "
              "texts and GPUs that the rows name. Intervals are 95% intervals for perplexity, p10 to p90 otherwise.</p>\n");
    adm_text_add(page, "<ul class=\"answers\">\n");
    json_array_foreach(claims, i, claim) {
        write_answer(page, claim);
        n_rows += json_array_size(json_object_get(claim, "found")) > 0 ? json_array_size(json_object_get(claim, "found")) : 1;
    }
    adm_text_add(page, "</ul>\n");
    adm_write_table_start(page, document, "Claims of the paper", n_rows, true, NULL);
    adm_text_format(page,
                    ADM_SQL("SELECT run_id, label, stage, variant, seq_len, kv_heads, budget, median FROM stage_summary WHERE "
                            "stage IN ('step', 'dense', 'distance', 'topk', 'attention') AND metric = 'time_ns' AND status = "
                            "'ok' ORDER BY run_id, seq_len, budget"));
    adm_write_table_head(page, "<claim|<measured here|value|interval|n|run|<model, text or GPU|<paper\u2019s setting");
    json_array_foreach(claims, i, claim) write_claim(page, document, claim);
    adm_write_table_end(page);
    adm_text_add(page, "<p class=\"about\">What measures each:</p>\n<ul>\n");
    json_array_foreach(claims, i, claim) {
        adm_text_add(page, "<li>");
        adm_text_escaped(page, adm_field_text(claim, "claim"));
        adm_text_add(page, ": <code>");
        adm_text_escaped(page, adm_field_text(claim, "command"));
        adm_text_add(page, "</code></li>\n");
    }
    adm_text_add(page, "</ul>\n");
}
