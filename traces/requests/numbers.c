/* numbers.c: digits to integers. */
#include "traces/requests/numbers.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Takes up to `most_digits` digits and moves *text behind them; false if there is none or one too many. */
static bool take_digits(const char **text, int most_digits, uint64_t *value) {
    int n = 0;
    for (*value = 0; **text >= '0' && **text <= '9'; (*text)++, n++) {
        if (n == most_digits) return false;
        *value = *value * 10 + (uint64_t)(**text - '0');
    }
    return n > 0;
}

/* "" or ".5", in nanoseconds; digits behind the ninth are dropped. */
static bool take_fraction(const char **text, uint64_t *ns) {
    *ns = 0;
    if (**text != '.') return true;
    const char *begin = ++*text;
    uint64_t unit = ADM_NS_PER_S;
    for (; **text >= '0' && **text <= '9' && *text - begin < 64; (*text)++) {
        unit /= 10;
        *ns += unit * (uint64_t)(**text - '0');
    }
    return *text > begin;
}

static bool take_character(const char **text, char c) {
    if (**text != c) return false;
    ++*text;
    return true;
}

/* Exactly n digits, then the character after them ('\0' stays). */
static bool take_field(const char **text, int n, char after, uint64_t min, uint64_t max, uint64_t *value) {
    const char *begin = *text;
    if (!take_digits(text, n, value) || *text - begin != n || *value < min || *value > max) return false;
    return after == '\0' || take_character(text, after);
}

/* Days from 1970-01-01 in the Gregorian calendar to a day from then on; false for a 30th of February. */
static bool days_of(uint64_t year, uint64_t month, uint64_t day, uint64_t *days) {
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    uint64_t length = (uint64_t)before[month] - before[month - 1] + (month == 2 && leap);
    if (day > length) return false;
    uint64_t y = year - 1; /* complete years before this one */
    uint64_t leap_days = (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    *days = (year - 1970) * 365 + leap_days + before[month - 1] + (month > 2 && leap) + day - 1;
    return true;
}

bool adm_read_date(const char *text, uint64_t *ns) {
    const char *t = text;
    uint64_t year, month, day, hour, minute, second, fraction, days;
    bool good = take_field(&t, 4, '-', 1970, 2099, &year) && take_field(&t, 2, '-', 1, 12, &month) &&
                take_field(&t, 2, '\0', 1, 31, &day) && (take_character(&t, ' ') || take_character(&t, 'T')) &&
                take_field(&t, 2, ':', 0, 23, &hour) && take_field(&t, 2, ':', 0, 59, &minute) &&
                take_field(&t, 2, '\0', 0, 59, &second) && take_fraction(&t, &fraction) &&
                (*t == '\0' || strcmp(t, "Z") == 0 || strcmp(t, "+00:00") == 0) && days_of(year, month, day, &days);
    if (good) *ns = (((days * 24 + hour) * 60 + minute) * 60 + second) * ADM_NS_PER_S + fraction;
    return good;
}

bool adm_read_seconds(const char *text, uint64_t *ns) {
    const char *t = text;
    uint64_t seconds, fraction;
    if (!take_digits(&t, 10, &seconds) || !take_fraction(&t, &fraction)) return false;
    if (*t == 'e' && t[1] == '-' && t[2] >= '0' && t[2] <= '9') {
        char *end;
        const double value = strtod(text, &end);
        return *end == '\0' && adm_ns_of(value, ADM_NS_PER_S, ns);
    }
    *ns = seconds * ADM_NS_PER_S + fraction;
    return *t == '\0' && seconds <= adm_max_seconds;
}

bool adm_read_whole(const char *text, uint64_t max, uint64_t *value) {
    const char *t = text;
    bool good = take_digits(&t, 19, value);
    if (good && *t == '.') good = t[1 + strspn(t + 1, "0")] == '\0' && t[1] == '0';
    else good = good && *t == '\0';
    return good && *value <= max;
}

bool adm_ns_of(double value, double unit_ns, uint64_t *ns) {
    if (!(value >= 0) || value * (unit_ns / ADM_NS_PER_S) > (double)adm_max_seconds) return false;
    *ns = (uint64_t)(value * unit_ns + 0.5);
    return true;
}
