/* input.h: the random inputs of a GPU profile, as a pure function of (seed, tensor, sequence, head, token, element),
 * so that host and device make the same bits and no cache is ever copied: the host recomputes any row it wants to check.
 *
 * Real keys are not white noise, and easy inputs flatter a kernel. So keys have
 *   - outlier channels: 3 per KV head, with a mean of +-4 standard deviations, as RoPE models show;
 *   - attention sinks: the first 4 tokens carry twice the mean in those channels;
 *   - ties: every 8th token repeats the key before it, so that its distance ties exactly;
 * and queries lean on the same channels. Values are sums of four uniform 16-bit numbers (variance 1, so nearly normal),
 * multiplied once in float32 and added once: the same on every IEEE machine. */
#ifndef ADM_KERNELS_GPU_INPUT_H
#define ADM_KERNELS_GPU_INPUT_H

#include <stdint.h>

#ifdef __CUDACC__
#define ADM_HOST_DEVICE __host__ __device__
#else
#define ADM_HOST_DEVICE
#endif

typedef enum adm_input_tensor { ADM_INPUT_K, ADM_INPUT_V, ADM_INPUT_Q } adm_input_tensor;

enum { ADM_INPUT_OUTLIERS = 3, ADM_INPUT_SINKS = 4, ADM_INPUT_TIE_EVERY = 8 };

/* The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that mixes all bits. */
ADM_HOST_DEVICE static inline uint64_t adm_input_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* What a row's values have in common: its own bits, and where and how far the outlier channels lie. */
typedef struct adm_input_row {
    uint64_t bits, channels;
    float outlier; /* mean there, but for the channel's sign; 0: none */
} adm_input_row;

/* kv_head is the KV head that a query head reads, so that both know the outlier channels; head is the row's own (query or KV)
 * head; draw tells several queries of one head apart. */
ADM_HOST_DEVICE static inline adm_input_row adm_input_row_of(uint64_t seed, adm_input_tensor tensor, uint32_t sequence,
                                                             uint32_t kv_head, uint32_t head, uint32_t token_or_draw) {
    uint32_t token = token_or_draw;
    if (tensor == ADM_INPUT_K && token % ADM_INPUT_TIE_EVERY == ADM_INPUT_TIE_EVERY - 1) token--;
    uint64_t row = adm_input_mix(seed + 0x9e3779b97f4a7c15u * (1 + (uint64_t)tensor)) ^ (uint64_t)sequence << 48 ^
                   (uint64_t)head << 32 ^ token;
    adm_input_row r;
    r.bits = adm_input_mix(row);
    r.channels = adm_input_mix(seed + 0x51ed2701u + kv_head);
    r.outlier = tensor == ADM_INPUT_V ? 0.0f : tensor == ADM_INPUT_Q ? 1.0f : token < ADM_INPUT_SINKS ? 8.0f : 4.0f;
    return r;
}

/* Element i without its mean. */
ADM_HOST_DEVICE static inline float adm_input_noise(const adm_input_row *r, uint32_t i) {
    uint64_t bits = adm_input_mix(r->bits + 0x9e3779b97f4a7c15u * (1 + (uint64_t)i));
    int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) + (int32_t)(bits >> 32 & 0xffff) +
                  (int32_t)(bits >> 48) - 2 * 65535;
    const float to_unit_variance = 2.6428998e-5f; /* 1 / sqrt(4 * (65536^2 - 1) / 12) */
#ifdef __CUDA_ARCH__
    return __fmul_rn((float)sum, to_unit_variance);
#else
    return (float)sum * to_unit_variance;
#endif
}

/* Where outlier channel o lies, and its mean; of channels that fall together the last counts. */
ADM_HOST_DEVICE static inline uint32_t adm_input_channel(const adm_input_row *r, uint32_t o, uint32_t head_dim) {
    return (uint32_t)(r->channels >> (16 * o) & 0xffff) % head_dim;
}
ADM_HOST_DEVICE static inline float adm_input_mean(const adm_input_row *r, uint32_t o) {
    return (r->channels >> (60 + o) & 1) != 0 ? r->outlier : -r->outlier;
}

/* One float32 value. */
ADM_HOST_DEVICE static inline float adm_input_value(uint64_t seed, adm_input_tensor tensor, uint32_t sequence, uint32_t kv_head,
                                                    uint32_t head, uint32_t token_or_draw, uint32_t i, uint32_t head_dim) {
    const adm_input_row r = adm_input_row_of(seed, tensor, sequence, kv_head, head, token_or_draw);
    float mean = 0.0f;
    for (uint32_t o = 0; tensor != ADM_INPUT_V && o < ADM_INPUT_OUTLIERS; o++)
        if (adm_input_channel(&r, o, head_dim) == i) mean = adm_input_mean(&r, o);
#ifdef __CUDA_ARCH__
    return __fadd_rn(adm_input_noise(&r, i), mean);
#else
    return adm_input_noise(&r, i) + mean;
#endif
}

/* A whole row of them, for the host: the same bits, with what the elements share computed once. */
static inline void adm_input_fill_row(uint64_t seed, adm_input_tensor tensor, uint32_t sequence, uint32_t kv_head,
                                      uint32_t head, uint32_t token_or_draw, uint32_t head_dim, float *value) {
    const adm_input_row r = adm_input_row_of(seed, tensor, sequence, kv_head, head, token_or_draw);
    for (uint32_t i = 0; i < head_dim; i++) value[i] = adm_input_noise(&r, i);
    for (uint32_t o = 0; tensor != ADM_INPUT_V && o < ADM_INPUT_OUTLIERS; o++) {
        const uint32_t i = adm_input_channel(&r, o, head_dim);
        value[i] = adm_input_noise(&r, i) + adm_input_mean(&r, o);
    }
}

#endif
