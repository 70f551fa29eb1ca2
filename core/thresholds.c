/* thresholds.c: where the three bucketing thresholds of a layer come from. */
#include "core/thresholds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static adm_status parse_three(const char *text, const char *numbers, float value[3], adm_error *err) {
    const char *at = numbers;
    for (int i = 0; i < 3; i++) {
        char *end;
        value[i] = strtof(at, &end);
        if (end == at || *end != (i < 2 ? ',' : '\0'))
            return adm_fail(err, ADM_EINPUT, "thresholds '%s': three numbers separated by commas must follow the colon",
                            text);
        if (!isfinite(value[i]))
            return adm_fail(err, ADM_EINPUT, "thresholds '%s': number %d is not finite in float32", text, i + 1);
        at = end + 1;
    }
    if (!(value[0] <= value[1] && value[1] <= value[2]))
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': the three numbers must ascend", text);
    return ADM_OK;
}

adm_status adm_threshold_parse(const char *text, adm_threshold_spec *spec, adm_error *err) {
    *spec = (adm_threshold_spec){.per_layer = false};
    size_t length = strlen(text);
    if (length >= sizeof spec->text)
        return adm_fail(err, ADM_EINPUT, "thresholds '%.20s...': longer than %zu characters", text,
                        sizeof spec->text - 1);
    memcpy(spec->text, text, length + 1);
    if (strcmp(text, "calibrated") == 0) {
        const float quantiles[3] = ADM_CALIBRATED_QUANTILES;
        memcpy(spec->value, quantiles, sizeof quantiles);
        spec->per_layer = true;
        return ADM_OK;
    }
    if (strncmp(text, "fixed:", 6) == 0) return parse_three(text, text + 6, spec->value, err);
    if (strncmp(text, "quantile:", 9) == 0) {
        spec->per_layer = true;
        adm_status status = parse_three(text, text + 9, spec->value, err);
        if (status == ADM_OK && (spec->value[0] < 0 || spec->value[2] > 1))
            return adm_fail(err, ADM_EINPUT, "thresholds '%s': a quantile lies between 0 and 1", text);
        return status;
    }
    return adm_fail(err, ADM_EINPUT, "thresholds '%s' are not known: use calibrated, fixed:a,b,c or quantile:p,q,r",
                    text);
}

static int ascending_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

adm_status adm_threshold_resolve(const adm_threshold_spec *spec, float *y, size_t n, float thresholds[3],
                                 adm_error *err) {
    if (!spec->per_layer) {
        memcpy(thresholds, spec->value, sizeof spec->value);
        return ADM_OK;
    }
    if (n == 0)
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': no token stands before the first step to calibrate on",
                        spec->text);
    qsort(y, n, sizeof *y, ascending_float);
    for (int i = 0; i < 3; i++) {
        double rank = (double)spec->value[i] * (double)(n - 1);
        size_t below = (size_t)rank;
        size_t above = below + 1 < n ? below + 1 : below;
        thresholds[i] = (float)(y[below] + (rank - (double)below) * ((double)y[above] - y[below]));
    }
    return ADM_OK;
}
