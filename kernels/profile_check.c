/* profile_check.c: the GPU's results against the host reference, on the inputs that are timed.
 *
 * Checked are the first and the last (sequence, KV head) of a batch with all query heads that read it: every code of the
 * cache, every distance, the selected set and the output. The inputs are recomputed here from their formula
 * (gpu_input.h), so that nothing the device holds is taken on trust. */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/attention.h"
#include "kernels/bucket.h"
#include "kernels/distance.h"
#include "kernels/gpu_input.h"
#include "kernels/hadamard.h"
#include "kernels/pack.h"
#include "kernels/profile.h"
#include "kernels/topk.h"

/* What one (sequence, KV head) should give. */
typedef struct checked_head {
    uint32_t sequence, kv_head, n_tokens;
    void *k, *v;               /* [n_tokens][d] dtype */
    uint8_t *packed;           /* [n_tokens][d/4] */
    void *q;                   /* [group][d] dtype */
    float *y;                  /* [group + 1][d]: the queries', then the new key's */
    uint8_t *q_packed;         /* [group][d/4] */
    uint16_t *distance[2];     /* [group][n_tokens] by l1, by xor */
} checked_head;

struct adm_profile_reference {
    adm_gpu_shape shape;
    uint32_t group;            /* query heads a KV head */
    size_t n_heads;
    checked_head head[2];
};

static adm_distance_fn *const metric[2] = {adm_distance_l1, adm_distance_xor};

/* --- The reference ------------------------------------------------------------------------------------------------ */

static void make_row(const adm_gpu_shape *s, uint64_t seed, adm_input_tensor tensor, uint32_t sequence,
                     uint32_t kv_head, uint32_t head, uint32_t token_or_draw, void *out) {
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < s->heads.head_dim; i++)
        row[i] = adm_input_value(seed, tensor, sequence, kv_head, head, token_or_draw, i, s->heads.head_dim);
    adm_from_f32(s->dtype, row, s->heads.head_dim, out);
}

static void encode_row(const adm_gpu_shape *s, const void *row, float *y, uint8_t *packed) {
    uint8_t codes[ADM_MAX_HEAD_DIM];
    adm_hadamard_reference(s->dtype, row, 1, s->heads.head_dim, y);
    adm_bucket_reference(y, s->heads.head_dim, s->threshold, codes);
    adm_pack_reference(codes, 1, s->heads.head_dim, packed);
}

static adm_status make_head(adm_profile_reference *r, checked_head *h, uint64_t seed, adm_error *err) {
    const adm_gpu_shape *s = &r->shape;
    size_t d = s->heads.head_dim, row_bytes = d * adm_dtype_bytes(s->dtype), n = h->n_tokens, g = r->group;
    const struct { void *pointer; size_t count, size; } parts[] = {
        {&h->k, n, row_bytes},       {&h->v, n, row_bytes},       {&h->packed, n, d / 4},
        {&h->q, g, row_bytes},       {&h->y, (g + 1) * d, sizeof(float)}, {&h->q_packed, g, d / 4},
        {&h->distance[0], g * n, 2}, {&h->distance[1], g * n, 2},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        adm_status status = adm_alloc(parts[i].pointer, parts[i].count, parts[i].size, "host reference of a profile", err);
        if (status != ADM_OK) return status;
    }
    for (uint32_t t = 0; t < n; t++) {
        make_row(s, seed, ADM_INPUT_K, h->sequence, h->kv_head, h->kv_head, t, (char *)h->k + t * row_bytes);
        make_row(s, seed, ADM_INPUT_V, h->sequence, h->kv_head, h->kv_head, t, (char *)h->v + t * row_bytes);
        encode_row(s, (char *)h->k + t * row_bytes, h->y + g * d, h->packed + t * d / 4); /* y: the newest stays */
    }
    for (uint32_t i = 0; i < g; i++) {
        make_row(s, seed, ADM_INPUT_Q, h->sequence, h->kv_head, h->kv_head * r->group + i, 0, (char *)h->q + i * row_bytes);
        encode_row(s, (char *)h->q + i * row_bytes, h->y + i * d, h->q_packed + i * d / 4);
        for (int m = 0; m < 2; m++)
            metric[m](h->q_packed + i * d / 4, h->packed, n, (uint32_t)d, h->distance[m] + i * n);
    }
    return ADM_OK;
}

adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const uint32_t *length, uint64_t seed,
                                        adm_profile_reference **out, adm_error *err) {
    adm_profile_reference *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "host reference of a profile", err);
    if (status != ADM_OK) return status;
    r->shape = *shape;
    r->group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    uint32_t last_sequence = shape->batch - 1, last_head = shape->heads.n_kv_heads - 1;
    r->n_heads = last_sequence + last_head > 0 ? 2 : 1;
    r->head[0] = (checked_head){.sequence = 0, .kv_head = 0, .n_tokens = length[0]};
    r->head[1] = (checked_head){.sequence = last_sequence, .kv_head = last_head, .n_tokens = length[last_sequence]};
    for (size_t i = 0; status == ADM_OK && i < r->n_heads; i++) status = make_head(r, &r->head[i], seed, err);
    if (status != ADM_OK) adm_profile_reference_free(&r);
    *out = r;
    return status;
}

void adm_profile_reference_free(adm_profile_reference **reference) {
    if (*reference == NULL) return;
    for (size_t i = 0; i < (*reference)->n_heads; i++) {
        checked_head *h = &(*reference)->head[i];
        void *const owned[] = {&h->k, &h->v, &h->packed, &h->q, &h->y, &h->q_packed, &h->distance[0], &h->distance[1]};
        for (size_t j = 0; j < sizeof owned / sizeof owned[0]; j++) adm_free(owned[j]);
    }
    adm_free(reference);
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

/* What a comparison works with. */
typedef struct comparison {
    adm_gpu *gpu;
    const adm_gpu_buffers *b;
    const adm_gpu_shape *s;
    const adm_profile_reference *r;
    const checked_head *h;
    const adm_profile_unit *unit;
    adm_error *err;
} comparison;

static adm_status wrong(const comparison *c, const char *what, size_t at, double found, double expected) {
    return adm_fail(c->err, ADM_EINTERNAL,
                    "%s '%s': sequence %u, KV head %u: %s %zu is %.9g on the device and %.9g on the host",
                    adm_stage_name(c->unit->stage), c->unit->variant, c->h->sequence, c->h->kv_head, what, at, found,
                    expected);
}

static uint32_t first_q_head(const comparison *c) {
    return c->h->sequence * c->s->heads.n_q_heads + c->h->kv_head * c->r->group;
}

/* Row of y, code and packed that holds the new key of the checked head. */
static size_t new_key_row(const comparison *c) {
    return (size_t)c->h->sequence * (c->s->heads.n_q_heads + c->s->heads.n_kv_heads) + c->s->heads.n_q_heads +
           c->h->kv_head;
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

static adm_status compare_codes(const comparison *c) {
    uint8_t found[ADM_MAX_HEAD_DIM], expected[ADM_MAX_HEAD_DIM];
    uint32_t d = c->s->heads.head_dim;
    for (uint32_t i = 0; i <= c->r->group; i++) {
        size_t row = i < c->r->group ? query_row(c, i) : new_key_row(c);
        adm_bucket_reference(c->h->y + i * d, d, c->s->threshold, expected);
        adm_status status = adm_gpu_read(c->gpu, c->b->code + row * d, d, found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < d; j++)
            if (found[j] != expected[j]) return wrong(c, "code", j, found[j], expected[j]);
    }
    return ADM_OK;
}

static adm_status compare_packed(const comparison *c) {
    uint8_t found[ADM_MAX_HEAD_DIM / 4];
    uint32_t row_bytes = c->s->heads.head_dim / 4;
    for (uint32_t i = 0; i <= c->r->group; i++) {
        size_t row = i < c->r->group ? query_row(c, i) : new_key_row(c);
        const uint8_t *expected = i < c->r->group ? c->h->q_packed + i * row_bytes
                                                  : c->h->packed + (size_t)(c->h->n_tokens - 1) * row_bytes;
        adm_status status = adm_gpu_read(c->gpu, c->b->packed + row * row_bytes, row_bytes, found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < row_bytes; j++)
            if (found[j] != expected[j]) return wrong(c, "packed byte", j, found[j], expected[j]);
    }
    return ADM_OK;
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
    uint16_t *found = NULL;
    size_t n = c->h->n_tokens;
    adm_status status = adm_alloc(&found, n, sizeof *found, "distances", c->err);
    for (uint32_t i = 0; status == ADM_OK && i < c->r->group; i++) {
        const uint16_t *expected = c->h->distance[which] + i * n;
        status = adm_gpu_read(c->gpu, c->b->distance + (size_t)(first_q_head(c) + i) * c->s->capacity, n * sizeof *found,
                              found, c->err);
        for (size_t t = 0; status == ADM_OK && t < n; t++)
            if (found[t] != expected[t]) status = wrong(c, "distance of token", t, found[t], expected[t]);
    }
    adm_free(&found);
    return status;
}

/* The host's own selection for query i of the group; index has room for the budget. */
static uint32_t select_on_host(const comparison *c, uint32_t i, uint32_t *index) {
    uint32_t histogram[3 * ADM_MAX_HEAD_DIM + 1];
    return adm_topk_reference(c->h->distance[0] + (size_t)i * c->h->n_tokens, c->h->n_tokens, 3 * c->s->heads.head_dim,
                              &c->s->rule, histogram, index, NULL);
}

static adm_status compare_selection(const comparison *c) {
    uint32_t *found = NULL, *expected = NULL, budget = c->s->rule.budget, n_found;
    adm_status status = adm_alloc(&found, budget, sizeof *found, "selection", c->err);
    if (status == ADM_OK) status = adm_alloc(&expected, budget, sizeof *expected, "selection", c->err);
    for (uint32_t i = 0; status == ADM_OK && i < c->r->group; i++) {
        uint32_t n = select_on_host(c, i, expected), row = first_q_head(c) + i;
        status = adm_gpu_read(c->gpu, c->b->n_selected + row, sizeof n_found, &n_found, c->err);
        if (status == ADM_OK && n_found != n) status = wrong(c, "selected tokens of query", i, n_found, n);
        if (status == ADM_OK)
            status = adm_gpu_read(c->gpu, c->b->index + (size_t)row * budget, n * sizeof *found, found, c->err);
        for (uint32_t j = 0; status == ADM_OK && j < n; j++)
            if (found[j] != expected[j]) status = wrong(c, "selected token", j, found[j], expected[j]);
    }
    adm_free(&found);
    adm_free(&expected);
    return status;
}

/* dense: over every token, else over the host's selection. */
static adm_status compare_output(const comparison *c, bool dense) {
    uint32_t d = c->s->heads.head_dim, *index = NULL;
    size_t row_bytes = d * adm_dtype_bytes(c->s->dtype);
    double *score = NULL, tolerance = c->unit->impl[c->unit->n_impls - 1]->tolerance;
    char raw[ADM_MAX_HEAD_DIM * 4];
    float found[ADM_MAX_HEAD_DIM], expected[ADM_MAX_HEAD_DIM];
    adm_status status = adm_alloc(&score, c->h->n_tokens, sizeof *score, "scores", c->err);
    if (status == ADM_OK) status = adm_alloc(&index, c->s->rule.budget, sizeof *index, "selection", c->err);
    for (uint32_t i = 0; status == ADM_OK && i < c->r->group; i++) {
        uint32_t n = dense ? c->h->n_tokens : select_on_host(c, i, index);
        adm_attention_reference(c->s->dtype, (const char *)c->h->q + i * row_bytes, c->h->k, c->h->v, dense ? NULL : index, n,
                                d, c->s->scale, score, expected);
        status = adm_gpu_read(c->gpu, (const char *)c->b->out + (first_q_head(c) + i) * row_bytes, row_bytes, raw, c->err);
        if (status != ADM_OK) break;
        adm_to_f32(c->s->dtype, raw, d, found);
        double difference = 0, norm = 0;
        for (uint32_t j = 0; j < d; j++) {
            difference += ((double)found[j] - expected[j]) * ((double)found[j] - expected[j]);
            norm += (double)expected[j] * expected[j];
        }
        double error = norm > 0 ? sqrt(difference / norm) : sqrt(difference);
        if (!(error <= tolerance)) status = wrong(c, "relative L2 error of the output of query", i, error, tolerance);
    }
    adm_free(&score);
    adm_free(&index);
    return status;
}

/* Whether the unit runs an implementation that covers the stage by itself, so that its hand-over is in memory. */
static bool runs_alone(const adm_profile_unit *unit, adm_stage stage) {
    for (size_t i = 0; i < unit->n_impls; i++)
        if (unit->impl[i]->covers == 1u << stage) return true;
    return false;
}

static bool covers(const adm_profile_unit *unit, adm_stage stage) {
    for (size_t i = 0; i < unit->n_impls; i++)
        if (unit->impl[i]->covers >> stage & 1) return true;
    return false;
}

static adm_status compare_all(const comparison *c) {
    const adm_profile_unit *u = c->unit;
    adm_status status = ADM_OK;
    if (runs_alone(u, ADM_STAGE_HADAMARD)) status = compare_y(c);
    if (status == ADM_OK && runs_alone(u, ADM_STAGE_BUCKET)) status = compare_codes(c);
    if (status == ADM_OK && runs_alone(u, ADM_STAGE_PACK)) status = compare_packed(c);
    if (status == ADM_OK && covers(u, ADM_STAGE_APPEND)) status = compare_planes(c);
    if (status == ADM_OK && runs_alone(u, ADM_STAGE_DISTANCE))
        status = compare_distance(c, strcmp(u->variant, "xor") == 0);
    if (status == ADM_OK && runs_alone(u, ADM_STAGE_TOPK)) status = compare_selection(c);
    if (status == ADM_OK && covers(u, ADM_STAGE_ATTENTION)) status = compare_output(c, false);
    if (status == ADM_OK && covers(u, ADM_STAGE_DENSE)) status = compare_output(c, true);
    return status;
}

adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_shape *shape,
                             const adm_profile_reference *reference, const adm_profile_unit *unit, adm_error *err) {
    uint32_t written = 0;
    for (size_t i = 0; i < unit->n_impls; i++) written |= unit->impl[i]->covers;
    adm_status status = adm_gpu_case_poison(gpu_case, 0, written, err);
    if (status == ADM_OK) status = adm_gpu_case_run(gpu_case, unit->impl, unit->n_impls, 0, err);
    for (size_t i = 0; status == ADM_OK && i < reference->n_heads; i++) {
        if (reference->head[i].n_tokens == 0) continue;
        const comparison c = {gpu, adm_gpu_case_buffers(gpu_case, 0), shape, reference, &reference->head[i], unit, err};
        status = compare_all(&c);
    }
    return status;
}
