/* sketches.c: the best sketch of each model that was calibrated, and what it keeps of the attention. */
#include "analysis/report/view/sketches.h"

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static bool is_same_run(const json_t *a, const json_t *b) {
    return a != NULL && adm_field_int(a, "run_id") == adm_field_int(b, "run_id") &&
           json_equal(json_object_get(a, "trace"), json_object_get(b, "trace"));
}

/* "89.4%", or what says that it is not there. */
static void write_share(adm_text *page, const json_t *row, const char *key) {
    char shown[ADM_NUMBER_CHARS];
    double share = 0;
    if (!adm_field_number(row, key, &share)) {
        adm_text_add(page, "not measured");
        return;
    }
    adm_shown_value(share, "ratio", shown);
    adm_text_format(page, "%s%%", shown);
}

static void write_heading(adm_text *page, const json_t *row) {
    const char *model = adm_field_text(row, "model");
    adm_text_add(page, "<p>Best sketch of ");
    adm_text_escaped(page, model[0] != '\0' ? model : adm_field_text(row, "trace"));
    adm_text_add(page, ": <strong>adamas ");
    adm_text_escaped(page, adm_field_text(row, "variant"));
    adm_text_format(page, "</strong>, by <code>adamas calibrate</code> (");
    adm_write_run_link(page, adm_field_int(row, "run_id"));
    adm_text_add(page, ") on ");
    adm_text_escaped(page, adm_field_text(row, "trace"));
    adm_text_add(page, ". Mean attention kept on steps that it was not fitted to:</p>\n<ul class=\"best\">\n");
}

static void write_row(adm_text *page, const json_t *row) {
    char shown[ADM_NUMBER_CHARS];
    adm_shown_count(adm_field_int(row, "budget"), shown);
    adm_text_format(page, "<li>At budget %s: <strong>", shown);
    write_share(page, row, "mass");
    adm_text_add(page, "</strong>; the default (adamas l1 calibrated) ");
    write_share(page, row, "l1_mass");
    adm_text_add(page, ", the exact top-k ");
    write_share(page, row, "exact_mass");
    adm_shown_count(adm_field_int(row, "n"), shown);
    adm_text_format(page, "; n = %s</li>\n", shown);
}

void adm_view_sketches(adm_text *page, const json_t *document) {
    const json_t *last = NULL;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "sketches"), i, row) {
        if (!is_same_run(last, row)) {
            if (last != NULL) adm_text_add(page, "</ul>\n");
            write_heading(page, row);
        }
        write_row(page, row);
        last = row;
    }
    if (last != NULL) adm_text_add(page, "</ul>\n");
}
