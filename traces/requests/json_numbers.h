/* json_numbers.h: numbers of a JSON object, as request traces have them. ADM_EINPUT names the line, the key and what is
 * allowed. */
#ifndef ADM_TRACES_REQUESTS_JSON_NUMBERS_H
#define ADM_TRACES_REQUESTS_JSON_NUMBERS_H

#include <jansson.h>
#include <stdint.h>

#include "traces/requests/lines.h"

/* A whole number in [0, max]; 12.0 is one too. */
adm_status adm_json_whole(const adm_lines *lines, const json_t *object, const char *key, uint64_t max, uint64_t *value,
                          adm_error *err);

/* A time in units of unit_ns, as nanoseconds. */
adm_status adm_json_ns(const adm_lines *lines, const json_t *object, const char *key, double unit_ns, uint64_t *ns,
                       adm_error *err);

#endif
