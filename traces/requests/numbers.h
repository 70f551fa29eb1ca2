/* numbers.h: numbers and times of request traces, read digit by digit. */
#ifndef ADM_TRACES_REQUESTS_NUMBERS_H
#define ADM_TRACES_REQUESTS_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

enum { ADM_NS_PER_S = 1000000000 };

/* The year 2100, and as a span 130 years. */
static const uint64_t adm_max_seconds = 4102444800;

/* "2023-11-16 18:15:46.6805900", with ' ' or 'T' between, optionally with "+00:00" or "Z" behind; ns since 1970. */
bool adm_read_date(const char *text, uint64_t *ns);

/* Seconds "12", "12.5" or, where a program wrote them as a float, "1.25e-05"; what is below a nanosecond is dropped. */
bool adm_read_seconds(const char *text, uint64_t *ns);

/* A whole number up to `most`; some published files write 12 as 12.0. */
bool adm_read_whole(const char *text, uint64_t max, uint64_t *value);

/* A number of seconds or milliseconds (`unit_ns`) from JSON, at least 0 and at most adm_max_seconds. */
bool adm_ns_of(double value, double unit_ns, uint64_t *ns);

#endif
