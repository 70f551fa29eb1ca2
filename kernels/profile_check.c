/* profile_check.c: the GPU's results against the host reference, on the inputs that are timed.
 *
 * Checked are some (sequence, KV head) of a batch with all query heads that read them: every code of the cache, every
 * distance, the selected set and the output. Random inputs are recomputed here from their formula (gpu_input.h), and a
 * session's taken from the host, so that nothing the device holds is taken on trust. */
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

/* What one (sequence, KV head) should give. A "selection" belongs to a query head, or to the group. */
typedef struct checked_head {
    uint32_t sequence, kv_head, n_tokens;
    const void *k, *v;         /* [n_tokens][d] dtype */
    const void *q;             /* [group][d] dtype */
    void *own_k, *own_v, *own_q; /* the same where they are not the session's */
    uint8_t *packed;           /* [n_tokens][d/4] */
    float *y;                  /* [group + 1][d]: the queries', then the new key's */
    uint8_t *q_packed;         /* [group][d/4] */
    uint16_t *distance[2];     /* [selections][n_tokens] by l1, by xor */
} checked_head;

enum { MOST_CHECKED = 16 };

struct adm_profile_reference {
    adm_gpu_shape shape;       /* with the set's thresholds */
    adm_gpu_inputs inputs;
    uint32_t set;
    uint32_t group;            /* query heads a KV head */
    uint32_t selections;       /* a KV head: group, or 1 */
    size_t n_heads;
    checked_head head[MOST_CHECKED];
    /* Scratch for the longest of them. */
    uint32_t *histogram, *index;
    uint32_t *found;           /* the device's selection */
    uint16_t *distance;
    double *score;
    bool *seen;
};

static adm_distance_fn *const metric[2] = {adm_distance_l1, adm_distance_xor};

/* --- The reference ------------------------------------------------------------------------------------------------ */

static void make_row(const adm_profile_reference *r, adm_input_tensor tensor, const checked_head *h, uint32_t head,
                     uint32_t token_or_draw, void *out) {
    const uint32_t d = r->shape.heads.head_dim;
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < d; i++)
        row[i] = adm_input_value(r->inputs.seed, tensor, h->sequence, h->kv_head, head, token_or_draw, i, d);
    adm_from_f32(r->shape.dtype, row, d, out);
}

static adm_status make_random_rows(const adm_profile_reference *r, checked_head *h, adm_error *err) {
    const size_t row_bytes = r->shape.heads.head_dim * adm_dtype_bytes(r->shape.dtype);
    adm_status status = adm_alloc(&h->own_k, h->n_tokens, row_bytes, "host reference of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&h->own_v, h->n_tokens, row_bytes, "host reference of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&h->own_q, r->group, row_bytes, "host reference of a profile", err);
    if (status != ADM_OK) return status;
    for (uint32_t t = 0; t < h->n_tokens; t++) {
        make_row(r, ADM_INPUT_K, h, h->kv_head, t, (char *)h->own_k + t * row_bytes);
        make_row(r, ADM_INPUT_V, h, h->kv_head, t, (char *)h->own_v + t * row_bytes);
    }
    for (uint32_t i = 0; i < r->group; i++)
        make_row(r, ADM_INPUT_Q, h, h->kv_head * r->group + i, r->set, (char *)h->own_q + i * row_bytes);
    h->k = h->own_k;
    h->v = h->own_v;
    h->q = h->own_q;
    return ADM_OK;
}

static void take_session_rows(const adm_profile_reference *r, checked_head *h) {
    const adm_gpu_session *s = r->inputs.session;
    const uint32_t layer = adm_gpu_session_layer(s, r->set), step = adm_gpu_session_step(s, r->set);
    const size_t row_bytes = r->shape.heads.head_dim * adm_dtype_bytes(r->shape.dtype);
    h->k = (const char *)s->k[layer] + (size_t)h->kv_head * s->n_tokens * row_bytes;
    h->v = (const char *)s->v[layer] + (size_t)h->kv_head * s->n_tokens * row_bytes;
    h->q = (const char *)s->q[layer] + ((size_t)step * r->shape.heads.n_q_heads + h->kv_head * r->group) * row_bytes;
}

static void encode_row(const adm_gpu_shape *s, const void *row, float *y, uint8_t *packed) {
    uint8_t codes[ADM_MAX_HEAD_DIM];
    adm_hadamard_reference(s->dtype, row, 1, s->heads.head_dim, y);
    adm_bucket_reference(y, s->heads.head_dim, s->threshold, codes);
    adm_pack_reference(codes, 1, s->heads.head_dim, packed);
}

/* Adds the distances of query i to those of its selection. */
static void add_distances(const adm_profile_reference *r, checked_head *h, uint32_t i) {
    const uint32_t d = r->shape.heads.head_dim, n = h->n_tokens;
    for (int m = 0; m < 2; m++) {
        uint16_t *sum = h->distance[m] + (size_t)(i % r->selections) * n;
        metric[m](h->q_packed + i * d / 4, h->packed, n, d, r->distance);
        for (uint32_t t = 0; t < n; t++) sum[t] = (uint16_t)(sum[t] + r->distance[t]);
    }
}

static adm_status make_head(adm_profile_reference *r, checked_head *h, adm_error *err) {
    const adm_gpu_shape *s = &r->shape;
    size_t d = s->heads.head_dim, row_bytes = d * adm_dtype_bytes(s->dtype), n = h->n_tokens, g = r->group;
    const struct { void *pointer; size_t count, size; } parts[] = {
        {&h->packed, n, d / 4}, {&h->y, (g + 1) * d, sizeof(float)}, {&h->q_packed, g, d / 4},
        {&h->distance[0], r->selections * n, 2}, {&h->distance[1], r->selections * n, 2},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof parts / sizeof parts[0]; i++)
        status = adm_alloc(parts[i].pointer, parts[i].count, parts[i].size, "host reference of a profile", err);
    if (status == ADM_OK && r->inputs.session == NULL) status = make_random_rows(r, h, err);
    else if (status == ADM_OK) take_session_rows(r, h);
    for (uint32_t t = 0; status == ADM_OK && t < n; t++) /* y: the newest stays */
        encode_row(s, (const char *)h->k + t * row_bytes, h->y + g * d, h->packed + t * d / 4);
    for (uint32_t i = 0; status == ADM_OK && i < g; i++) {
        encode_row(s, (const char *)h->q + i * row_bytes, h->y + i * d, h->q_packed + i * d / 4);
        add_distances(r, h, i);
    }
    return status;
}

/* How many tokens sequence b of the set holds. */
static uint32_t length_of(const adm_profile_reference *r, uint32_t b) {
    const adm_gpu_session *s = r->inputs.session;
    return s != NULL ? s->length[adm_gpu_session_step(s, r->set)] : r->inputs.length[b];
}

static void choose_heads(adm_profile_reference *r) {
    const uint32_t batch = r->shape.batch, n_kv = r->shape.heads.n_kv_heads;
    bool ragged = false;
    for (uint32_t b = 1; b < batch; b++) ragged |= length_of(r, b) != length_of(r, 0);
    r->n_heads = ragged ? (batch < MOST_CHECKED ? batch : MOST_CHECKED) : batch * n_kv > 1 ? 2 : 1;
    for (uint32_t i = 0; i < r->n_heads; i++) {
        uint32_t b = ragged ? i : i * (batch - 1), head = ragged ? i % n_kv : i * (n_kv - 1);
        r->head[i] = (checked_head){.sequence = b, .kv_head = head, .n_tokens = length_of(r, b)};
    }
}

static uint32_t largest_distance(const adm_profile_reference *r) {
    return 3 * r->shape.heads.head_dim * (r->group / r->selections);
}

static adm_status make_scratch(adm_profile_reference *r, adm_error *err) {
    size_t longest = 0;
    for (size_t i = 0; i < r->n_heads; i++)
        if (r->head[i].n_tokens > longest) longest = r->head[i].n_tokens;
    const struct { void *pointer; size_t count, size; } parts[] = {
        {&r->histogram, largest_distance(r) + 1, sizeof *r->histogram}, {&r->index, longest, sizeof *r->index},
        {&r->found, longest, sizeof *r->found}, {&r->distance, longest, sizeof *r->distance},
        {&r->score, longest, sizeof *r->score}, {&r->seen, longest, sizeof *r->seen},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof parts / sizeof parts[0]; i++)
        status = adm_alloc(parts[i].pointer, parts[i].count, parts[i].size, "host reference of a profile", err);
    return status;
}

adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, uint32_t set,
                                        adm_profile_reference **out, adm_error *err) {
    adm_profile_reference *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "host reference of a profile", err);
    if (status != ADM_OK) return status;
    r->shape = *shape;
    r->inputs = *inputs;
    r->set = set;
    if (inputs->session != NULL)
        memcpy(r->shape.threshold, inputs->session->threshold[adm_gpu_session_layer(inputs->session, set)],
               sizeof r->shape.threshold);
    r->group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    r->selections = adm_gpu_select_heads(shape) / shape->heads.n_kv_heads;
    choose_heads(r);
    status = make_scratch(r, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_heads; i++) status = make_head(r, &r->head[i], err);
    if (status != ADM_OK) adm_profile_reference_free(&r);
    *out = r;
    return status;
}

void adm_profile_reference_free(adm_profile_reference **reference) {
    if (*reference == NULL) return;
    for (size_t i = 0; i < (*reference)->n_heads; i++) {
        checked_head *h = &(*reference)->head[i];
        void *const owned[] = {&h->own_k, &h->own_v, &h->own_q, &h->packed, &h->y, &h->q_packed, &h->distance[0],
                               &h->distance[1]};
        for (size_t j = 0; j < sizeof owned / sizeof owned[0]; j++) adm_free(owned[j]);
    }
    void *const scratch[] = {&(*reference)->histogram, &(*reference)->index, &(*reference)->found, &(*reference)->distance,
                             &(*reference)->score, &(*reference)->seen};
    for (size_t j = 0; j < sizeof scratch / sizeof scratch[0]; j++) adm_free(scratch[j]);
    adm_free(reference);
}

/* Selection i of the head on the host; index has room for the budget. */
static uint32_t select_on_host(const adm_profile_reference *r, const checked_head *h, const adm_select_rule *rule,
                               uint32_t i, uint32_t *index) {
    return adm_topk_reference(h->distance[0] + (size_t)i * h->n_tokens, h->n_tokens, largest_distance(r), rule,
                              r->histogram, index, NULL);
}

double adm_profile_reference_overlap(const adm_profile_reference *r, const adm_select_rule *rule) {
    double selected = 0, distinct = 0;
    for (size_t j = 0; j < r->n_heads && r->selections > 1; j++) {
        const checked_head *h = &r->head[j];
        uint32_t n = 0;
        memset(r->seen, 0, h->n_tokens * sizeof *r->seen);
        for (uint32_t i = 0; i < r->selections; i++) {
            n = select_on_host(r, h, rule, i, r->index);
            for (uint32_t k = 0; k < n; k++) {
                distinct += !r->seen[r->index[k]];
                r->seen[r->index[k]] = true;
            }
        }
        selected += n;
    }
    return selected > 0 ? distinct / selected : 1;
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

/* What a comparison works with. */
typedef struct comparison {
    adm_gpu *gpu;
    const adm_gpu_buffers *b;
    const adm_gpu_shape *s;    /* with the present budget */
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

static uint32_t first_selection(const comparison *c) {
    return c->h->sequence * adm_gpu_select_heads(c->s) + c->h->kv_head * c->r->selections;
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
        const uint32_t n = select_on_host(c->r, c->h, &c->s->rule, i, c->r->index), *found = c->r->found;
        uint32_t n_found = 0;
        adm_status status = adm_gpu_read(c->gpu, c->b->n_selected + row, sizeof n_found, &n_found, c->err);
        if (status == ADM_OK && n_found != n) status = wrong(c, "number of tokens of selection", i, n_found, n);
        if (status == ADM_OK)
            status = adm_gpu_read(c->gpu, c->b->index + row * c->s->rule.budget, n * sizeof *found, c->r->found, c->err);
        if (status != ADM_OK) return status;
        for (uint32_t j = 0; j < n; j++)
            if (found[j] != c->r->index[j]) return wrong(c, "selected token", j, found[j], c->r->index[j]);
    }
    return ADM_OK;
}

/* One query head's output against attention over index [n], or over all tokens where that is NULL. */
static adm_status compare_row(const comparison *c, uint32_t i, const uint32_t *index, uint32_t n) {
    const uint32_t d = c->s->heads.head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(c->s->dtype);
    const double tolerance = c->unit->impl[c->unit->n_impls - 1]->tolerance;
    char raw[ADM_MAX_HEAD_DIM * 4];
    float found[ADM_MAX_HEAD_DIM], expected[ADM_MAX_HEAD_DIM];
    adm_attention_reference(c->s->dtype, (const char *)c->h->q + i * row_bytes, c->h->k, c->h->v, index, n, d, c->s->scale,
                            c->r->score, expected);
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
    return adm_fail(c->err, ADM_EINTERNAL, "%s '%s': sequence %u, KV head %u: the output of query %u has a relative L2 error of "
                    "%.3g, above %.3g", adm_stage_name(c->unit->stage), c->unit->variant, c->h->sequence, c->h->kv_head, i,
                    error, tolerance);
}

/* dense: over every token, else over the host's selection. */
static adm_status compare_output(const comparison *c, bool dense) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < c->r->group; i++) {
        uint32_t n = c->h->n_tokens;
        if (!dense) n = select_on_host(c->r, c->h, &c->s->rule, i % c->r->selections, c->r->index);
        status = compare_row(c, i, dense ? NULL : c->r->index, n);
    }
    return status;
}

/* Whether the unit runs an implementation that covers the stage by itself, so that its hand-over is in memory. */
static bool runs_alone(const adm_profile_unit *unit, adm_stage stage) {
    for (size_t i = 0; i < unit->n_impls; i++)
        if (unit->impl[i]->covers == 1u << stage) return true;
    return false;
}

uint32_t adm_profile_covers(const adm_profile_unit *unit) {
    uint32_t covers = 0;
    for (size_t i = 0; i < unit->n_impls; i++) covers |= unit->impl[i]->covers;
    return covers;
}

/* An empty sequence has no new token: what its rows of y, code and packed hold does not matter. */
static adm_status compare_all(const comparison *c) {
    const adm_profile_unit *u = c->unit;
    const uint32_t covers = adm_profile_covers(u);
    const bool any = c->h->n_tokens > 0;
    adm_status status = ADM_OK;
    if (any && runs_alone(u, ADM_STAGE_HADAMARD)) status = compare_y(c);
    if (any && status == ADM_OK && runs_alone(u, ADM_STAGE_BUCKET)) status = compare_codes(c);
    if (any && status == ADM_OK && runs_alone(u, ADM_STAGE_PACK)) status = compare_packed(c);
    if (any && status == ADM_OK && covers >> ADM_STAGE_APPEND & 1) status = compare_planes(c);
    if (any && status == ADM_OK && runs_alone(u, ADM_STAGE_DISTANCE))
        status = compare_distance(c, strcmp(u->variant, "xor") == 0);
    if (status == ADM_OK && runs_alone(u, ADM_STAGE_TOPK)) status = compare_selection(c);
    if (status == ADM_OK && covers >> ADM_STAGE_ATTENTION & 1) status = compare_output(c, false);
    if (status == ADM_OK && covers >> ADM_STAGE_DENSE & 1) status = compare_output(c, true);
    return status;
}

adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_profile_reference *r,
                             const adm_profile_unit *unit, adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(gpu_case, r->set);
    adm_status status = adm_gpu_case_poison(gpu_case, r->set, adm_profile_covers(unit), err);
    if (status == ADM_OK) status = adm_gpu_case_run(gpu_case, unit->impl, unit->n_impls, r->set, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_heads; i++) {
        const comparison c = {gpu, adm_gpu_case_buffers(gpu_case, r->set), &shape, r, &r->head[i], unit, err};
        status = compare_all(&c);
    }
    return status;
}
