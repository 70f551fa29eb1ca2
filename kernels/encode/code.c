/* code.c: encoding with any width and thresholds, and distances by table. */
#include "kernels/encode/code.h"

#include <string.h>

/* --- Encoding ----------------------------------------------------------------------------------------------------- */

void adm_encode_reference(const float *y, size_t n_rows, uint32_t head_dim, const float *t, uint32_t bits, uint8_t *packed) {
    const uint32_t n_thresholds = (1u << bits) - 1;
    const size_t row_bytes = (size_t)bits * head_dim / 8;
    memset(packed, 0, n_rows * row_bytes);
    for (size_t r = 0; r < n_rows; r++, y += head_dim, packed += row_bytes)
        for (uint32_t i = 0; i < head_dim; i++) {
            uint32_t code = 0;
            for (uint32_t l = 0; l < n_thresholds; l++) code += y[i] > t[l * head_dim + i];
            for (uint32_t b = 0, at = bits * i; b < bits; b++, at++)
                packed[at / 8] = (uint8_t)(packed[at / 8] | (code >> b & 1) << at % 8);
        }
}

/* Eight codes, a byte each (the first the lowest), as one number of 8 * bits bits: neighbours move together, then pairs, then
 * fours. */
static inline uint32_t gather_codes(const uint8_t *codes, uint32_t bits) {
    const uint64_t two = (1u << 2 * bits) - 1, four = (1u << 4 * bits) - 1;
    uint64_t x;
    memcpy(&x, codes, sizeof x);
    x = (x | x >> (8 - bits)) & (two | two << 16 | two << 32 | two << 48);
    x = (x | x >> (16 - 2 * bits)) & (four | four << 32);
    return (uint32_t)(x | x >> (32 - 4 * bits)) & (uint32_t)((UINT64_C(1) << 8 * bits) - 1);
}

/* Inlined with constant bits and head_dim, so that the loops over elements become vectors. */
static inline __attribute__((always_inline)) void encode_rows(const float *y, size_t n_rows, uint32_t d, const float *t,
                                                              uint32_t bits, uint8_t *packed) {
    uint8_t codes[ADM_MAX_HEAD_DIM];
    for (size_t r = 0; r < n_rows; r++, y += d) {
        for (uint32_t i = 0; i < d; i++) codes[i] = y[i] > t[i];
        for (uint32_t l = 1; l < (1u << bits) - 1; l++)
            for (uint32_t i = 0; i < d; i++) codes[i] = (uint8_t)(codes[i] + (y[i] > t[l * d + i]));
        for (uint32_t i = 0; i < d; i += 8) {
            uint32_t word = gather_codes(codes + i, bits);
            for (uint32_t b = 0; b < bits; b++) *packed++ = (uint8_t)(word >> 8 * b);
        }
    }
}

void adm_encode_rows(const float *y, size_t n_rows, uint32_t head_dim, const float *t, uint32_t bits, uint8_t *packed) {
    switch (bits) {
    case 1: encode_rows(y, n_rows, head_dim, t, 1, packed); break;
    case 2: encode_rows(y, n_rows, head_dim, t, 2, packed); break;
    case 3: encode_rows(y, n_rows, head_dim, t, 3, packed); break;
    }
}

void adm_decode_reference(const uint8_t *packed, size_t n_rows, uint32_t head_dim, uint32_t bits, uint8_t *codes) {
    const size_t row_bytes = (size_t)bits * head_dim / 8;
    for (size_t r = 0; r < n_rows; r++, packed += row_bytes)
        for (uint32_t i = 0; i < head_dim; i++) {
            uint32_t code = 0;
            for (uint32_t b = 0, at = bits * i; b < bits; b++, at++) code |= (packed[at / 8] >> at % 8 & 1u) << b;
            *codes++ = (uint8_t)code;
        }
}

/* --- Distances by table ------------------------------------------------------------------------------------------- */

void adm_scan_reference(const uint16_t *table, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint32_t bits,
                        void *scratch, uint16_t *distance) {
    (void)scratch;
    uint8_t codes[ADM_MAX_HEAD_DIM];
    for (size_t t = 0; t < n_tokens; t++) {
        uint32_t sum = 0;
        adm_decode_reference(k + t * bits * head_dim / 8, 1, head_dim, bits, codes);
        for (uint32_t i = 0; i < head_dim; i++) sum += table[(i << bits) + codes[i]];
        distance[t] = (uint16_t)sum;
    }
}

/* joint [n_groups][2^(bits * per_group)]: the sums of per_group elements' entries, for every joint code. */
static void join(const uint16_t *table, uint32_t n_groups, uint32_t bits, uint32_t per_group, uint16_t *joint) {
    for (uint32_t g = 0; g < n_groups; g++) {
        uint32_t n = 1;
        *joint = 0;
        for (uint32_t e = 0; e < per_group; e++, table += 1u << bits) {
            /* From the top code down, so that what is there already is read before code 0 overwrites it. */
            for (uint32_t code = 1u << bits; code-- > 0;)
                for (uint32_t j = 0; j < n; j++) joint[code * n + j] = (uint16_t)(joint[j] + table[code]);
            n <<= bits;
        }
        joint += n;
    }
}

/* Rows of n_bytes bytes, one table of 256 per byte. Four sums, since each look-up waits for the addition before it. */
static inline __attribute__((always_inline)) void scan_by_byte(const uint16_t *joint, const uint8_t *k, size_t n_tokens,
                                                               uint32_t n_bytes, uint16_t *distance) {
    for (size_t t = 0; t < n_tokens; t++, k += n_bytes) {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        for (uint32_t i = 0; i < n_bytes; i += 4) {
            a += joint[(i << 8) + k[i]];
            b += joint[((i + 1) << 8) + k[i + 1]];
            c += joint[((i + 2) << 8) + k[i + 2]];
            d += joint[((i + 3) << 8) + k[i + 3]];
        }
        distance[t] = (uint16_t)(a + b + c + d);
    }
}

/* Rows of 3-bit codes: eight elements are three bytes, four tables of 64. */
static inline __attribute__((always_inline)) void scan_by_pair(const uint16_t *joint, const uint8_t *k, size_t n_tokens,
                                                               uint32_t n_bytes, uint16_t *distance) {
    for (size_t t = 0; t < n_tokens; t++, k += n_bytes) {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        const uint16_t *at = joint;
        for (uint32_t i = 0; i < n_bytes; i += 3, at += 256) {
            uint32_t word = k[i] | (uint32_t)k[i + 1] << 8 | (uint32_t)k[i + 2] << 16;
            a += at[word & 63];
            b += at[64 + (word >> 6 & 63)];
            c += at[128 + (word >> 12 & 63)];
            d += at[192 + (word >> 18)];
        }
        distance[t] = (uint16_t)(a + b + c + d);
    }
}

void adm_scan_bytes(const uint16_t *table, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint32_t bits, void *scratch,
                    uint16_t *distance) {
    uint16_t *joint = scratch;
    const uint32_t per_group = bits == 3 ? 2 : 8 / bits, n_bytes = bits * head_dim / 8;
    join(table, head_dim / per_group, bits, per_group, joint);
    switch (bits * 1000 + head_dim) { /* constants unroll the loops */
    case 1064: scan_by_byte(joint, k, n_tokens, 8, distance); break;
    case 1128:
    case 2064: scan_by_byte(joint, k, n_tokens, 16, distance); break;
    case 1256:
    case 2128: scan_by_byte(joint, k, n_tokens, 32, distance); break;
    case 2256: scan_by_byte(joint, k, n_tokens, 64, distance); break;
    default: scan_by_pair(joint, k, n_tokens, n_bytes, distance); break;
    }
}

double adm_scan_bytes_moved(const adm_shape *shape, uint32_t bits, double n_scans, double n_tokens) {
    double row_bytes = bits * shape->head_dim / 8.0, table_bytes = (double)(shape->head_dim << bits) * sizeof(uint16_t);
    return shape->n_kv_heads * n_tokens * row_bytes + n_scans * (table_bytes + n_tokens * sizeof(uint16_t));
}

double adm_scan_flops(const adm_shape *shape, double n_scans, double n_tokens) {
    return 2.0 * n_scans * n_tokens * shape->head_dim;
}
