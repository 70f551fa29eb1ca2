/* format.c: printf() that tells what we wrote from what others did. */
#include "core/base/format.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct directive {
    char text[32];    /* "%-*.3" and the like, then the length and the letter */
    size_t n;
    int width, precision; /* -1: none */
    int is_left;
    const char *length;   /* in the format; n_length bytes */
    size_t n_length;
    char letter;
} directive;

static void add(directive *d, const char *bytes, size_t n) {
    if (d->n + n >= sizeof d->text) abort();
    memcpy(d->text + d->n, bytes, n);
    d->n += n;
    d->text[d->n] = '\0';
}

/* Digits or a star; the number, and its text in the directive. */
static const char *read_number(directive *d, const char *at, va_list *args, int *value) {
    char digits[16];
    if (*at == '*') {
        *value = va_arg(*args, int);
        at++;
    } else {
        *value = (int)strtol(at, (char **)&at, 10);
    }
    if (*value < 0 && d->text[d->n - 1] != '.') {
        d->is_left = 1;
        *value = -*value;
        add(d, "-", 1);
    }
    if (*value < 0) { /* a negative precision is none */
        d->n--;
        d->text[d->n] = '\0';
        *value = -1;
        return at;
    }
    add(d, digits, (size_t)snprintf(digits, sizeof digits, "%d", *value));
    return at;
}

/* Reads a directive behind its '%'; returns what comes after it. */
static const char *read_directive(directive *d, const char *at, va_list *args) {
    *d = (directive){.text = "%", .n = 1, .width = -1, .precision = -1};
    for (; *at != '\0' && strchr("-+ #0", *at) != NULL; at++) {
        d->is_left |= *at == '-';
        add(d, at, 1);
    }
    if (*at == '*' || (*at >= '1' && *at <= '9')) at = read_number(d, at, args, &d->width);
    if (*at == '.') {
        add(d, at++, 1);
        at = read_number(d, at, args, &d->precision);
    }
    d->length = at;
    d->n_length = strspn(at, "hlzjt");
    add(d, at, d->n_length + 1);
    d->letter = at[d->n_length];
    return at + d->n_length + 1;
}

static int length_is(const directive *d, const char *name) {
    return strlen(name) == d->n_length && memcmp(d->length, name, d->n_length) == 0;
}

static long long next_integer(const directive *d, va_list *args) {
    const int is_signed = d->letter == 'd' || d->letter == 'i';
    if (length_is(d, "ll") || length_is(d, "j")) return va_arg(*args, long long);
    if (length_is(d, "l") || length_is(d, "z") || length_is(d, "t")) return va_arg(*args, long);
    if (d->n_length > 0 && d->length[0] != 'h') abort();
    return is_signed || d->letter == 'c' ? va_arg(*args, int) : (long long)va_arg(*args, unsigned);
}

static void put_number(const adm_format_sink *sink, directive *d, va_list *args) {
    char shown[512]; /* %f of the largest double has 309 digits before its point */
    int n;
    if (strchr("eEfFgGaA", d->letter) != NULL && d->n_length == 0) {
        n = snprintf(shown, sizeof shown, d->text, va_arg(*args, double));
    } else if (strchr("diuxXo", d->letter) != NULL) {
        long long value = next_integer(d, args);
        char letter = d->letter;
        d->n -= d->n_length + 1; /* as a long long, whatever it was */
        add(d, "ll", 2);
        add(d, &letter, 1);
        n = snprintf(shown, sizeof shown, d->text, value);
    } else if (d->letter == 'c' && d->n_length == 0) {
        n = snprintf(shown, sizeof shown, d->text, va_arg(*args, int));
    } else {
        abort();
    }
    if (n < 0) return;
    sink->own(sink->user, shown, (size_t)n < sizeof shown ? (size_t)n : sizeof shown - 1);
}

static void put_spaces(const adm_format_sink *sink, int n) {
    for (; n > 0; n--) sink->own(sink->user, " ", 1);
}

static void put_text(const adm_format_sink *sink, const directive *d, va_list *args) {
    const char *text = va_arg(*args, const char *);
    if (text == NULL) text = "(null)";
    size_t n = d->precision >= 0 ? strnlen(text, (size_t)d->precision) : strlen(text);
    int room = d->width > 0 && (size_t)d->width > n ? d->width - (int)n : 0;
    if (!d->is_left) put_spaces(sink, room);
    sink->foreign(sink->user, text, n);
    if (d->is_left) put_spaces(sink, room);
}

void adm_format(const adm_format_sink *sink, const char *format, va_list args) {
    va_list rest;
    va_copy(rest, args);
    for (const char *at = format; *at != '\0';) {
        directive d;
        size_t plain = strcspn(at, "%");
        if (plain > 0) sink->own(sink->user, at, plain);
        at += plain;
        if (*at == '\0') break;
        at = read_directive(&d, at + 1, &rest);
        if (d.letter == '%') sink->own(sink->user, "%", 1);
        else if (d.letter == 's' && d.n_length == 0) put_text(sink, &d, &rest);
        else put_number(sink, &d, &rest);
    }
    va_end(rest);
}
