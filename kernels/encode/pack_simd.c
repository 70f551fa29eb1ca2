/* pack_simd.c: 32 codes at a time with AVX2: two multiply-and-add steps, by (1, 4) and by (1, 16), leave four codes in
 * the low byte of each 32-bit lane. */
#include "kernels/encode/pack.h"

#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

ADM_AVX2 void adm_pack_avx2(const uint8_t *codes, size_t n_rows, uint32_t head_dim, uint8_t *packed) {
    const __m256i by_4 = _mm256_set1_epi16(0x0401), by_16 = _mm256_set1_epi32(0x00100001);
    const __m256i low_bytes = _mm256_set1_epi32(0x0c080400), lanes = _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0);
    const size_t n = n_rows * head_dim; /* a multiple of 64 */
    for (size_t i = 0; i < n; i += 32) {
        __m256i pairs = _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(codes + i)), by_4);
        __m256i bytes = _mm256_shuffle_epi8(_mm256_madd_epi16(pairs, by_16), low_bytes);
        bytes = _mm256_permutevar8x32_epi32(bytes, lanes);
        _mm_storel_epi64((__m128i *)(void *)(packed + i / 4), _mm256_castsi256_si128(bytes));
    }
}

#endif
