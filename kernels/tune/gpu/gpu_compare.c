/* gpu_compare.c: regions of device memory against each other; see gpu_compare.h. */
#include "kernels/tune/gpu/gpu_compare.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"

static adm_gpu_output rows_of(const char *name, const void *device, size_t n_rows, size_t stride, uint32_t per_sequence) {
    return (adm_gpu_output){.name = name,
                            .device = (char *)(uintptr_t)device,
                            .n_rows = n_rows,
                            .stride = stride,
                            .rows_per_sequence = per_sequence,
                            .element = 1};
}

size_t adm_gpu_outputs(adm_stage stage, const adm_gpu_shape *s, const adm_gpu_buffers *b, adm_gpu_output out[ADM_MAX_OUTPUTS]) {
    const uint32_t d = s->heads.head_dim, encoded = s->heads.n_q_heads + s->heads.n_kv_heads,
                   selections = adm_gpu_select_heads(s);
    const size_t tiles = (size_t)s->capacity * d / 4, element = adm_dtype_bytes(s->dtype);
    switch (stage) {
    case ADM_STAGE_HADAMARD: out[0] = rows_of("y", b->y, s->batch * encoded, d * sizeof(float), encoded); return 1;
    case ADM_STAGE_BUCKET: out[0] = rows_of("code", b->code, s->batch * encoded, d, encoded); return 1;
    case ADM_STAGE_PACK: out[0] = rows_of("packed", b->packed, s->batch * encoded, d / 4, encoded); return 1;
    case ADM_STAGE_APPEND:
        out[0] = rows_of("planes", b->planes, (size_t)s->batch * s->heads.n_kv_heads, tiles, s->heads.n_kv_heads);
        return 1;
    case ADM_STAGE_DISTANCE:
        out[0] = rows_of("distance", b->distance, (size_t)s->batch * selections, s->capacity * sizeof(uint16_t), selections);
        out[0].valid = ADM_VALID_LENGTH;
        out[0].element = sizeof(uint16_t);
        return 1;
    case ADM_STAGE_TOPK:
        out[0] = rows_of("n_selected", b->n_selected, (size_t)s->batch * selections, sizeof(uint32_t), selections);
        out[0].element = sizeof(uint32_t);
        out[1] = rows_of("index", b->index, (size_t)s->batch * selections, s->rule.budget * sizeof(uint32_t), selections);
        out[1].valid = ADM_VALID_SELECTED;
        out[1].element = sizeof(uint32_t);
        return 2;
    default:
        out[0] = rows_of("out", b->out, (size_t)s->batch * s->heads.n_q_heads, d * element, s->heads.n_q_heads);
        out[0].is_float = true;
        return 1;
    }
}

adm_status adm_gpu_copy_outputs(adm_gpu *gpu, const adm_gpu_output *o, size_t n, adm_gpu_copy *copy, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        const size_t bytes = o[i].n_rows * o[i].stride;
        if (copy->bytes[i] == NULL) status = adm_alloc(&copy->bytes[i], bytes, 1, "outputs of a candidate", err);
        if (status == ADM_OK) status = adm_gpu_read(gpu, o[i].device, bytes, copy->bytes[i], err);
    }
    return status;
}

void adm_gpu_copy_free(adm_gpu_copy *copy) {
    for (size_t i = 0; i < ADM_MAX_OUTPUTS; i++) adm_free(&copy->bytes[i]);
}

static size_t valid_bytes(const adm_gpu_output *o, const adm_gpu_shape *s, uint32_t length) {
    if (o->valid == ADM_VALID_LENGTH) return length * o->element;
    if (o->valid == ADM_VALID_SELECTED) return adm_min(length, s->rule.budget) * o->element;
    return o->stride;
}

static double row_error(adm_dtype dtype, uint32_t d, const char *found, const char *expected) {
    float a[ADM_MAX_HEAD_DIM], b[ADM_MAX_HEAD_DIM];
    double difference = 0, norm = 0;
    adm_to_f32(dtype, found, d, a);
    adm_to_f32(dtype, expected, d, b);
    for (uint32_t i = 0; i < d; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

/* Sequence, row and element of the first byte that differs, in words. */
static adm_status say_difference(const adm_gpu_output *o, size_t r, size_t byte, const char *found, const char *expected,
                                 adm_error *err) {
    const size_t at = byte / o->element;
    uint32_t a = 0, b = 0;
    memcpy(&a, found + at * o->element, adm_min(o->element, sizeof a));
    memcpy(&b, expected + at * o->element, adm_min(o->element, sizeof b));
    return adm_fail(err, ADM_EINTERNAL, "sequence %zu: %s, row %zu, element %zu is %u; right is %u", r / o->rows_per_sequence,
                    o->name, r % o->rows_per_sequence, at, a, b);
}

adm_status adm_gpu_compare_copies(const adm_gpu_output *outputs, size_t n, const adm_gpu_shape *s, const uint32_t *length,
                                  const adm_gpu_copy *found, const adm_gpu_copy *expected, double tolerance, adm_error *err) {
    for (size_t i = 0; i < n; i++) {
        const adm_gpu_output *o = &outputs[i];
        for (size_t r = 0; r < o->n_rows; r++) {
            const char *a = found->bytes[i] + r * o->stride, *b = expected->bytes[i] + r * o->stride;
            const uint32_t tokens = length[r / o->rows_per_sequence];
            if (tokens == 0 && !o->is_float && strcmp(o->name, "n_selected") != 0)
                continue; /* an empty sequence has no new token */
            if (o->is_float) {
                const double error = row_error(s->dtype, s->heads.head_dim, a, b);
                if (error <= tolerance) continue;
                return adm_fail(err, ADM_EINTERNAL,
                                "sequence %zu: out, query head %zu has a relative L2 error of %.3g, above %.3g",
                                r / o->rows_per_sequence, r % o->rows_per_sequence, error, tolerance);
            }
            const size_t bytes = valid_bytes(o, s, tokens);
            for (size_t k = 0; k < bytes; k++)
                if (a[k] != b[k]) return say_difference(o, r, k, a, b, err);
        }
    }
    return ADM_OK;
}

/* --- All of a case's memory ----------------------------------------------------------------------------------------- */

adm_status adm_gpu_snapshot_take(adm_gpu *gpu, const adm_gpu_case *c, adm_gpu_snapshot *out, adm_error *err) {
    const adm_gpu_plan *p = adm_gpu_case_plan(c);
    const adm_gpu_buffers *b = adm_gpu_case_buffers(c, 0);
    adm_status status = ADM_OK;
    out->device[0] = b->k;
    out->device[1] = (char *)(uintptr_t)b->q - p->q;
    out->device[2] = (char *)b->distance - p->distance;
    out->n[0] = p->n_kv * p->copy_bytes;
    out->n[1] = p->n_sets * p->set_bytes;
    out->n[2] = p->workspace; /* what lies behind is scratch */
    for (int i = 0; i < 3 && status == ADM_OK; i++) {
        if (out->bytes[i] == NULL) status = adm_alloc(&out->bytes[i], out->n[i], 1, "a check's memory", err);
        if (status == ADM_OK && out->n[i] > 0) status = adm_gpu_read(gpu, out->device[i], out->n[i], out->bytes[i], err);
    }
    return status;
}

void adm_gpu_snapshot_free(adm_gpu_snapshot *s) {
    for (int i = 0; i < 3; i++) adm_free(&s->bytes[i]);
}

static bool is_output(const char *at, const adm_gpu_output *o, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (at >= o[i].device && at < o[i].device + o[i].n_rows * o[i].stride) return true;
    return false;
}

/* The buffer that a byte of a set belongs to. */
static const char *buffer_name(const adm_gpu_plan *p, int region, size_t offset) {
    const struct {
        size_t at;
        const char *name;
    } parts[] = {
        {p->length, "length"}, {p->q, "q"},           {p->k_new, "k_new"}, {p->v_new, "v_new"},           {p->y, "y"},
        {p->code, "code"},     {p->packed, "packed"}, {p->index, "index"}, {p->n_selected, "n_selected"}, {p->out, "out"}};
    const char *name = "length";
    size_t best = 0;
    if (region == 2) return "distance";
    if (region == 0) {
        const size_t in_copy = offset % p->copy_bytes;
        return in_copy < p->kv_bytes ? "k" : in_copy < 2 * p->kv_bytes ? "v" : "planes";
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (offset % p->set_bytes >= parts[i].at && parts[i].at >= best) best = parts[i].at, name = parts[i].name;
    return name;
}

adm_status adm_gpu_snapshot_compare(const adm_gpu_snapshot *before, const adm_gpu_snapshot *after, const adm_gpu_case *c,
                                    const adm_gpu_output *outputs, size_t n, bool append, adm_error *err) {
    for (int region = append ? 1 : 0; region < 3; region++)
        for (size_t at = 0; at < before->n[region]; at++) {
            if (before->bytes[region][at] == after->bytes[region][at] || is_output(before->device[region] + at, outputs, n))
                continue;
            return adm_fail(err, ADM_EINTERNAL, "wrote into or behind `%s`, which is not the stage's output",
                            buffer_name(adm_gpu_case_plan(c), region, at));
        }
    return ADM_OK;
}
