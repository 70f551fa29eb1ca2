/* replay.c: the session: which steps are replayed as which length, calibration, and the walk over them. */
#include "core/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/replay_internal.h"

const char *adm_policy_name(adm_policy policy) {
    static const char *const names[ADM_N_POLICIES] = {"dense", "oracle", "adamas", "quest", "streaming", "h2o",
                                                       "random"};
    return policy < ADM_N_POLICIES ? names[policy] : "?";
}

/* --- Segments ----------------------------------------------------------------------------------------------------- */

/* Steps up to an eighth beyond a length still stand for it; short lengths take at least 64 steps' worth. */
static uint64_t segment_end(uint64_t seq_len) { return seq_len + (seq_len / 8 > 64 ? seq_len / 8 : 64); }

/* "1024-1087, 2048-2111": the positions of a trace as runs. */
static void describe_positions(const adm_trace *trace, char *text, size_t text_bytes) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t s = 0; s < trace->n_steps && length < text_bytes;) {
        size_t last = s;
        while (last + 1 < trace->n_steps && trace->positions[last + 1] == trace->positions[last] + 1) last++;
        int written = snprintf(text + length, text_bytes - length, "%s%" PRId64 "-%" PRId64, s > 0 ? ", " : "",
                               trace->positions[s], trace->positions[last]);
        length += written > 0 ? (size_t)written : 0;
        s = last + 1;
    }
    if (length >= text_bytes) memcpy(text + text_bytes - 4, "...", 4);
}

adm_status adm_replay_segments(const adm_trace *trace, const uint32_t *seq_lens, size_t n_seq_lens,
                               adm_segment **segments, size_t *n_segments, adm_error *err) {
    *n_segments = 0;
    adm_status status = adm_alloc(segments, n_seq_lens > 0 ? n_seq_lens : trace->n_steps, sizeof **segments,
                                  "segments of the trace", err);
    if (status != ADM_OK) return status;
    size_t step = 0;
    for (size_t i = 0; n_seq_lens > 0 ? i < n_seq_lens : step < trace->n_steps; i++) {
        uint64_t seq_len = n_seq_lens > 0 ? seq_lens[i] : (uint64_t)trace->positions[step];
        uint64_t end = segment_end(seq_len);
        if (i + 1 < n_seq_lens && seq_lens[i + 1] < end) end = seq_lens[i + 1];
        while (step < trace->n_steps && (uint64_t)trace->positions[step] < seq_len) step++;
        adm_segment segment = {(uint32_t)seq_len, step, 0};
        while (step < trace->n_steps && (uint64_t)trace->positions[step] < end) step++;
        segment.n_steps = step - segment.first_step;
        if (segment.n_steps == 0) {
            char positions[256];
            describe_positions(trace, positions, sizeof positions);
            adm_free(segments);
            *n_segments = 0;
            return adm_fail(err, ADM_EINPUT,
                            "%s: no decode step has %" PRIu64 " to %" PRIu64 " cached tokens; its steps are at %s",
                            trace->path, seq_len, end - 1, positions);
        }
        (*segments)[(*n_segments)++] = segment;
    }
    return ADM_OK;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static adm_status check_rules(const adm_replay *r, adm_error *err) {
    const adm_replay_options *o = &r->options;
    adm_status status = adm_shape_check(&r->trace->shape, err);
    for (size_t b = 0; status == ADM_OK && b < o->n_budgets && o->policy[ADM_POLICY_ADAMAS]; b++)
        status = adm_select_rule_check(&(adm_select_rule){o->budgets[b], o->n_sinks, o->n_recent}, err);
    if (status == ADM_OK && r->trace->n_tokens > UINT32_MAX)
        status = adm_fail(err, ADM_EINPUT, "%s: %zu tokens; a replay takes at most %u", r->trace->path,
                          r->trace->n_tokens, UINT32_MAX);
    return status;
}

static const adm_trace_layer *find_layer(const adm_trace *trace, uint32_t index) {
    for (size_t i = 0; i < trace->n_layers; i++)
        if (trace->layers[i].index == index) return &trace->layers[i];
    return NULL;
}

static adm_status choose_layers(adm_replay *r, adm_error *err) {
    const adm_replay_options *o = &r->options;
    size_t n_asked = o->n_layers > 0 ? o->n_layers : r->trace->n_layers;
    adm_status status = adm_alloc(&r->layer, n_asked, sizeof *r->layer, "layers to replay", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < n_asked; i++) {
        const adm_trace_layer *layer = o->n_layers > 0 ? find_layer(r->trace, o->layers[i]) : &r->trace->layers[i];
        if (layer == NULL)
            return adm_fail(err, ADM_EINPUT, "%s: has no layer %u; `adamas trace info` lists its %zu layers",
                            r->trace->path, o->layers[i], r->trace->n_layers);
        if (layer->q_dtype != layer->k_dtype || layer->v_dtype != layer->k_dtype)
            return adm_fail(err, ADM_EINPUT, "%s: layer %u has q, k, v in %s, %s, %s: save the three in one type",
                            r->trace->path, layer->index, adm_dtype_name(layer->q_dtype),
                            adm_dtype_name(layer->k_dtype), adm_dtype_name(layer->v_dtype));
        if (layer->index >= o->n_dense_layers) r->layer[r->n_layers++] = layer;
    }
    if (r->n_layers == 0)
        return adm_fail(err, ADM_EINPUT,
                        "%s: every layer asked for is among the model's first %u, which attend densely: lower "
                        "--dense-layers or replay later layers",
                        r->trace->path, o->n_dense_layers);
    return ADM_OK;
}

/* Everything about the options that the trace can contradict; sets r->layer and r->segment. */
static adm_status check(adm_replay *r, adm_error *err) {
    const adm_replay_options *o = &r->options;
    adm_status status = check_rules(r, err);
    if (status == ADM_OK) status = choose_layers(r, err);
    if (status == ADM_OK)
        status = adm_replay_segments(r->trace, o->seq_lens, o->n_seq_lens, &r->segment, &r->n_segments, err);
    for (size_t v = 0; status == ADM_OK && v < o->n_thresholds; v++)
        if (o->thresholds[v].per_layer && r->trace->positions[r->segment[0].first_step] == 0)
            status = adm_fail(err, ADM_EINPUT, "%s: thresholds '%s' cannot be calibrated: no token stands before the first "
                              "step; give fixed:a,b,c", r->trace->path, o->thresholds[v].text);
    return status;
}

adm_status adm_replay_check(const adm_trace *trace, const adm_replay_options *options, adm_error *err) {
    adm_replay r = {.trace = trace, .options = *options};
    adm_status status = check(&r, err);
    adm_free(&r.layer);
    adm_free(&r.segment);
    return status;
}

/* Rows a KV head that a layer's thresholds are learnt from: enough for quantiles to 1%, few enough to sort. */
enum { CALIBRATION_ROWS = 4096 };

static adm_status calibrate_layer(adm_replay *r, size_t layer, float *y, adm_error *err) {
    const adm_trace_layer *l = r->layer[layer];
    const adm_shape *shape = &r->trace->shape;
    size_t n_prompt = (size_t)r->trace->positions[r->segment[0].first_step];
    size_t n_rows = n_prompt < CALIBRATION_ROWS ? n_prompt : CALIBRATION_ROWS;
    size_t row_bytes = shape->head_dim * adm_dtype_bytes(l->k_dtype), n = n_rows * shape->n_kv_heads * shape->head_dim;
    for (size_t v = 0; v < r->options.n_thresholds; v++) {
        adm_code_cache *cache = &r->cache[v * r->n_layers + layer];
        for (size_t h = 0; h < shape->n_kv_heads && r->options.thresholds[v].per_layer; h++)
            for (size_t i = 0; i < n_rows; i++) {
                size_t token = i * n_prompt / n_rows;
                const char *row = (const char *)l->k + (h * r->trace->n_tokens + token) * row_bytes;
                r->options.pipeline->hadamard->fn.hadamard(l->k_dtype, row, 1, shape->head_dim,
                                                           y + (h * n_rows + i) * shape->head_dim);
            }
        adm_status status = adm_threshold_resolve(&r->options.thresholds[v], y, n, cache->thresholds, err);
        if (status == ADM_OK && r->options.n_counters == 0)
            status = adm_store_calibration(r->store, r->run_id, r->trace_id, r->options.thresholds[v].text,
                                           (int32_t)l->index, cache->thresholds, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static adm_status make_caches(adm_replay *r, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    size_t n_caches = r->options.n_thresholds * r->n_layers;
    adm_status status = adm_alloc(&r->cache, n_caches, sizeof *r->cache, "code caches", err);
    for (size_t i = 0; status == ADM_OK && i < n_caches; i++) {
        status = adm_alloc(&r->cache[i].packed, shape->n_kv_heads * r->trace->n_tokens, shape->head_dim / 4,
                           "packed codes of a layer", err);
        if (status == ADM_OK)
            status = adm_alloc(&r->cache[i].n_codes, 4 * shape->n_kv_heads, sizeof(uint64_t), "code counts", err);
    }
    float *y = NULL;
    if (status == ADM_OK)
        status = adm_alloc(&y, CALIBRATION_ROWS * (size_t)shape->n_kv_heads * shape->head_dim, sizeof *y,
                           "keys for calibration", err);
    for (size_t layer = 0; status == ADM_OK && layer < r->n_layers; layer++)
        status = calibrate_layer(r, layer, y, err);
    adm_free(&y);
    return status;
}

static adm_status make_scratch(adm_replay *r, adm_error *err) {
    const adm_shape *shape = &r->trace->shape;
    size_t n_tokens = r->trace->n_tokens, n_heads = shape->n_q_heads, d = shape->head_dim;
    size_t step_rows = n_heads + shape->n_kv_heads, rows = step_rows > ADM_BULK_ROWS ? step_rows : ADM_BULK_ROWS;
    uint32_t largest = r->options.budgets[r->options.n_budgets - 1];
    r->widest = largest < n_tokens ? largest : n_tokens;
    const struct { void *pointer; size_t count, size; } scratch[] = {
        {&r->y, rows * d, sizeof *r->y},
        {&r->codes, rows * d, sizeof *r->codes},
        {&r->packed, step_rows * d / 4, sizeof *r->packed},
        {&r->distance, n_heads * n_tokens, sizeof *r->distance},
        {&r->histogram, 3 * d + 1, sizeof *r->histogram},
        {&r->all_tokens, n_tokens, sizeof *r->all_tokens},
        {&r->index, n_heads * r->widest, sizeof *r->index},
        {&r->n_selected, n_heads, sizeof *r->n_selected},
        {&r->select_info, n_heads, sizeof *r->select_info},
        {&r->score, n_tokens, sizeof *r->score},
        {&r->out, n_heads * d, sizeof *r->out},
        {&r->reference, n_heads, sizeof *r->reference},
        {&r->oracle_rel_l2, r->options.n_budgets * n_heads, sizeof *r->oracle_rel_l2},
        {&r->page_bounds, r->n_layers * shape->n_kv_heads * adm_quest_pages(n_tokens) * 2 * d, sizeof *r->page_bounds},
        {&r->page_bound, adm_quest_pages(n_tokens), sizeof *r->page_bound},
        {&r->drawn, r->n_layers * n_heads * n_tokens, sizeof *r->drawn},
        {&r->order, n_tokens, sizeof *r->order},
        {&r->rank_scratch, n_tokens, ADM_RANK_SCRATCH},
    };
    for (size_t i = 0; i < sizeof scratch / sizeof scratch[0]; i++) {
        adm_status status = adm_alloc(scratch[i].pointer, scratch[i].count, scratch[i].size, "replay scratch", err);
        if (status != ADM_OK) return status;
    }
    for (size_t t = 0; t < n_tokens; t++) r->all_tokens[t] = (uint32_t)t;
    for (size_t h = 0; h < n_heads; h++) {
        adm_status status = adm_reference_create(n_tokens, &r->reference[h], err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

adm_status adm_replay_open(const adm_trace *trace, const adm_replay_options *options, adm_store *store, int64_t run_id,
                           adm_replay **out, adm_error *err) {
    adm_replay *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "replay", err);
    if (status != ADM_OK) return status;
    r->trace = trace;
    r->options = *options;
    r->store = store;
    r->run_id = run_id;
    r->now_divisor = 1;
    adm_rng_seed(&r->rng, options->seed);
    status = check(r, err);
    if (status == ADM_OK) status = adm_store_trace(store, trace, &r->trace_id, err);
    if (status == ADM_OK) status = make_caches(r, err);
    if (status == ADM_OK) status = make_scratch(r, err);
    for (size_t i = 0; i < r->n_segments; i++) r->n_total += r->segment[i].n_steps * r->n_layers;
    if (status != ADM_OK) {
        adm_replay_close(&r);
        return status;
    }
    *out = r;
    return ADM_OK;
}

void adm_replay_close(adm_replay **replay) {
    adm_replay *r = *replay;
    if (r == NULL) return;
    adm_replay_drop_segment(r);
    free(r->event);
    for (size_t h = 0; r->reference != NULL && h < r->trace->shape.n_q_heads; h++) adm_reference_free(&r->reference[h]);
    for (size_t i = 0; r->cache != NULL && i < r->options.n_thresholds * r->n_layers; i++) {
        adm_free(&r->cache[i].packed);
        adm_free(&r->cache[i].n_codes);
    }
    void *const owned[] = {&r->layer, &r->segment, &r->cache, &r->y, &r->codes, &r->packed, &r->distance, &r->histogram,
                           &r->all_tokens, &r->index, &r->n_selected, &r->select_info, &r->score, &r->out,
                           &r->reference, &r->oracle_rel_l2, &r->page_bounds, &r->page_bound, &r->drawn,
                           &r->order, &r->rank_scratch};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
    adm_free(replay);
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

static adm_status run_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    adm_status status = adm_replay_begin_segment(r, segment, err);
    memset(r->drawn, 0, r->n_layers * r->trace->shape.n_q_heads * r->trace->n_tokens * sizeof *r->drawn);
    size_t n_steps = r->options.n_counters > 0 && !adm_replay_counts(r) ? 0 : segment->n_steps;
    for (size_t i = 0; status == ADM_OK && i < n_steps; i++) {
        if (r->options.should_stop != NULL && r->options.should_stop())
            return adm_fail(err, ADM_EINTERRUPTED, "interrupted in %s at %u cached tokens; the lengths before it are kept",
                            r->trace->path, segment->seq_len);
        size_t step = segment->first_step + i, position = (size_t)r->trace->positions[step];
        adm_replay_encode(r, position, segment->seq_len);
        const adm_range range = {.kind = ADM_RANGE_STEP, .variant = "", .step = (int32_t)step, .layer = -1,
                                 .seq_len = (uint32_t)position + 1};
        adm_probes_begin(r->probes, &range);
        for (size_t layer = 0; layer < r->n_layers; layer++) adm_replay_layer_step(r, segment, i, layer);
        adm_probes_end(r->probes, &range);
        if (r->n_encoded < position + 1) r->n_encoded = position + 1; /* the step appended its own token */
        r->n_done += r->n_layers;
        if (r->options.on_progress != NULL) r->options.on_progress(r->options.user, r->n_done, r->n_total);
    }
    return status == ADM_OK ? adm_replay_end_segment(r, segment, err) : status;
}

adm_status adm_replay_run(adm_replay *r, adm_probes *probes, adm_error *err) {
    r->probes = probes;
    adm_status status = adm_probes_start(probes, err);
    if (status != ADM_OK) return status;
    const adm_range session = {.kind = ADM_RANGE_SESSION, .variant = r->trace->name, .step = -1, .layer = -1};
    adm_probes_begin(probes, &session);
    for (size_t i = 0; status == ADM_OK && i < r->n_segments; i++) status = run_segment(r, &r->segment[i], err);
    adm_probes_end(probes, &session);
    if (status == ADM_OK) status = adm_replay_end_session(r, err);
    adm_status stopped = adm_probes_stop(probes, status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : stopped;
}
