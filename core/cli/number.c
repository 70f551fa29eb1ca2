/* number.c: numbers and lists of numbers. Whole ones are read digit by digit: no sign, no space, no rounding. */
#include "core/cli/number.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

typedef enum number_result { NUMBER_OK, NUMBER_MALFORMED, NUMBER_TOO_LARGE } number_result;

/* *value *= factor, if it fits. */
static bool scale(uint64_t *value, uint64_t factor) { return !__builtin_mul_overflow(*value, factor, value); }

static unsigned unit_shift(char c) {
    switch (c) {
    case 'k':
    case 'K': return 10;
    case 'm':
    case 'M': return 20;
    case 'g':
    case 'G': return 30;
    default: return 0;
    }
}

/* Reads digits[.digits][e digits | K | M | G] at *at and moves it past them. */
static number_result read_number(const char **at, uint64_t *value) {
    const char *c = *at;
    uint64_t mantissa = 0, fraction = 1; /* the number is mantissa / fraction */
    bool fits = true;
    if (!is_digit(*c)) return NUMBER_MALFORMED;
    for (; is_digit(*c); c++) fits = fits && scale(&mantissa, 10) && !__builtin_add_overflow(mantissa, *c - '0', &mantissa);
    if (c[0] == '.' && is_digit(c[1]))
        for (c++; is_digit(*c); c++)
            fits = fits && scale(&fraction, 10) && scale(&mantissa, 10) &&
                   !__builtin_add_overflow(mantissa, *c - '0', &mantissa);
    if ((*c == 'e' || *c == 'E') && is_digit(c[1])) {
        for (c++; *c == '0' && is_digit(c[1]);) c++;
        unsigned power = 0;
        for (; is_digit(*c); c++) power = power < 100 ? power * 10 + (unsigned)(*c - '0') : power;
        for (; power > 0 && fits && mantissa > 0; power--) {
            if (fraction > 1) fraction /= 10;
            else fits = scale(&mantissa, 10);
        }
    } else if (unit_shift(*c) > 0) {
        fits = fits && scale(&mantissa, UINT64_C(1) << unit_shift(*c++));
    }
    *at = c;
    if (!fits) return NUMBER_TOO_LARGE;
    if (mantissa % fraction != 0) return NUMBER_MALFORMED;
    *value = mantissa / fraction;
    return NUMBER_OK;
}

/* Says what is wrong with an item of `length` characters. */
static adm_status refuse(const char *option, const char *item, size_t length, number_result result, uint64_t min, uint64_t max,
                         adm_error *err) {
    const int shown = (int)(length < 24 ? length : 20);
    const char *cut = length < 24 ? "" : "...";
    if (result == NUMBER_MALFORMED)
        return adm_fail(err, ADM_EINPUT, "%s: '%.*s%s' is not a whole number from %" PRIu64 " to %" PRIu64, option, shown, item,
                        cut, min, max);
    return adm_fail(err, ADM_EINPUT, "%s: %.*s%s is outside %" PRIu64 " to %" PRIu64, option, shown, item, cut, min, max);
}

adm_status adm_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value, adm_error *err) {
    const char *end = text;
    uint64_t number = 0;
    number_result result = read_number(&end, &number);
    if (*end != '\0') result = NUMBER_MALFORMED;
    if (result == NUMBER_OK && (number < min || number > max)) result = NUMBER_TOO_LARGE;
    if (result != NUMBER_OK) return refuse(option, text, strlen(text), result, min, max, err);
    *value = number;
    return ADM_OK;
}

adm_status adm_option_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t fallback, uint64_t *value,
                          adm_error *err) {
    *value = fallback;
    return text != NULL ? adm_parse_u64(option, text, min, max, value, err) : ADM_OK;
}

adm_status adm_option_u32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t fallback, uint32_t *value,
                          adm_error *err) {
    uint64_t wide;
    adm_status status = adm_option_u64(option, text, min, max, fallback, &wide, err);
    *value = (uint32_t)wide;
    return status;
}

adm_status adm_option_real(const char *option, const char *text, const char *noun, double min, double max, double fallback,
                           double *value, adm_error *err) {
    char *end, shown[64];
    *value = fallback;
    if (text == NULL) return ADM_OK;
    const double given = strtod(text, &end);
    if (end != text && *end == '\0' && isfinite(given) && given >= min && given <= max) {
        *value = given;
        return ADM_OK;
    }
    adm_printable(text, shown, sizeof shown);
    if (isinf(max)) return adm_fail(err, ADM_EINPUT, "%s: '%s' is not %s of at least %g", option, shown, noun, min);
    return adm_fail(err, ADM_EINPUT, "%s: '%s' is not %s from %g to %g", option, shown, noun, min, max);
}

/* One item of a list: first, first + step, ... or first, first * factor, ... up to last. */
typedef struct number_range {
    uint64_t first, last, step, factor; /* step 0: by the factor */
} number_range;

/* Reads FIRST, FIRST-LAST, FIRST-LAST:+STEP or FIRST-LAST:xFACTOR, which ends where the item does. */
static number_result read_range(const char *item, size_t length, number_range *range) {
    const char *at = item, *end = item + length;
    number_result result = read_number(&at, &range->first);
    range->last = range->first;
    range->step = 1;
    range->factor = 1;
    if (result != NUMBER_OK || at == end) return result;
    if (*at++ != '-') return NUMBER_MALFORMED;
    result = read_number(&at, &range->last);
    if (result != NUMBER_OK || at == end) return result;
    if (*at++ != ':') return NUMBER_MALFORMED;
    const char how = *at++;
    if (how == 'x') {
        result = read_number(&at, &range->factor);
        range->step = 0;
        if (range->factor < 2 || range->first == 0) result = NUMBER_MALFORMED;
    } else if (how == '+') {
        result = read_number(&at, &range->step);
        if (range->step < 1) result = NUMBER_MALFORMED;
    } else {
        return NUMBER_MALFORMED;
    }
    return at == end ? result : NUMBER_MALFORMED;
}

static uint64_t after(const number_range *range, uint64_t value) {
    uint64_t next;
    const bool overflows = range->step > 0 ? __builtin_add_overflow(value, range->step, &next)
                                           : __builtin_mul_overflow(value, range->factor, &next);
    return overflows ? UINT64_MAX : next;
}

/* Checks every item, and counts the numbers of all of them; or stores them, where `to` is given. */
static adm_status each_number(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *to, size_t *n,
                              adm_error *err) {
    *n = 0;
    for (const char *item = text;; item++) {
        const size_t length = strcspn(item, ",");
        number_range range = {0};
        if (length == 0)
            return adm_fail(err, ADM_EINPUT, "%s: '%.60s' has an empty item: give whole numbers separated by commas", option,
                            text);
        number_result result = read_range(item, length, &range);
        if (result == NUMBER_OK && (range.first < min || range.last > max)) result = NUMBER_TOO_LARGE;
        if (result != NUMBER_OK) return refuse(option, item, length, result, min, max, err);
        if (range.last < range.first)
            return adm_fail(err, ADM_EINPUT, "%s: '%.*s' ends before it begins", option, (int)(length < 60 ? length : 60),
                            item);
        for (uint64_t value = range.first; value <= range.last; value = after(&range, value)) {
            if (to != NULL) to[*n] = (uint32_t)value;
            if (++*n > ADM_MAX_LIST)
                return adm_fail(err, ADM_EINPUT, "%s: '%.60s' holds more than %d numbers", option, text, ADM_MAX_LIST);
        }
        item += length;
        if (*item == '\0') return ADM_OK;
    }
}

static int ascending_u32(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

adm_status adm_parse_u32_list(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t **values, size_t *n,
                              adm_error *err) {
    *values = NULL;
    *n = 0;
    size_t n_items;
    uint32_t *list;
    adm_status status = each_number(option, text, min, max, NULL, &n_items, err);
    if (status == ADM_OK) status = adm_alloc(&list, n_items, sizeof *list, option, err);
    if (status != ADM_OK) return status;
    status = each_number(option, text, min, max, list, &n_items, err);
    if (status != ADM_OK) {
        adm_free(&list);
        return status;
    }
    adm_sort(list, n_items, sizeof *list, ascending_u32);
    size_t n_distinct = 0;
    for (size_t i = 0; i < n_items; i++)
        if (n_distinct == 0 || list[n_distinct - 1] != list[i]) list[n_distinct++] = list[i];
    *values = list;
    *n = n_distinct;
    return ADM_OK;
}
