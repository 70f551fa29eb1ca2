/* text.c: the text of a page in the making. */
#include "analysis/output/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

void adm_text_free(adm_text *text) {
    adm_free(&text->data);
    *text = (adm_text){0};
}

adm_status adm_text_check(const adm_text *text, adm_error *err) {
    if (text->error.status != ADM_OK) return adm_fail(err, text->error.status, "%s", text->error.text);
    return ADM_OK;
}

/* Grows the buffer so that n more bytes and a NUL fit. */
static bool reserve(adm_text *text, size_t n) {
    if (text->error.status != ADM_OK) return false;
    if (text->length + n < text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 65536;
    while (capacity <= text->length + n) capacity *= 2;
    char *larger;
    if (adm_alloc(&larger, capacity, 1, "the report's text", &text->error) != ADM_OK) return false;
    adm_copy(larger, text->data, text->length);
    adm_free(&text->data);
    text->data = larger;
    text->capacity = capacity;
    return true;
}

void adm_text_bytes(adm_text *text, const char *bytes, size_t n) {
    if (!reserve(text, n)) return;
    adm_copy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = '\0';
}

void adm_text_add(adm_text *text, const char *markup) { adm_text_bytes(text, markup, strlen(markup)); }

void adm_text_format(adm_text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(text, (size_t)n)) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
}

/* Copies `from`, replacing every character for which entity(c) is not NULL. */
static void add_replacing(adm_text *text, const char *from, const char *(*entity)(char)) {
    const char *plain = from;
    for (; *from; from++) {
        const char *instead = entity(*from);
        if (instead == NULL) continue;
        adm_text_bytes(text, plain, (size_t)(from - plain));
        adm_text_add(text, instead);
        plain = from + 1;
    }
    adm_text_bytes(text, plain, (size_t)(from - plain));
}

static const char *html_entity(char c) {
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static const char *script_entity(char c) { return c == '<' ? "\\u003c" : NULL; }

void adm_text_escaped(adm_text *text, const char *words) { add_replacing(text, words, html_entity); }

void adm_text_script_json(adm_text *text, const char *json) { add_replacing(text, json, script_entity); }
