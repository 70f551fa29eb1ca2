/* sparse.c: one layer's attention under a policy. Selection and attention are those of the replay; only what is kept from
 * step to step is here.
 *
 *   codes    [n_kv_heads][n_prompt + max_steps][row_bytes]   the prompt's, then those of the steps, written anew each call
 *   bounds   [n_kv_heads][n_pages][2][d]                     likewise; the page that the prompt ends in is kept aside */
#include "kernels/step/sparse.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/policy/codebook.h"
#include "core/base/mem.h"
#include "core/policy/policy.h"
#include "core/policy/rank.h"
#include "core/policy/sweep.h"
#include "kernels/registry.h"

enum { CALIBRATION_ROWS = 4096, ENCODE_ROWS = 64 };

struct adm_sparse {
    adm_policy policy;
    adm_coding coding;
    adm_shape shape;
    adm_host_pipeline pipeline;
    size_t n_prompt, n_most; /* tokens of the prompt, and with all steps */
    uint64_t seed;
    adm_codebook *book;
    uint8_t *codes;
    float *bounds, *edge;    /* edge [n_kv_heads][2][d]: the bounds of the page that the first step's token joins */

    /* Scratch. */
    float *y;                /* ENCODE_ROWS, or a group's queries */
    uint16_t *table, *distance;
    uint8_t *scan_scratch, *query;
    uint32_t *histogram, *rank, *index;
    uint8_t *taken;
    double *score, *candidate_score;
    void *rank_scratch;
};

static size_t row_bytes(const adm_sparse *s) { return adm_code_row_bytes(s->coding.bits, s->shape.head_dim); }

static uint8_t *code_row(const adm_sparse *s, size_t kv_head, size_t token) {
    return s->codes + (kv_head * s->n_most + token) * row_bytes(s);
}

/* One more than there can be, so that a prompt which fills its last page ends in one, too. */
static size_t n_pages(const adm_sparse *s) { return adm_quest_pages(s->n_most) + 1; }

static float *page_bounds(const adm_sparse *s, size_t kv_head, size_t page) {
    return s->bounds + (kv_head * n_pages(s) + page) * 2 * s->shape.head_dim;
}

/* --- The prompt --------------------------------------------------------------------------------------------------- */

static void transform(const adm_sparse *s, const float *x, size_t n_rows, float *y) {
    if (s->coding.hadamard) s->pipeline.hadamard->fn.hadamard(ADM_F32, x, n_rows, s->shape.head_dim, y);
    else memcpy(y, x, n_rows * s->shape.head_dim * sizeof *y);
}

static void encode(adm_sparse *s, size_t kv_head, size_t token, const float *key, size_t n_rows) {
    const uint32_t d = s->shape.head_dim;
    for (size_t r = 0; r < n_rows; r += ENCODE_ROWS) {
        size_t n = n_rows - r < ENCODE_ROWS ? n_rows - r : ENCODE_ROWS;
        transform(s, key + r * d, n, s->y);
        s->pipeline.encode(s->y, n, d, adm_codebook_key(s->book, kv_head), s->coding.bits, code_row(s, kv_head, token + r));
    }
}

static adm_status learn_codes(adm_sparse *s, const float *k, size_t capacity, adm_error *err) {
    const uint32_t d = s->shape.head_dim, n_kv = s->shape.n_kv_heads;
    const size_t n_rows = s->n_prompt < CALIBRATION_ROWS ? s->n_prompt : CALIBRATION_ROWS;
    float *y = NULL;
    adm_status status = adm_alloc(&y, n_kv * n_rows, d * sizeof *y, "keys for calibration", err);
    for (size_t h = 0; status == ADM_OK && h < n_kv; h++)
        for (size_t i = 0; i < n_rows; i++)
            transform(s, k + (h * capacity + i * s->n_prompt / n_rows) * d, 1, y + (h * n_rows + i) * d);
    if (status == ADM_OK) status = adm_codebook_create(&s->coding, y, n_rows, n_kv, d, &s->book, err);
    for (size_t h = 0; status == ADM_OK && h < n_kv; h++) encode(s, h, 0, k + h * capacity * d, s->n_prompt);
    adm_free(&y);
    return status;
}

static void learn_pages(adm_sparse *s, const float *k, size_t capacity) {
    const uint32_t d = s->shape.head_dim;
    for (size_t h = 0; h < s->shape.n_kv_heads; h++) {
        for (size_t t = 0; t < s->n_prompt; t++) adm_quest_append(page_bounds(s, h, 0), t, k + (h * capacity + t) * d, d);
        memcpy(s->edge + h * 2 * d, page_bounds(s, h, s->n_prompt / ADM_QUEST_PAGE), 2 * d * sizeof *s->edge);
    }
}

static adm_status read_policy(adm_sparse *s, const char *text, adm_error *err) {
    static const char *const calibrated[] = {"calibrated"};
    adm_sweep sweep;
    adm_status status = adm_sweep_parse(text, &(adm_sweep_defaults){.thresholds = calibrated, .n_thresholds = 1}, &sweep, err);
    if (status != ADM_OK) return status;
    size_t n_named = 0;
    for (adm_policy p = 0; p < ADM_N_POLICIES; p++) {
        if (!sweep.policy[p]) continue;
        n_named += p == ADM_POLICY_ADAMAS ? sweep.n_codings : 1;
        s->policy = p;
        if (sweep.select_group[p]) n_named += 2;
    }
    s->coding = sweep.n_codings > 0 ? sweep.codings[0] : adm_coding_default;
    adm_sweep_clear(&sweep);
    if (n_named == 1) return ADM_OK;
    return adm_fail(err, ADM_EINPUT,
                    "policy '%s': one policy and variant is needed, of others than adamas with a selection "
                    "per head",
                    text);
}

static adm_status make_room(adm_sparse *s, adm_error *err) {
    const uint32_t d = s->shape.head_dim, n_kv = s->shape.n_kv_heads;
    const size_t group = s->shape.n_q_heads / n_kv;
    const struct {
        void *pointer;
        size_t count, size;
    } rooms[] = {
        {&s->codes, n_kv * s->n_most, row_bytes(s)},
        {&s->bounds, s->policy == ADM_POLICY_QUEST ? n_kv * n_pages(s) : 0, 2 * d * sizeof(float)},
        {&s->edge, n_kv, 2 * d * sizeof(float)},
        {&s->y, group > ENCODE_ROWS ? group : ENCODE_ROWS, d * sizeof(float)},
        {&s->table, (size_t)d << ADM_MAX_CODE_BITS, sizeof(uint16_t)},
        {&s->distance, s->n_most, sizeof(uint16_t)},
        {&s->scan_scratch, ADM_SCAN_SCRATCH, 1},
        {&s->query, row_bytes(s), 1},
        {&s->histogram, UINT16_MAX + 1, sizeof(uint32_t)},
        {&s->rank, s->n_most, sizeof(uint32_t)},
        {&s->index, s->n_most + ADM_QUEST_PAGE, sizeof(uint32_t)}, /* an order may end with a whole page */
        {&s->taken, s->n_most, 1},
        {&s->score, s->n_most, sizeof(double)},
        {&s->rank_scratch, 1, adm_rank_scratch_bytes(s->n_most)},
        {&s->candidate_score, s->policy == ADM_POLICY_ORACLE ? s->n_most : 0, sizeof(double)},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof rooms / sizeof rooms[0]; i++)
        status = adm_alloc(rooms[i].pointer, rooms[i].count, rooms[i].size, "a layer of sparse attention", err);
    return status;
}

adm_status adm_sparse_open(const char *policy, const adm_shape *shape, const float *k, size_t n_prompt, size_t capacity,
                           size_t max_steps, uint64_t seed, adm_sparse **out, adm_error *err) {
    *out = NULL;
    adm_sparse *s = NULL;
    adm_status status = adm_shape_check(shape, err);
    if (status == ADM_OK && (n_prompt == 0 || n_prompt + max_steps > capacity || capacity > UINT32_MAX))
        status = adm_fail(err, ADM_EINPUT,
                          "a prompt of %zu tokens and %zu steps in room for %zu: a token at least, and room "
                          "for all is needed",
                          n_prompt, max_steps, capacity);
    if (status == ADM_OK) status = adm_alloc(&s, 1, sizeof *s, "a layer of sparse attention", err);
    if (status != ADM_OK) return status;
    *s = (adm_sparse){.shape = *shape, .n_prompt = n_prompt, .n_most = n_prompt + max_steps, .seed = seed};
    adm_host_pipeline_default(&s->pipeline);
    status = read_policy(s, policy, err);
    if (status == ADM_OK && s->policy == ADM_POLICY_ADAMAS) status = adm_coding_check(&s->coding, shape, err);
    if (status == ADM_OK) status = make_room(s, err);
    if (status == ADM_OK && s->policy == ADM_POLICY_ADAMAS) status = learn_codes(s, k, capacity, err);
    if (status == ADM_OK && s->policy == ADM_POLICY_QUEST) learn_pages(s, k, capacity);
    if (status == ADM_OK) *out = s;
    else adm_sparse_close(&s);
    return status;
}

void adm_sparse_variant(const adm_sparse *s, char *name) {
    switch (s->policy) {
    case ADM_POLICY_ADAMAS: adm_coding_name(&s->coding, name); break;
    case ADM_POLICY_QUEST: snprintf(name, ADM_SPARSE_NAME_BYTES, "pages of %d", ADM_QUEST_PAGE); break;
    case ADM_POLICY_STREAMING: snprintf(name, ADM_SPARSE_NAME_BYTES, "%d sinks", ADM_STREAMING_SINKS); break;
    case ADM_POLICY_H2O: snprintf(name, ADM_SPARSE_NAME_BYTES, "half recent"); break;
    case ADM_POLICY_RANDOM: snprintf(name, ADM_SPARSE_NAME_BYTES, "seed %llu", (unsigned long long)s->seed); break;
    default: snprintf(name, ADM_SPARSE_NAME_BYTES, "exact");
    }
}

void adm_sparse_close(adm_sparse **sparse) {
    adm_sparse *s = *sparse;
    if (s == NULL) return;
    adm_codebook_free(&s->book);
    void *const owned[] = {&s->codes,        &s->bounds,       &s->edge,           &s->y,    &s->table, &s->distance,
                           &s->scan_scratch, &s->query,        &s->histogram,      &s->rank, &s->index, &s->taken,
                           &s->score,        &s->rank_scratch, &s->candidate_score};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
    adm_free(sparse);
}

/* --- One step ----------------------------------------------------------------------------------------------------- */

/* A step of a call. */
typedef struct step {
    uint32_t budget;
    double scale;
    size_t n_tokens;         /* seen */
    const float *q;          /* [n_q_heads][d] */
    const float *k, *v;      /* [n_kv_heads][capacity][d] */
    size_t capacity;
    double *drawn;           /* [n_q_heads][stride], or NULL */
    size_t drawn_stride;
    adm_rng *rng;
} step;

static void append(adm_sparse *s, const step *st) {
    const uint32_t d = s->shape.head_dim;
    const size_t token = st->n_tokens - 1;
    for (size_t h = 0; h < s->shape.n_kv_heads; h++) {
        const float *key = st->k + (h * st->capacity + token) * d;
        if (s->policy == ADM_POLICY_ADAMAS) encode(s, h, token, key, 1);
        if (s->policy == ADM_POLICY_QUEST) adm_quest_append(page_bounds(s, h, 0), token, key, d);
    }
}

/* Distances of head's query, or of the queries of its group. */
static size_t select_adamas(adm_sparse *s, const step *st, size_t head, size_t kv_head) {
    const uint32_t d = s->shape.head_dim, n_queries = adm_coding_queries(&s->coding, &s->shape);
    const adm_host_impl *direct = s->pipeline.code_distance[s->coding.metric][s->coding.bits];
    const uint8_t *codes = code_row(s, kv_head, 0);
    const size_t first = n_queries > 1 ? kv_head * n_queries : head;
    transform(s, st->q + first * d, n_queries, s->y);
    if (direct != NULL && n_queries == 1) {
        s->pipeline.encode(s->y, 1, d, adm_codebook_query(s->book, kv_head), s->coding.bits, s->query);
        direct->fn.distance(s->query, codes, st->n_tokens, d, s->distance);
    } else {
        adm_codebook_table(&s->coding, s->book, kv_head, s->y, n_queries, s->table);
        s->pipeline.scan(s->table, codes, st->n_tokens, d, s->coding.bits, s->scan_scratch, s->distance);
    }
    const adm_select_rule rule = adm_coding_rule(&s->coding, st->budget);
    return s->pipeline.topk->fn.topk(s->distance, st->n_tokens, adm_coding_max_distance(&s->coding, d, n_queries), &rule,
                                     s->histogram, s->index, NULL);
}

static size_t select_oracle(adm_sparse *s, const step *st, size_t head, size_t kv_head) {
    const uint32_t d = s->shape.head_dim;
    const float *q = st->q + head * d, *k = st->k + kv_head * st->capacity * d;
    adm_cut cut = {.k = st->budget < st->n_tokens ? st->budget : st->n_tokens};
    for (size_t t = 0; t < st->n_tokens; t++, k += d) {
        double dot = 0;
        for (uint32_t i = 0; i < d; i++) dot += (double)q[i] * k[i];
        s->score[t] = dot;
    }
    adm_candidates candidates = {0, s->index, s->candidate_score};
    adm_rank_cut(s->score, st->n_tokens, &cut, 1, s->rank_scratch, &candidates);
    adm_rank_take(&candidates, &cut, &candidates);
    return candidates.n;
}

/* In the order of the policy, not of the tokens. */
static size_t order_tokens(adm_sparse *s, const step *st, size_t head, size_t kv_head) {
    const uint32_t d = s->shape.head_dim;
    const size_t n = st->n_tokens, n_pages = adm_quest_pages(n);
    size_t n_wanted;
    switch (s->policy) {
    case ADM_POLICY_QUEST:
        memset(s->score, 0, n_pages * sizeof *s->score);
        adm_quest_add_bounds(page_bounds(s, kv_head, 0), st->q + head * d, d, n, s->score);
        n_wanted = adm_quest_tokens(n, st->budget);
        return adm_quest_order(s->score, n, n_wanted, s->rank_scratch, s->rank, s->index);
    case ADM_POLICY_STREAMING: return adm_streaming_order(n, st->budget, s->index);
    case ADM_POLICY_H2O:
        adm_rank(st->drawn + head * st->drawn_stride, n, s->rank_scratch, s->rank);
        return adm_h2o_order(s->rank, n, st->budget, s->taken, s->index);
    case ADM_POLICY_RANDOM: return adm_random_order(st->rng, n, st->budget, s->index);
    default: break;
    }
    for (size_t t = 0; t < n; t++) s->index[t] = (uint32_t)t; /* dense */
    return n;
}

static int ascending_token(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Tokens of s->index, ascending. */
static size_t select_tokens(adm_sparse *s, const step *st, size_t head, size_t kv_head) {
    if (s->policy == ADM_POLICY_ADAMAS) return select_adamas(s, st, head, kv_head);
    if (s->policy == ADM_POLICY_ORACLE) return select_oracle(s, st, head, kv_head);
    size_t n = order_tokens(s, st, head, kv_head);
    if (s->policy != ADM_POLICY_DENSE) qsort(s->index, n, sizeof *s->index, ascending_token);
    return n;
}

/* Adds what the step paid to each token it attended to. */
static void add_drawn(adm_sparse *s, const step *st, size_t head, size_t kv_head, size_t n) {
    const uint32_t d = s->shape.head_dim;
    double largest = -INFINITY, total = 0;
    for (size_t j = 0; j < n; j++) {
        const float *q = st->q + head * d, *k = st->k + (kv_head * st->capacity + s->index[j]) * d;
        double dot = 0;
        for (uint32_t i = 0; i < d; i++) dot += (double)q[i] * k[i];
        s->score[j] = dot * st->scale;
        largest = fmax(largest, s->score[j]);
    }
    for (size_t j = 0; j < n; j++) total += s->score[j] = exp(s->score[j] - largest);
    for (size_t j = 0; j < n; j++) st->drawn[head * st->drawn_stride + s->index[j]] += s->score[j] / total;
}

static void attend_step(adm_sparse *s, const step *st, float *out, uint32_t *index) {
    const uint32_t d = s->shape.head_dim;
    const adm_shape *shape = &s->shape;
    append(s, st);
    size_t n = 0;
    for (uint32_t head = 0; head < shape->n_q_heads; head++) {
        const size_t kv_head = adm_kv_head(shape, head), group = shape->n_q_heads / shape->n_kv_heads;
        bool shared = s->coding.selection == ADM_SELECT_GROUP && head % group != 0;
        if (!shared) n = select_tokens(s, st, head, kv_head);
        s->pipeline.attention->fn.attention(ADM_F32, st->q + head * d, st->k + kv_head * st->capacity * d,
                                            st->v + kv_head * st->capacity * d, s->index, n, d, st->scale, s->score,
                                            out + head * d);
        if (s->policy == ADM_POLICY_H2O) add_drawn(s, st, head, kv_head, n);
        for (size_t j = 0; index != NULL && j < st->budget; j++)
            index[(size_t)head * st->budget + j] = j < n ? s->index[j] : UINT32_MAX;
    }
}

adm_status adm_sparse_attend(adm_sparse *s, uint32_t budget, double scale, const float *q, const float *k, const float *v,
                             size_t capacity, size_t n_steps, double *drawn, float *out, uint32_t *index, adm_error *err) {
    const uint32_t d = s->shape.head_dim;
    const size_t step_elements = (size_t)s->shape.n_q_heads * d;
    adm_rng rng;
    adm_rng_seed(&rng, s->seed);
    if (n_steps > s->n_most - s->n_prompt || s->n_prompt + n_steps > capacity)
        return adm_fail(err, ADM_EINPUT, "%zu steps: there is room for %zu", n_steps, s->n_most - s->n_prompt);
    if (budget == 0 || (s->policy == ADM_POLICY_QUEST && budget < ADM_QUEST_PAGE))
        return adm_fail(err, ADM_EINPUT, "a budget of %u tokens: at least %d with %s", budget,
                        s->policy == ADM_POLICY_QUEST ? ADM_QUEST_PAGE : 1, adm_policy_name(s->policy));
    const adm_select_rule rule = adm_coding_rule(&s->coding, budget);
    if (s->policy == ADM_POLICY_ADAMAS && adm_select_rule_check(&rule, err) != ADM_OK) return ADM_EINPUT;
    if (s->policy == ADM_POLICY_H2O && drawn == NULL)
        return adm_fail(err, ADM_EINPUT, "h2o needs the attention that the tokens drew before");
    for (size_t h = 0; s->policy == ADM_POLICY_QUEST && h < s->shape.n_kv_heads; h++)
        memcpy(page_bounds(s, h, s->n_prompt / ADM_QUEST_PAGE), s->edge + h * 2 * d, 2 * d * sizeof *s->edge);
    for (size_t i = 0; i < n_steps; i++) {
        const step st = {
            budget, scale, s->n_prompt + i + 1, q + i * step_elements, k, v, capacity, drawn, s->n_prompt + n_steps, &rng};
        attend_step(s, &st, out + i * step_elements, index != NULL ? index + i * s->shape.n_q_heads * budget : NULL);
    }
    return ADM_OK;
}
