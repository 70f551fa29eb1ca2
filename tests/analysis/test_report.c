/* test_report.c: the report's document and page, from databases with known figures. */
#include "tests/support/store_fixture.h"

#include <jansson.h>
#include <stdbool.h>

#include "analysis/report/data.h"
#include "analysis/report/html.h"
#include "analysis/report/squeeze.h"
#include "core/base/mem.h"

static const char hostile[] = "</script><img src=x onerror=alert(1)>\"'&";

/* Adds a run with one policy at two budgets on a trace; `number` tells traces apart and scales the figures. */
static int64_t add_run(fixture *f, const char *kind, const char *name, const char *status, int number) {
    adm_store *store;
    adm_run_info run = some_run();
    adm_trace trace = some_trace();
    int64_t run_id, trace_id, config_id;
    run.label = trace.model = hostile;
    trace.kind = kind;
    trace.name = name;
    trace.xxh128[0] = (char)('a' + number);
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_store_begin_run(store, &run, &run_id, &f->err));
    OK(adm_store_trace(store, &trace, &trace_id, &f->err));
    OK(adm_store_calibration(store, run_id, trace_id, hostile, 14, (const float[]){-1, 0, 1}, &f->err));
    for (int b = 0; b < 2; b++) {
        static const adm_metric metrics[] = {{"recall", "ratio", "higher", "Share"},
                                             {"mass", "ratio", "higher", "Mass"},
                                             {"output_rel_l2", "ratio", "lower", "Error"}};
        adm_config config = some_config(trace_id);
        config.budget = b == 0 ? 64 : 256;
        OK(adm_store_config(store, &config, &config_id, &f->err));
        for (int m = 0; m < 3; m++) {
            adm_distribution d = some_distribution;
            d.median = (0.1234 + 0.1 * m) / number;
            adm_measurement measurement = {.run_id = run_id,
                                           .config_id = config_id,
                                           .source = "host",
                                           .layer = -1,
                                           .head = -1,
                                           .metric = &metrics[m],
                                           .distribution = &d,
                                           .status = "ok"};
            OK(adm_store_measurement(store, &measurement, &f->err));
            measurement.layer = 14;
            measurement.head = 5;
            OK(adm_store_measurement(store, &measurement, &f->err));
        }
    }
    adm_measurement skipped = {.run_id = run_id,
                               .config_id = config_id,
                               .source = "host",
                               .stage = "distance",
                               .layer = -1,
                               .head = -1,
                               .metric = &time_metric,
                               .status = "skipped",
                               .reason = "no permission <here>"};
    OK(adm_store_measurement(store, &skipped, &f->err));
    OK(adm_store_flush(store, &f->err));
    if (strcmp(status, "running") != 0) OK(adm_store_end_run(store, run_id, status, "because & why", &f->err));
    adm_store_close(&store);
    return run_id;
}

static json_t *document_of(fixture *f, const uint32_t *runs, size_t n_runs) {
    adm_store *store;
    json_t *document;
    OK(adm_store_open(f->db, ADM_STORE_READ, &store, &f->err));
    OK(adm_report_data(store, "a.db", runs, n_runs, NULL, &(adm_progress){0}, &document, &f->err));
    adm_store_close(&store);
    return document;
}

static size_t size_of(const json_t *document, const char *name) { return json_array_size(json_object_get(document, name)); }

static void the_document_holds_the_figures(void **state) {
    fixture *f = *state;
    int64_t run_id = add_run(f, "real", "t.safetensors", "complete", 1);
    json_t *document = document_of(f, NULL, 0);
    assert_string_equal(json_string_value(json_object_get(document, "format")), "adamas-report/1");
    assert_int_equal(size_of(document, "sessions"), 1);
    assert_int_equal(size_of(document, "runs"), 1);
    assert_int_equal(size_of(document, "quality"), 6);
    assert_int_equal(size_of(document, "calibrations"), 1);
    const json_t *first = json_array_get(json_object_get(document, "quality"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "metric")), "recall");
    assert_true(json_real_value(json_object_get(first, "median")) == 0.1234);
    assert_int_equal(json_integer_value(json_object_get(first, "worst_head")), 5);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(document, "runs"), 0), "run_id")),
                     run_id);
    const json_t *stage = json_array_get(json_object_get(document, "stages"), 0);
    assert_true(json_is_null(json_object_get(stage, "median")));
    assert_string_equal(json_string_value(json_object_get(stage, "reason")), "no permission <here>");
    json_decref(document);
}

/* The page: as a whole, and from the summary on, where no script of the template's can match by chance. */
static char *page_of(fixture *f, const uint32_t *runs, size_t n_runs) {
    json_t *document = document_of(f, runs, n_runs);
    adm_text page = {0};
    OK(adm_report_html(document, &page, &f->err));
    json_decref(document);
    return page.data;
}

static void expect_text(const char *page, const char *text) {
    if (strstr(page, text) == NULL) fail_msg("the page does not hold '%s'", text);
}

static void the_page_shows_the_figures_and_reasons(void **state) {
    fixture *f = *state;
    add_run(f, "real", "t.safetensors", "complete", 1);
    char *page = page_of(f, NULL, 0);
    expect_text(page, "<td>12.34<td>");
    expect_text(page, "skipped: no permission &lt;here&gt;");
    expect_text(page, ">14, 5<"); /* the worst head: layer 14, head 5 */
    expect_text(page, "<tr><th>cpu_model<td class=text>cpu");
    expect_text(page, "4,096");
    adm_free(&page);
}

static void hostile_text_stays_text(void **state) {
    fixture *f = *state;
    add_run(f, "real", hostile, "complete", 1);
    char *page = page_of(f, NULL, 0);
    assert_null(strstr(page, "<img"));
    expect_text(page, "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;");
    expect_text(page, "\\u003c/script>\\u003cimg");
    /* Every script element that opens, closes, and nothing else closes one. */
    size_t n_opened = 0, n_closed = 0;
    for (const char *at = page; (at = strstr(at, "<script")) != NULL; at++) n_opened++;
    for (const char *at = page; (at = strstr(at, "</script")) != NULL; at++) n_closed++;
    assert_true(n_opened == n_closed && n_opened >= 2);
    adm_free(&page);
}

static void an_interrupted_run_says_so(void **state) {
    fixture *f = *state;
    int64_t run_id = add_run(f, "real", "t.safetensors", "running", 1);
    char *page = page_of(f, NULL, 0);
    expect_text(page, "This run is not complete: running");
    adm_free(&page);
    raw_exec(f->db, "UPDATE run SET status = 'interrupted', reason = 'because & why'");
    page = page_of(f, (const uint32_t[]){(uint32_t)run_id}, 1);
    expect_text(page, "This run is not complete: interrupted");
    expect_text(page, "because &amp; why");
    adm_free(&page);
}

static void a_complete_run_goes_before_a_later_broken_one(void **state) {
    fixture *f = *state;
    int64_t complete = add_run(f, "real", "t.safetensors", "complete", 1);
    int64_t broken = add_run(f, "real", "t.safetensors", "running", 1);
    json_t *document = document_of(f, NULL, 0);
    const json_t *shown = json_array_get(json_object_get(document, "sessions"), 0);
    assert_int_equal(json_integer_value(json_object_get(shown, "run_id")), complete);
    assert_int_equal(size_of(document, "other_runs"), 1);
    json_decref(document);
    document = document_of(f, (const uint32_t[]){(uint32_t)broken}, 1);
    shown = json_array_get(json_object_get(document, "sessions"), 0);
    assert_int_equal(json_integer_value(json_object_get(shown, "run_id")), broken);
    json_decref(document);
}

static void real_and_synthetic_never_mix(void **state) {
    fixture *f = *state;
    add_run(f, "synthetic", "made.safetensors", "complete", 2);
    add_run(f, "real", "t.safetensors", "complete", 1);
    add_run(f, "synthetic", "made.safetensors", "complete", 2); /* the newest, and yet not first */
    json_t *document = document_of(f, NULL, 0), *row;
    assert_int_equal(size_of(document, "sessions"), 2);
    const json_t *first = json_array_get(json_object_get(document, "sessions"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "trace_id")), 2);
    size_t i;
    json_array_foreach(json_object_get(document, "quality"), i, row) {
        const json_t *shown = json_array_get(json_object_get(document, "sessions"),
                                             (size_t)json_integer_value(json_object_get(row, "session")));
        int64_t trace_id = json_integer_value(json_object_get(shown, "trace_id"));
        bool recall = strcmp(json_string_value(json_object_get(row, "metric")), "recall") == 0;
        double expected = trace_id == 1 ? 0.1234 / 2 : 0.1234; /* the synthetic one was stored first */
        if (recall) assert_true(json_real_value(json_object_get(row, "median")) == expected);
    }
    json_decref(document);
    char *page = page_of(f, NULL, 0);
    expect_text(page, "<span class=\"badge real\">real</span>");
    expect_text(page, "<span class=\"badge not-real\">synthetic</span>");
    adm_free(&page);
}

static void nothing_to_report(void **state) {
    fixture *f = *state;
    adm_store *store;
    json_t *document;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    FAILS(ADM_EINPUT, adm_report_data(store, "a.db", NULL, 0, NULL, &(adm_progress){0}, &document, &f->err),
          "a.db holds no run", "adamas replay");
    assert_null(document);
    adm_store_close(&store);
    add_run(f, "real", "t.safetensors", "complete", 1);
    OK(adm_store_open(f->db, ADM_STORE_READ, &store, &f->err));
    FAILS(ADM_EINPUT, adm_report_data(store, "a.db", (const uint32_t[]){9}, 1, NULL, &(adm_progress){0}, &document, &f->err),
          "no run 9", "newest is run 1");
    adm_store_close(&store);
}

static void expect_squeezed(adm_markup markup, const char *expected) {
    adm_text whole = {0}, squeezed = {0};
    adm_text_markup(&whole, markup);
    adm_squeeze(&squeezed, &whole);
    assert_string_equal(squeezed.data, expected);
    adm_text_free(&whole);
    adm_text_free(&squeezed);
}

static void what_html_infers_is_left_out(void **state) {
    (void)state;
    /* Columns: a heading, a text column, numbers, text again; a row that lacks a class, one with a span, one with a tooltip. */
    expect_squeezed(
        ADM_MARKUP(
            "<table aria-label=\"a b\">\n<thead><tr><th scope=\"col\" class=\"text\">s</th><th scope=\"col\" "
            "class=\"text\">t</th><th scope=\"col\">n</th><th scope=\"col\" class=\"text\">u</th></tr></thead>\n<tbody>\n"
            "<tr class=\"first\"><th scope=\"row\">a</th><td class=\"text\">b</td><td title=\"x > y\">1</td><td "
            "class=\"text wrap\">c</td></tr>\n<tr><th scope=\"row\">d</th><td class=\"none text\" "
            "colspan=\"2\">e</td></tr>\n</tbody></table>"),
        "<table aria-label=\"a b\"><thead><tr><th scope=col class=text>s<th scope=col class=text>t<th scope=col>n<th "
        "scope=col class=text>u<tbody class=\"t2 t4\"><tr class=first><th>a<td>b<td title=\"x > y\">1<td class=\"text "
        "wrap\">c<tr><th>d<td class=\"none text\" colspan=2>e</table>");
    /* Without headings a class stays; a heading that is not a row's first keeps its scope. */
    expect_squeezed(ADM_MARKUP("<table><tbody><tr><th scope=\"row\">k</th><td class=\"text\">v</td><th scope=\"row\">w</th>"
                               "</tr></tbody></table><p>1 <a href=\"#run-1\">run 1</a></p>\n<b>x</b>"),
                    "<table><tbody><tr><th>k<td class=text>v<th scope=row>w</table><p>1 <a href=#run-1>run 1</a></p><b>x</b>");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(the_document_holds_the_figures),
        STORE_TEST(the_page_shows_the_figures_and_reasons),
        STORE_TEST(hostile_text_stays_text),
        STORE_TEST(an_interrupted_run_says_so),
        STORE_TEST(a_complete_run_goes_before_a_later_broken_one),
        STORE_TEST(real_and_synthetic_never_mix),
        STORE_TEST(nothing_to_report),
        cmocka_unit_test(what_html_infers_is_left_out),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
