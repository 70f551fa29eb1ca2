/* quality.h: the implementations of a replay's dense reference (core/replay/quality.h) for this processor. */
#ifndef ADM_KERNELS_ATTENTION_QUALITY_H
#define ADM_KERNELS_ATTENTION_QUALITY_H

#include "core/replay/quality.h"

#if defined(__x86_64__)
/* Equal to each other to the last bit. The attention rows of the same set sum a score in another order: their outputs may
 * differ in the last place. */
extern const adm_quality_impl adm_quality_avx2, adm_quality_avx512;
#elif defined(__aarch64__)
extern const adm_quality_impl adm_quality_neon;
#endif

/* Row i: "reference" first, the fastest last; NULL behind the last. A row may not be available. */
const adm_quality_impl *adm_quality_at(size_t i);

/* The last available. */
const adm_quality_impl *adm_quality_fastest(void);

#endif
