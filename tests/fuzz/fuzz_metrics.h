/* fuzz_metrics.h: any bytes as a metric set, and as a formula. */
#ifndef ADM_TESTS_FUZZ_FUZZ_METRICS_H
#define ADM_TESTS_FUZZ_FUZZ_METRICS_H

#include <math.h>

#include "probes/metrics/formula.h"
#include "probes/metrics/metric_set.h"
#include "tests/fuzz/fuzz.h"

/* A name's value follows from its letters; one that begins with 'x' is unknown, with 'y' has no value. */
static inline adm_status fuzz_lookup(void *user, const char *text, size_t length, double *value, adm_error *err) {
    (void)user;
    fuzz_expect(length > 0, "a name has a letter");
    if (text[0] == 'x') return adm_fail(err, ADM_EINPUT, "there is no such name as the one that begins with x");
    if (text[0] == 'y') return adm_fail(err, ADM_EUNSUPPORTED, "the name that begins with y has no value");
    *value = (double)(unsigned char)text[0] - 100;
    return ADM_OK;
}

static inline int fuzz_metrics(const uint8_t *data, size_t size) {
    static fuzz_file file;
    adm_error err = {0};
    double value = NAN;
    if (size > 0 && data[0] == '[') { /* as most sets begin, with a metric or a comment */
        adm_metric_set *set = NULL;
        fuzz_write(&file, data, size);
        fuzz_expect_refusal(adm_metric_set_open(file.path, &set, &err), &err);
        for (size_t i = 0; set != NULL && i < set->n; i++)
            fuzz_expect(set->metric[i].name[0] != '\0' && set->metric[i].unit != NULL, "a metric has a name and a unit");
        adm_metric_set_close(&set);
        return 0;
    }
    char *formula = fuzz_text(data, size);
    adm_status status = adm_formula_evaluate(formula, fuzz_lookup, NULL, &value, &err);
    fuzz_expect_refusal(status, &err);
    fuzz_expect(status != ADM_OK || isfinite(value), "a formula has a value");
    free(formula);
    return 0;
}

#endif
