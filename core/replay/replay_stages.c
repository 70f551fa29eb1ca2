/* replay_stages.c: the stage pass: steps of a session as a serving system would run them, one stage after the other in one
 * thread, each bracketed for the probes; and the bulk encoding between steps. After each step or chunk its stages are timed, in
 * replay_time.c. What comes out is not looked at: the quality pass selects the same tokens. */
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

static size_t bulk_rows(const adm_replay *r) { return ADM_BULK_BYTES / sizeof(float) / r->trace->shape.head_dim; }

/* --- Opening and closing -------------------------------------------------------------------------------------------- */

adm_status adm_stage_pass_open(adm_replay *r, adm_error *err) {
    adm_stage_pass *p = &r->stages;
    const adm_shape *shape = &r->trace->shape;
    if (r->options.n_timed_steps == 0) return ADM_OK;
    size_t n_tokens = r->trace->n_tokens, n_heads = shape->n_q_heads, d = shape->head_dim;
    size_t step_rows = n_heads + shape->n_kv_heads, rows = step_rows > bulk_rows(r) ? step_rows : bulk_rows(r);
    const struct {
        void *pointer;
        size_t count, size;
    } buffers[] = {
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
    void *const owned[] = {&p->cache,     &p->y,     &p->codes,      &p->packed, &p->distance,
                           &p->histogram, &p->index, &p->n_selected, &p->score,  &p->out};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
}

/* --- The stages' work ------------------------------------------------------------------------------------------------ */

static uint8_t *cache_row(const adm_replay *r, size_t layer, size_t kv_head, size_t token) {
    return r->stages.cache[layer] + (kv_head * r->trace->n_tokens + token) * (r->trace->shape.head_dim / 4);
}

static size_t step_rows(const adm_replay *r) { return r->trace->shape.n_q_heads + r->trace->shape.n_kv_heads; }

static size_t rows_of(const adm_replay *r, const adm_stage_task *t) { return t->n_rows > 0 ? t->n_rows : step_rows(r); }

static void run_hadamard(adm_replay *r, const adm_stage_task *t) {
    const adm_shape *shape = &r->trace->shape;
    const adm_host_impl *impl = r->options.pipeline->hadamard;
    const uint32_t d = shape->head_dim;
    if (t->n_rows > 0) {
        impl->fn.hadamard(t->l->k_dtype, adm_key_row(r, t->l, t->kv_head, t->token), t->n_rows, d, r->stages.y);
        return;
    }
    impl->fn.hadamard(t->l->q_dtype, t->q, shape->n_q_heads, d, r->stages.y);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        impl->fn.hadamard(t->l->k_dtype, adm_key_row(r, t->l, h, t->token), 1, d, r->stages.y + (shape->n_q_heads + h) * d);
}

static void run_bucket(adm_replay *r, const adm_stage_task *t) {
    r->options.pipeline->bucket->fn.bucket(r->stages.y, rows_of(r, t) * r->trace->shape.head_dim, r->book[t->layer]->layer,
                                           r->stages.codes);
}

static void run_pack(adm_replay *r, const adm_stage_task *t) {
    uint8_t *to = t->n_rows > 0 ? cache_row(r, t->layer, t->kv_head, t->token) : r->stages.packed;
    r->options.pipeline->pack->fn.pack(r->stages.codes, rows_of(r, t), r->trace->shape.head_dim, to);
}

static void run_append(adm_replay *r, const adm_stage_task *t) {
    const adm_shape *shape = &r->trace->shape;
    const size_t row_bytes = shape->head_dim / 4;
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        memcpy(cache_row(r, t->layer, h, t->token), r->stages.packed + (shape->n_q_heads + h) * row_bytes, row_bytes);
}

static void run_distance(adm_replay *r, const adm_stage_task *t) {
    const adm_shape *shape = &r->trace->shape;
    for (size_t h = 0; h < shape->n_q_heads; h++)
        r->options.pipeline->distance->fn.distance(r->stages.packed + h * (shape->head_dim / 4),
                                                   cache_row(r, t->layer, adm_kv_head(shape, (uint32_t)h), 0), t->n_tokens,
                                                   shape->head_dim, r->stages.distance + h * r->trace->n_tokens);
}

static void run_topk(adm_replay *r, const adm_stage_task *t) {
    adm_stage_pass *pass = &r->stages;
    const adm_select_rule rule = adm_coding_rule(&r->options.codings[0], t->budget);
    adm_select_info info;
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++)
        pass->n_selected[h] = r->options.pipeline->topk->fn.topk(pass->distance + h * r->trace->n_tokens, t->n_tokens,
                                                                 3 * r->trace->shape.head_dim, &rule, pass->histogram,
                                                                 pass->index + h * r->widest, &info);
}

static void attend(adm_replay *r, const adm_stage_task *t, const adm_host_impl *impl, size_t head, const uint32_t *index,
                   size_t n) {
    uint32_t d = r->trace->shape.head_dim, kv_head = adm_kv_head(&r->trace->shape, (uint32_t)head);
    impl->fn.attention(t->l->k_dtype, t->q + head * d * adm_dtype_bytes(t->l->q_dtype), adm_key_row(r, t->l, kv_head, 0),
                       adm_value_rows(r, t->l, kv_head), index, n, d, r->trace->softmax_scale, r->stages.score,
                       r->stages.out + head * d);
}

static void run_attention(adm_replay *r, const adm_stage_task *t) {
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++)
        attend(r, t, r->options.pipeline->attention, h, r->stages.index + h * r->widest, r->stages.n_selected[h]);
}

static void run_dense(adm_replay *r, const adm_stage_task *t) {
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++) attend(r, t, r->options.pipeline->dense, h, NULL, t->n_tokens);
}

/* The name of what runs, and about how many elements it goes through. */
static adm_stage_work work_of(const adm_replay *r, adm_stage stage, const adm_stage_task *t) {
    const adm_host_pipeline *p = r->options.pipeline;
    const size_t d = r->trace->shape.head_dim, rows = rows_of(r, t) * d, n_heads = r->trace->shape.n_q_heads;
    const size_t scanned = n_heads * t->n_tokens, attended = n_heads * (t->budget < t->n_tokens ? t->budget : t->n_tokens);
    switch (stage) {
    case ADM_STAGE_HADAMARD: return (adm_stage_work){p->hadamard->name, run_hadamard, rows};
    case ADM_STAGE_BUCKET: return (adm_stage_work){p->bucket->name, run_bucket, rows};
    case ADM_STAGE_PACK: return (adm_stage_work){p->pack->name, run_pack, rows};
    case ADM_STAGE_APPEND: return (adm_stage_work){"copy", run_append, rows};
    case ADM_STAGE_DISTANCE: return (adm_stage_work){p->distance->name, run_distance, scanned * d};
    case ADM_STAGE_TOPK: return (adm_stage_work){p->topk->name, run_topk, scanned * 16};
    case ADM_STAGE_ATTENTION: return (adm_stage_work){p->attention->name, run_attention, attended * d};
    default: return (adm_stage_work){p->dense->name, run_dense, scanned * d};
    }
}

/* --- One stage, bracketed for the probes or timed -------------------------------------------------------------------- */

/* Returns what the stage took, timed; else zeros. */
static adm_stage_time run_stage(adm_replay *r, adm_stage_task *t, adm_stage stage) {
    const adm_stage_work work = work_of(r, stage, t);
    adm_stage_times *times = adm_replay_times(r, stage, t->budget, t->n_rows > 0);
    if (r->is_timing) return adm_replay_time_stage(r, times, &work, t);
    t->range.kind = ADM_RANGE_STAGE;
    t->range.stage = stage;
    t->range.variant = work.variant;
    t->range.budget = t->budget;
    t->range.config_id = times != NULL ? times->config_id : 0;
    r->now = times;
    adm_probes_begin(r->probes, &t->range);
    work.run(r, t);
    adm_probes_end(r->probes, &t->range);
    r->now = NULL;
    return (adm_stage_time){0};
}

static void run_and_add(adm_replay *r, adm_stage_task *t, adm_stage stage, adm_stage_time *sum) {
    const adm_stage_time time = run_stage(r, t, stage);
    sum->ns += time.ns;
    if (time.loop_ns > sum->loop_ns) sum->loop_ns = time.loop_ns;
}

void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_replay *r = replay;
    if (r->events != NULL) adm_event_spool_append(r->events, range, start_ns, end_ns);
}

/* --- Encoding keys -------------------------------------------------------------------------------------------------- */

static void encode_chunk(adm_replay *r, adm_stage_task *t) {
    for (int timing = 0; timing < 1 + (r->options.n_counters == 0); timing++) {
        r->is_timing = timing;
        for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_PACK; stage++) run_stage(r, t, stage);
    }
    r->is_timing = false;
}

/* Tokens [n_encoded, n_tokens) of every layer. */
static void encode(adm_replay *r, size_t n_tokens, uint32_t seq_len) {
    adm_stage_pass *s = &r->stages;
    for (size_t layer = 0; adm_replay_times_codes(r) && layer < r->n_layers; layer++) {
        adm_stage_task t = {.layer = layer,
                            .l = r->layer[layer],
                            .range = {.step = -1, .layer = (int32_t)r->layer[layer]->index, .seq_len = seq_len}};
        for (t.kv_head = 0; t.kv_head < r->trace->shape.n_kv_heads; t.kv_head++)
            for (t.token = s->n_encoded; t.token < n_tokens; t.token += t.n_rows) {
                t.n_rows = n_tokens - t.token < bulk_rows(r) ? n_tokens - t.token : bulk_rows(r);
                encode_chunk(r, &t);
            }
    }
    if (n_tokens > s->n_encoded) s->n_encoded = n_tokens;
}

/* --- One step -------------------------------------------------------------------------------------------------------- */

/* The stages of a layer: those that do not depend on the budget, then top-k and attention at each. */
static void run_stages(adm_replay *r, adm_stage_task *t) {
    adm_stage_time shared = {0};
    run_stage(r, t, ADM_STAGE_DENSE);
    if (!adm_replay_times_codes(r)) return;
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_DISTANCE; stage++) run_and_add(r, t, stage, &shared);
    for (size_t b = 0; b < r->options.n_budgets; b++) {
        t->budget = r->options.budgets[b];
        adm_stage_time step = shared;
        run_and_add(r, t, ADM_STAGE_TOPK, &step);
        run_and_add(r, t, ADM_STAGE_ATTENTION, &step);
        if (r->is_timing) adm_replay_keep_time(r, adm_replay_times(r, ADM_STAGE_STEP, t->budget, false), step.ns, step.loop_ns);
    }
    t->budget = 0;
}

static void run_layer_step(adm_replay *r, size_t step, size_t layer) {
    const adm_trace_layer *l = r->layer[layer];
    adm_stage_task t = {.layer = layer,
                        .l = l,
                        .q = adm_query_rows(r, l, step),
                        .token = (size_t)r->trace->positions[step],
                        .n_tokens = (size_t)r->trace->positions[step] + 1};
    t.range = (adm_range){.kind = ADM_RANGE_LAYER,
                          .variant = "",
                          .step = (int32_t)step,
                          .layer = (int32_t)l->index,
                          .seq_len = (uint32_t)t.n_tokens};
    const adm_range layer_range = t.range;
    if (!r->is_timing) adm_probes_begin(r->probes, &layer_range);
    run_stages(r, &t);
    if (!r->is_timing) adm_probes_end(r->probes, &layer_range);
}

/* Once for the probes, as it would be served; then, unless a counting probe is at work, once more for the times. */
static void run_step(adm_replay *r, size_t step) {
    const adm_range range = {.kind = ADM_RANGE_STEP,
                             .variant = "",
                             .step = (int32_t)step,
                             .layer = -1,
                             .seq_len = (uint32_t)r->trace->positions[step] + 1};
    adm_probes_begin(r->probes, &range);
    for (size_t layer = 0; layer < r->n_layers; layer++) run_layer_step(r, step, layer);
    adm_probes_end(r->probes, &range);
    r->is_timing = r->options.n_counters == 0;
    for (size_t layer = 0; r->is_timing && layer < r->n_layers; layer++) run_layer_step(r, step, layer);
    r->is_timing = false;
}

adm_status adm_stage_pass_run(adm_replay *r, const adm_segment *segment, adm_error *err) {
    size_t n_steps = segment->n_steps < r->options.n_timed_steps ? segment->n_steps : r->options.n_timed_steps;
    if (n_steps > 0 && r->options.n_counters == 0) adm_replay_time_begin(r);
    for (size_t i = 0; i < n_steps; i++) {
        if (r->options.should_stop != NULL && r->options.should_stop()) return adm_replay_interrupted(r, segment, err);
        size_t step = segment->first_step + i, position = (size_t)r->trace->positions[step];
        encode(r, position, segment->seq_len);
        run_step(r, step);
        adm_status status = r->events != NULL ? adm_event_spool_settle(r->events, err) : ADM_OK;
        if (status != ADM_OK) return status;
        if (r->stages.n_encoded < position + 1) r->stages.n_encoded = position + 1; /* the step appended its own token */
        r->n_done += r->n_layers;
        if (r->options.on_progress != NULL) r->options.on_progress(r->options.user, r->n_done, r->n_total);
    }
    return ADM_OK;
}
