/* printable.h: text from outside (files, command lines), made fit to be shown on a terminal or put into JSON. */
#ifndef ADM_CORE_BASE_PRINTABLE_H
#define ADM_CORE_BASE_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>

/* Copies text into out (out_bytes >= 4), in valid UTF-8. What could drive a terminal or mislead a reader becomes '?':
 * C0 and C1 control characters, DEL, line and paragraph separators, bidirectional overrides and marks, noncharacters, and every
 * byte that is not UTF-8. Text that does not fit is cut between characters and ends in "...". The copy is never longer than the
 * text, so strlen(text) + 4 bytes always hold all of it. Returns out. */
const char *adm_printable(const char *text, char *out, size_t out_bytes);

enum { ADM_PRINTABLE_CHARACTER_BYTES = 4 };

/* The same for the first character of n > 0 bytes, which need no NUL: writes it, or '?', into out and returns how many bytes;
 * *taken is how many of the n it was made from. */
size_t adm_printable_character(const char *bytes, size_t n, char out[ADM_PRINTABLE_CHARACTER_BYTES], size_t *taken);

/* Bytes of the well-formed UTF-8 character at s, or 0 if there is none; 1 for the terminating NUL. */
size_t adm_utf8_length(const char *s);

/* Writes the text as a JSON string, quotes included, and returns the end, where it writes no NUL. `out` has room for
 * adm_json_string_bytes(text). The text is UTF-8. */
char *adm_json_string(const char *text, char *out);
size_t adm_json_string_bytes(const char *text);

/* Whether the text is well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF). */
bool adm_is_utf8(const char *text);

#endif
