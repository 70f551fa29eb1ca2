/* pack.c: the reference packing. */
#include "kernels/encode/pack.h"

#include <string.h>

void adm_pack_reference(const uint8_t *codes, size_t n_rows, uint32_t head_dim, uint8_t *packed) {
    for (size_t i = 0; i < n_rows * head_dim / 4; i++, codes += 4)
        packed[i] = (uint8_t)(codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6);
}

void adm_unpack_reference(const uint8_t *packed, size_t n_rows, uint32_t head_dim, uint8_t *codes) {
    for (size_t i = 0; i < n_rows * head_dim; i++) codes[i] = packed[i / 4] >> 2 * (i % 4) & 3;
}

void adm_append_reference(const uint8_t *packed, uint32_t n_kv_heads, uint32_t head_dim, size_t pos, size_t capacity,
                          uint8_t *cache) {
    const size_t row_bytes = head_dim / 4;
    for (size_t head = 0; head < n_kv_heads; head++)
        memcpy(cache + (head * capacity + pos) * row_bytes, packed + head * row_bytes, row_bytes);
}

double adm_pack_bytes(double n_rows, uint32_t head_dim) { return n_rows * head_dim * 1.25; }

double adm_pack_flops(double n_rows, uint32_t head_dim) { return n_rows * head_dim * 2; }

double adm_append_bytes(double n_rows, uint32_t head_dim) { return n_rows * head_dim / 4 * 2; }
