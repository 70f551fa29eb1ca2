/* replay_quality.c: the quality pass: every step of a segment, layer by layer, on all threads. A task is one KV head at a
 * few steps, whose dense references are computed together; with h2o, which looks back, at every step of a block in turn. */
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

/* --- Opening and closing ---------------------------------------------------------------------------------------------- */

/* Scratch of all threads together: beyond half of this batches are smaller, beyond all of it fewer threads run. */
static const size_t most_scratch_bytes = (size_t)1 << 30;

typedef struct buffer {
    void *pointer; /* the address of the worker's pointer */
    size_t count, size;
} buffer;

enum { MOST_BUFFERS = 40 };

static size_t largest_distance(const adm_replay *r) {
    size_t most = 0;
    for (size_t c = 0; c < r->options.n_codings; c++) {
        const adm_coding *coding = &r->options.codings[c];
        size_t distance = adm_coding_max_distance(coding, r->trace->shape.head_dim,
                                                  adm_coding_queries(coding, &r->trace->shape));
        most = distance > most ? distance : most;
    }
    return most;
}

static size_t list_buffers(const adm_replay *r, adm_worker *w, buffer buffers[MOST_BUFFERS]) {
    const size_t n = r->trace->n_tokens, group = adm_replay_group(r), d = r->trace->shape.head_dim;
    const size_t n_budgets = r->options.n_budgets;
    const buffer all[] = {
        {&w->score, r->max_batch * group * r->score_stride, sizeof *w->score},
        {&w->reference, r->max_batch * group, sizeof *w->reference},
        {&w->n_seen, r->max_batch * group, sizeof *w->n_seen},
        {&w->q, r->max_batch * group * d, sizeof *w->q},
        {&w->y, r->max_batch * group * d, sizeof *w->y},
        {&w->weight, n, sizeof *w->weight},
        {&w->rows, ADM_ENCODE_ROWS * d, sizeof *w->rows},
        {&w->distance, n, sizeof *w->distance},
        {&w->near, r->widest, sizeof *w->near},
        {&w->histogram, largest_distance(r) + 1, sizeof *w->histogram},
        {&w->table, d * ADM_CODES, sizeof *w->table},
        {&w->scan_scratch, ADM_SCAN_SCRATCH, 1},
        {&w->n_codes, r->n_codes * r->trace->shape.n_kv_heads * ADM_CODES, sizeof *w->n_codes},
        {&w->ranking, n, sizeof *w->ranking},
        {&w->rank_scratch, adm_rank_scratch_bytes(n), 1},
        {&w->rank, n, sizeof *w->rank},
        {&w->order, n, sizeof *w->order},
        {&w->candidates, group + 1, sizeof *w->candidates},
        {&w->candidate, (group + 1) * n, sizeof *w->candidate},
        {&w->candidate_score, (group + 1) * n, sizeof *w->candidate_score},
        {&w->exact, group * adm_replay_max_cuts(r), sizeof *w->exact},
        {&w->cut, group * n_budgets, sizeof *w->cut},
        {&w->set, r->widest, sizeof *w->set},
        {&w->set_score, r->widest, sizeof *w->set_score},
        {&w->level, r->widest, sizeof *w->level},
        {&w->bits, n / 64 + 1, sizeof *w->bits},
        {&w->taken, n, sizeof *w->taken},
        {&w->list, r->widest, sizeof *w->list},
        {&w->end, n_budgets, sizeof *w->end},
        {&w->next, n_budgets, sizeof *w->next},
        {&w->info, n_budgets, sizeof *w->info},
        {&w->quality_scratch, adm_quality_scratch(r->widest, n_budgets), sizeof *w->quality_scratch},
        {&w->quality, group * n_budgets, sizeof *w->quality},
        {&w->oracle_rel_l2, group * n_budgets, sizeof *w->oracle_rel_l2},
    };
    _Static_assert(sizeof all / sizeof all[0] <= MOST_BUFFERS, "room for the list");
    memcpy(buffers, all, sizeof all);
    return sizeof all / sizeof all[0];
}

static size_t scratch_bytes(const adm_replay *r) {
    adm_worker nobody = {0};
    buffer buffers[MOST_BUFFERS];
    size_t n = list_buffers(r, &nobody, buffers), bytes = 1;
    for (size_t i = 0; i < n; i++) bytes += buffers[i].count * buffers[i].size;
    return bytes;
}

/* A batch takes as many steps as make BATCH_QUERIES queries of a KV head, whose keys and values are read and widened once for
 * all of them; at the end of a block fewer, but not below a vector of queries. Measured at 128K tokens with 4 query heads a
 * KV head, all of a replay, on an EPYC 9004: 16, 32, 48 and 64 queries take 1.50, 1.41, 1.55 and 1.51 s of processor time. */
enum { BATCH_QUERIES = 32, LEAST_QUERIES = 8 };

/* Steps of a task, and the threads: fewer steps rather than fewer threads. No value depends on either. */
static size_t fit_scratch(adm_replay *r) {
    const size_t group = adm_replay_group(r);
    r->score_stride = (r->trace->n_tokens / 8 | 1) * 8 + 16; /* an odd number of cache lines, see adm_reference_compute() */
    r->max_batch = group < BATCH_QUERIES ? BATCH_QUERIES / group : 1;
    while (r->max_batch > 1 && scratch_bytes(r) * r->options.n_threads > most_scratch_bytes / 2) r->max_batch /= 2;
    const size_t fit = most_scratch_bytes / scratch_bytes(r); /* threads */
    return fit < 1 ? 1 : fit < r->options.n_threads ? fit : r->options.n_threads;
}

static adm_status make_worker(const adm_replay *r, adm_worker *w, adm_error *err) {
    buffer buffers[MOST_BUFFERS];
    const size_t n = list_buffers(r, w, buffers);
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "a thread's scratch", err);
    for (size_t g = 0; status == ADM_OK && g <= adm_replay_group(r); g++)
        w->candidates[g] = (adm_candidates){0, w->candidate + g * r->trace->n_tokens,
                                            w->candidate_score + g * r->trace->n_tokens};
    return status;
}

/* What takes long before the first step: the codebooks, a task a layer, and the scratch, whose pages the system has to find
 * and to clear, a task a thread. */
typedef struct preparation {
    adm_replay *r;
    adm_status *status; /* [tasks] */
    adm_error *err;
} preparation;

static void prepare_some(void *user, size_t task, size_t worker) {
    preparation *p = user;
    adm_replay *r = p->r;
    (void)worker;
    if (task < r->n_layers) p->status[task] = adm_replay_learn_layer(r, task, &p->err[task]);
    else p->status[task] = make_worker(r, &r->worker[task - r->n_layers], &p->err[task]);
}

static adm_status prepare(adm_replay *r, adm_error *err) {
    const size_t n_tasks = r->n_layers + (r->worker != NULL ? adm_pool_size(r->pool) : 0);
    preparation p = {.r = r};
    adm_status status = adm_alloc(&p.status, n_tasks, sizeof *p.status, "preparing a replay", err);
    if (status == ADM_OK) status = adm_alloc(&p.err, n_tasks, sizeof *p.err, "preparing a replay", err);
    if (status == ADM_OK) adm_pool_run(r->pool, n_tasks, prepare_some, &p, NULL);
    for (size_t task = 0; status == ADM_OK && task < n_tasks; task++) {
        status = p.status[task];
        if (status != ADM_OK && err != NULL) *err = p.err[task];
    }
    adm_free(&p.status);
    adm_free(&p.err);
    return status;
}

adm_status adm_quality_pass_open(adm_replay *r, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    adm_status status = adm_pool_create(fit_scratch(r), &r->pool, err);
    if (status == ADM_OK) status = adm_replay_codes_open(r, err);
    if (status == ADM_OK && r->options.n_counters == 0)
        status = adm_alloc(&r->worker, adm_pool_size(r->pool), sizeof *r->worker, "threads' scratch", err);
    if (status == ADM_OK) status = prepare(r, err);
    if (status != ADM_OK || r->options.n_counters > 0) return status;
    status = adm_alloc(&r->level_of, r->widest, sizeof *r->level_of, "the budgets of places", err);
    for (size_t place = 0, b = 0; status == ADM_OK && place < r->widest; place++) {
        while (r->options.budgets[b] <= place) b++;
        r->level_of[place] = (uint16_t)b;
    }
    if (status == ADM_OK && r->options.policy[ADM_POLICY_QUEST])
        status = adm_alloc(&r->page_bounds, shape->n_kv_heads * adm_quest_pages(r->trace->n_tokens) * 2 * shape->head_dim,
                           sizeof *r->page_bounds, "page bounds of quest", err);
    if (status == ADM_OK && r->options.policy[ADM_POLICY_H2O])
        status = adm_alloc(&r->drawn, shape->n_q_heads * r->trace->n_tokens, sizeof *r->drawn, "attention drawn", err);
    return status;
}

void adm_quality_pass_close(adm_replay *r) {
    for (size_t t = 0; r->worker != NULL && t < adm_pool_size(r->pool); t++) {
        buffer buffers[MOST_BUFFERS];
        size_t n = list_buffers(r, &r->worker[t], buffers);
        for (size_t i = 0; i < n; i++) adm_free(buffers[i].pointer);
    }
    adm_free(&r->worker);
    adm_free(&r->level_of);
    adm_free(&r->page_bounds);
    adm_free(&r->drawn);
    adm_replay_codes_close(r);
    adm_pool_free(&r->pool);
}

/* --- One KV head at one step ------------------------------------------------------------------------------------------- */

static void put_value(const adm_replay *r, adm_slot *slot, const adm_task_at *at, uint32_t head, double value) {
    size_t step = at->step - r->at_segment->first_step - r->at_block;
    if (slot != NULL) slot->value[(at->kv_head * adm_replay_group(r) + head) * ADM_BLOCK_STEPS + step] = value;
}

/* oracle_rel_l2: of the exact top-k of that head at that budget; NULL for dense, which has no gap to it. */
static void put_quality(const adm_replay *r, adm_slot **slot, const adm_task_at *at, uint32_t head, const adm_quality *quality,
                        const double *oracle_rel_l2, double n_tied) {
    const double value[N_QUALITY] = {[Q_RECALL] = quality->recall,
                                     [Q_MASS] = quality->mass,
                                     [Q_KL] = quality->kl,
                                     [Q_TV] = quality->tv,
                                     [Q_OUTPUT_REL_L2] = quality->output_rel_l2,
                                     [Q_OUTPUT_COSINE] = quality->output_cosine,
                                     [Q_ORACLE_GAP] = oracle_rel_l2 != NULL ? quality->output_rel_l2 - *oracle_rel_l2 : 0,
                                     [Q_EPS_EXCEED] = quality->output_rel_l2 > r->options.eps,
                                     [Q_TIES] = n_tied};
    for (int metric = 0; metric < N_QUALITY; metric++) put_value(r, slot[metric], at, head, value[metric]);
}

/* The smallest budget with which the row reaches each target; w->order is the row's order of all tokens. */
static void measure_targets(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    const adm_reference *reference = &at->reference[head];
    const adm_coding *coding = row->policy == ADM_POLICY_ADAMAS ? &r->options.codings[row->coding] : NULL;
    const size_t n_forced = coding != NULL ? coding->n_sinks + coding->n_recent : 0;
    r->options.quality->weights(reference->score, at->n_tokens, reference->largest, w->weight);
    for (size_t i = 0; i < r->options.n_targets; i++) {
        const adm_target *target = &r->options.targets[i];
        size_t k = 0;
        if (target->kind == ADM_TARGET_MASS) {
            double kept = 0;
            while (k < at->n_tokens && kept < target->value * reference->total_weight) kept += w->weight[w->order[k++]];
        } else {
            k = r->options.quality->within(at->l->v_dtype, adm_value_rows(r, at->l, at->kv_head), w->order, at->n_tokens,
                                           reference->head_dim, w->weight, reference->out, target->value * reference->out_norm);
        }
        if (row->policy == ADM_POLICY_QUEST) k = adm_quest_budget(at->n_tokens, k);
        if (k < n_forced) k = n_forced;
        put_value(r, row->target[i], at, head, (double)k);
    }
}

/* The cut of a head's exact top-k at each size selected. */
static void find_cuts(const adm_replay *r, adm_worker *w, size_t n_cuts, uint32_t head, const size_t *end, size_t n_levels,
                      adm_cut *cut) {
    const adm_cut *exact = w->exact + head * adm_replay_max_cuts(r);
    for (size_t b = 0, c = 0; b < n_levels; b++) {
        while (c < n_cuts && exact[c].k < end[b]) c++;
        cut[b] = c < n_cuts ? exact[c] : (adm_cut){.k = end[b]};
    }
}

/* One selection, of query `head` or of n_q heads that share it. */
static void measure_selection(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, size_t n_cuts,
                              uint32_t head, uint32_t n_q) {
    const size_t n_budgets = r->options.n_budgets;
    size_t first = 0; /* budgets at which the row selects something */
    adm_select_nested(r, w, at, row, head);
    while (first < n_budgets && w->end[first] == 0) first++;
    const size_t n_levels = n_budgets - first;
    const adm_nested nested = {r->options.quality, at->l->v_dtype, adm_value_rows(r, at->l, at->kv_head), w->list,
                               w->end + first,     n_levels};
    if (n_levels > 0) {
        for (uint32_t g = 0; g < n_q; g++) find_cuts(r, w, n_cuts, head + g, w->end + first, n_levels, w->cut + g * n_levels);
        adm_quality_of(&nested, at->reference + head, n_q, w->cut, w->quality_scratch, w->quality);
    }
    for (uint32_t g = 0; g < n_q; g++) {
        double *oracle = w->oracle_rel_l2 + (head + g) * n_budgets;
        for (size_t b = first; b < n_budgets; b++) {
            const adm_quality *quality = &w->quality[g * n_levels + b - first];
            if (row == &r->row[1]) oracle[b] = quality->output_rel_l2;
            put_quality(r, row->slot + b * N_QUALITY, at, head + g, quality, &oracle[b], w->info[b].n_tied);
        }
    }
    if (r->options.n_targets == 0 || !r->options.policy[row->policy]) return;
    adm_select_order(r, w, at, row, head);
    for (uint32_t g = 0; g < n_q; g++) measure_targets(r, w, at, row, head + g);
}

static void measure_step(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    const uint32_t group = adm_replay_group(r);
    for (uint32_t g = 0; g < group; g++) {
        adm_quality quality = adm_quality_of_dense(&at->reference[g]);
        put_quality(r, r->row[0].slot, at, g, &quality, NULL, 0);
    }
    const size_t n_cuts = adm_select_exact(r, w, at);
    for (size_t i = 1; i < r->n_rows; i++) {
        const adm_row *row = &r->row[i];
        const bool shared = row->selection == ADM_SELECT_GROUP || row->policy == ADM_POLICY_STREAMING;
        for (uint32_t g = 0; g < group; g += shared ? group : 1)
            measure_selection(r, w, at, row, n_cuts, g, shared ? group : 1);
    }
}

/* What h2o learns from a step, after every policy has selected. */
static void learn(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    for (uint32_t g = 0; g < adm_replay_group(r); g++) {
        const adm_reference *reference = &at->reference[g];
        double *drawn = r->drawn + (at->kv_head * adm_replay_group(r) + g) * r->trace->n_tokens;
        r->options.quality->weights(reference->score, at->n_tokens, reference->largest, w->weight);
        for (size_t t = 0; t < at->n_tokens; t++) drawn[t] += w->weight[t] / reference->total_weight;
    }
}

/* Step i of a batch that begins at `first` of the segment. */
static adm_task_at task_at(const adm_replay *r, const adm_worker *w, size_t kv_head, size_t first, size_t i) {
    const size_t step = r->at_segment->first_step + first + i, group = adm_replay_group(r), d = r->trace->shape.head_dim;
    return (adm_task_at){.layer = r->at_layer,
                         .kv_head = kv_head,
                         .step = step,
                         .n_tokens = (size_t)r->trace->positions[step] + 1,
                         .l = r->layer[r->at_layer],
                         .q = w->q + i * group * d,
                         .y = w->y + i * group * d,
                         .reference = w->reference + i * group};
}

/* The queries of a batch and their dense references. */
static void compute_references(const adm_replay *r, adm_worker *w, size_t kv_head, size_t first, size_t n_steps) {
    const uint32_t group = adm_replay_group(r), d = r->trace->shape.head_dim;
    const adm_trace_layer *l = r->layer[r->at_layer];
    for (size_t i = 0; i < n_steps; i++) {
        const adm_task_at at = task_at(r, w, kv_head, first, i);
        const unsigned char *q = adm_query_rows(r, l, at.step) + kv_head * group * d * adm_dtype_bytes(l->q_dtype);
        adm_to_f32(l->q_dtype, q, group * d, w->q + i * group * d);
        r->options.pipeline->hadamard->fn.hadamard(l->q_dtype, q, group, d, w->y + i * group * d);
        for (uint32_t g = 0; g < group; g++) w->n_seen[i * group + g] = at.n_tokens;
    }
    adm_reference_compute(r->options.quality, l->k_dtype, w->q, w->n_seen, (uint32_t)n_steps * group,
                          adm_key_row(r, l, kv_head, 0), adm_value_rows(r, l, kv_head), d, r->trace->softmax_scale, w->score,
                          r->score_stride, w->reference);
}

static void run_batch(adm_replay *r, adm_worker *w, size_t kv_head, size_t batch) {
    const size_t first = r->batch[batch], n_steps = r->batch[batch + 1] - first;
    compute_references(r, w, kv_head, first, n_steps);
    for (size_t i = 0; i < n_steps; i++) {
        const adm_task_at at = task_at(r, w, kv_head, first, i);
        measure_step(r, w, &at);
        if (r->drawn != NULL) learn(r, w, &at);
    }
}

static void run_task(void *user, size_t task, size_t worker) {
    adm_replay *r = user;
    size_t n_kv = r->trace->shape.n_kv_heads;
    run_batch(r, &r->worker[worker], task % n_kv, task / n_kv);
}

static void run_chain(void *user, size_t kv_head, size_t worker) {
    adm_replay *r = user;
    const size_t end = r->at_block + ADM_BLOCK_STEPS;
    for (size_t b = 0; r->batch[b] < end && r->batch[b] < r->at_segment->n_steps; b++)
        run_batch(r, &r->worker[worker], kv_head, b);
}

/* Cuts a block of n_steps steps into batches. Where threads share them out, a batch takes half of what is left to a thread, so
 * that none waits long for the last. Returns how many. */
static size_t make_batches(adm_replay *r, size_t n_steps, bool chained) {
    const size_t group = adm_replay_group(r), n_threads = adm_pool_size(r->pool), end = r->at_block + n_steps;
    const size_t least = group < LEAST_QUERIES ? LEAST_QUERIES / group : 1;
    size_t n = 0;
    for (size_t at = r->at_block; at < end; at = r->batch[n]) {
        size_t fair = (end - at) * r->trace->shape.n_kv_heads / (2 * n_threads), size = r->max_batch;
        if (!chained && n_threads > 1 && fair < size) size = fair > least ? fair : least < size ? least : size;
        r->batch[n++] = at;
        r->batch[n] = at + (size < end - at ? size : end - at);
    }
    return n;
}

adm_status adm_quality_pass_run(adm_replay *r, const adm_segment *segment, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    const bool chained = r->drawn != NULL;
    adm_status status = ADM_OK;
    for (size_t layer = 0; status == ADM_OK && layer < r->n_layers; layer++) {
        if (!adm_replay_encode_layer(r, segment, layer)) return adm_replay_interrupted(r, segment, err);
        if (chained) memset(r->drawn, 0, shape->n_q_heads * r->trace->n_tokens * sizeof *r->drawn);
        for (size_t block = 0; status == ADM_OK && block < segment->n_steps; block += ADM_BLOCK_STEPS) {
            size_t rest = segment->n_steps - block, n_steps = rest < ADM_BLOCK_STEPS ? rest : ADM_BLOCK_STEPS;
            r->at_block = block;
            const size_t n_batches = make_batches(r, n_steps, chained);
            if (!adm_pool_run(r->pool, (chained ? 1 : n_batches) * shape->n_kv_heads, chained ? run_chain : run_task, r,
                              r->options.should_stop))
                return adm_replay_interrupted(r, segment, err);
            status = adm_replay_take_block(r, n_steps, err);
            r->n_done += n_steps;
            if (r->options.on_progress != NULL) r->options.on_progress(r->options.user, r->n_done, r->n_total);
        }
        if (status == ADM_OK) adm_replay_take_layer(r);
    }
    return status;
}
