/* check.c: the GPU's results against the host reference (reference.c), on the buffers that are timed: of some
 * (sequence, KV head) of a batch, with all query heads that read them, every code of the cache, every distance, the selected
 * set and the output. */
#include "kernels/profile/check.h"

#include <endian.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/contract/asym4.h"
#include "kernels/encode/pack.h"

/* What a comparison works with. */
typedef struct comparison {
    adm_gpu *gpu;
    const adm_gpu_buffers *b;
    const adm_gpu_shape *s;    /* with the present budget */
    adm_profile_reference *r;
    adm_checked_head *h;
    const adm_profile_unit *unit;
    adm_error *err;
} comparison;

static adm_status wrong(const comparison *c, const char *what, size_t at, double found, double expected) {
    return adm_fail(c->err, ADM_EINTERNAL,
                    "%s '%s': sequence %u, KV head %u: %s %zu is %.9g on the device and %.9g on the host",
                    adm_stage_name(c->unit->stage), c->unit->variant, c->h->sequence, c->h->kv_head, what, at, found, expected);
}

static uint32_t first_q_head(const comparison *c) {
    return c->h->sequence * c->s->heads.n_q_heads + c->h->kv_head * c->r->group;
}

static uint32_t first_selection(const comparison *c) {
    return c->h->sequence * adm_gpu_select_heads(c->s) + c->h->kv_head * c->r->selections;
}

/* Row of y, code and packed that holds the new key of the checked head. */
static size_t new_key_row(const comparison *c) {
    return (size_t)c->h->sequence * (c->s->heads.n_q_heads + c->s->heads.n_kv_heads) + c->s->heads.n_q_heads + c->h->kv_head;
}

static size_t query_row(const comparison *c, uint32_t i) {
    return (size_t)c->h->sequence * (c->s->heads.n_q_heads + c->s->heads.n_kv_heads) + c->h->kv_head * c->r->group + i;
}

static adm_status compare_y(const comparison *c) {
    float y[ADM_MAX_HEAD_DIM];
    uint32_t d = c->s->heads.head_dim;
    for (uint32_t i = 0; i <= c->r->group; i++) {
        size_t row = i < c->r->group ? query_row(c, i) : new_key_row(c);
        adm_status status = adm_gpu_read(c->gpu, c->b->y + row * d, d * sizeof *y, y, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < d; j++)
            if (memcmp(&y[j], &c->h->y[i * d + j], sizeof *y) != 0) return wrong(c, "y, element", j, y[j], c->h->y[i * d + j]);
    }
    return ADM_OK;
}

/* Row i of a group's code: a query's, or behind them the new key's. */
static void expect_code(const comparison *c, uint32_t i, uint8_t *expected) {
    const uint32_t d = c->s->heads.head_dim;
    const uint8_t *query = c->h->q_packed + i * adm_gpu_packed_bytes(c->s);
    if (i == c->r->group) adm_unpack_reference(c->h->packed + (size_t)(c->h->n_tokens - 1) * d / 4, 1, d, expected);
    else if (c->s->metric != ADM_METRIC_ASYM4) adm_unpack_reference(query, 1, d, expected);
    for (uint32_t j = 0; j < d && i < c->r->group && c->s->metric == ADM_METRIC_ASYM4; j++)
        expected[j] = adm_asym4_element(query, d, j) & 15;
}

static adm_status compare_codes(const comparison *c) {
    uint8_t found[ADM_MAX_HEAD_DIM], expected[ADM_MAX_HEAD_DIM];
    uint32_t d = c->s->heads.head_dim;
    for (uint32_t i = 0; i <= c->r->group; i++) {
        size_t row = i < c->r->group ? query_row(c, i) : new_key_row(c);
        expect_code(c, i, expected);
        adm_status status = adm_gpu_read(c->gpu, c->b->code + row * d, d, found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < d; j++)
            if (found[j] != expected[j]) return wrong(c, "code", j, found[j], expected[j]);
    }
    return ADM_OK;
}

static adm_status compare_packed(const comparison *c) {
    uint8_t found[ADM_MAX_HEAD_DIM / 2];
    const uint32_t key_bytes = c->s->heads.head_dim / 4, row_bytes = adm_gpu_packed_bytes(c->s);
    for (uint32_t i = 0; i <= c->r->group; i++) {
        size_t row = i < c->r->group ? query_row(c, i) : new_key_row(c);
        const uint8_t *expected = i < c->r->group ? c->h->q_packed + i * row_bytes
                                                  : c->h->packed + (size_t)(c->h->n_tokens - 1) * key_bytes;
        adm_status status = adm_gpu_read(c->gpu, c->b->packed + row * row_bytes, row_bytes, found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < (i < c->r->group ? row_bytes : key_bytes); j++)
            if (found[j] != expected[j]) return wrong(c, "packed byte", j, found[j], expected[j]);
    }
    return ADM_OK;
}

/* Every second bit of x, from the lowest on, side by side. */
static uint32_t even_bits(uint64_t x) {
    x &= 0x5555555555555555u;
    x = (x | x >> 1) & 0x3333333333333333u;
    x = (x | x >> 2) & 0x0f0f0f0f0f0f0f0fu;
    x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
    x = (x | x >> 8) & 0x0000ffff0000ffffu;
    return (uint32_t)(x | x >> 16);
}

/* Whether a token's two planes are those of its packed codes, 32 codes at a time. */
static bool has_planes(const uint32_t *high, const uint32_t *low, const uint8_t *packed, uint32_t words) {
    bool same = true;
    for (uint32_t w = 0; w < words; w++) {
        uint64_t codes;
        memcpy(&codes, packed + w * sizeof codes, sizeof codes);
        codes = le64toh(codes);
        same &= even_bits(codes) == low[w] && even_bits(codes >> 1) == high[w];
    }
    return same;
}

/* The whole code cache of the head, the appended token included, plane by plane (gpu.h has the layout). */
static adm_status compare_planes(const comparison *c) {
    uint32_t d = c->s->heads.head_dim, words = d / 32, *planes = NULL;
    size_t head = (size_t)c->h->sequence * c->s->heads.n_kv_heads + c->h->kv_head;
    size_t n_words = (size_t)c->s->capacity * words * 2;
    adm_status status = adm_alloc(&planes, n_words, sizeof *planes, "code planes", c->err);
    if (status == ADM_OK)
        status = adm_gpu_read(c->gpu, c->b->planes + head * n_words, n_words * sizeof *planes, planes, c->err);
    for (uint32_t t = 0; status == ADM_OK && t < c->h->n_tokens; t++) {
        uint8_t expected[ADM_MAX_HEAD_DIM];
        const uint32_t *tile = planes + (size_t)(t / 32) * 64 * words, *high = tile + (t % 32) * words;
        const uint32_t *low = high + 32 * words;
        if (has_planes(high, low, c->h->packed + (size_t)t * d / 4, words)) continue;
        adm_unpack_reference(c->h->packed + (size_t)t * d / 4, 1, d, expected);
        for (uint32_t j = 0; status == ADM_OK && j < d; j++) {
            uint32_t found = (high[j / 32] >> (j % 32) & 1) * 2 + (low[j / 32] >> (j % 32) & 1);
            if (found != expected[j]) status = wrong(c, "cached code, element", (size_t)t * d + j, found, expected[j]);
        }
    }
    adm_free(&planes);
    return status;
}

static adm_status compare_distance(const comparison *c, int which) {
    const size_t n = c->h->n_tokens;
    for (uint32_t i = 0; i < c->r->selections; i++) {
        const uint16_t *expected = c->h->distance[which] + i * n, *found = c->r->distance;
        const size_t row = first_selection(c) + i;
        adm_status status = adm_gpu_read(c->gpu, c->b->distance + row * c->s->capacity, n * sizeof *found, c->r->distance,
                                         c->err);
        if (status != ADM_OK) return status;
        for (size_t t = 0; t < n; t++)
            if (found[t] != expected[t]) return wrong(c, "distance of token", t, found[t], expected[t]);
    }
    return ADM_OK;
}

static adm_status compare_selection(const comparison *c) {
    for (uint32_t i = 0; i < c->r->selections; i++) {
        const size_t row = first_selection(c) + i;
        const uint32_t *found = c->r->found;
        uint32_t n, n_found = 0;
        const uint32_t *expected = adm_profile_selection(c->r, c->h, i, &n);
        adm_status status = adm_gpu_read(c->gpu, c->b->n_selected + row, sizeof n_found, &n_found, c->err);
        if (status == ADM_OK && n_found != n) status = wrong(c, "number of tokens of selection", i, n_found, n);
        if (status == ADM_OK)
            status = adm_gpu_read(c->gpu, c->b->index + row * c->s->rule.budget, n * sizeof *found, c->r->found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < n; j++)
            if (found[j] != expected[j]) return wrong(c, "selected token", j, found[j], expected[j]);
    }
    return ADM_OK;
}

/* One query head's output against attention over the host's selection, or over every token. */
static adm_status compare_row(const comparison *c, uint32_t i, bool dense) {
    const uint32_t d = c->s->heads.head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(c->s->dtype);
    const double tolerance = c->unit->impl[c->unit->n_impls - 1]->tolerance;
    char raw[ADM_MAX_HEAD_DIM * 4];
    float found[ADM_MAX_HEAD_DIM];
    const float *expected = adm_profile_output(c->r, c->h, i, dense);
    adm_status status = adm_gpu_read(c->gpu, (const char *)c->b->out + (first_q_head(c) + i) * row_bytes, row_bytes, raw,
                                     c->err);
    if (status != ADM_OK) return status;
    adm_to_f32(c->s->dtype, raw, d, found);
    double difference = 0, norm = 0;
    for (uint32_t j = 0; j < d; j++) {
        difference += ((double)found[j] - expected[j]) * ((double)found[j] - expected[j]);
        norm += (double)expected[j] * expected[j];
    }
    double error = norm > 0 ? sqrt(difference / norm) : sqrt(difference);
    if (error <= tolerance) return ADM_OK;
    return adm_fail(c->err, ADM_EINTERNAL,
                    "%s '%s': sequence %u, KV head %u: the output of query %u has a relative L2 error of "
                    "%.3g, above %.3g",
                    adm_stage_name(c->unit->stage), c->unit->variant, c->h->sequence, c->h->kv_head, i, error, tolerance);
}

static adm_status compare_output(const comparison *c, bool dense) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < c->r->group; i++) status = compare_row(c, i, dense);
    return status;
}

/* Whether what `stage` hands to `consumer` is in memory after the unit: made by a kernel of its own, or for another unit. */
static bool hands_over(const adm_profile_unit *unit, adm_stage stage, adm_stage consumer) {
    for (size_t i = 0; i < unit->n_impls; i++)
        if (unit->impl[i]->covers == 1u << stage) return true;
    const uint32_t covers = adm_profile_covers(unit);
    return (covers >> stage & 1) && !(covers >> consumer & 1);
}

/* Which of the reference's distances the unit computes. */
static int distance_of(const comparison *c) {
    if (c->s->metric != ADM_METRIC_L1) return 0;
    return strcmp(c->unit->variant, "xor") == 0 ? 1 : strcmp(c->unit->variant, "dot") == 0 ? 2 : 0;
}

/* An empty sequence has no new token: what its rows of y, code and packed hold does not matter. */
static adm_status compare_all(const comparison *c) {
    const adm_profile_unit *u = c->unit;
    const uint32_t covers = adm_profile_covers(u);
    const bool any = c->h->n_tokens > 0;
    adm_status status = ADM_OK;
    if (any && hands_over(u, ADM_STAGE_HADAMARD, ADM_STAGE_BUCKET)) status = compare_y(c);
    if (any && status == ADM_OK && hands_over(u, ADM_STAGE_BUCKET, ADM_STAGE_PACK)) status = compare_codes(c);
    if (any && status == ADM_OK && hands_over(u, ADM_STAGE_PACK, ADM_STAGE_DISTANCE)) status = compare_packed(c);
    if (any && status == ADM_OK && covers & (1u << ADM_STAGE_APPEND | ADM_GPU_COVERS_PROMPT)) status = compare_planes(c);
    if (any && status == ADM_OK && hands_over(u, ADM_STAGE_DISTANCE, ADM_STAGE_TOPK))
        status = compare_distance(c, distance_of(c));
    if (status == ADM_OK && hands_over(u, ADM_STAGE_TOPK, ADM_STAGE_ATTENTION)) status = compare_selection(c);
    if (status == ADM_OK && covers >> ADM_STAGE_ATTENTION & 1) status = compare_output(c, false);
    if (status == ADM_OK && covers >> ADM_STAGE_DENSE & 1) status = compare_output(c, true);
    return status;
}

adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, adm_profile_reference *r, const adm_profile_unit *unit,
                             adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(gpu_case, r->set);
    adm_profile_reference_select(r, &shape.rule);
    adm_status status = adm_gpu_case_poison(gpu_case, r->set, adm_profile_covers(unit), err);
    if (status == ADM_OK) status = adm_gpu_case_run(gpu_case, unit->impl, unit->n_impls, r->set, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_heads; i++) {
        const comparison c = {gpu, adm_gpu_case_buffers(gpu_case, r->set), &shape, r, &r->head[i], unit, err};
        status = compare_all(&c);
    }
    return status;
}
