/* printable.c: a UTF-8 decoder and what it lets through. */
#include "core/base/printable.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Decodes one character; returns its bytes, or 0 where there is none. Stops at the terminating NUL by itself, since
 * that is no continuation byte. */
static size_t decode(const unsigned char *s, uint32_t *code) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (length <= 1) {
        *code = s[0];
        return length;
    }
    uint32_t c = s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    *code = c;
    return c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : length;
}

static bool is_harmless(uint32_t code) {
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
    if ((code & 0xfffe) == 0xfffe || (code >= 0xfdd0 && code <= 0xfdef)) return false;
    if (code == 0x61c || code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e)) return false;
    return code < 0x2066 || code > 0x2069;
}

size_t adm_printable_character(const char *bytes, size_t n, char out[ADM_PRINTABLE_CHARACTER_BYTES], size_t *taken) {
    unsigned char s[ADM_PRINTABLE_CHARACTER_BYTES + 1] = {0}; /* the NUL is no continuation byte: decode() stops there */
    uint32_t code;
    memcpy(s, bytes, n < ADM_PRINTABLE_CHARACTER_BYTES ? n : ADM_PRINTABLE_CHARACTER_BYTES);
    size_t length = decode(s, &code);
    *taken = length > 0 ? length : 1;
    if (length > 0 && is_harmless(code)) {
        memcpy(out, s, length);
        return length;
    }
    out[0] = '?';
    return 1;
}

const char *adm_printable(const char *text, char *out, size_t out_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 0, cut = 0; /* cut: where "..." still fits */
    while (*s) {
        uint32_t code;
        size_t length = decode(s, &code);
        bool keep = length > 0 && is_harmless(code);
        size_t wanted = keep ? length : 1;
        if (used + wanted + 1 > out_bytes) {
            memcpy(out + cut, "...", 4);
            return out;
        }
        if (keep) memcpy(out + used, s, length);
        else out[used] = '?';
        used += wanted;
        if (used + 4 <= out_bytes) cut = used;
        s += length > 0 ? length : 1;
    }
    out[used] = '\0';
    return out;
}

size_t adm_utf8_length(const char *s) {
    uint32_t code;
    return decode((const unsigned char *)s, &code);
}

bool adm_is_utf8(const char *text) {
    for (size_t length; *text != '\0'; text += length)
        if ((length = adm_utf8_length(text)) == 0) return false;
    return true;
}

size_t adm_json_string_bytes(const char *text) { return 6 * strlen(text) + 2; }

char *adm_json_string(const char *text, char *out) {
    *out++ = '"';
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c < 0x20) out += sprintf(out, "\\u%04x", *c);
        if (*c < 0x20) continue;
        if (*c == '"' || *c == '\\') *out++ = '\\';
        *out++ = (char)*c;
    }
    *out++ = '"';
    return out;
}
