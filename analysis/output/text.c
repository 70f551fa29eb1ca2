/* text.c: the text of a page in the making. */
#include "analysis/output/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/format.h"
#include "core/base/mem.h"
#include "core/base/printable.h"

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

static void add_bytes(adm_text *text, const char *bytes, size_t n) {
    if (!reserve(text, n)) return;
    adm_copy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = '\0';
}

void adm_text_markup(adm_text *text, adm_markup markup) { add_bytes(text, markup.bytes, markup.n); }

/* --- Somebody else's words ------------------------------------------------------------------------------------------ */

/* What takes the place of a character in a dialect, or NULL if it stays. */
static const char *entity(adm_dialect dialect, char c, char number[8]) {
    if (dialect == ADM_TEXT_PLAIN) return NULL;
    if (dialect == ADM_TEXT_MARKDOWN) {
        if (strchr("&<>|`*_[]\\~#", c) == NULL) return NULL;
        snprintf(number, 8, "&#%d;", (unsigned char)c);
        return number;
    }
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static void add_foreign(void *user, const char *bytes, size_t n) {
    adm_text *text = user;
    for (size_t i = 0, taken; i < n; i += taken) {
        char clean[ADM_PRINTABLE_CHARACTER_BYTES], number[8];
        size_t kept = adm_printable_character(bytes + i, n - i, clean, &taken);
        const char *instead = kept == 1 ? entity(text->dialect, clean[0], number) : NULL;
        if (instead != NULL) add_bytes(text, instead, strlen(instead));
        else add_bytes(text, clean, kept);
    }
}

static void add_own(void *user, const char *bytes, size_t n) { add_bytes(user, bytes, n); }

void adm_text_format_literal(adm_text *text, const char *format, ...) {
    const adm_format_sink sink = {add_own, add_foreign, text};
    va_list args;
    va_start(args, format);
    adm_format(&sink, format, args);
    va_end(args);
}

void adm_text_escaped(adm_text *text, const char *words) { add_foreign(text, words, strlen(words)); }

void adm_text_append(adm_text *text, const adm_text *made) {
    if (text->error.status == ADM_OK && made->error.status != ADM_OK) text->error = made->error;
    else if (text->error.status == ADM_OK && text->dialect != made->dialect)
        adm_fail(&text->error, ADM_EINTERNAL, "a text of one dialect was put into one of another");
    else if (made->length > 0) add_bytes(text, made->data, made->length);
}

void adm_text_script_json(adm_text *text, const char *json) {
    for (size_t plain; *json != '\0'; json += plain) {
        plain = strcspn(json, "<");
        add_bytes(text, json, plain);
        if (json[plain] != '<') continue;
        add_bytes(text, "\\u003c", 6);
        plain++;
    }
}
