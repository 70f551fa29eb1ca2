/* floatfmt.c: conversions between float formats, in integer arithmetic so that every compiler agrees. */
#include "core/base/floatfmt.h"

#include "core/base/mem.h"

#include <string.h>

size_t adm_dtype_bytes(adm_dtype dtype) { return dtype == ADM_F32 ? 4 : 2; }

const char *adm_dtype_name(adm_dtype dtype) {
    switch (dtype) {
    case ADM_F32: return "F32";
    case ADM_F16: return "F16";
    case ADM_BF16: return "BF16";
    }
    return "?";
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float adm_f16_to_f32(uint16_t bits) {
    /* Exponent and mantissa in place, then 2^112 makes up for the difference of the biases (127 - 15), subnormals
     * included; infinity and NaN need their exponent set. No branch, so that a loop of these becomes SIMD. */
    uint32_t magnitude = (uint32_t)(bits & 0x7fffu) << 13;
    uint32_t scaled = bits_of_float(float_of_bits(magnitude) * 0x1p112f);
    uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0;
    return float_of_bits((uint32_t)(bits & 0x8000u) << 16 | scaled | special);
}

uint16_t adm_f32_to_f16(float value) {
    uint32_t bits = bits_of_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (bits >= 0x38800000u) {
        bits += 0xfffu + (bits >> 13 & 1u);
        return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
    }
    /* Subnormal result: adding 0.5 puts the binary16 grid of 2^-24 at the last bit of a binary32, so the FPU rounds. */
    float shifted = float_of_bits(bits) + 0.5f;
    return (uint16_t)(sign | (bits_of_float(shifted) - 0x3f000000u));
}

float adm_bf16_to_f32(uint16_t bits) { return float_of_bits((uint32_t)bits << 16); }

uint16_t adm_f32_to_bf16(float value) {
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void adm_to_f32(adm_dtype dtype, const void *src, size_t n, float *dst) {
    const unsigned char *from = src;
    uint16_t bits;
    switch (dtype) {
    case ADM_F32: adm_copy(dst, src, n * sizeof *dst); break;
    case ADM_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&bits, from + 2 * i, sizeof bits);
            dst[i] = adm_f16_to_f32(bits);
        }
        break;
    case ADM_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&bits, from + 2 * i, sizeof bits);
            dst[i] = adm_bf16_to_f32(bits);
        }
        break;
    }
}

void adm_from_f32(adm_dtype dtype, const float *src, size_t n, void *dst) {
    if (dtype == ADM_F32) {
        adm_copy(dst, src, n * sizeof *src);
        return;
    }
    unsigned char *to = dst;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits = dtype == ADM_F16 ? adm_f32_to_f16(src[i]) : adm_f32_to_bf16(src[i]);
        memcpy(to + 2 * i, &bits, sizeof bits);
    }
}
