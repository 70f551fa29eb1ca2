/* report_html.c: fills the slots of the page's template.
 *
 *   ... <!--adamas:summary--> ... <!--adamas:stages--> ... <script type="application/json"><!--adamas:data--> ...
 *
 * The template is web-report/'s, bundled at build time and carried in the program by core/embed.S. */
#include "analysis/report_html.h"

#include <stdlib.h>
#include <string.h>

#include "analysis/report_view.h"

extern const char adm_embed_report_template[], adm_embed_report_template_end[];

static void write_title(adm_text *page, const json_t *document) {
    adm_text_add(page, "Adamas Lab");
    for (size_t session = 0; session < adm_n_sessions(document) && session < 3; session++) {
        adm_text_add(page, session == 0 ? ": " : ", ");
        adm_text_escaped(page, adm_field_text(adm_session_trace(document, session), "name"));
    }
}

/* The document itself, for the page's charts. */
static void write_data(adm_text *page, const json_t *document) {
    char *json = json_dumps(document, JSON_COMPACT);
    if (json == NULL) adm_fail(&page->error, ADM_EENVIRONMENT, "out of memory while writing the report's data");
    else adm_text_script_json(page, json);
    free(json);
}

static const struct slot {
    const char *name;
    void (*write)(adm_text *page, const json_t *document);
} slots[] = {
    {"title", write_title},          {"summary", adm_view_summary}, {"quality", adm_view_quality},
    {"heads", adm_view_heads},       {"codes", adm_view_codes},     {"stages", adm_view_stages},
    {"provenance", adm_view_provenance}, {"data", write_data},
};
enum { N_SLOTS = sizeof slots / sizeof slots[0] };

adm_status adm_report_html(const json_t *document, adm_text *page, adm_error *err) {
    static const char opening[] = "<!--adamas:";
    bool filled[N_SLOTS] = {false};
    const char *at = adm_embed_report_template;
    for (const char *mark; (mark = strstr(at, opening)) != NULL;) {
        const char *name = mark + sizeof opening - 1, *end = strstr(name, "-->");
        size_t length = end != NULL ? (size_t)(end - name) : 0, i = 0;
        while (i < N_SLOTS && (strlen(slots[i].name) != length || strncmp(slots[i].name, name, length) != 0)) i++;
        if (i == N_SLOTS || filled[i])
            return adm_fail(err, ADM_EINTERNAL, "the report's template has an unknown or doubled slot '%.20s'", name);
        adm_text_bytes(page, at, (size_t)(mark - at));
        slots[i].write(page, document);
        filled[i] = true;
        at = end + 3;
    }
    adm_text_bytes(page, at, (size_t)(adm_embed_report_template_end - at));
    for (size_t i = 0; i < N_SLOTS; i++)
        if (!filled[i]) return adm_fail(err, ADM_EINTERNAL, "the report's template has no slot '%s'", slots[i].name);
    return adm_text_check(page, err);
}
