/* stage_pass.c: the stages of a step, one after the other in one thread. */
#include "core/replay/stage_pass.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"

/* Rows are encoded in chunks of so many bytes of float32, which with their keys and codes fit a core's own cache (1 or 2
 * MiB). */
enum { BULK_BYTES = 256 << 10 };

/* Of bulk encoding so many times are taken a chunk, and no more than so many a length: the chunks after those are not timed. */
enum { CHUNK_TIMES = 4, MAX_BULK_TIMES = 256 };

/* What a stage works on: a layer step, or a chunk of the keys of one KV head. */
typedef struct stage_task {
    size_t layer; /* index into the session's layers */
    const adm_trace_layer *l;
    const unsigned char *q; /* [n_q_heads, d] of the step */
    size_t token; /* position of the new token, or of the chunk's first */
    size_t n_tokens; /* attended over: token + 1 */
    uint32_t budget; /* 0: the stage does not depend on it */
    size_t kv_head, n_rows; /* of the chunk; no rows: a layer step */
    adm_range range;
} stage_task;

typedef struct stage_work {
    const char *variant;
    void (*run)(adm_stage_pass *pass, const stage_task *task); /* as often as one likes, with the same result */
    size_t n_elements;
} stage_work;

static size_t bulk_rows(const adm_stage_pass *p) { return BULK_BYTES / sizeof(float) / p->session->trace->shape.head_dim; }

/* --- Opening and closing -------------------------------------------------------------------------------------------- */

static adm_status open_scratch(adm_stage_pass *p, adm_error *err) {
    const adm_session *session = p->session;
    const adm_shape *shape = &session->trace->shape;
    const size_t n_tokens = session->trace->n_tokens, n_heads = shape->n_q_heads, d = shape->head_dim;
    const size_t step_rows = n_heads + shape->n_kv_heads, rows = step_rows > bulk_rows(p) ? step_rows : bulk_rows(p);
    const struct {
        void *pointer;
        size_t count, size;
    } buffers[] = {
        {&p->cache, session->n_layers, sizeof *p->cache},
        {&p->y, rows * d, sizeof *p->y},
        {&p->codes, rows * d, sizeof *p->codes},
        {&p->packed, step_rows * d / 4, sizeof *p->packed},
        {&p->distance, n_heads * n_tokens, sizeof *p->distance},
        {&p->histogram, 3 * d + 1, sizeof *p->histogram},
        {&p->index, n_heads * session->budgets.widest, sizeof *p->index},
        {&p->n_selected, n_heads, sizeof *p->n_selected},
        {&p->score, n_tokens, sizeof *p->score},
        {&p->out, n_heads * d, sizeof *p->out},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof buffers / sizeof buffers[0]; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "scratch of the stages", err);
    for (size_t i = 0; status == ADM_OK && session->contract != NULL && i < session->n_layers; i++)
        status = adm_alloc(&p->cache[i], shape->n_kv_heads * n_tokens, d / 4, "packed codes of a layer", err);
    return status;
}

adm_status adm_stage_pass_open(const adm_session *session, const float *const *thresholds, adm_stage_record *record,
                               adm_event_spool *events, adm_advance *advance, adm_stage_pass *p, adm_error *err) {
    *p = (adm_stage_pass){.session = session, .thresholds = thresholds, .record = record, .events = events, .advance = advance};
    return session->options.n_timed_steps > 0 ? open_scratch(p, err) : ADM_OK;
}

void adm_stage_pass_close(adm_stage_pass *p) {
    for (size_t i = 0; p->cache != NULL && i < p->session->n_layers; i++) adm_free(&p->cache[i]);
    void *const owned[] = {&p->cache,     &p->y,     &p->codes,      &p->packed, &p->distance,
                           &p->histogram, &p->index, &p->n_selected, &p->score,  &p->out};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
}

/* --- The stages' work ------------------------------------------------------------------------------------------------ */

static uint8_t *cache_row(const adm_stage_pass *p, size_t layer, size_t kv_head, size_t token) {
    return p->cache[layer] + (kv_head * p->session->trace->n_tokens + token) * (p->session->trace->shape.head_dim / 4);
}

static size_t step_rows(const adm_stage_pass *p) {
    return p->session->trace->shape.n_q_heads + p->session->trace->shape.n_kv_heads;
}

static size_t rows_of(const adm_stage_pass *p, const stage_task *t) { return t->n_rows > 0 ? t->n_rows : step_rows(p); }

static void run_hadamard(adm_stage_pass *p, const stage_task *t) {
    const adm_shape *shape = &p->session->trace->shape;
    const adm_host_impl *impl = p->session->options.pipeline->hadamard;
    const uint32_t d = shape->head_dim;
    if (t->n_rows > 0) {
        impl->fn.hadamard(t->l->k_dtype, adm_session_keys(p->session, t->l, t->kv_head, t->token), t->n_rows, d, p->y);
        return;
    }
    impl->fn.hadamard(t->l->q_dtype, t->q, shape->n_q_heads, d, p->y);
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        impl->fn.hadamard(t->l->k_dtype, adm_session_keys(p->session, t->l, h, t->token), 1, d,
                          p->y + (shape->n_q_heads + h) * d);
}

static void run_bucket(adm_stage_pass *p, const stage_task *t) {
    p->session->options.pipeline->bucket->fn.bucket(p->y, rows_of(p, t) * p->session->trace->shape.head_dim,
                                                    p->thresholds[t->layer], p->codes);
}

static void run_pack(adm_stage_pass *p, const stage_task *t) {
    uint8_t *to = t->n_rows > 0 ? cache_row(p, t->layer, t->kv_head, t->token) : p->packed;
    p->session->options.pipeline->pack->fn.pack(p->codes, rows_of(p, t), p->session->trace->shape.head_dim, to);
}

static void run_append(adm_stage_pass *p, const stage_task *t) {
    const adm_shape *shape = &p->session->trace->shape;
    const size_t row_bytes = shape->head_dim / 4;
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        memcpy(cache_row(p, t->layer, h, t->token), p->packed + (shape->n_q_heads + h) * row_bytes, row_bytes);
}

static void run_distance(adm_stage_pass *p, const stage_task *t) {
    const adm_shape *shape = &p->session->trace->shape;
    for (size_t h = 0; h < shape->n_q_heads; h++)
        p->session->options.pipeline->distance->fn.distance(
            p->packed + h * (shape->head_dim / 4), cache_row(p, t->layer, adm_kv_head(shape, (uint32_t)h), 0), t->n_tokens,
            shape->head_dim, p->distance + h * p->session->trace->n_tokens);
}

static void run_topk(adm_stage_pass *p, const stage_task *t) {
    const adm_select_rule rule = adm_coding_rule(p->session->contract, t->budget);
    adm_select_info info;
    for (size_t h = 0; h < p->session->trace->shape.n_q_heads; h++)
        p->n_selected[h] = p->session->options.pipeline->topk->fn.topk(
            p->distance + h * p->session->trace->n_tokens, t->n_tokens, 3 * p->session->trace->shape.head_dim, &rule,
            p->histogram, p->index + h * p->session->budgets.widest, &info);
}

static void attend(adm_stage_pass *p, const stage_task *t, const adm_host_impl *impl, size_t head, const uint32_t *index,
                   size_t n) {
    uint32_t d = p->session->trace->shape.head_dim, kv_head = adm_kv_head(&p->session->trace->shape, (uint32_t)head);
    impl->fn.attention(t->l->k_dtype, t->q + head * d * adm_dtype_bytes(t->l->q_dtype),
                       adm_session_keys(p->session, t->l, kv_head, 0), adm_session_values(p->session, t->l, kv_head), index, n,
                       d, p->session->trace->softmax_scale, p->score, p->out + head * d);
}

static void run_attention(adm_stage_pass *p, const stage_task *t) {
    for (size_t h = 0; h < p->session->trace->shape.n_q_heads; h++)
        attend(p, t, p->session->options.pipeline->attention, h, p->index + h * p->session->budgets.widest, p->n_selected[h]);
}

static void run_dense(adm_stage_pass *p, const stage_task *t) {
    for (size_t h = 0; h < p->session->trace->shape.n_q_heads; h++)
        attend(p, t, p->session->options.pipeline->dense, h, NULL, t->n_tokens);
}

/* The name of what runs, and about how many elements it goes through. */
static stage_work work_of(const adm_stage_pass *p, adm_stage stage, const stage_task *t) {
    const adm_host_pipeline *pipe = p->session->options.pipeline;
    const size_t d = p->session->trace->shape.head_dim, rows = rows_of(p, t) * d, n_heads = p->session->trace->shape.n_q_heads;
    const size_t scanned = n_heads * t->n_tokens, attended = n_heads * (t->budget < t->n_tokens ? t->budget : t->n_tokens);
    switch (stage) {
    case ADM_STAGE_HADAMARD: return (stage_work){pipe->hadamard->name, run_hadamard, rows};
    case ADM_STAGE_BUCKET: return (stage_work){pipe->bucket->name, run_bucket, rows};
    case ADM_STAGE_PACK: return (stage_work){pipe->pack->name, run_pack, rows};
    case ADM_STAGE_APPEND: return (stage_work){"copy", run_append, rows};
    case ADM_STAGE_DISTANCE: return (stage_work){pipe->distance->name, run_distance, scanned * d};
    case ADM_STAGE_TOPK: return (stage_work){pipe->topk->name, run_topk, scanned * 16};
    case ADM_STAGE_ATTENTION: return (stage_work){pipe->attention->name, run_attention, attended * d};
    default: return (stage_work){pipe->dense->name, run_dense, scanned * d};
    }
}

/* --- One stage, bracketed for the probes or timed -------------------------------------------------------------------- */

/* A stage as the timer runs it. */
typedef struct bound_work {
    adm_stage_pass *pass;
    const stage_task *task;
    void (*run)(adm_stage_pass *pass, const stage_task *task);
} bound_work;

static void run_bound(void *user) {
    const bound_work *bound = user;
    bound->run(bound->pass, bound->task);
}

/* Times the work and keeps what it took; returns that, of a layer step. */
static adm_stage_time time_stage(adm_stage_pass *p, adm_stage_times *times, const stage_work *work, const stage_task *t) {
    const bool bulk = t->n_rows > 0;
    bound_work bound = {p, t, work->run};
    adm_stage_time time = {0};
    for (int i = 0; i < (bulk ? CHUNK_TIMES : 1) && !(bulk && times->n >= MAX_BULK_TIMES); i++) {
        time = adm_stage_timer_take(&p->timer, run_bound, &bound, work->n_elements);
        adm_stage_record_keep(p->record, times, bulk ? time.ns / (double)t->n_rows : time.ns, time.loop_ns);
    }
    return time;
}

/* Returns what the stage took, timed; else zeros. */
static adm_stage_time run_stage(adm_stage_pass *p, stage_task *t, adm_stage stage) {
    const stage_work work = work_of(p, stage, t);
    adm_stage_times *times = adm_stage_record_find(p->record, stage, t->budget, t->n_rows > 0);
    if (p->is_timing && times != NULL) return time_stage(p, times, &work, t);
    if (p->is_timing) {
        if (t->n_rows == 0) work.run(p, t); /* for the stages after it; a chunk is encoded already */
        return (adm_stage_time){0};
    }
    t->range.kind = ADM_RANGE_STAGE;
    t->range.stage = stage;
    t->range.variant = work.variant;
    t->range.budget = t->budget;
    t->range.config_id = times != NULL ? times->config_id : 0;
    p->record->now = times;
    adm_probes_begin(p->probes, &t->range);
    work.run(p, t);
    adm_probes_end(p->probes, &t->range);
    p->record->now = NULL;
    return (adm_stage_time){0};
}

static void run_and_add(adm_stage_pass *p, stage_task *t, adm_stage stage, adm_stage_time *sum) {
    const adm_stage_time time = run_stage(p, t, stage);
    sum->ns += time.ns;
    if (time.loop_ns > sum->loop_ns) sum->loop_ns = time.loop_ns;
}

/* --- Encoding keys -------------------------------------------------------------------------------------------------- */

static void encode_chunk(adm_stage_pass *p, stage_task *t, bool timed) {
    for (int timing = 0; timing < 1 + timed; timing++) {
        p->is_timing = timing;
        for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_PACK; stage++) run_stage(p, t, stage);
    }
    p->is_timing = false;
}

/* Tokens [n_encoded, n_tokens) of every layer. */
static void encode(adm_stage_pass *p, size_t n_tokens, bool timed) {
    for (size_t layer = 0; p->session->contract != NULL && layer < p->session->n_layers; layer++) {
        stage_task t = {.layer = layer,
                        .l = p->session->layer[layer],
                        .range = {.step = -1, .layer = (int32_t)p->session->layer[layer]->index, .seq_len = p->seq_len}};
        for (t.kv_head = 0; t.kv_head < p->session->trace->shape.n_kv_heads; t.kv_head++)
            for (t.token = p->n_encoded; t.token < n_tokens; t.token += t.n_rows) {
                t.n_rows = n_tokens - t.token < bulk_rows(p) ? n_tokens - t.token : bulk_rows(p);
                encode_chunk(p, &t, timed);
            }
    }
    if (n_tokens > p->n_encoded) p->n_encoded = n_tokens;
}

/* --- One step -------------------------------------------------------------------------------------------------------- */

static bool wants(const adm_stage_pass *p, adm_stage stage, uint32_t budget) {
    const adm_replay_options *o = &p->session->options;
    return adm_only_wants(o->only, o->n_only, stage, false, p->seq_len, budget);
}

/* Top-k and attention, as far as they are wanted. */
static void run_at_budget(adm_stage_pass *p, stage_task *t, adm_stage_time step) {
    const bool attends = wants(p, ADM_STAGE_ATTENTION, t->budget);
    if (attends || wants(p, ADM_STAGE_TOPK, t->budget)) run_and_add(p, t, ADM_STAGE_TOPK, &step);
    if (attends) run_and_add(p, t, ADM_STAGE_ATTENTION, &step);
    adm_stage_times *times = p->is_timing ? adm_stage_record_find(p->record, ADM_STAGE_STEP, t->budget, false) : NULL;
    if (times != NULL) adm_stage_record_keep(p->record, times, step.ns, step.loop_ns);
}

/* The stages of a layer: those that do not depend on the budget, then top-k and attention at each. */
static void run_stages(adm_stage_pass *p, stage_task *t) {
    adm_stage_time shared = {0};
    if (wants(p, ADM_STAGE_DENSE, 0)) run_stage(p, t, ADM_STAGE_DENSE);
    if (p->session->contract == NULL) return;
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_DISTANCE; stage++) run_and_add(p, t, stage, &shared);
    for (size_t b = 0; b < p->session->options.n_budgets; b++) {
        t->budget = p->session->options.budgets[b];
        run_at_budget(p, t, shared);
    }
    t->budget = 0;
}

static void run_layer_step(adm_stage_pass *p, size_t step, size_t layer) {
    const adm_trace_layer *l = p->session->layer[layer];
    stage_task t = {.layer = layer,
                    .l = l,
                    .q = adm_session_queries(p->session, l, step),
                    .token = (size_t)p->session->trace->positions[step],
                    .n_tokens = (size_t)p->session->trace->positions[step] + 1};
    t.range = (adm_range){.kind = ADM_RANGE_LAYER,
                          .variant = "",
                          .step = (int32_t)step,
                          .layer = (int32_t)l->index,
                          .seq_len = (uint32_t)t.n_tokens};
    const adm_range layer_range = t.range;
    if (!p->is_timing) adm_probes_begin(p->probes, &layer_range);
    run_stages(p, &t);
    if (!p->is_timing) adm_probes_end(p->probes, &layer_range);
}

static void time_step(adm_stage_pass *p, size_t step) {
    p->is_timing = true;
    for (size_t layer = 0; layer < p->session->n_layers; layer++) run_layer_step(p, step, layer);
    p->is_timing = false;
}

/* Once for the probes, as it would be served; then, unless a counting probe is at work, once more for the times. A few times
 * alone need no probes. */
static void run_step(adm_stage_pass *p, size_t step) {
    const adm_range range = {.kind = ADM_RANGE_STEP,
                             .variant = "",
                             .step = (int32_t)step,
                             .layer = -1,
                             .seq_len = (uint32_t)p->session->trace->positions[step] + 1};
    if (p->session->options.n_only > 0) {
        time_step(p, step);
        return;
    }
    adm_probes_begin(p->probes, &range);
    for (size_t layer = 0; layer < p->session->n_layers; layer++) run_layer_step(p, step, layer);
    adm_probes_end(p->probes, &range);
    if (p->session->options.n_counters == 0) time_step(p, step);
}

/* Whether a stage of a step is timed in this segment, and not only the encoding before it. */
static bool times_steps(const adm_stage_pass *p) {
    for (size_t i = 0; i < p->record->n_times; i++)
        if (!p->record->times[i].bulk) return true;
    return p->session->options.n_only == 0;
}

adm_status adm_stage_pass_run(adm_stage_pass *p, adm_probes *probes, const adm_segment *segment, adm_error *err) {
    const adm_session *session = p->session;
    const size_t n_steps = adm_min(segment->n_steps, session->options.n_timed_steps);
    p->probes = probes;
    p->seq_len = segment->seq_len;
    const bool has_steps = times_steps(p);
    if (n_steps > 0 && session->options.n_counters == 0) adm_stage_timer_begin(&p->timer);
    for (size_t i = 0; i < n_steps; i++) {
        if (adm_session_should_stop(session)) return adm_session_interrupted(session, segment, err);
        const size_t step = segment->first_step + i, position = (size_t)session->trace->positions[step];
        encode(p, position, session->options.n_counters == 0);
        if (has_steps) run_step(p, step);
        else encode(p, position + 1, false);
        adm_status status = p->events != NULL ? adm_event_spool_settle(p->events, err) : ADM_OK;
        if (status != ADM_OK) return status;
        if (p->n_encoded < position + 1) p->n_encoded = position + 1; /* the step appended its own token */
        adm_session_advance(session, p->advance, session->n_layers);
    }
    return ADM_OK;
}
