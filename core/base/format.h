/* format.h: printf() that tells what we wrote from what others did. The format is ours; every %s is somebody else's text, and
 * goes through a function of its own. What prints to a terminal (print.h) and what writes HTML (analysis/output/text.h) both
 * stand on it, so that neither can forget to clean a text.
 *
 * Conversions: %s with a width, a precision and '-'; %% ; and the numbers d i u x X o c e f g a with flags, width, precision,
 * hh h l ll z j t. No %n, no %p, no wide characters. */
#ifndef ADM_CORE_BASE_FORMAT_H
#define ADM_CORE_BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

typedef struct adm_format_sink {
    void (*own)(void *user, const char *bytes, size_t n); /* of the format, numbers, padding */
    void (*foreign)(void *user, const char *bytes, size_t n); /* an argument of %s, cut to its precision; holds no NUL */
    void *user;
} adm_format_sink;

/* A NULL argument of %s is "(null)". An unknown conversion ends the process: it is a mistake of ours, seen in the first test.
 * */
void adm_format(const adm_format_sink *sink, const char *format, va_list args);

#endif
