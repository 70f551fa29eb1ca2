/* hadamard.c: the reference transform.
 *
 *   stride 1     a b c d  ->  a+b a-b c+d c-d
 *   stride 2              ->  (a+b)+(c+d) (a-b)+(c-d) (a+b)-(c+d) (a-b)-(c-d)        and so on up to d/2
 *
 * The order of the strides decides the rounding, and with it codes next to a threshold: it is part of the contract. */
#include "kernels/encode/hadamard.h"

#include <math.h>

static void butterflies(float *y, uint32_t d) {
    for (uint32_t stride = 1; stride < d; stride *= 2) {
        for (uint32_t block = 0; block < d; block += 2 * stride) {
            for (uint32_t i = block; i < block + stride; i++) {
                float a = y[i], b = y[i + stride];
                y[i] = a + b;
                y[i + stride] = a - b;
            }
        }
    }
}

void adm_hadamard_reference(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, float *y) {
    const float scale = (float)(1.0 / sqrt((double)head_dim));
    adm_to_f32(dtype, x, n_rows * head_dim, y);
    for (size_t row = 0; row < n_rows; row++, y += head_dim) {
        butterflies(y, head_dim);
        for (uint32_t i = 0; i < head_dim; i++) y[i] *= scale;
    }
}

void adm_hadamard_exact(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, double *y) {
    const size_t row_bytes = head_dim * adm_dtype_bytes(dtype);
    const double scale = 1.0 / sqrt((double)head_dim);
    for (size_t row = 0; row < n_rows; row++, y += head_dim) {
        float wide[ADM_MAX_HEAD_DIM];
        adm_to_f32(dtype, (const char *)x + row * row_bytes, head_dim, wide);
        for (uint32_t i = 0; i < head_dim; i++) {
            double sum = 0;
            for (uint32_t j = 0; j < head_dim; j++) sum += __builtin_parity(i & j) ? -wide[j] : wide[j];
            y[i] = sum * scale;
        }
    }
}

double adm_hadamard_bytes(adm_dtype dtype, double n_rows, uint32_t head_dim) {
    return n_rows * head_dim * ((double)adm_dtype_bytes(dtype) + sizeof(float));
}

double adm_hadamard_flops(double n_rows, uint32_t head_dim) { return n_rows * head_dim * (log2(head_dim) + 1); }
