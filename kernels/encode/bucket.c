/* bucket.c: the reference bucketing. */
#include "kernels/encode/bucket.h"

void adm_bucket_reference(const float *y, size_t n, const float t[3], uint8_t *codes) {
    for (size_t i = 0; i < n; i++) codes[i] = (uint8_t)((y[i] > t[0]) + (y[i] > t[1]) + (y[i] > t[2]));
}

double adm_bucket_bytes(double n_rows, uint32_t head_dim) { return n_rows * head_dim * (sizeof(float) + sizeof(uint8_t)); }

double adm_bucket_flops(double n_rows, uint32_t head_dim) { return n_rows * head_dim * 5; }
