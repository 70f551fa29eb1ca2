/* model_host.c: a decode step for a program that runs the model itself, on the host (core/contract/model_step.h): the stages of
 * this processor, one after another. The codes of a key are its packed row. */
#include "core/contract/model_step.h"

#include <string.h>

#include "core/base/layout.h"
#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/contract/asym4.h"
#include "kernels/registry.h"

/* What one step works in. */
typedef struct scratch {
    adm_host_pipeline pipeline;
    void *memory;
    float *y; /* [rows][d] */
    uint8_t *code; /* [rows][d] */
    uint8_t *packed; /* [group] rows of d/4, or of asym4's planes */
    uint16_t *distance; /* [group][capacity] */
    uint32_t *histogram;
    uint32_t *index; /* [capacity] */
    double *score; /* [capacity] */
    float *out; /* [d] */
} scratch;

enum { ENCODE_ROWS = 512 };

static uint32_t group_of(const adm_model_step *step) { return step->shape.n_q_heads / step->shape.n_kv_heads; }

static bool is_asym4(const adm_model_step *step) { return step->metric == ADM_METRIC_ASYM4; }

static uint32_t largest_distance(const adm_model_step *step) {
    const uint32_t d = step->shape.head_dim, largest = is_asym4(step) ? adm_asym4_max_distance(d) : 3 * d;
    return largest * (step->selection == ADM_SELECT_GROUP ? group_of(step) : 1);
}

static size_t query_bytes(const adm_model_step *step) {
    return is_asym4(step) ? adm_asym4_query_bytes(step->shape.head_dim) : step->shape.head_dim / 4;
}

/* asym4: of KV head `head` three rows of thresholds, and behind them the scale. */
static const float *channels_of(const adm_model_step *step, size_t head) {
    return step->channels + 4 * head * step->shape.head_dim;
}

static void take(const adm_model_step *step, adm_layout *layout, scratch *s) {
    const size_t d = step->shape.head_dim, rows = group_of(step) > ENCODE_ROWS ? group_of(step) : ENCODE_ROWS;
    s->y = adm_layout_take(layout, rows * d, sizeof *s->y);
    s->code = adm_layout_take(layout, rows * d, 1);
    s->packed = adm_layout_take(layout, rows * query_bytes(step), 1);
    s->distance = adm_layout_take(layout, (size_t)group_of(step) * step->capacity, sizeof *s->distance);
    s->histogram = adm_layout_take(layout, largest_distance(step) + 1, sizeof *s->histogram);
    s->index = adm_layout_take(layout, step->capacity, sizeof *s->index);
    s->score = adm_layout_take(layout, step->capacity, sizeof *s->score);
    s->out = adm_layout_take(layout, d, sizeof *s->out);
}

static adm_status check(const adm_model_step *step, adm_error *err) {
    adm_status status = adm_model_step_check_metric(step, err);
    if (status == ADM_OK) status = adm_shape_check(&step->shape, err);
    if (status == ADM_OK) status = adm_select_rule_check(&step->rule, err);
    if (status != ADM_OK) return status;
    if (largest_distance(step) > UINT16_MAX)
        return adm_fail(err, ADM_EUNSUPPORTED, "the distances of %u query heads together may not fit 16 bits", group_of(step));
    for (uint32_t b = 0; b < step->batch; b++)
        if (step->length[b] > step->capacity)
            return adm_fail(err, ADM_EINPUT, "sequence %u has %u tokens, and the cache has room for %u", b, step->length[b],
                            step->capacity);
    return ADM_OK;
}

static adm_status open_scratch(const adm_model_step *step, scratch *s, adm_error *err) {
    adm_layout layout = {0};
    *s = (scratch){.memory = NULL};
    adm_status status = check(step, err);
    if (status != ADM_OK) return status;
    take(step, &layout, s);
    status = adm_alloc(&s->memory, layout.bytes, 1, "a decode step", err);
    if (status != ADM_OK) return status;
    take(step, &(adm_layout){.base = s->memory}, s);
    adm_host_pipeline_default(&s->pipeline);
    return ADM_OK;
}

/* Where row `row` of elements x begins. */
static const void *row_at(const adm_model_step *step, const void *x, size_t row) {
    return (const char *)x + row * step->shape.head_dim * adm_dtype_bytes(step->dtype);
}

/* Keys x [n][d] of the step's type, of KV head `head`, -> packed [n][d/4]; n at most the rows of the scratch. */
static void encode(const adm_model_step *step, const scratch *s, size_t head, const void *x, size_t n, uint8_t *packed) {
    const uint32_t d = step->shape.head_dim;
    s->pipeline.hadamard->fn.hadamard(step->dtype, x, n, d, s->y);
    if (is_asym4(step)) {
        s->pipeline.encode(s->y, n, d, channels_of(step, head), 2, packed);
        return;
    }
    s->pipeline.bucket->fn.bucket(s->y, n * d, step->threshold, s->code);
    s->pipeline.pack->fn.pack(s->code, n, d, packed);
}

adm_status adm_model_encode_host(const adm_model_step *step, adm_error *err) {
    const uint32_t d = step->shape.head_dim;
    adm_model_step plain = *step; /* the rule does not count */
    scratch s;
    plain.rule = (adm_select_rule){.budget = 1};
    plain.selection = ADM_SELECT_HEAD;
    const adm_status status = open_scratch(&plain, &s, err);
    for (size_t row = 0; status == ADM_OK && row < (size_t)step->batch * step->shape.n_kv_heads; row++) {
        const size_t n = step->length[row / step->shape.n_kv_heads], base = row * step->capacity;
        for (size_t t = 0; t < n; t += ENCODE_ROWS)
            encode(step, &s, row % step->shape.n_kv_heads, row_at(step, step->k, base + t), adm_min(n - t, (size_t)ENCODE_ROWS),
                   step->codes + (base + t) * d / 4);
    }
    adm_free(&s.memory);
    return status;
}

/* The new token's rows into the cache of KV head `row`. */
static void append(const adm_model_step *step, const scratch *s, size_t row, uint32_t length) {
    const size_t bytes = step->shape.head_dim * adm_dtype_bytes(step->dtype), at = row * step->capacity + length - 1;
    memcpy((char *)step->k + at * bytes, (const char *)step->k_new + row * bytes, bytes);
    memcpy((char *)step->v + at * bytes, (const char *)step->v_new + row * bytes, bytes);
    encode(step, s, row % step->shape.n_kv_heads, row_at(step, step->k_new, row), 1,
           step->codes + at * step->shape.head_dim / 4);
}

/* The query heads of KV head `row` as keys are compared with them, packed [group]. */
static void encode_queries(const adm_model_step *step, const scratch *s, size_t row) {
    const uint32_t d = step->shape.head_dim, group = group_of(step);
    const size_t head = row % step->shape.n_kv_heads;
    const void *q = row_at(step, step->q, row * group);
    if (!is_asym4(step)) {
        encode(step, s, head, q, group, s->packed);
        return;
    }
    s->pipeline.hadamard->fn.hadamard(step->dtype, q, group, d, s->y);
    for (size_t g = 0; g < group; g++)
        adm_asym4_query(s->y + g * d, channels_of(step, head) + 3 * d, d, s->packed + g * query_bytes(step));
}

/* distance [group][capacity] of the query heads of KV head `row`; where they share a selection, the first row is their sum. */
static void find_distances(const adm_model_step *step, const scratch *s, size_t row, uint32_t length) {
    const uint32_t d = step->shape.head_dim, group = group_of(step);
    const uint8_t *keys = step->codes + row * step->capacity * d / 4;
    adm_distance_fn *distance =
        (is_asym4(step) ? s->pipeline.code_distance[ADM_METRIC_ASYM4][2] : s->pipeline.distance)->fn.distance;
    encode_queries(step, s, row);
    for (uint32_t g = 0; g < group; g++)
        distance(s->packed + g * query_bytes(step), keys, length, d, s->distance + (size_t)g * step->capacity);
    for (uint32_t g = 1; g < group && step->selection == ADM_SELECT_GROUP; g++)
        for (uint32_t t = 0; t < length; t++)
            s->distance[t] = (uint16_t)(s->distance[t] + s->distance[(size_t)g * step->capacity + t]);
}

/* The query heads of KV head `row`, of a sequence that is not empty. */
static void attend(const adm_model_step *step, const scratch *s, size_t row, uint32_t length) {
    const uint32_t d = step->shape.head_dim, group = group_of(step);
    const bool shared = step->selection == ADM_SELECT_GROUP;
    const void *keys = row_at(step, step->k, row * step->capacity), *values = row_at(step, step->v, row * step->capacity);
    uint32_t n = 0;
    for (uint32_t g = 0; g < group; g++) {
        const size_t q_row = row * group + g, selection = shared ? row : q_row;
        if (g == 0 || !shared) {
            n = s->pipeline.topk->fn.topk(s->distance + (size_t)g * step->capacity, length, largest_distance(step), &step->rule,
                                          s->histogram, s->index, NULL);
            if (step->n_selected != NULL) step->n_selected[selection] = n;
            if (step->index != NULL) memcpy(step->index + selection * step->rule.budget, s->index, n * sizeof *s->index);
        }
        s->pipeline.attention->fn.attention(step->dtype, row_at(step, step->q, q_row), keys, values, s->index, n, d,
                                            (double)step->scale, s->score, s->out);
        adm_from_f32(step->dtype, s->out, d, (char *)step->out + q_row * d * adm_dtype_bytes(step->dtype));
    }
}

/* Of an empty sequence. */
static void clear_counts(const adm_model_step *step, size_t row) {
    const uint32_t n = step->selection == ADM_SELECT_GROUP ? 1 : group_of(step);
    for (uint32_t i = 0; step->n_selected != NULL && i < n; i++) step->n_selected[row * n + i] = 0;
}

adm_status adm_model_step_host(const adm_model_step *step, adm_error *err) {
    scratch s;
    const adm_status status = open_scratch(step, &s, err);
    const size_t out_bytes = group_of(step) * step->shape.head_dim * adm_dtype_bytes(step->dtype);
    for (size_t row = 0; status == ADM_OK && row < (size_t)step->batch * step->shape.n_kv_heads; row++) {
        const uint32_t length = step->length[row / step->shape.n_kv_heads];
        if (length == 0) {
            clear_counts(step, row);
            memset((char *)step->out + row * out_bytes, 0, out_bytes);
            continue;
        }
        append(step, &s, row, length);
        find_distances(step, &s, row, length);
        attend(step, &s, row, length);
    }
    adm_free(&s.memory);
    return status;
}
