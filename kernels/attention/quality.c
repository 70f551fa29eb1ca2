/* quality.c: the table of a replay's dense references. */
#include "kernels/attention/quality.h"

#include "kernels/attention/attention_simd.h"

const adm_quality_impl *adm_quality_at(size_t i) {
    static const adm_quality_impl *const quality_rows[] = {&adm_quality_reference, ADM_QUALITY_SIMD};
    return i < sizeof quality_rows / sizeof *quality_rows ? quality_rows[i] : NULL;
}

const adm_quality_impl *adm_quality_fastest(void) {
    const adm_quality_impl *best = adm_quality_at(0), *row;
    for (size_t i = 1; (row = adm_quality_at(i)) != NULL; i++)
        if (row->is_available == NULL || row->is_available()) best = row;
    return best;
}
