/* pack.h: the packed row, its way back, and its position in the code cache.
 *
 *   byte 0              byte 1
 *   bits 1:0  element 0   1:0  element 4      ...   d/4 bytes per row
 *        3:2  element 1   3:2  element 5
 *        5:4  element 2   5:4  element 6
 *        7:6  element 3   7:6  element 7
 *
 *   code cache [n_kv_heads, capacity, d/4]: a head's tokens are contiguous, since the distance stage streams them. */
#ifndef ADM_KERNELS_ENCODE_PACK_H
#define ADM_KERNELS_ENCODE_PACK_H

#include "core/contract/stage.h"

/* codes [n_rows, d], each 0..3 (a larger one spoils its neighbour) -> packed [n_rows, d/4]. No overlap. */
ADM_API adm_pack_fn adm_pack_reference;

#if defined(__x86_64__)
ADM_API adm_pack_fn adm_pack_avx2; /* needs adm_cpu_has_avx2() */
#endif

/* The inverse: packed [n_rows, d/4] -> codes [n_rows, d]. */
ADM_API void adm_unpack_reference(const uint8_t *packed, size_t n_rows, uint32_t head_dim, uint8_t *codes);

/* Copies the new token's rows, packed [n_kv_heads, d/4], to position pos < capacity of every head of cache
 * [n_kv_heads, capacity, d/4]. */
ADM_API void adm_append_reference(const uint8_t *packed, uint32_t n_kv_heads, uint32_t head_dim, size_t pos, size_t capacity,
                                  uint8_t *cache);

/* Compulsory traffic of n_rows rows: a byte an element read, a quarter of a byte written. Rows as in hadamard.h. */
double adm_pack_bytes(double n_rows, uint32_t head_dim);

/* A shift and an OR an element. */
double adm_pack_flops(double n_rows, uint32_t head_dim);

/* Compulsory traffic of appending n_rows packed rows: read and written once. A decode step appends n_kv_heads rows a
 * layer. Ignored: the append of K and V themselves, which dense attention does as well, and that a row of 16 to 64
 * bytes moves whole 32-byte sectors. */
double adm_append_bytes(double n_rows, uint32_t head_dim);

#endif
