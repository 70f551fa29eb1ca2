/* numbers.c: numbers as people read them. */
#include "analysis/output/numbers.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUS "\u2212"

/* Puts a comma between thousands of the digits before the point. */
static void group_thousands(const char *digits, char *out) {
    size_t n_whole = strcspn(digits, "."), o = 0;
    for (size_t i = 0; digits[i] != '\0'; i++) {
        if (i > 0 && i < n_whole && (n_whole - i) % 3 == 0) out[o++] = ',';
        out[o++] = digits[i];
    }
    out[o] = '\0';
}

static void fixed(double value, int decimals, char out[ADM_NUMBER_CHARS]) {
    char digits[ADM_NUMBER_CHARS], grouped[ADM_NUMBER_CHARS];
    double size = fabs(value), half_a_digit = 0.5 * pow(10.0, -decimals);
    if (!isfinite(value) || size >= 1e15) {
        snprintf(out, ADM_NUMBER_CHARS, "%.4g", value);
        return;
    }
    if (size > 0 && size < half_a_digit) {
        snprintf(out, ADM_NUMBER_CHARS, "%s%.*f", value < 0 ? ">" MINUS : "<", decimals, 2 * half_a_digit);
        return;
    }
    snprintf(digits, sizeof digits, "%.*f", decimals, size);
    group_thousands(digits, grouped);
    snprintf(out, ADM_NUMBER_CHARS, "%s%.40s", value < 0 ? MINUS : "", grouped);
}

const char *adm_shown_unit(const char *unit) {
    if (strcmp(unit, "ratio") == 0) return "%";
    if (strcmp(unit, "ns") == 0) return "\u00b5s";
    if (strcmp(unit, "1") == 0) return "";
    if (strcmp(unit, "Hz") == 0) return "MHz";
    if (strcmp(unit, "bytes/s") == 0) return "GB/s";
    return unit;
}

void adm_shown_value(double value, const char *unit, char out[ADM_NUMBER_CHARS]) {
    static const struct {
        const char *unit;
        int decimals;
    } fractions[] = {
        {"nats", 4}, {"bits", 3}, {"tokens", 1}, {"1", 5}, {"bytes", 0},
    };
    if (strcmp(unit, "ratio") == 0) {
        fixed(value * 100, 2, out);
    } else if (strcmp(unit, "ns") == 0) {
        double us = value / 1e3;
        fixed(us, fabs(us) < 100 ? 2 : 1, out);
    } else {
        for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++)
            if (strcmp(unit, fractions[i].unit) == 0) {
                fixed(value, fractions[i].decimals, out);
                return;
            }
        /* Counts whole, the rest in about five digits. */
        if (strcmp(unit, "Hz") == 0) fixed(value / 1e6, 0, out);
        else if (strcmp(unit, "bytes/s") == 0) fixed(value / 1e9, 1, out);
        else if (value == floor(value) || fabs(value) >= 1000) fixed(value, 0, out);
        else snprintf(out, ADM_NUMBER_CHARS, "%.5g", value);
    }
}

void adm_precise_value(double value, const char *unit, char out[ADM_NUMBER_CHARS]) {
    static const struct {
        const char *unit;
        double scale;
    } scales[] = {{"ratio", 100}, {"ns", 1e-3}, {"Hz", 1e-6}, {"bytes/s", 1e-9}};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++)
        if (strcmp(unit, scales[i].unit) == 0) value *= scales[i].scale;
    const double size = fabs(value);
    if (!isfinite(value) || size >= 1e15 || (size > 0 && size < 1e-6)) {
        snprintf(out, ADM_NUMBER_CHARS, "%.5g", value);
        return;
    }
    int decimals = size >= 1e4 || size == 0 ? 0 : 4 - (int)floor(log10(size));
    char digits[ADM_NUMBER_CHARS];
    snprintf(digits, sizeof digits, "%.*f", decimals, size);
    if (decimals > 0)
        for (size_t end = strlen(digits); end > 0 && (digits[end - 1] == '0' || digits[end - 1] == '.'); end--) {
            const bool whole = digits[end - 1] == '.';
            digits[end - 1] = '\0';
            if (whole) break;
        }
    char grouped[ADM_NUMBER_CHARS];
    group_thousands(digits, grouped);
    snprintf(out, ADM_NUMBER_CHARS, "%s%.40s", value < 0 ? MINUS : "", grouped);
}

void adm_shown_duration(double ns, char out[ADM_NUMBER_CHARS]) {
    static const char *const units[] = {"ns", "\u00b5s", "ms", "s"};
    size_t u = 0;
    while (u < 3 && fabs(ns) >= 999.5) {
        ns /= 1e3;
        u++;
    }
    char number[ADM_NUMBER_CHARS];
    fixed(ns, u == 0 || fabs(ns) >= 99.95 ? 0 : fabs(ns) >= 9.995 ? 1 : 2, number);
    snprintf(out, ADM_NUMBER_CHARS, "%.40s %s", number, units[u]);
}

void adm_shown_figure(double value, const char *unit, char out[ADM_NUMBER_CHARS]) {
    char number[ADM_NUMBER_CHARS];
    if (isnan(value)) {
        snprintf(out, ADM_NUMBER_CHARS, "-");
    } else if (strcmp(unit, "ns") == 0 && fabs(value) < 100) {
        snprintf(out, ADM_NUMBER_CHARS, "%.3g ns", value);
    } else if (strcmp(unit, "ns") == 0) {
        adm_shown_duration(value, out);
    } else if (strcmp(unit, "ratio") == 0) {
        snprintf(out, ADM_NUMBER_CHARS, "%.5g%%", 100 * value);
    } else if (strcmp(unit, "Hz") == 0 || strcmp(unit, "bytes/s") == 0 || strcmp(unit, "bytes") == 0) {
        adm_shown_value(value, unit, number);
        snprintf(out, ADM_NUMBER_CHARS, "%.30s %s", number, adm_shown_unit(unit));
    } else {
        bool plain = strcmp(unit, "1") == 0;
        snprintf(out, ADM_NUMBER_CHARS, "%.6g%s%.20s", value, plain ? "" : " ", plain ? "" : unit);
    }
}

void adm_shown_count(int64_t value, char out[ADM_NUMBER_CHARS]) {
    char digits[ADM_NUMBER_CHARS], grouped[ADM_NUMBER_CHARS];
    snprintf(digits, sizeof digits, "%llu", value < 0 ? 0ull - (unsigned long long)value : (unsigned long long)value);
    group_thousands(digits, grouped);
    snprintf(out, ADM_NUMBER_CHARS, "%s%.40s", value < 0 ? MINUS : "", grouped);
}

void adm_exact_value(double value, char out[ADM_NUMBER_CHARS]) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, ADM_NUMBER_CHARS, "%.*g", digits, value);
        if (strtod(out, NULL) == value) return;
    }
}
