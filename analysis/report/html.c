/* html.c: fills the slots of the page's template.
 *
 *   ... <!--adamas:nav--> ... <!--adamas:sections--> ... <script type="application/json"><!--adamas:data--> ...
 *
 * A view answers one question of the reader, in the order in which they are asked. One that has nothing to show gets no
 * section, and no entry in the contents. The template is web-report/'s, bundled at build time and carried in the program by
 * core/base/embed.S. */
#include "analysis/report/html.h"

#include <string.h>

#include "analysis/report/view/quality/budget.h"
#include "analysis/report/view/changes/checks.h"
#include "analysis/report/view/quality/claims.h"
#include "analysis/report/view/gpu/advice.h"
#include "analysis/report/view/gpu/counters.h"
#include "analysis/report/view/changes/differences.h"
#include "analysis/report/view/decode.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/gpu/gpu.h"
#include "analysis/report/view/quality/heads.h"
#include "analysis/report/view/changes/history.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/provenance.h"
#include "analysis/report/view/quality/quality.h"
#include "analysis/report/view/serving.h"
#include "analysis/report/view/gpu/speedup.h"
#include "analysis/report/view/stages.h"
#include "analysis/report/view/summary.h"
#include "analysis/report/view/tasks.h"
#include "analysis/report/view/tuning.h"
#include "analysis/report/view/changes/verdict.h"
#include "analysis/report/view/gpu/phases.h"
#include "analysis/report/view/gpu/timeline.h"
#include "analysis/report/pack.h"
#include "analysis/report/squeeze.h"
#include "core/base/embedded.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"

static void write_title(adm_text *page, const json_t *document) {
    size_t n_sessions = adm_n_sessions(document), n = n_sessions + adm_n_profiles(document);
    adm_text_add(page, "Adamas Lab");
    for (size_t i = 0; i < n && i < 3; i++) {
        adm_text_markup(page, i == 0 ? ADM_MARKUP(": ") : ADM_MARKUP(", "));
        adm_text_escaped(page, i < n_sessions ? adm_field_text(adm_session_trace(document, i), "name")
                                              : adm_field_text(adm_profile(document, i - n_sessions), "gpu"));
    }
}

/* The document itself, for the page's charts. */
static void write_data(adm_text *page, const json_t *document) {
    json_t *packed = NULL;
    if (adm_report_pack(document, &packed, &page->error) != ADM_OK) return;
    char *json = NULL;
    if (adm_json_text(packed, JSON_COMPACT | JSON_REAL_PRECISION(5), "the report's data", &json, &page->error) == ADM_OK)
        adm_text_script_json(page, json);
    adm_free(&json);
    json_decref(packed);
}

/* --- Views ---------------------------------------------------------------------------------------------------------- */

typedef void group_writer(adm_text *page, const json_t *document);
enum { MAX_GROUPS = 6 };

/* What a view shows, in groups; a group is found by its id too where that is not the view's. */
static const struct view {
    const char *id, *name, *title;
    struct group {
        const char *id, *title;
        group_writer *write;
    } group[MAX_GROUPS];
} views[] = {
    {"verdict", "Verdict", "Did anything get worse?", {{"", "", adm_view_verdict}}},
    {"differences",
     "Differences",
     "What changed",
     {{"", "", adm_view_differences}, {"checks", "What checks decided", adm_view_checks}}},
    {"time",
     "Time",
     "Where the time goes",
     {{"step", "", adm_view_step},
      {"advice", "What limits each stage, and what to do", adm_view_advice},
      {"gpu", "Stages on the GPU", adm_view_gpu_stages},
      {"phases", "Inside a step of one launch", adm_view_phases},
      {"timeline", "One step, kernel by kernel", adm_view_timeline},
      {"stages", "Stages on the host", adm_view_stages}}},
    {"limits", "Limits", "How far from the hardware\u2019s limit", {{"roofline", "", adm_view_roofline}}},
    {"budget",
     "Budget",
     "Which budget, and what it costs",
     {{"", "", adm_view_budget}, {"budgets", "How large a budget must be for every head", adm_view_budgets}}},
    {"speedup", "Speed-up", "Faster than dense attention, and where not", {{"", "", adm_view_speedup}}},
    {"summary", "Sessions", "Every session and GPU in a few figures", {{"", "", adm_view_summary}}},
    {"quality",
     "Quality",
     "What a selection loses",
     {{"policies", "Against the budget", adm_view_quality},
      {"heads", "Which heads suffer", adm_view_heads},
      {"codes", "How well the codes spread", adm_view_codes}}},
    {"counters", "Counters", "What the hardware counted", {{"", "", adm_view_counters}}},
    {"tasks", "Tasks", "What a budget costs the model", {{"", "", adm_view_tasks}}},
    {"tuning", "Tuning", "Kernels of one\u2019s own", {{"", "", adm_view_tuning}}},
    {"decode", "Whole models", "What a token costs in a whole model", {{"", "", adm_view_decode}}},
    {"serving", "Serving", "What a budget gives in serving", {{"", "", adm_view_serving}}},
    {"history", "History", "How it changed", {{"", "", adm_view_history}}},
    {"claims", "Claims", "The paper\u2019s claims", {{"", "", adm_view_claims}}},
    {"provenance", "Provenance", "Where every figure comes from", {{"", "", adm_view_provenance}}},
};
enum { N_VIEWS = sizeof views / sizeof views[0] };

static void write_nav_entry(adm_text *nav, const struct view *view) {
    adm_text_format(nav, "<li><a href=\"#%s\">%s</a></li>\n", view->id, view->name);
}

/* A group that is not made of parts is one part, except on the first screen: it is text until its view is shown. */
static void write_group(adm_text *main, const struct group *group, const adm_text *inside, bool is_first_view) {
    adm_text_add(main, "<div class=\"group\"");
    if (group->id[0] != '\0') adm_text_format(main, " id=\"%s\"", group->id);
    adm_text_add(main, ">\n");
    if (group->title[0] != '\0') adm_text_format(main, "<h3 class=\"group\">%s</h3>\n", group->title);
    const bool has_parts = strstr(inside->data, "<noscript") != NULL;
    if (!is_first_view && !has_parts) adm_text_add(main, "<noscript>\n");
    adm_text_append(main, inside);
    if (!is_first_view && !has_parts) adm_text_add(main, "</noscript>\n");
    adm_text_add(main, "</div>\n");
}

/* The view's groups that have something to show. */
static adm_status write_groups(const json_t *document, const struct view *view, adm_text *out, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t g = 0; g < MAX_GROUPS && view->group[g].write != NULL && status == ADM_OK; g++) {
        adm_text inside = {0};
        view->group[g].write(&inside, document);
        status = adm_text_check(&inside, err);
        if (status == ADM_OK && inside.length > 0) write_group(out, &view->group[g], &inside, view == views);
        adm_text_free(&inside);
    }
    return status == ADM_OK ? adm_text_check(out, err) : status;
}

static void write_section(adm_text *main, const struct view *view, const adm_text *inside) {
    adm_text_format(main, "<section id=\"%s\" aria-labelledby=\"%s-title\">\n<h2 id=\"%s-title\">%s</h2>\n", view->id, view->id,
                    view->id, view->title);
    adm_text_append(main, inside);
    adm_text_add(main, "</section>\n");
}

static adm_status write_sections(const json_t *document, adm_text *nav, adm_text *main, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < N_VIEWS && status == ADM_OK; i++) {
        adm_text inside = {0};
        status = write_groups(document, &views[i], &inside, err);
        if (status == ADM_OK && inside.length > 0) {
            adm_text squeezed = {0};
            adm_squeeze(&squeezed, &inside);
            status = adm_text_check(&squeezed, err);
            write_nav_entry(nav, &views[i]);
            if (status == ADM_OK) write_section(main, &views[i], &squeezed);
            adm_text_free(&squeezed);
        }
        adm_text_free(&inside);
    }
    if (status == ADM_OK) status = adm_text_check(nav, err);
    return status == ADM_OK ? adm_text_check(main, err) : status;
}

/* --- The page ------------------------------------------------------------------------------------------------------- */

/* What goes into the slots of the template, each exactly once. */
typedef struct contents {
    adm_text title, nav, sections, data;
} contents;

static const adm_text *content_named(const contents *p, const char *name, size_t length) {
    const struct {
        const char *name;
        const adm_text *text;
    } slots[] = {{"title", &p->title}, {"nav", &p->nav}, {"sections", &p->sections}, {"data", &p->data}};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        if (strlen(slots[i].name) == length && strncmp(slots[i].name, name, length) == 0) return slots[i].text;
    return NULL;
}

static adm_status fill_template(const contents *p, adm_text *page, adm_error *err) {
    static const char opening[] = "<!--adamas:";
    const char *at = adm_embedded("build/gen/report_template.html")->data;
    size_t n_filled = 0;
    for (const char *mark; (mark = strstr(at, opening)) != NULL; n_filled++) {
        const char *name = mark + sizeof opening - 1, *end = strstr(name, "-->");
        const adm_text *content = end != NULL ? content_named(p, name, (size_t)(end - name)) : NULL;
        if (content == NULL) return adm_fail(err, ADM_EINTERNAL, "the report's template has an unknown slot '%.20s'", name);
        adm_text_markup(page, (adm_markup){at, (size_t)(mark - at)}); /* the template is ours: it is in the program */
        adm_text_append(page, content);
        at = end + 3;
    }
    adm_text_markup(page, (adm_markup){at, strlen(at)});
    if (n_filled != 4) return adm_fail(err, ADM_EINTERNAL, "the report's template has %zu slots, not 4", n_filled);
    return adm_text_check(page, err);
}

adm_status adm_report_html(const json_t *document, adm_text *page, adm_error *err) {
    contents p = {0};
    write_title(&p.title, document);
    write_data(&p.data, document);
    adm_status status = adm_text_check(&p.title, err);
    if (status == ADM_OK) status = adm_text_check(&p.data, err);
    if (status == ADM_OK) status = write_sections(document, &p.nav, &p.sections, err);
    if (status == ADM_OK) status = fill_template(&p, page, err);
    adm_text_free(&p.title);
    adm_text_free(&p.nav);
    adm_text_free(&p.sections);
    adm_text_free(&p.data);
    return status;
}
