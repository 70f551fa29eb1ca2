/* trace_check.c: the checks of a trace's values that trace_file.h declares. */
#include "traces/format/trace_file.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"

/* --- NaN and infinity --------------------------------------------------------------------------------------------- */

/* Whether no value's exponent has every bit set. A loop without a branch, a vector at a time; n is a row's. */
static bool all_finite(adm_dtype dtype, const void *data, size_t n) {
    if (dtype == ADM_F32) {
        uint32_t bits[ADM_MAX_HEAD_DIM], found = 0;
        memcpy(bits, data, n * sizeof *bits);
        for (size_t i = 0; i < n; i++) found |= (bits[i] & 0x7f800000u) == 0x7f800000u;
        return found == 0;
    }
    const uint16_t exponent = dtype == ADM_F16 ? 0x7c00 : 0x7f80;
    uint16_t bits[ADM_MAX_HEAD_DIM], found = 0;
    memcpy(bits, data, n * sizeof *bits);
    for (size_t i = 0; i < n; i++) found |= (uint16_t) - ((bits[i] & exponent) == exponent);
    return found == 0;
}

/* data is [n_outer, n_middle, d]. `of` names the two outer axes. */
static adm_status check_tensor(const adm_trace *trace, const adm_trace_layer *layer, char letter, const void *data,
                               adm_dtype dtype, size_t n_outer, size_t n_middle, const char *const of[2], adm_error *err) {
    float row[ADM_MAX_HEAD_DIM];
    uint32_t d = trace->shape.head_dim;
    const char *from = data;
    for (size_t r = 0; r < n_outer * n_middle; r++, from += d * adm_dtype_bytes(dtype)) {
        if (all_finite(dtype, from, d)) continue;
        adm_to_f32(dtype, from, d, row);
        for (uint32_t i = 0; i < d; i++)
            if (!isfinite(row[i]))
                return adm_fail(err, ADM_EINPUT,
                                "%s: tensor 'layers.%u.%c' holds %s at %s %zu, %s %zu, element %u; every "
                                "value must be finite",
                                adm_trace_label(trace), layer->index, letter,
                                isnan(row[i]) ? "NaN"
                                : row[i] > 0  ? "infinity"
                                              : "-infinity",
                                of[0], r / n_middle, of[1], r % n_middle, i);
    }
    return ADM_OK;
}

adm_status adm_trace_check_finite(const adm_trace *trace, adm_error *err) {
    static const char *const cache[2] = {"KV head", "token"}, *const steps[2] = {"step", "query head"};
    size_t n_kv = trace->shape.n_kv_heads, n_q = trace->shape.n_q_heads, T = trace->n_tokens, n = trace->n_steps;
    adm_status status = ADM_OK;
    for (size_t i = 0; i < trace->n_layers && status == ADM_OK; i++) {
        const adm_trace_layer *l = &trace->layers[i];
        status = adm_trace_check_unchanged(trace, err);
        if (status == ADM_OK) status = check_tensor(trace, l, 'k', l->k, l->k_dtype, n_kv, T, cache, err);
        if (status == ADM_OK) status = check_tensor(trace, l, 'v', l->v, l->v_dtype, n_kv, T, cache, err);
        if (status == ADM_OK) status = check_tensor(trace, l, 'q', l->q, l->q_dtype, n, n_q, steps, err);
        if (status == ADM_OK && l->o != NULL) status = check_tensor(trace, l, 'o', l->o, l->o_dtype, n, n_q, steps, err);
    }
    return status;
}

/* --- Recomputed outputs ------------------------------------------------------------------------------------------- */

/* One KV head, widened once for all the queries that read it. */
typedef struct kv_head {
    float *k, *v;   /* [n_tokens, d] */
    double *weight; /* [n_tokens] */
} kv_head;

static adm_status create_kv_head(const adm_trace *trace, kv_head *head, adm_error *err) {
    size_t n = trace->n_tokens, d = trace->shape.head_dim;
    *head = (kv_head){0};
    adm_status status = adm_alloc(&head->k, n, d * sizeof *head->k, "keys to verify with", err);
    if (status == ADM_OK) status = adm_alloc(&head->v, n, d * sizeof *head->v, "values to verify with", err);
    if (status == ADM_OK) status = adm_alloc(&head->weight, n, sizeof *head->weight, "weights to verify with", err);
    return status;
}

static void free_kv_head(kv_head *head) {
    adm_free(&head->k);
    adm_free(&head->v);
    adm_free(&head->weight);
}

static void load_kv_head(const adm_trace *trace, const adm_trace_layer *layer, uint32_t kv, kv_head *head) {
    size_t n = trace->n_tokens * trace->shape.head_dim;
    adm_to_f32(layer->k_dtype, (const char *)layer->k + kv * n * adm_dtype_bytes(layer->k_dtype), n, head->k);
    adm_to_f32(layer->v_dtype, (const char *)layer->v + kv * n * adm_dtype_bytes(layer->v_dtype), n, head->v);
}

/* out[d] = softmax(scale q K^T) V over the first n tokens; leaves the softmax in head->weight. */
static void attend(const kv_head *head, const float *q, size_t n, uint32_t d, double scale, double *out) {
    double max = -INFINITY, sum = 0;
    for (size_t t = 0; t < n; t++) {
        double dot = 0;
        for (uint32_t i = 0; i < d; i++) dot += (double)q[i] * (double)head->k[t * d + i];
        head->weight[t] = scale * dot;
        if (head->weight[t] > max) max = head->weight[t];
    }
    for (size_t t = 0; t < n; t++) sum += head->weight[t] = exp(head->weight[t] - max);
    memset(out, 0, d * sizeof *out);
    for (size_t t = 0; t < n; t++) {
        head->weight[t] /= sum;
        for (uint32_t i = 0; i < d; i++) out[i] += head->weight[t] * (double)head->v[t * d + i];
    }
}

/* How far, in L2, o may be from what the file's own Q, K and V give. The model computed o from exact tensors;
 * the file holds them rounded. With u the unit roundoff of a dtype, rounding x moves it by about u |x| / sqrt(3)
 * (uniform error), so to first order, with p the softmax and r the output,
 *
 *   score of token t     moves by  s_t = scale * sqrt((u_q^2 + u_k^2) / 3 * sum_i (q_i k_ti)^2)       root mean square
 *   the output moves by at most    sum_t p_t (s_t |v_t - r| + u_v / sqrt(3) |v_t|) + u_o / sqrt(3) |r|
 *
 * where the sum over tokens of root mean squares holds however the errors are correlated (Minkowski). The limit is
 * three times that. Measured on 3,456 outputs of SmolLM2-135M (K, V, Q in F16): 0.13 times in the median, 0.86 at
 * worst. The floor is for the model's own float32 sums, in any order, over up to a million tokens. */
static double rounding_limit(const adm_trace *trace, const adm_trace_layer *layer, const kv_head *head, const float *q,
                             const double *r, double r_norm, size_t n) {
    static const double unit_roundoff[] = {[ADM_F32] = 0x1p-24, [ADM_F16] = 0x1p-11, [ADM_BF16] = 0x1p-8};
    static const double floor_rel_l2 = 1e-4, rms_multiple = 3;
    uint32_t d = trace->shape.head_dim;
    double u_score = hypot(unit_roundoff[layer->q_dtype], unit_roundoff[layer->k_dtype]) * trace->softmax_scale;
    double u_v = unit_roundoff[layer->v_dtype], u_o = unit_roundoff[layer->o_dtype];
    double moved = 0;
    for (size_t t = 0; t < n; t++) {
        const float *k = head->k + t * d, *v = head->v + t * d;
        double products = 0, distance = 0, v_norm = 0;
        for (uint32_t i = 0; i < d; i++) {
            double product = (double)q[i] * (double)k[i], away = (double)v[i] - r[i];
            products += product * product;
            distance += away * away;
            v_norm += (double)v[i] * (double)v[i];
        }
        moved += head->weight[t] * (u_score * sqrt(products) * sqrt(distance) + u_v * sqrt(v_norm));
    }
    return fmax(rms_multiple / sqrt(3) * (moved + u_o * r_norm), floor_rel_l2 * r_norm);
}

static double ratio(double part, double whole) { return part == 0 ? 0 : part / whole; }

static void check_output(const adm_trace *trace, const adm_trace_layer *layer, const kv_head *head, size_t step,
                         uint32_t q_head, adm_trace_report *report) {
    uint32_t d = trace->shape.head_dim;
    size_t at = (step * trace->shape.n_q_heads + q_head) * d, n = (size_t)trace->positions[step] + 1;
    float q[ADM_MAX_HEAD_DIM], o[ADM_MAX_HEAD_DIM];
    double r[ADM_MAX_HEAD_DIM], error = 0, r_norm = 0;
    adm_to_f32(layer->q_dtype, (const char *)layer->q + at * adm_dtype_bytes(layer->q_dtype), d, q);
    adm_to_f32(layer->o_dtype, (const char *)layer->o + at * adm_dtype_bytes(layer->o_dtype), d, o);
    attend(head, q, n, d, trace->softmax_scale, r);
    for (uint32_t i = 0; i < d; i++) {
        error += ((double)o[i] - r[i]) * ((double)o[i] - r[i]);
        r_norm += r[i] * r[i];
    }
    error = isnan(error) ? INFINITY : sqrt(error);
    r_norm = sqrt(r_norm);
    double limit = rounding_limit(trace, layer, head, q, r, r_norm, n);
    report->n_outside += error > limit;
    if (report->n_checked++ > 0 && ratio(error, limit) <= report->worst_of_limit) return;
    report->worst_of_limit = ratio(error, limit);
    report->worst_rel_l2 = ratio(error, r_norm);
    report->worst_layer = layer->index;
    report->worst_step = step;
    report->worst_head = q_head;
}

static void verify_layer(const adm_trace *trace, const adm_trace_layer *layer, size_t n_taken, kv_head *head,
                         adm_trace_report *report) {
    uint32_t group = trace->shape.n_q_heads / trace->shape.n_kv_heads;
    for (uint32_t kv = 0; kv < trace->shape.n_kv_heads; kv++) {
        load_kv_head(trace, layer, kv, head);
        for (size_t i = 0; i < n_taken; i++) {
            size_t step = (i + 1) * trace->n_steps / n_taken - 1;
            for (uint32_t h = kv * group; h < (kv + 1) * group; h++) check_output(trace, layer, head, step, h, report);
        }
    }
}

adm_status adm_trace_verify(const adm_trace *trace, size_t max_steps, adm_trace_report *report, adm_error *err) {
    size_t n_taken = max_steps > 0 && max_steps < trace->n_steps ? max_steps : trace->n_steps;
    *report = (adm_trace_report){0};
    kv_head head;
    adm_status status = create_kv_head(trace, &head, err);
    for (size_t i = 0; i < trace->n_layers && status == ADM_OK; i++) {
        if (trace->layers[i].o == NULL) continue;
        status = adm_trace_check_unchanged(trace, err);
        if (status == ADM_OK) verify_layer(trace, &trace->layers[i], n_taken, &head, report);
    }
    free_kv_head(&head);
    if (status != ADM_OK || report->n_outside == 0) return status;
    return adm_fail(err, ADM_EINPUT,
                    "%s: %zu of %zu recomputed outputs differ from layers.{i}.o; the worst is layer %u, "
                    "step %zu (position %" PRId64 "), query head %u, by %.2g in relative L2, %.3g times the limit",
                    adm_trace_label(trace), report->n_outside, report->n_checked, report->worst_layer, report->worst_step,
                    trace->positions[report->worst_step], report->worst_head, report->worst_rel_l2, report->worst_of_limit);
}
