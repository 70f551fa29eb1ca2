/* ops.c: the host's references of what a decode step does beside attention; see ops.h. */
#include "kernels/decode/ops.h"

#include <math.h>
#include <string.h>

void adm_decode_embed(const adm_decode_sizes *s, const int32_t *token, const uint16_t *table, float *residual) {
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t i = 0; i < s->hidden; i++)
            residual[(size_t)b * s->hidden + i] =
                adm_f16_to_f32(table[adm_decode_element(s->tiled, s->hidden, (uint32_t)token[b] % s->vocab, i)]);
}

void adm_decode_norm(const adm_decode_sizes *s, float *residual, const uint16_t *y, const float *gain, float eps, uint16_t *x) {
    for (uint32_t b = 0; b < s->batch; b++) {
        const size_t at = (size_t)b * s->hidden;
        double squares = 0;
        for (uint32_t i = 0; i < s->hidden; i++) {
            if (y != NULL) residual[at + i] += adm_f16_to_f32(y[at + i]);
            squares += (double)residual[at + i] * residual[at + i];
        }
        const double scale = 1 / sqrt(squares / s->hidden + eps);
        for (uint32_t i = 0; i < s->hidden; i++) x[at + i] = adm_f32_to_f16((float)(residual[at + i] * scale * gain[i]));
    }
}

static double biased(const uint16_t *qkv, const float *bias, size_t i) {
    return adm_f16_to_f32(qkv[i]) + (double)(bias != NULL ? bias[i] : 0);
}

void adm_decode_rope(const adm_shape *heads, const uint16_t *qkv, const float *bias, const float *frequency, uint32_t position,
                     uint16_t *q, uint16_t *k, uint16_t *v) {
    const uint32_t d = heads->head_dim, half = d / 2, rotated = heads->n_q_heads + heads->n_kv_heads;
    for (uint32_t h = 0; h < rotated + heads->n_kv_heads; h++) {
        uint16_t *to = h < heads->n_q_heads ? q + (size_t)h * d
                       : h < rotated        ? k + (size_t)(h - heads->n_q_heads) * d
                                            : v + (size_t)(h - rotated) * d;
        for (uint32_t i = 0; i < half; i++) {
            const double a = biased(qkv, bias, (size_t)h * d + i), b = biased(qkv, bias, (size_t)h * d + half + i);
            const double angle = h < rotated ? (double)((float)position * frequency[i]) : 0, c = cos(angle), s = sin(angle);
            to[i] = adm_f32_to_f16((float)(a * c - b * s));
            to[half + i] = adm_f32_to_f16((float)(b * c + a * s));
        }
    }
}

static double silu(double x) { return x / (1 + exp(-x)); }

void adm_decode_gate(const adm_decode_sizes *s, const uint16_t *gate_up, uint16_t *inner) {
    for (size_t i = 0; i < (size_t)s->batch * s->inner; i++) {
        const double gate = adm_f16_to_f32(gate_up[2 * i]), up = adm_f16_to_f32(gate_up[2 * i + 1]);
        inner[i] = adm_f32_to_f16((float)(silu(gate) * up));
    }
}

void adm_decode_argmax(const adm_decode_sizes *s, const float *logits, int32_t *token) {
    for (uint32_t b = 0; b < s->batch; b++) {
        const float *row = logits + (size_t)b * s->vocab;
        uint32_t best = 0;
        for (uint32_t i = 1; i < s->vocab; i++)
            if (row[i] > row[best]) best = i;
        token[b] = (int32_t)best;
    }
}

void adm_decode_product_reference(const adm_decode_product *p) {
    const uint16_t *matrix = p->matrix, *x = p->x;
    double pair = 0;
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t n = 0; n < p->n; n++) {
            double sum = 0;
            for (uint32_t k = 0; k < p->k; k++)
                sum += (double)adm_f16_to_f32(matrix[adm_decode_element(p->tiled, p->k, n, k)]) *
                       adm_f16_to_f32(x[(size_t)b * p->k + k]);
            const size_t at = (size_t)b * p->n + n;
            if (p->gated && n % 2 == 0) pair = silu(sum);
            else if (p->gated) ((uint16_t *)p->y)[at / 2] = adm_f32_to_f16((float)(pair * sum));
            else if (p->wide) ((float *)p->y)[at] = (float)sum;
            else ((uint16_t *)p->y)[at] = adm_f32_to_f16((float)sum);
        }
}

void adm_decode_tile(const uint16_t *matrix, uint32_t n, uint32_t k, uint16_t *tiles) {
    for (uint32_t row = 0; row < adm_decode_rows(true, n); row++)
        for (uint32_t column = 0; column < k; column += 8) { /* eight of a row lie together in both */
            uint16_t *to = tiles + adm_decode_element(true, k, row, column);
            if (row < n) memcpy(to, matrix + (size_t)row * k + column, 8 * sizeof *to);
            else memset(to, 0, 8 * sizeof *to);
        }
}
