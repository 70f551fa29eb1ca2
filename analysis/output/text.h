/* text.h: the text of a page in the making: a growing buffer and HTML escaping.
 *
 * Running out of memory is remembered in the buffer and reported once, by adm_text_check(); what is added after that
 * is dropped. */
#ifndef ADM_ANALYSIS_OUTPUT_TEXT_H
#define ADM_ANALYSIS_OUTPUT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* Zero-initialise; release with adm_text_free(). data is NUL-terminated once anything was added, else NULL. */
typedef struct adm_text {
    char *data;
    size_t length, capacity;
    adm_error error; /* status ADM_OK: nothing went wrong */
} adm_text;

void adm_text_free(adm_text *text);
adm_status adm_text_check(const adm_text *text, adm_error *err);

/* Appends bytes as they are: markup of our own. */
void adm_text_bytes(adm_text *text, const char *bytes, size_t n);
void adm_text_add(adm_text *text, const char *markup);
void adm_text_format(adm_text *text, const char *format, ...) ADM_PRINTF(2, 3);

/* Appends text that somebody else wrote: & < > " ' become entities, so it is safe in an element and in a quoted
 * attribute. */
void adm_text_escaped(adm_text *text, const char *words);

/* Appends a JSON text for a <script> element: every '<' becomes \u003c, so no string in it can end the element. */
void adm_text_script_json(adm_text *text, const char *json);

#endif
