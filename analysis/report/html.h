/* html.h: one self-contained page from a report's document. */
#ifndef ADM_ANALYSIS_REPORT_HTML_H
#define ADM_ANALYSIS_REPORT_HTML_H

#include <jansson.h>

#include "analysis/output/text.h"
#include "core/base/error.h"

/* Appends the page to *page: the template that the program carries, its slots filled with the views (view/) and with the
 * document itself. `page` is the caller's, zero-initialised, to be released with adm_text_free().
 * ADM_EENVIRONMENT: out of memory. ADM_EINTERNAL: the template lacks a slot, or has one twice. */
adm_status adm_report_html(const json_t *document, adm_text *page, adm_error *err);

#endif
