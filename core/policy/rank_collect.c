/* rank_collect.c: which scores reach a bound, without a branch per token: one in ten or twenty does, which nothing foresees. */
#include "core/policy/rank_collect.h"

#include "core/system/cpu.h"

/* From token t on, behind the n_found that are found already. */
static size_t collect_from(size_t t, size_t n_found, const double *score, size_t n, double min, uint32_t *token,
                           double *found) {
    for (; t < n; t++) {
        token[n_found] = (uint32_t)t;
        found[n_found] = score[t];
        n_found += score[t] >= min;
    }
    return n_found;
}

size_t adm_rank_collect_plain(const double *score, size_t n, double min, uint32_t *token, double *found) {
    return collect_from(0, 0, score, n, min, token, found);
}

#if defined(__x86_64__)

#include <immintrin.h>

/* Eight at a time; never more than t are found before token t, so that eight have room. */
ADM_AVX512 size_t adm_rank_collect_avx512(const double *score, size_t n, double min, uint32_t *token, double *found) {
    const __m512d bound = _mm512_set1_pd(min);
    const __m256i eight = _mm256_set1_epi32(8);
    __m256i t8 = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    size_t n_found = 0, t = 0;
    for (; t + 8 <= n; t += 8, t8 = _mm256_add_epi32(t8, eight)) {
        const __m512d s = _mm512_loadu_pd(score + t);
        const __mmask8 reach = _mm512_cmp_pd_mask(s, bound, _CMP_GE_OQ);
        _mm512_storeu_pd(found + n_found, _mm512_maskz_compress_pd(reach, s));
        _mm256_storeu_si256((__m256i *)(token + n_found), _mm256_maskz_compress_epi32(reach, t8));
        n_found += (size_t)__builtin_popcount(reach);
    }
    return collect_from(t, n_found, score, n, min, token, found);
}

size_t adm_rank_collect(const double *score, size_t n, double min, uint32_t *token, double *found) {
    return (adm_cpu_has_avx512() ? adm_rank_collect_avx512 : adm_rank_collect_plain)(score, n, min, token, found);
}

#else

size_t adm_rank_collect(const double *score, size_t n, double min, uint32_t *token, double *found) {
    return adm_rank_collect_plain(score, n, min, token, found);
}

#endif
