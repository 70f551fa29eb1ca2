/* quality_pass.c: the tasks of the quality pass. */
#include "core/replay/quality_pass.h"

#include "core/base/mem.h"
#include "core/base/minmax.h"

/* --- Opening and closing ---------------------------------------------------------------------------------------------- */

/* Scratch of all threads together: beyond half of this batches are smaller, beyond all of it fewer threads run. */
/* Of all threads; of a trace that is long enough to fill memory by itself, half of it. */
static size_t max_scratch_bytes(const adm_session *session) {
    return session->trace->n_tokens > 1 << 19 ? (size_t)1 << 29 : (size_t)1 << 30;
}

size_t adm_quality_pass_held_heads(const adm_session *session) {
    const adm_trace *trace = session->trace;
    const size_t given = session->options.max_held_bytes, max_bytes = given > 0 ? given : (size_t)64 << 20;
    const size_t of_one = (size_t)trace->n_tokens * trace->shape.head_dim / 4; /* bytes of codes */
    const size_t n = of_one > 0 ? max_bytes / of_one : trace->shape.n_kv_heads;
    return n < 1 ? 1 : adm_min(n, trace->shape.n_kv_heads);
}

static void take_scratch(const adm_quality_pass *p, adm_layout *layout, adm_quality_worker *w) {
    const size_t n_queries = p->max_batch * p->session->group, d = p->session->trace->shape.head_dim;
    w->score = adm_layout_take(layout, n_queries * p->score_stride, sizeof *w->score);
    w->reference = adm_layout_take(layout, n_queries, sizeof *w->reference);
    w->n_seen = adm_layout_take(layout, n_queries, sizeof *w->n_seen);
    w->q = adm_layout_take(layout, n_queries * d, sizeof *w->q);
    w->y = adm_layout_take(layout, n_queries * d, sizeof *w->y);
    adm_step_scratch_take(p->session, p->set, layout, &w->step);
}

static size_t scratch_bytes(const adm_quality_pass *p) {
    adm_quality_worker nobody;
    adm_layout layout = {0};
    take_scratch(p, &layout, &nobody);
    return layout.bytes;
}

/* A batch takes as many steps as make BATCH_QUERIES queries of a KV head, whose keys and values are read and widened once for
 * all of them; at the end of a block fewer, but not below a vector of queries. Measured at 128K tokens with 4 query heads a
 * KV head, all of a replay, on an EPYC 9004: 16, 32, 48 and 64 queries take 1.50, 1.41, 1.55 and 1.51 s of processor time. */
enum { BATCH_QUERIES = 32, MIN_QUERIES = 8 };

/* Steps of a task, and the threads: fewer steps rather than fewer threads. No value depends on either. */
void adm_quality_pass_plan(const adm_session *session, adm_policy_set *set, adm_quality_record *record, adm_advance *advance,
                           adm_quality_pass *p, size_t *n_threads) {
    *p = (adm_quality_pass){.session = session, .set = set, .record = record, .advance = advance};
    p->n_held_heads = adm_quality_pass_held_heads(session);
    const size_t group = session->group, n_asked = session->options.n_threads;
    p->score_stride = (session->trace->n_tokens / 8 | 1) * 8 +
                      16; /* an odd number of cache lines, see adm_reference_compute() */
    p->max_batch = group < BATCH_QUERIES ? BATCH_QUERIES / group : 1;
    while (p->max_batch > 1 && scratch_bytes(p) * n_asked > max_scratch_bytes(session) / 2) p->max_batch /= 2;
    const size_t fit = max_scratch_bytes(session) / scratch_bytes(p); /* threads */
    *n_threads = fit < 1 ? 1 : adm_min(fit, n_asked);
}

adm_status adm_quality_pass_start(adm_quality_pass *p, adm_pool *pool, adm_error *err) {
    p->pool = pool;
    return adm_alloc(&p->worker, adm_pool_size(pool), sizeof *p->worker, "threads' scratch", err);
}

adm_status adm_quality_pass_make_worker(adm_quality_pass *p, size_t worker, adm_error *err) {
    adm_quality_worker *w = &p->worker[worker];
    adm_status status = adm_alloc(&w->memory, scratch_bytes(p), 1, "a thread's scratch", err);
    if (status != ADM_OK) return status;
    take_scratch(p, &(adm_layout){.base = w->memory}, w);
    adm_step_scratch_init(p->session, &w->step);
    return ADM_OK;
}

void adm_quality_pass_close(adm_quality_pass *p) {
    for (size_t t = 0; p->worker != NULL && t < adm_pool_size(p->pool); t++) adm_free(&p->worker[t].memory);
    adm_free(&p->worker);
}

/* --- A layer's keys ---------------------------------------------------------------------------------------------------- */

enum { APPEND_ROWS = 512 };
_Static_assert(APPEND_ROWS % ADM_APPEND_STEP == 0, "tasks may append in any order");

static adm_policy_keys keys_of(const adm_quality_pass *p, size_t kv_head) {
    const adm_trace_layer *l = p->session->layer[p->layer];
    return (adm_policy_keys){
        .layer = p->layer, .dtype = l->k_dtype, .k = l->k, .stride = p->session->trace->n_tokens, .kv_head = kv_head};
}

static void append_rows(void *user, size_t task, size_t worker) {
    adm_quality_pass *p = user;
    const adm_trace *trace = p->session->trace;
    adm_policy_keys keys = keys_of(p, p->first_head + task % p->n_heads);
    keys.first = task / p->n_heads * APPEND_ROWS;
    keys.is_again = p->block > 0;
    keys.n = adm_min(adm_segment_tokens(trace, p->segment) - keys.first, APPEND_ROWS);
    adm_policy_set_append(p->set, p->worker[worker].step.policy, &keys);
}

/* The keys of the heads that are held, up to the segment's end; false: stopped. */
static bool append_heads(adm_quality_pass *p) {
    const adm_trace *trace = p->session->trace;
    const size_t n_chunks = (adm_segment_tokens(trace, p->segment) + APPEND_ROWS - 1) / APPEND_ROWS;
    if (!adm_policy_set_appends(p->set)) return true;
    return adm_pool_run(p->pool, n_chunks * p->n_heads, append_rows, p, p->session->options.should_stop);
}

/* Steps of the prompt between two looks at whether to stop. */
enum { PROMPT_STEPS = 256 };

/* --- A batch ----------------------------------------------------------------------------------------------------------- */

/* Step i of those from `first` of the trace on. */
static adm_quality_step step_at(const adm_quality_pass *p, const adm_quality_worker *w, size_t kv_head, size_t first,
                                size_t i) {
    const adm_session *s = p->session;
    const size_t step = first + i, at = i * s->group, d = s->trace->shape.head_dim;
    return (adm_quality_step){.query = {.layer = p->layer,
                                        .layer_index = s->layer[p->layer]->index,
                                        .step = step,
                                        .kv_head = kv_head,
                                        .n_tokens = (size_t)s->trace->positions[step] + 1,
                                        .q = w->q + at * d,
                                        .y = w->y + at * d,
                                        .keys = keys_of(p, kv_head)},
                              .layer = s->layer[p->layer],
                              .reference = w->reference + at,
                              .has_prompt = p->has_prompt};
}

/* The queries of n_steps steps and their dense references. */
static void compute_references(const adm_quality_pass *p, adm_quality_worker *w, size_t kv_head, size_t first, size_t n_steps) {
    const adm_session *s = p->session;
    const uint32_t group = s->group, d = s->trace->shape.head_dim;
    const adm_trace_layer *l = s->layer[p->layer];
    for (size_t i = 0; i < n_steps; i++) {
        const unsigned char *q = adm_session_queries(s, l, first + i) + kv_head * group * d * adm_dtype_bytes(l->q_dtype);
        adm_to_f32(l->q_dtype, q, group * d, w->q + i * group * d);
        s->options.pipeline->hadamard->fn.hadamard(l->q_dtype, q, group, d, w->y + i * group * d);
        for (uint32_t g = 0; g < group; g++) w->n_seen[i * group + g] = (size_t)s->trace->positions[first + i] + 1;
    }
    adm_reference_compute(s->options.quality, l->k_dtype, w->q, w->n_seen, (uint32_t)n_steps * group,
                          adm_session_keys(s, l, kv_head, 0), adm_session_values(s, l, kv_head), d, s->trace->softmax_scale,
                          w->score, p->score_stride, w->reference);
}

static void run_batch(adm_quality_pass *p, adm_quality_worker *w, size_t kv_head, size_t batch) {
    const size_t first = p->segment->first_step + p->batch[batch], n_steps = p->batch[batch + 1] - p->batch[batch];
    compute_references(p, w, kv_head, first, n_steps);
    for (size_t i = 0; i < n_steps; i++) {
        adm_quality_step step = step_at(p, w, kv_head, first, i);
        step.in_block = p->batch[batch] - p->block + i;
        adm_quality_step_measure(p->session, p->set, p->record, &w->step, &step);
    }
    adm_waiting_finish(&w->step.waiting, p->record);
}

/* Queries of the prompt, from p->block of the trace on, for policies that need them. */
static void run_prompt(void *user, size_t kv_head, size_t worker) {
    adm_quality_pass *p = user;
    adm_quality_worker *w = &p->worker[worker];
    const size_t end = adm_min(p->block + PROMPT_STEPS, p->segment->first_step);
    for (size_t first = p->block, n; first < end; first += n) {
        n = adm_min(p->max_batch, end - first);
        compute_references(p, w, kv_head, first, n);
        for (size_t i = 0; i < n; i++) {
            const adm_quality_step step = step_at(p, w, kv_head, first, i);
            adm_quality_step_observe_prompt(p->session, p->set, &w->step, &step);
        }
    }
}

/* False: stopped. */
static bool observe_prompt(adm_quality_pass *p) {
    const adm_session *s = p->session;
    if (!p->has_prompt || !adm_policy_set_needs_prompt(p->set)) return true;
    for (p->block = 0; p->block < p->segment->first_step; p->block += PROMPT_STEPS)
        if (!adm_pool_run(p->pool, s->trace->shape.n_kv_heads, run_prompt, p, s->options.should_stop)) return false;
    return true;
}

static void run_task(void *user, size_t task, size_t worker) {
    adm_quality_pass *p = user;
    run_batch(p, &p->worker[worker], p->first_head + task % p->n_heads, task / p->n_heads);
}

static void run_chain(void *user, size_t task, size_t worker) {
    adm_quality_pass *p = user;
    const size_t end = p->block + ADM_BLOCK_STEPS;
    for (size_t b = 0; p->batch[b] < end && p->batch[b] < p->segment->n_steps; b++)
        run_batch(p, &p->worker[worker], p->first_head + task, b);
}

/* Cuts a block of n_steps steps into batches. Where threads share them out, a batch takes half of what is left to a thread, so
 * that none waits long for the last. Returns how many. */
static size_t make_batches(adm_quality_pass *p, size_t n_steps, bool chained) {
    const size_t group = p->session->group, n_threads = adm_pool_size(p->pool), end = p->block + n_steps;
    const size_t min_size = adm_min(group < MIN_QUERIES ? MIN_QUERIES / group : 1, p->max_batch);
    size_t n = 0;
    for (size_t at = p->block; at < end; at = p->batch[n]) {
        const size_t fair = (end - at) * p->n_held_heads / (2 * n_threads);
        size_t size = p->max_batch;
        if (!chained && n_threads > 1 && fair < size) size = fair > min_size ? fair : min_size;
        p->batch[n++] = at;
        p->batch[n] = at + adm_min(size, end - at);
    }
    return n;
}

/* --- A segment --------------------------------------------------------------------------------------------------------- */

static adm_status run_block(adm_quality_pass *p, adm_error *err) {
    const adm_session *s = p->session;
    const size_t n_kv = s->trace->shape.n_kv_heads, n_steps = adm_min(p->segment->n_steps - p->block, ADM_BLOCK_STEPS);
    const bool chained = adm_policy_set_observes(p->set);
    const size_t n_batches = make_batches(p, n_steps, chained);
    for (p->first_head = 0; p->first_head < n_kv; p->first_head += p->n_held_heads) {
        p->n_heads = adm_min(p->n_held_heads, n_kv - p->first_head);
        const bool is_held = p->n_held_heads == n_kv && p->block > 0;
        if ((!is_held && !append_heads(p)) || !adm_pool_run(p->pool, (chained ? 1 : n_batches) * p->n_heads,
                                                            chained ? run_chain : run_task, p, s->options.should_stop))
            return adm_session_interrupted(s, p->segment, err);
    }
    adm_status status = adm_quality_record_take_block(p->record, p->pool, n_steps, err);
    adm_session_advance(s, p->advance, n_steps);
    return status;
}

adm_status adm_quality_pass_run(adm_quality_pass *p, const adm_segment *segment, adm_error *err) {
    adm_status status = ADM_OK;
    p->segment = segment;
    p->has_prompt = adm_segment_is_whole(p->session->trace, segment);
    for (p->layer = 0; status == ADM_OK && p->layer < p->session->n_layers; p->layer++) {
        adm_policy_set_begin(p->set, p->layer);
        if (!observe_prompt(p)) return adm_session_interrupted(p->session, segment, err);
        for (p->block = 0; status == ADM_OK && p->block < segment->n_steps; p->block += ADM_BLOCK_STEPS)
            status = run_block(p, err);
        if (status == ADM_OK) adm_quality_record_take_layer(p->record, p->pool, p->layer);
    }
    return status;
}
