/* text.h: the text of a page in the making. Somebody else's words cannot become markup by a mistake of ours:
 *
 *   adm_text_add(page, "<td>")                      a literal of the source, and nothing else: a variable does not compile
 *   adm_text_format(page, "<td>%lld %s", n, name)   a literal; every %s is escaped
 *   adm_text_escaped(page, name)                    somebody else's words
 *   adm_text_markup(page, caption)                  an adm_markup, which only ADM_MARKUP("literal") makes
 *   adm_text_append(page, &cell)                    a text made in the same way
 *
 * What escaping means depends on what the text is for (adm_dialect). In every dialect foreign words are first made printable
 * (core/base/printable.h). Running out of memory is remembered in the buffer and reported once, by adm_text_check(); what is
 * added after that is dropped. */
#ifndef ADM_ANALYSIS_OUTPUT_TEXT_H
#define ADM_ANALYSIS_OUTPUT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef enum adm_dialect {
    ADM_TEXT_HTML,     /* and XML: & < > " ' become entities, so words are safe in an element and in a quoted attribute */
    ADM_TEXT_MARKDOWN, /* what is markup in Markdown or HTML becomes an entity */
    ADM_TEXT_PLAIN     /* for a terminal */
} adm_dialect;

/* Zero-initialise, but for the dialect; release with adm_text_free(). data is NUL-terminated once anything was added, else
 * NULL. */
typedef struct adm_text {
    char *data;
    size_t length, capacity;
    adm_error error; /* status ADM_OK: nothing went wrong */
    adm_dialect dialect;
} adm_text;

void adm_text_free(adm_text *text);
adm_status adm_text_check(const adm_text *text, adm_error *err);

/* Markup of our own that is handed on. A literal beside "" is the only thing that compiles. */
typedef struct adm_markup {
    const char *bytes;
    size_t n;
} adm_markup;

#define ADM_MARKUP(literal) ((adm_markup){"" literal "", sizeof("" literal "") - 1})
#define ADM_MARKUP_INIT(literal) {"" literal "", sizeof("" literal "") - 1} /* of a static object */

void adm_text_markup(adm_text *text, adm_markup markup);

#define adm_text_add(text, literal) adm_text_markup((text), ADM_MARKUP(literal))
#define adm_text_format(text, ...) adm_text_format_literal((text), "" __VA_ARGS__)

void adm_text_format_literal(adm_text *text, const char *format, ...) ADM_PRINTF(2, 3);
void adm_text_escaped(adm_text *text, const char *words);
void adm_text_append(adm_text *text, const adm_text *made);

/* Appends a JSON text for a <script> element: every '<' becomes \u003c, so no string in it can end the element. */
void adm_text_script_json(adm_text *text, const char *json);

#endif
