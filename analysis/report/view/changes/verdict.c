/* verdict.c: the first screen: what was compared, the headline figures, and how the measurements went. */
#include "analysis/report/view/changes/verdict.h"

#include <string.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

/* A mark that reads without colours, and its class. */
static const struct {
    const char *verdict, *mark, *class;
} looks[] = {
    {"regressed", "\u25b2", "bad"}, {"crashed", "\u2716", "bad"},   {"bad", "\u2716", "bad"},     {"inconclusive", "?", "warn"},
    {"warn", "!", "warn"},          {"improved", "\u25bc", "good"}, {"passed", "\u2714", "good"}, {"good", "\u2714", "good"},
};

static void write_mark(adm_text *page, const char *verdict) {
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++)
        if (strcmp(looks[i].verdict, verdict) == 0)
            adm_text_format(page, "<span class=\"mark %s\" aria-hidden=\"true\">%s</span> ", looks[i].class, looks[i].mark);
}

static void write_counts(adm_text *page, const json_t *pair) {
    static const struct {
        const char *key, *word;
    } counts[] = {{"n_regressed", "regressed"},
                  {"n_improved", "improved"},
                  {"n_inconclusive", "inconclusive"},
                  {"n_equivalent", "unchanged"}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        adm_text_format(page, "%s%lld %s", i > 0 ? ", " : "", (long long)adm_field_int(pair, counts[i].key), counts[i].word);
}

static void write_pair(adm_text *page, const json_t *pair) {
    const char *verdict = adm_field_text(pair, "verdict");
    adm_text_add(page, "<li>");
    write_mark(page, verdict);
    adm_text_format(page, "<strong>%s</strong>: <a href=\"#%s\">%s</a> <small>%.10s</small><br>",
                    strcmp(verdict, "passed") == 0 ? "nothing got worse" : verdict, adm_field_text(pair, "view"),
                    adm_field_text(pair, "name"), adm_field_text(pair, "when"));
    write_counts(page, pair);
    if (adm_field_text(pair, "largest")[0] != '\0') adm_text_format(page, "<br>Largest: %s", adm_field_text(pair, "largest"));
    if (adm_field_text(pair, "cause")[0] != '\0') adm_text_format(page, "<br>Cause: %s", adm_field_text(pair, "cause"));
    adm_text_add(page, "</li>\n");
}

/* The first few pairs; the others are in the view of differences. */
enum { MAX_PAIRS = 5 };

static void write_pairs(adm_text *page, const json_t *verdict) {
    const json_t *pairs = json_object_get(verdict, "pairs");
    const size_t n = json_array_size(pairs);
    if (n == 0) {
        adm_text_format(page, "<p class=\"answer\">Nothing to compare yet: <code>%s</code></p>\n",
                        adm_field_text(verdict, "nothing"));
        return;
    }
    adm_text_add(page, "<ul class=\"pairs\">\n");
    for (size_t i = 0; i < n && i < MAX_PAIRS; i++) write_pair(page, json_array_get(pairs, i));
    adm_text_add(page, "</ul>\n");
    if (n > MAX_PAIRS)
        adm_text_format(
            page, "<p class=\"about\">The latest %d of %zu; all are under <a href=\"#differences\">Differences</a>.</p>\n",
            MAX_PAIRS, n);
}

static void write_headlines(adm_text *page, const json_t *headlines) {
    size_t i;
    json_t *one;
    if (json_array_size(headlines) == 0) return;
    adm_text_add(page, "<ul class=\"headlines\">\n");
    json_array_foreach(headlines, i, one)
        adm_text_format(page, "<li><a href=\"#%s\"><strong>%s</strong> %s</a><p>%s.</p></li>\n", adm_field_text(one, "view"),
                        adm_field_text(one, "value"), adm_field_text(one, "title"), adm_field_text(one, "text"));
    adm_text_add(page, "</ul>\n");
}

/* One line per source of figures: what is wrong first in its words, else that nothing is. */
static void write_health(adm_text *page, const json_t *health) {
    size_t i;
    json_t *row;
    int64_t last = 0;
    if (json_array_size(health) == 0) return;
    static const char *const level[] = {"good", "warn", "bad"};
    size_t n_bad = 0, n_warn = 0;
    json_array_foreach(health, i, row) {
        n_bad += strcmp(adm_field_text(row, "level"), "bad") == 0;
        n_warn += strcmp(adm_field_text(row, "level"), "warn") == 0;
    }
    adm_text_add(page, "<h3>Is it sound? ");
    write_mark(page, level[n_bad > 0 ? 2 : n_warn > 0]);
    if (n_bad > 0) adm_text_format(page, "No: %zu fault%s", n_bad, n_bad == 1 ? "" : "s");
    else adm_text_markup(page, n_warn > 0 ? ADM_MARKUP("Yes, with remarks") : ADM_MARKUP("Yes"));
    adm_text_add(page, "</h3>\n<dl class=\"health\">\n");
    json_array_foreach(health, i, row) {
        if (adm_field_int(row, "run_id") != last) {
            last = adm_field_int(row, "run_id");
            adm_text_format(page, "<dt>%s, ", adm_field_text(row, "what"));
            adm_write_run_link(page, last);
            adm_text_add(page, "</dt>\n");
        }
        adm_text_add(page, "<dd>");
        write_mark(page, adm_field_text(row, "level"));
        adm_text_format(page, "<a href=\"#%s\">%s</a></dd>\n", adm_field_text(row, "view"), adm_field_text(row, "text"));
    }
    adm_text_add(page, "</dl>\n");
}

void adm_view_verdict(adm_text *page, const json_t *document) {
    const json_t *verdict = json_object_get(document, "verdict");
    const json_t *headlines = json_object_get(verdict, "headlines");
    if (adm_document_is_empty(document) && json_array_size(json_object_get(verdict, "pairs")) == 0)
        adm_write_nothing(page, "No run in this database measured anything yet.");
    write_pairs(page, verdict);
    write_headlines(page, headlines);
    write_health(page, json_object_get(verdict, "health"));
}
