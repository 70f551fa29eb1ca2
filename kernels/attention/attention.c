/* attention.c: the reference attention, in two passes over the tokens: scores, then the weighted sum of V. */
#include "kernels/attention/attention.h"

#include <math.h>

/* Row `token` of k or v [*, head_dim], widened. */
static void load_row(adm_dtype dtype, const void *base, size_t token, uint32_t head_dim, float *row) {
    adm_to_f32(dtype, (const char *)base + token * head_dim * adm_dtype_bytes(dtype), head_dim, row);
}

void adm_attention_reference(adm_dtype dtype, const void *q, const void *k, const void *v, const uint32_t *index, size_t n,
                             uint32_t head_dim, double scale, double *score, float *out) {
    float query[ADM_MAX_HEAD_DIM], row[ADM_MAX_HEAD_DIM];
    double sum[ADM_MAX_HEAD_DIM] = {0};
    double largest = -INFINITY, total = 0;

    load_row(dtype, q, 0, head_dim, query);
    for (size_t j = 0; j < n; j++) {
        load_row(dtype, k, index ? index[j] : j, head_dim, row);
        double dot = 0;
        for (uint32_t i = 0; i < head_dim; i++) dot += (double)query[i] * row[i];
        score[j] = scale * dot;
        if (score[j] > largest) largest = score[j];
    }
    for (size_t j = 0; j < n; j++) {
        double weight = exp(score[j] - largest);
        total += weight;
        load_row(dtype, v, index ? index[j] : j, head_dim, row);
        for (uint32_t i = 0; i < head_dim; i++) sum[i] += weight * row[i];
    }
    for (uint32_t i = 0; i < head_dim; i++) out[i] = n > 0 ? (float)(sum[i] / total) : 0.0f;
}

double adm_attention_bytes(const adm_shape *shape, adm_dtype dtype, double n_selected, double n_distinct) {
    double row_bytes = shape->head_dim * (double)adm_dtype_bytes(dtype);
    return shape->n_kv_heads * n_distinct * 2 * row_bytes +
           shape->n_q_heads * (row_bytes + n_selected * sizeof(uint32_t) + shape->head_dim * sizeof(float));
}

double adm_attention_flops(const adm_shape *shape, double n_selected) {
    return shape->n_q_heads * n_selected * (4.0 * shape->head_dim + 5.0);
}
