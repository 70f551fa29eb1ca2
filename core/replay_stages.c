/* replay_stages.c: the stage pass: steps of a session as a serving system would run them, one stage after the other in one
 * thread, each bracketed for the probes; and the bulk encoding between steps. What comes out is not looked at: the quality
 * pass selects the same tokens. */
#include <string.h>

#include "core/mem.h"
#include "core/replay_internal.h"

/* --- Opening and closing -------------------------------------------------------------------------------------------- */

adm_status adm_stage_pass_open(adm_replay *r, adm_error *err) {
    adm_stage_pass *p = &r->stages;
    const adm_shape *shape = &r->trace->shape;
    if (r->options.n_timed_steps == 0) return ADM_OK;
    size_t n_tokens = r->trace->n_tokens, n_heads = shape->n_q_heads, d = shape->head_dim;
    size_t step_rows = n_heads + shape->n_kv_heads, rows = step_rows > ADM_BULK_ROWS ? step_rows : ADM_BULK_ROWS;
    const struct { void *pointer; size_t count, size; } buffers[] = {
        {&p->cache, r->n_layers, sizeof *p->cache},
        {&p->y, rows * d, sizeof *p->y},
        {&p->codes, rows * d, sizeof *p->codes},
        {&p->packed, step_rows * d / 4, sizeof *p->packed},
        {&p->distance, n_heads * n_tokens, sizeof *p->distance},
        {&p->histogram, 3 * d + 1, sizeof *p->histogram},
        {&p->index, n_heads * r->widest, sizeof *p->index},
        {&p->n_selected, n_heads, sizeof *p->n_selected},
        {&p->score, n_tokens, sizeof *p->score},
        {&p->out, n_heads * d, sizeof *p->out},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof buffers / sizeof buffers[0]; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "scratch of the stages", err);
    for (size_t i = 0; status == ADM_OK && adm_replay_times_codes(r) && i < r->n_layers; i++)
        status = adm_alloc(&p->cache[i], shape->n_kv_heads * n_tokens, d / 4, "packed codes of a layer", err);
    return status;
}

void adm_stage_pass_close(adm_replay *r) {
    adm_stage_pass *p = &r->stages;
    for (size_t i = 0; p->cache != NULL && i < r->n_layers; i++) adm_free(&p->cache[i]);
    void *const owned[] = {&p->cache, &p->y, &p->codes, &p->packed, &p->distance, &p->histogram, &p->index,
                           &p->n_selected, &p->score, &p->out};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
}

/* --- Bracketing a stage --------------------------------------------------------------------------------------------- */

static void begin_stage(adm_replay *r, adm_range *range, adm_stage stage, const char *variant, uint32_t budget,
                        bool bulk) {
    adm_stage_times *times = adm_replay_times(r, stage, budget, bulk);
    range->kind = ADM_RANGE_STAGE;
    range->stage = stage;
    range->variant = variant;
    range->budget = budget;
    range->config_id = times != NULL ? times->config_id : 0;
    r->now = times;
    r->last_ns = 0;
    adm_probes_begin(r->probes, range);
}

/* Returns what the stage took, if anything timed it. */
static double end_stage(adm_replay *r, const adm_range *range) {
    adm_probes_end(r->probes, range);
    r->now = NULL;
    return r->last_ns;
}

void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_replay *r = replay;
    if (range->kind == ADM_RANGE_STAGE && r->now != NULL) {
        r->last_ns = (double)(end_ns - start_ns) / r->now_divisor;
        adm_replay_keep_time(r, r->now, r->last_ns);
    }
    if (r->events != NULL) adm_event_spool_append(r->events, range, start_ns, end_ns);
}

/* --- Encoding keys -------------------------------------------------------------------------------------------------- */

static uint8_t *cache_row(const adm_replay *r, size_t layer, size_t kv_head, size_t token) {
    return r->stages.cache[layer] + (kv_head * r->trace->n_tokens + token) * (r->trace->shape.head_dim / 4);
}

static void encode_chunk(adm_replay *r, adm_range *range, size_t layer, size_t kv_head, size_t token, size_t n_rows) {
    const adm_host_pipeline *p = r->options.pipeline;
    const adm_trace_layer *l = r->layer[layer];
    adm_stage_pass *s = &r->stages;
    uint32_t d = r->trace->shape.head_dim;
    r->now_divisor = (double)n_rows;
    begin_stage(r, range, ADM_STAGE_HADAMARD, p->hadamard->name, 0, true);
    p->hadamard->fn.hadamard(l->k_dtype, adm_key_row(r, l, kv_head, token), n_rows, d, s->y);
    end_stage(r, range);
    begin_stage(r, range, ADM_STAGE_BUCKET, p->bucket->name, 0, true);
    p->bucket->fn.bucket(s->y, n_rows * d, r->book[layer]->layer, s->codes);
    end_stage(r, range);
    begin_stage(r, range, ADM_STAGE_PACK, p->pack->name, 0, true);
    p->pack->fn.pack(s->codes, n_rows, d, cache_row(r, layer, kv_head, token));
    end_stage(r, range);
    r->now_divisor = 1;
}

/* Tokens [n_encoded, n_tokens) of every layer. */
static void encode(adm_replay *r, size_t n_tokens, uint32_t seq_len) {
    adm_stage_pass *s = &r->stages;
    for (size_t layer = 0; adm_replay_times_codes(r) && layer < r->n_layers; layer++) {
        adm_range range = {.step = -1, .layer = (int32_t)r->layer[layer]->index, .seq_len = seq_len};
        for (size_t h = 0; h < r->trace->shape.n_kv_heads; h++)
            for (size_t t = s->n_encoded; t < n_tokens; t += ADM_BULK_ROWS)
                encode_chunk(r, &range, layer, h, t, n_tokens - t < ADM_BULK_ROWS ? n_tokens - t : ADM_BULK_ROWS);
    }
    if (n_tokens > s->n_encoded) s->n_encoded = n_tokens;
}

/* --- One layer of one step ------------------------------------------------------------------------------------------ */

/* What the functions below share about the layer step at hand. */
typedef struct layer_step {
    size_t layer;             /* index into r->layer */
    const adm_trace_layer *l;
    const unsigned char *q;   /* [n_q_heads, d] of this step */
    size_t token;             /* position of the new token */
    size_t n_tokens;          /* attended over: token + 1 */
    adm_range range;
} layer_step;

static void attend(adm_replay *r, const layer_step *s, const adm_host_impl *impl, size_t head, const uint32_t *index,
                   size_t n) {
    uint32_t d = r->trace->shape.head_dim, kv_head = adm_kv_head(&r->trace->shape, (uint32_t)head);
    impl->fn.attention(s->l->k_dtype, s->q + head * d * adm_dtype_bytes(s->l->q_dtype), adm_key_row(r, s->l, kv_head, 0),
                       adm_value_rows(r, s->l, kv_head), index, n, d, r->trace->softmax_scale, r->stages.score,
                       r->stages.out + head * d);
}

static void run_dense(adm_replay *r, layer_step *s) {
    const adm_host_impl *impl = r->options.pipeline->dense;
    begin_stage(r, &s->range, ADM_STAGE_DENSE, impl->name, 0, false);
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++) attend(r, s, impl, h, NULL, s->n_tokens);
    end_stage(r, &s->range);
}

/* The stages that do not depend on the budget. Returns what they took, timed. */
static double run_codes(adm_replay *r, layer_step *s) {
    const adm_host_pipeline *p = r->options.pipeline;
    const adm_shape *shape = &r->trace->shape;
    adm_stage_pass *pass = &r->stages;
    uint32_t d = shape->head_dim;
    size_t row_bytes = d / 4, n_rows = shape->n_q_heads + shape->n_kv_heads;

    begin_stage(r, &s->range, ADM_STAGE_HADAMARD, p->hadamard->name, 0, false);
    p->hadamard->fn.hadamard(s->l->q_dtype, s->q, shape->n_q_heads, d, pass->y);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        p->hadamard->fn.hadamard(s->l->k_dtype, adm_key_row(r, s->l, h, s->token), 1, d,
                                 pass->y + (shape->n_q_heads + h) * d);
    double total_ns = end_stage(r, &s->range);

    begin_stage(r, &s->range, ADM_STAGE_BUCKET, p->bucket->name, 0, false);
    p->bucket->fn.bucket(pass->y, n_rows * d, r->book[s->layer]->layer, pass->codes);
    total_ns += end_stage(r, &s->range);

    begin_stage(r, &s->range, ADM_STAGE_PACK, p->pack->name, 0, false);
    p->pack->fn.pack(pass->codes, n_rows, d, pass->packed);
    total_ns += end_stage(r, &s->range);

    begin_stage(r, &s->range, ADM_STAGE_APPEND, "copy", 0, false);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        memcpy(cache_row(r, s->layer, h, s->token), pass->packed + (shape->n_q_heads + h) * row_bytes, row_bytes);
    total_ns += end_stage(r, &s->range);

    begin_stage(r, &s->range, ADM_STAGE_DISTANCE, p->distance->name, 0, false);
    for (size_t h = 0; h < shape->n_q_heads; h++)
        p->distance->fn.distance(pass->packed + h * row_bytes,
                                 cache_row(r, s->layer, adm_kv_head(shape, (uint32_t)h), 0), s->n_tokens, d,
                                 pass->distance + h * r->trace->n_tokens);
    return total_ns + end_stage(r, &s->range);
}

/* top-k and attention at one budget. shared_ns: what the stages before took. */
static void run_budget(adm_replay *r, layer_step *s, uint32_t budget, double shared_ns) {
    const adm_host_pipeline *p = r->options.pipeline;
    adm_stage_pass *pass = &r->stages;
    size_t n_heads = r->trace->shape.n_q_heads;
    const adm_select_rule rule = adm_coding_rule(&r->options.codings[0], budget);
    adm_select_info info;

    begin_stage(r, &s->range, ADM_STAGE_TOPK, p->topk->name, budget, false);
    for (size_t h = 0; h < n_heads; h++)
        pass->n_selected[h] = p->topk->fn.topk(pass->distance + h * r->trace->n_tokens, s->n_tokens,
                                               3 * r->trace->shape.head_dim, &rule, pass->histogram,
                                               pass->index + h * r->widest, &info);
    shared_ns += end_stage(r, &s->range);

    begin_stage(r, &s->range, ADM_STAGE_ATTENTION, p->attention->name, budget, false);
    for (size_t h = 0; h < n_heads; h++)
        attend(r, s, p->attention, h, pass->index + h * r->widest, pass->n_selected[h]);
    double attention_ns = end_stage(r, &s->range);
    if (attention_ns > 0)
        adm_replay_keep_time(r, adm_replay_times(r, ADM_STAGE_STEP, budget, false), shared_ns + attention_ns);
}

static void run_layer_step(adm_replay *r, size_t step, size_t layer) {
    const adm_trace_layer *l = r->layer[layer];
    layer_step s = {.layer = layer, .l = l, .q = adm_query_rows(r, l, step),
                    .token = (size_t)r->trace->positions[step], .n_tokens = (size_t)r->trace->positions[step] + 1};
    s.range = (adm_range){.kind = ADM_RANGE_LAYER, .variant = "", .step = (int32_t)step, .layer = (int32_t)l->index,
                          .seq_len = (uint32_t)s.n_tokens};
    const adm_range layer_range = s.range;
    adm_probes_begin(r->probes, &layer_range);
    run_dense(r, &s);
    if (adm_replay_times_codes(r)) {
        double shared_ns = run_codes(r, &s);
        for (size_t b = 0; b < r->options.n_budgets; b++) run_budget(r, &s, r->options.budgets[b], shared_ns);
    }
    adm_probes_end(r->probes, &layer_range);
}

adm_status adm_stage_pass_run(adm_replay *r, const adm_segment *segment, adm_error *err) {
    size_t n_steps = segment->n_steps < r->options.n_timed_steps ? segment->n_steps : r->options.n_timed_steps;
    for (size_t i = 0; i < n_steps; i++) {
        if (r->options.should_stop != NULL && r->options.should_stop()) return adm_replay_interrupted(r, segment, err);
        size_t step = segment->first_step + i, position = (size_t)r->trace->positions[step];
        encode(r, position, segment->seq_len);
        const adm_range range = {.kind = ADM_RANGE_STEP, .variant = "", .step = (int32_t)step, .layer = -1,
                                 .seq_len = (uint32_t)position + 1};
        adm_probes_begin(r->probes, &range);
        for (size_t layer = 0; layer < r->n_layers; layer++) run_layer_step(r, step, layer);
        adm_probes_end(r->probes, &range);
        adm_status status = r->events != NULL ? adm_event_spool_settle(r->events, err) : ADM_OK;
        if (status != ADM_OK) return status;
        if (r->stages.n_encoded < position + 1) r->stages.n_encoded = position + 1; /* the step appended its own token */
        r->n_done += r->n_layers;
        if (r->options.on_progress != NULL) r->options.on_progress(r->options.user, r->n_done, r->n_total);
    }
    return ADM_OK;
}
