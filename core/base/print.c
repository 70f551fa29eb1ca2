/* print.c: the one way in which commands print. */
#include "core/base/print.h"

#include <string.h>

#include "core/base/format.h"
#include "core/base/printable.h"

static void put_own(void *user, const char *bytes, size_t n) { fwrite(bytes, 1, n, user); }

static void put_foreign(void *user, const char *bytes, size_t n) {
    char clean[ADM_PRINTABLE_CHARACTER_BYTES];
    for (size_t i = 0; i < n;) {
        size_t taken, kept = adm_printable_character(bytes + i, n - i, clean, &taken);
        fwrite(clean, 1, kept, user);
        i += taken;
    }
}

static void print(FILE *to, const char *format, va_list args) {
    const adm_format_sink sink = {put_own, put_foreign, to};
    adm_format(&sink, format, args);
}

void adm_print(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print(stdout, format, args);
    va_end(args);
}

void adm_print_to(FILE *to, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print(to, format, args);
    va_end(args);
}

void adm_print_lines(FILE *to, const char *text) {
    while (*text != '\0') {
        size_t n = strcspn(text, "\n\t");
        put_foreign(to, text, n);
        text += n;
        if (*text != '\0') put_own(to, text++, 1);
    }
}
