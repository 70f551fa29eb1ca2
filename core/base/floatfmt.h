/* floatfmt.h: the element types of traces and kernels, and exact conversions between them.
 *
 *   F16   s eeeee mmmmmmmmmm             IEEE 754 binary16
 *   BF16  s eeeeeeee mmmmmmm             the upper half of a binary32
 *   F32   s eeeeeeee mmm...m (23)        IEEE 754 binary32
 *
 * Widening is exact. Narrowing rounds to nearest, ties to even, and keeps NaN a NaN. */
#ifndef ADM_CORE_BASE_FLOATFMT_H
#define ADM_CORE_BASE_FLOATFMT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/api.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adm_dtype { ADM_F32 = 0, ADM_F16 = 1, ADM_BF16 = 2 } adm_dtype;

/* Bytes of one element: 4, 2, 2. */
size_t adm_dtype_bytes(adm_dtype dtype);

/* "F32", "F16", "BF16", as safetensors names them. */
const char *adm_dtype_name(adm_dtype dtype);

float adm_f16_to_f32(uint16_t bits);
uint16_t adm_f32_to_f16(float value);
float adm_bf16_to_f32(uint16_t bits);
uint16_t adm_f32_to_bf16(float value);

/* dst[i] = src[i] for i < n. src holds n elements of dtype in the machine's byte order and may be unaligned. */
ADM_API void adm_to_f32(adm_dtype dtype, const void *src, size_t n, float *dst);

/* The way back: dst holds n elements of dtype and may be unaligned. */
ADM_API void adm_from_f32(adm_dtype dtype, const float *src, size_t n, void *dst);

#ifdef __cplusplus
}
#endif

#endif
