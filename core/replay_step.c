/* replay_step.c: one layer of one decode step through every stage, and the bulk encoding between steps.
 *
 * Rows of a layer step, in y, codes and packed alike:
 *
 *   [ query head 0 | query head 1 | ... | new key of KV head 0 | ... ]      n_q_heads + n_kv_heads rows
 */
#include <string.h>

#include "core/replay_internal.h"

/* --- Bracketing a stage ------------------------------------------------------------------------------------------- */

static void begin_stage(adm_replay *r, adm_range *range, adm_stage stage, const char *variant, uint32_t budget,
                        adm_stage_times *times) {
    range->kind = ADM_RANGE_STAGE;
    range->stage = stage;
    range->variant = variant;
    range->budget = budget;
    range->config_id = times != NULL ? times->config_id : 0;
    r->now = times;
    r->last_ns = 0;
    adm_probes_begin(r->probes, range);
}

static void end_stage(adm_replay *r, const adm_range *range) {
    adm_probes_end(r->probes, range);
    r->now = NULL;
}

void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_replay *r = replay;
    if (range->kind == ADM_RANGE_STAGE && r->now != NULL) {
        r->last_ns = (double)(end_ns - start_ns) / r->now_divisor;
        adm_replay_keep_time(r, r->now, r->last_ns);
    }
    if (r->options.timeline) adm_replay_keep_event(r, range, start_ns, end_ns);
}

/* --- Encoding keys ------------------------------------------------------------------------------------------------ */

static const unsigned char *key_row(const adm_replay *r, const adm_trace_layer *layer, size_t kv_head, size_t token) {
    size_t row_bytes = r->trace->shape.head_dim * adm_dtype_bytes(layer->k_dtype);
    return (const unsigned char *)layer->k + (kv_head * r->trace->n_tokens + token) * row_bytes;
}

static adm_code_cache *cache_of(const adm_replay *r, size_t variant, size_t layer) {
    return &r->cache[variant * r->n_layers + layer];
}

static uint8_t *cache_row(const adm_replay *r, const adm_code_cache *cache, size_t kv_head, size_t token) {
    return cache->packed + (kv_head * r->trace->n_tokens + token) * (r->trace->shape.head_dim / 4);
}

static void count_codes(const adm_replay *r, adm_code_cache *cache, size_t kv_head, const uint8_t *codes,
                        size_t n_rows) {
    uint64_t *n_codes = cache->n_codes + 4 * kv_head;
    for (size_t i = 0; i < n_rows * r->trace->shape.head_dim; i++) n_codes[codes[i]]++;
}

static void encode_chunk(adm_replay *r, adm_range *range, size_t layer, size_t kv_head, size_t token, size_t n_rows) {
    const adm_host_pipeline *p = r->options.pipeline;
    const adm_trace_layer *l = r->layer[layer];
    uint32_t d = r->trace->shape.head_dim;
    r->now_divisor = (double)n_rows;

    begin_stage(r, range, ADM_STAGE_HADAMARD, p->hadamard->name, 0, adm_replay_times(r, ADM_STAGE_HADAMARD, 0, true));
    p->hadamard->fn.hadamard(l->k_dtype, key_row(r, l, kv_head, token), n_rows, d, r->y);
    end_stage(r, range);
    for (size_t v = 0; v < r->options.n_thresholds; v++) {
        adm_code_cache *cache = cache_of(r, v, layer);
        begin_stage(r, range, ADM_STAGE_BUCKET, p->bucket->name, 0,
                    v == 0 ? adm_replay_times(r, ADM_STAGE_BUCKET, 0, true) : NULL);
        p->bucket->fn.bucket(r->y, n_rows * d, cache->thresholds, r->codes);
        end_stage(r, range);
        begin_stage(r, range, ADM_STAGE_PACK, p->pack->name, 0,
                    v == 0 ? adm_replay_times(r, ADM_STAGE_PACK, 0, true) : NULL);
        p->pack->fn.pack(r->codes, n_rows, d, cache_row(r, cache, kv_head, token));
        end_stage(r, range);
        count_codes(r, cache, kv_head, r->codes, n_rows);
    }
    r->now_divisor = 1;
}

static float *page_bounds_of(const adm_replay *r, size_t layer, size_t kv_head) {
    size_t head = layer * r->trace->shape.n_kv_heads + kv_head;
    return r->page_bounds + head * adm_quest_pages(r->trace->n_tokens) * 2 * r->trace->shape.head_dim;
}

static void append_to_page(adm_replay *r, size_t layer, size_t kv_head, size_t token) {
    float key[ADM_MAX_HEAD_DIM];
    if (!r->options.policy[ADM_POLICY_QUEST]) return;
    adm_to_f32(r->layer[layer]->k_dtype, key_row(r, r->layer[layer], kv_head, token), r->trace->shape.head_dim, key);
    adm_quest_append(page_bounds_of(r, layer, kv_head), token, key, r->trace->shape.head_dim);
}

void adm_replay_encode(adm_replay *r, size_t n_tokens, uint32_t seq_len) {
    for (size_t layer = 0; layer < r->n_layers; layer++) {
        adm_range range = {.step = -1, .layer = (int32_t)r->layer[layer]->index, .seq_len = seq_len};
        for (size_t h = 0; h < r->trace->shape.n_kv_heads; h++)
            for (size_t t = r->n_encoded; t < n_tokens; t += ADM_BULK_ROWS) {
                size_t n_rows = n_tokens - t < ADM_BULK_ROWS ? n_tokens - t : ADM_BULK_ROWS;
                encode_chunk(r, &range, layer, h, t, n_rows);
                for (size_t i = 0; i < n_rows; i++) append_to_page(r, layer, h, t + i);
            }
    }
    if (n_tokens > r->n_encoded) r->n_encoded = n_tokens;
}

/* --- One layer of one step ---------------------------------------------------------------------------------------- */

/* What the functions below share about the layer step at hand. */
typedef struct layer_step {
    const adm_segment *segment;
    size_t step;              /* within the segment */
    size_t layer;             /* index into r->layer */
    const adm_trace_layer *l;
    const unsigned char *q;   /* [n_q_heads, d] of this step */
    size_t token;             /* position of the new token */
    size_t n_tokens;          /* attended over: token + 1 */
    adm_range range;
} layer_step;

static const unsigned char *query_row(const adm_replay *r, const layer_step *s, size_t head) {
    return s->q + head * r->trace->shape.head_dim * adm_dtype_bytes(s->l->q_dtype);
}

static const unsigned char *value_rows(const adm_replay *r, const layer_step *s, size_t kv_head) {
    size_t row_bytes = r->trace->shape.head_dim * adm_dtype_bytes(s->l->v_dtype);
    return (const unsigned char *)s->l->v + kv_head * r->trace->n_tokens * row_bytes;
}

static void attend(adm_replay *r, const layer_step *s, const adm_host_impl *impl, size_t head, const uint32_t *index,
                   size_t n) {
    uint32_t d = r->trace->shape.head_dim, kv_head = adm_kv_head(&r->trace->shape, (uint32_t)head);
    impl->fn.attention(s->l->k_dtype, query_row(r, s, head), key_row(r, s->l, kv_head, 0), value_rows(r, s, kv_head),
                       index, n, d, r->trace->softmax_scale, r->score, r->out + head * d);
}

/* Files one head's quality under an arm. all_tokens: 0, 1, 2, ... for the dense policy. */
static adm_quality file_quality(adm_replay *r, const layer_step *s, const adm_arm *arm, size_t head,
                                const uint32_t *selected, size_t n_selected) {
    adm_quality quality =
        adm_quality_of(r->reference[head], selected, n_selected, r->out + head * r->trace->shape.head_dim);
    const double value[] = {[Q_RECALL] = quality.recall,
                            [Q_MASS] = quality.mass,
                            [Q_KL] = quality.kl,
                            [Q_TV] = quality.tv,
                            [Q_OUTPUT_REL_L2] = quality.output_rel_l2,
                            [Q_OUTPUT_COSINE] = quality.output_cosine,
                            [Q_EPS_EXCEED] = quality.output_rel_l2 > r->options.eps};
    for (int m = Q_RECALL; m <= Q_OUTPUT_COSINE; m++)
        *adm_arm_value(r, arm, s->segment, m, s->layer, head, s->step) = value[m];
    *adm_arm_value(r, arm, s->segment, Q_EPS_EXCEED, s->layer, head, s->step) = value[Q_EPS_EXCEED];
    return quality;
}

static void run_dense(adm_replay *r, layer_step *s, const adm_arm *arm) {
    const adm_host_impl *impl = r->options.pipeline->dense;
    begin_stage(r, &s->range, ADM_STAGE_DENSE, impl->name, 0, adm_replay_times(r, ADM_STAGE_DENSE, 0, false));
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++) attend(r, s, impl, h, NULL, s->n_tokens);
    end_stage(r, &s->range);
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++)
        file_quality(r, s, arm, h, r->all_tokens, s->n_tokens);
}

/* Runs for every budget whether or not `oracle` is asked for: oracle_gap needs it. */
static void run_oracle(adm_replay *r, layer_step *s) {
    size_t n_heads = r->trace->shape.n_q_heads;
    for (size_t b = 0; b < r->options.n_budgets; b++) {
        const adm_arm *arm = adm_replay_arm(r, ADM_POLICY_ORACLE, b, 0);
        for (size_t h = 0; h < n_heads; h++) {
            size_t n = adm_oracle_select(r->reference[h], r->options.budgets[b], r->index);
            attend(r, s, r->options.pipeline->attention, h, r->index, n);
            r->oracle_rel_l2[b * n_heads + h] = file_quality(r, s, arm, h, r->index, n).output_rel_l2;
        }
    }
}

/* The stages that do not depend on the budget, but for the Hadamard transform. Returns what they took, timed. */
static double run_codes(adm_replay *r, layer_step *s, size_t variant) {
    const adm_host_pipeline *p = r->options.pipeline;
    const adm_shape *shape = &r->trace->shape;
    adm_code_cache *cache = cache_of(r, variant, s->layer);
    uint32_t d = shape->head_dim;
    size_t row_bytes = d / 4, n_rows = shape->n_q_heads + shape->n_kv_heads;
    bool kept = variant == 0;
    double total_ns = 0;

    begin_stage(r, &s->range, ADM_STAGE_BUCKET, p->bucket->name, 0,
                kept ? adm_replay_times(r, ADM_STAGE_BUCKET, 0, false) : NULL);
    p->bucket->fn.bucket(r->y, n_rows * d, cache->thresholds, r->codes);
    end_stage(r, &s->range);
    total_ns += r->last_ns;

    begin_stage(r, &s->range, ADM_STAGE_PACK, p->pack->name, 0,
                kept ? adm_replay_times(r, ADM_STAGE_PACK, 0, false) : NULL);
    p->pack->fn.pack(r->codes, n_rows, d, r->packed);
    end_stage(r, &s->range);
    total_ns += r->last_ns;

    begin_stage(r, &s->range, ADM_STAGE_APPEND, "copy", 0,
                kept ? adm_replay_times(r, ADM_STAGE_APPEND, 0, false) : NULL);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        memcpy(cache_row(r, cache, h, s->token), r->packed + (shape->n_q_heads + h) * row_bytes, row_bytes);
    end_stage(r, &s->range);
    total_ns += r->last_ns;
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        count_codes(r, cache, h, r->codes + (shape->n_q_heads + h) * d, 1);

    begin_stage(r, &s->range, ADM_STAGE_DISTANCE, p->distance->name, 0,
                kept ? adm_replay_times(r, ADM_STAGE_DISTANCE, 0, false) : NULL);
    for (size_t h = 0; h < shape->n_q_heads; h++)
        p->distance->fn.distance(r->packed + h * row_bytes, cache_row(r, cache, adm_kv_head(shape, (uint32_t)h), 0),
                                 s->n_tokens, d, r->distance + h * r->trace->n_tokens);
    end_stage(r, &s->range);
    return total_ns + r->last_ns;
}

/* top-k and attention at one budget. shared_ns: what the stages before took for this variant. */
static void run_budget(adm_replay *r, layer_step *s, size_t variant, size_t b, double shared_ns) {
    const adm_host_pipeline *p = r->options.pipeline;
    const adm_arm *arm = adm_replay_arm(r, ADM_POLICY_ADAMAS, b, variant);
    size_t n_heads = r->trace->shape.n_q_heads;
    uint32_t budget = r->options.budgets[b];
    const adm_select_rule rule = {budget, r->options.n_sinks, r->options.n_recent};
    bool kept = variant == 0;

    begin_stage(r, &s->range, ADM_STAGE_TOPK, p->topk->name, budget,
                kept ? adm_replay_times(r, ADM_STAGE_TOPK, budget, false) : NULL);
    for (size_t h = 0; h < n_heads; h++)
        r->n_selected[h] = p->topk->fn.topk(r->distance + h * r->trace->n_tokens, s->n_tokens,
                                            3 * r->trace->shape.head_dim, &rule, r->histogram,
                                            r->index + h * r->widest, &r->select_info[h]);
    end_stage(r, &s->range);
    shared_ns += r->last_ns;

    begin_stage(r, &s->range, ADM_STAGE_ATTENTION, p->attention->name, budget,
                kept ? adm_replay_times(r, ADM_STAGE_ATTENTION, budget, false) : NULL);
    for (size_t h = 0; h < n_heads; h++)
        attend(r, s, p->attention, h, r->index + h * r->widest, r->n_selected[h]);
    end_stage(r, &s->range);
    if (r->last_ns > 0)
        adm_replay_keep_time(r, adm_replay_times(r, ADM_STAGE_STEP, budget, false), shared_ns + r->last_ns);

    for (size_t h = 0; h < n_heads; h++) {
        adm_quality quality = file_quality(r, s, arm, h, r->index + h * r->widest, r->n_selected[h]);
        *adm_arm_value(r, arm, s->segment, Q_ORACLE_GAP, s->layer, h, s->step) =
            quality.output_rel_l2 - r->oracle_rel_l2[b * n_heads + h];
        *adm_arm_value(r, arm, s->segment, Q_TIES, s->layer, h, s->step) = r->select_info[h].n_tied;
    }
}

/* --- The policies to compare with --------------------------------------------------------------------------------- */

static double *drawn_of(const adm_replay *r, size_t layer, size_t head) {
    return r->drawn + (layer * r->trace->shape.n_q_heads + head) * r->trace->n_tokens;
}

/* Ranks what one head's policy selects from, once for all budgets. */
static void rank_for(adm_replay *r, const layer_step *s, adm_policy policy, size_t head) {
    uint32_t d = r->trace->shape.head_dim;
    float q[ADM_MAX_HEAD_DIM];
    if (policy == ADM_POLICY_QUEST) {
        adm_to_f32(s->l->q_dtype, query_row(r, s, head), d, q);
        adm_quest_rank(page_bounds_of(r, s->layer, adm_kv_head(&r->trace->shape, (uint32_t)head)), q, d, s->n_tokens,
                       r->page_bound, r->rank_scratch, r->order);
    } else if (policy == ADM_POLICY_H2O) {
        adm_rank(drawn_of(r, s->layer, head), s->n_tokens, r->rank_scratch, r->order);
    }
}

static size_t select_for(adm_replay *r, const layer_step *s, adm_policy policy, size_t budget) {
    switch (policy) {
    case ADM_POLICY_QUEST: return adm_quest_select(r->order, s->n_tokens, budget, r->index);
    case ADM_POLICY_STREAMING: return adm_streaming_select(s->n_tokens, budget, r->index);
    case ADM_POLICY_H2O: return adm_h2o_select(r->order, s->n_tokens, budget, r->index);
    default: return adm_random_select(&r->rng, s->n_tokens, budget, r->index);
    }
}

static void run_policy(adm_replay *r, const layer_step *s, adm_policy policy) {
    size_t n_heads = r->trace->shape.n_q_heads;
    for (size_t h = 0; h < n_heads; h++) {
        rank_for(r, s, policy, h);
        for (size_t b = 0; b < r->options.n_budgets; b++) {
            const adm_arm *arm = adm_replay_arm(r, policy, b, 0);
            if (!adm_arm_is_possible(arm)) continue;
            size_t n = select_for(r, s, policy, r->options.budgets[b]);
            attend(r, s, r->options.pipeline->attention, h, r->index, n);
            adm_quality quality = file_quality(r, s, arm, h, r->index, n);
            *adm_arm_value(r, arm, s->segment, Q_ORACLE_GAP, s->layer, h, s->step) =
                quality.output_rel_l2 - r->oracle_rel_l2[b * n_heads + h];
        }
    }
}

/* What the policies learn from a step, after every one of them has selected. */
static void learn(adm_replay *r, const layer_step *s) {
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++) {
        double *drawn = drawn_of(r, s->layer, h);
        for (size_t t = 0; t < s->n_tokens; t++) drawn[t] += r->reference[h]->weight[t] / r->reference[h]->total_weight;
    }
}

static void run_adamas(adm_replay *r, layer_step *s) {
    const adm_host_impl *hadamard = r->options.pipeline->hadamard;
    const adm_shape *shape = &r->trace->shape;
    uint32_t d = shape->head_dim;

    begin_stage(r, &s->range, ADM_STAGE_HADAMARD, hadamard->name, 0,
                adm_replay_times(r, ADM_STAGE_HADAMARD, 0, false));
    hadamard->fn.hadamard(s->l->q_dtype, s->q, shape->n_q_heads, d, r->y);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        hadamard->fn.hadamard(s->l->k_dtype, key_row(r, s->l, h, s->token), 1, d,
                              r->y + (shape->n_q_heads + h) * d);
    end_stage(r, &s->range);
    double hadamard_ns = r->last_ns;

    for (size_t v = 0; v < r->options.n_thresholds; v++) {
        double shared_ns = hadamard_ns + run_codes(r, s, v);
        for (size_t b = 0; b < r->options.n_budgets; b++) run_budget(r, s, v, b, shared_ns);
    }
}

void adm_replay_layer_step(adm_replay *r, const adm_segment *segment, size_t step_in_segment, size_t layer) {
    size_t step = segment->first_step + step_in_segment;
    const adm_trace_layer *l = r->layer[layer];
    const adm_shape *shape = &r->trace->shape;
    size_t step_bytes = shape->n_q_heads * shape->head_dim * adm_dtype_bytes(l->q_dtype);
    layer_step s = {.segment = segment, .step = step_in_segment, .layer = layer, .l = l,
                    .q = (const unsigned char *)l->q + step * step_bytes,
                    .token = (size_t)r->trace->positions[step],
                    .n_tokens = (size_t)r->trace->positions[step] + 1};
    s.range = (adm_range){.kind = ADM_RANGE_LAYER, .variant = "", .step = (int32_t)step, .layer = (int32_t)l->index,
                          .seq_len = (uint32_t)s.n_tokens};
    const adm_range layer_range = s.range;
    adm_probes_begin(r->probes, &layer_range);
    for (size_t h = 0; h < shape->n_q_heads; h++) {
        uint32_t kv_head = adm_kv_head(shape, (uint32_t)h);
        adm_reference_compute(r->reference[h], l->q_dtype, query_row(r, &s, h), l->k_dtype,
                              key_row(r, l, kv_head, 0), l->v_dtype, value_rows(r, &s, kv_head), s.n_tokens,
                              shape->head_dim, r->trace->softmax_scale);
    }
    run_dense(r, &s, adm_replay_arm(r, ADM_POLICY_DENSE, 0, 0));
    run_oracle(r, &s);
    if (r->options.policy[ADM_POLICY_ADAMAS]) run_adamas(r, &s);
    for (size_t h = 0; h < shape->n_kv_heads; h++) append_to_page(r, layer, h, s.token);
    for (adm_policy p = ADM_POLICY_QUEST; p < ADM_N_POLICIES; p++)
        if (r->options.policy[p]) run_policy(r, &s, p);
    if (r->options.policy[ADM_POLICY_H2O]) learn(r, &s);
    adm_probes_end(r->probes, &layer_range);
}
