/* print.h: a comparison of cases, for a terminal and as JSON. */
#ifndef ADM_ANALYSIS_SERVING_PRINT_H
#define ADM_ANALYSIS_SERVING_PRINT_H

#include <jansson.h>

#include "analysis/serving/cases.h"
#include "analysis/serving/quality.h"

/* Beside a case: its budget's quality; found false: none. */
typedef struct adm_case_quality {
    bool found;
    double output_rel_l2;
} adm_case_quality;

/* "dense", "256", "by layer". */
const char *adm_case_name(const adm_case *c, char out[32]);

/* quality: [n]. source: where it comes from. */
void adm_cases_print(const adm_setup *setup, const adm_case *cases, size_t n, const adm_quality_source *source,
                     const adm_case_quality *quality);

/* NULL when out of memory. */
json_t *adm_cases_json(const adm_setup *setup, const adm_case *cases, size_t n, const adm_quality_source *source,
                       const adm_case_quality *quality);

#endif
