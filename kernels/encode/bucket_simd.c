/* bucket_simd.c: 32 elements at a time with AVX2. A comparison gives -1 where it holds, so a code is minus the sum of
 * three; packing to bytes works on each 128-bit lane, and the last permutation puts the fours of bytes in order. */
#include "kernels/encode/bucket.h"

#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

static inline ADM_AVX2 __m256i minus_codes(const float *y, const __m256 t[3]) {
    __m256 v = _mm256_loadu_ps(y);
    __m256i low = _mm256_castps_si256(_mm256_cmp_ps(v, t[0], _CMP_GT_OQ));
    __m256i middle = _mm256_castps_si256(_mm256_cmp_ps(v, t[1], _CMP_GT_OQ));
    __m256i high = _mm256_castps_si256(_mm256_cmp_ps(v, t[2], _CMP_GT_OQ));
    return _mm256_add_epi32(_mm256_add_epi32(low, middle), high);
}

ADM_AVX2 void adm_bucket_avx2(const float *y, size_t n, const float t[3], uint8_t *codes) {
    const __m256 limit[3] = {_mm256_set1_ps(t[0]), _mm256_set1_ps(t[1]), _mm256_set1_ps(t[2])};
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i a = _mm256_packs_epi32(minus_codes(y + i, limit), minus_codes(y + i + 8, limit));
        __m256i b = _mm256_packs_epi32(minus_codes(y + i + 16, limit), minus_codes(y + i + 24, limit));
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
        _mm256_storeu_si256((__m256i *)(void *)(codes + i), _mm256_sub_epi8(_mm256_setzero_si256(), bytes));
    }
    adm_bucket_reference(y + i, n - i, t, codes + i);
}

#endif
