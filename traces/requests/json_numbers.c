/* json_numbers.c: numbers of a JSON object. */
#include "traces/requests/json_numbers.h"

#include <inttypes.h>

#include "traces/requests/numbers.h"

adm_status adm_json_whole(const adm_lines *lines, const json_t *object, const char *key, uint64_t max, uint64_t *value,
                          adm_error *err) {
    const json_t *item = json_object_get(object, key);
    if (item == NULL) return adm_lines_refuse(lines, err, "has no \"%s\"", key);
    const double real = json_is_real(item) ? json_real_value(item) : -1;
    if (json_is_real(item) && real >= 0 && real <= (double)max && real == (double)(uint64_t)real) { /* 12.0 */
        *value = (uint64_t)real;
        return ADM_OK;
    }
    if (!json_is_integer(item))
        return adm_lines_refuse(lines, err, "\"%s\" is not a whole number; it must be 0 to %" PRIu64, key, max);
    const json_int_t number = json_integer_value(item);
    if (number < 0 || (uint64_t)number > max)
        return adm_lines_refuse(lines, err, "\"%s\" is %" JSON_INTEGER_FORMAT ", it must be 0 to %" PRIu64, key, number, max);
    *value = (uint64_t)number;
    return ADM_OK;
}

adm_status adm_json_ns(const adm_lines *lines, const json_t *object, const char *key, double unit_ns, uint64_t *ns,
                       adm_error *err) {
    const json_t *item = json_object_get(object, key);
    if (item == NULL) return adm_lines_refuse(lines, err, "has no \"%s\"", key);
    if (!json_is_number(item)) return adm_lines_refuse(lines, err, "\"%s\" is not a number", key);
    if (adm_ns_of(json_number_value(item), unit_ns, ns)) return ADM_OK;
    return adm_lines_refuse(lines, err, "\"%s\" is %g, it must be a time from 0 on, and less than 130 years", key,
                            json_number_value(item));
}
