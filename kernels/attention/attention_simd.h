/* attention_simd.h: what attention_simd.c makes for kernels/attention/quality.h, an instruction set each. */
#ifndef ADM_KERNELS_ATTENTION_ATTENTION_SIMD_H
#define ADM_KERNELS_ATTENTION_ATTENTION_SIMD_H

#include "core/replay/session/quality.h"

#if defined(__x86_64__)
/* Equal to each other to the last bit. The attention rows of the same set sum a score in another order: their outputs may
 * differ in the last place. */
extern const adm_quality_impl adm_quality_avx2, adm_quality_avx512;
#define ADM_QUALITY_SIMD &adm_quality_avx2, &adm_quality_avx512 /* slowest first */
#elif defined(__aarch64__)
extern const adm_quality_impl adm_quality_neon;
#define ADM_QUALITY_SIMD &adm_quality_neon
#else
#define ADM_QUALITY_SIMD
#endif

#endif
