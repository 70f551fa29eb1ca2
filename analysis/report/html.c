/* html.c: fills the slots of the page's template.
 *
 *   ... <!--adamas:nav--> ... <!--adamas:sections--> ... <script type="application/json"><!--adamas:data--> ...
 *
 * A view that has nothing to show gets no section, and no entry in the contents. The template is web-report/'s, bundled at
 * build time and carried in the program by core/base/embed.S. */
#include "analysis/report/html.h"

#include <stdlib.h>
#include <string.h>

#include "analysis/report/view/checks.h"
#include "analysis/report/view/claims.h"
#include "analysis/report/view/gpu/counters.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/gpu/gpu.h"
#include "analysis/report/view/heads.h"
#include "analysis/report/view/history.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/provenance.h"
#include "analysis/report/view/quality.h"
#include "analysis/report/view/serving.h"
#include "analysis/report/view/gpu/speedup.h"
#include "analysis/report/view/stages.h"
#include "analysis/report/view/summary.h"
#include "analysis/report/view/tasks.h"
#include "analysis/report/view/tuning.h"
#include "analysis/report/view/gpu/phases.h"
#include "analysis/report/view/gpu/timeline.h"
#include "core/base/embedded.h"

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
    char *json = json_dumps(document, JSON_COMPACT);
    if (json == NULL) adm_fail(&page->error, ADM_EENVIRONMENT, "out of memory while writing the report's data");
    else adm_text_script_json(page, json);
    free(json);
}

/* --- Sections ------------------------------------------------------------------------------------------------------- */

static const struct section {
    const char *id, *name, *title;
    void (*write)(adm_text *page, const json_t *document);
} sections[] = {
    {"summary", "Summary", "Summary", adm_view_summary},
    {"speedup", "Speed-up", "Faster than dense attention, and where not", adm_view_speedup},
    {"gpu", "GPU stages", "Where a step\u2019s time goes on the GPU", adm_view_gpu_stages},
    {"roofline", "Roofline", "How far from the hardware\u2019s limit", adm_view_roofline},
    {"phases", "Phases", "Inside a step of one launch", adm_view_phases},
    {"timeline", "Timeline", "One step, kernel by kernel", adm_view_timeline},
    {"counters", "Counters", "What the hardware counted", adm_view_counters},
    {"quality", "Quality", "Quality against budget", adm_view_quality},
    {"budgets", "Budgets", "How large a budget must be", adm_view_budgets},
    {"heads", "Heads", "Which heads suffer", adm_view_heads},
    {"codes", "Codes", "How well the codes spread", adm_view_codes},
    {"tasks", "Tasks", "What a budget costs the model", adm_view_tasks},
    {"stages", "Host stages", "Where a step\u2019s time goes on the host", adm_view_stages},
    {"tuning", "Tuning", "Kernels of one\u2019s own", adm_view_tuning},
    {"serving", "Serving", "What a budget gives in serving", adm_view_serving},
    {"claims", "Claims", "The paper\u2019s claims", adm_view_claims},
    {"history", "History", "How it changed", adm_view_history},
    {"checks", "Checks", "What checks decided", adm_view_checks},
    {"provenance", "Provenance", "Provenance", adm_view_provenance},
};
enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

static void write_nav_entry(adm_text *nav, const struct section *section) {
    adm_text_format(nav, "<li><a href=\"#%s\">%s</a></li>\n", section->id, section->name);
}

static void write_section(adm_text *main, const struct section *section, const adm_text *inside) {
    adm_text_format(main, "<section id=\"%s\" aria-labelledby=\"%s-title\">\n<h2 id=\"%s-title\">%s</h2>\n", section->id,
                    section->id, section->id, section->title);
    adm_text_append(main, inside);
    adm_text_add(main, "</section>\n");
}

static adm_status write_sections(const json_t *document, adm_text *nav, adm_text *main, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < N_SECTIONS && status == ADM_OK; i++) {
        adm_text inside = {0};
        sections[i].write(&inside, document);
        status = adm_text_check(&inside, err);
        if (status == ADM_OK && inside.length > 0) {
            write_nav_entry(nav, &sections[i]);
            write_section(main, &sections[i], &inside);
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
