/* replay.c: the session: which steps are replayed as which length, calibration, and the walk over them. */
#include "core/replay/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

/* --- Targets ------------------------------------------------------------------------------------------------------- */

static const char *const target_metrics[] = {[ADM_TARGET_MASS] = "mass", [ADM_TARGET_OUTPUT_REL_L2] = "output_rel_l2"};

adm_status adm_target_parse(const char *text, adm_target *target, adm_error *err) {
    for (int kind = 0; kind < 2; kind++) {
        size_t length = strlen(target_metrics[kind]);
        if (strncmp(text, target_metrics[kind], length) != 0 || text[length] != '=') continue;
        char *end;
        double value = strtod(text + length + 1, &end);
        if (end == text + length + 1 || *end != '\0' || !(value > 0 && value <= 1))
            return adm_fail(err, ADM_EINPUT, "--target: '%s': the value must be a number above 0, at most 1", text);
        *target = (adm_target){(adm_target_kind)kind, value};
        return ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT, "--target: '%s' is not known; write mass=X or output_rel_l2=X", text);
}

void adm_target_name(const adm_target *target, char *name) {
    snprintf(name, ADM_TARGET_NAME_BYTES, "budget_for_%s_%.9g", target_metrics[target->kind], target->value);
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

adm_status adm_replay_segments(const adm_trace *trace, const uint32_t *seq_lens, size_t n_seq_lens, adm_segment **segments,
                               size_t *n_segments, adm_error *err) {
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
                            "%s: no decode step has %" PRIu64 " to %" PRIu64 " cached tokens; its steps are at %s", trace->path,
                            seq_len, end - 1, positions);
        }
        (*segments)[(*n_segments)++] = segment;
    }
    return ADM_OK;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static adm_status check_rules(const adm_replay *r, adm_error *err) {
    const adm_replay_options *o = &r->options;
    adm_status status = adm_shape_check(&r->trace->shape, err);
    for (size_t c = 0; status == ADM_OK && c < o->n_codings && o->policy[ADM_POLICY_ADAMAS]; c++) {
        const adm_select_rule rule = adm_coding_rule(&o->codings[c], o->budgets[0]); /* the smallest */
        status = adm_select_rule_check(&rule, err);
    }
    if (status == ADM_OK && r->trace->n_tokens > UINT32_MAX)
        status = adm_fail(err, ADM_EINPUT, "%s: %zu tokens; a replay takes at most %u", r->trace->path, r->trace->n_tokens,
                          UINT32_MAX);
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
            return adm_fail(err, ADM_EINPUT, "%s: has no layer %u; `adamas trace info` lists its %zu layers", r->trace->path,
                            o->layers[i], r->trace->n_layers);
        if (layer->q_dtype != layer->k_dtype || layer->v_dtype != layer->k_dtype)
            return adm_fail(err, ADM_EINPUT, "%s: layer %u has q, k, v in %s, %s, %s: save the three in one type",
                            r->trace->path, layer->index, adm_dtype_name(layer->q_dtype), adm_dtype_name(layer->k_dtype),
                            adm_dtype_name(layer->v_dtype));
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
    if (status == ADM_OK) status = adm_replay_segments(r->trace, o->seq_lens, o->n_seq_lens, &r->segment, &r->n_segments, err);
    for (size_t c = 0; status == ADM_OK && c < o->n_codings; c++) {
        const adm_threshold_spec *thresholds = &o->codings[c].thresholds;
        status = adm_coding_check(&o->codings[c], &r->trace->shape, err);
        if (status == ADM_OK && thresholds->per_layer && r->trace->positions[r->segment[0].first_step] == 0)
            status = adm_fail(err, ADM_EINPUT,
                              "%s: thresholds '%s' cannot be calibrated: no token stands before the first "
                              "step; give fixed:a,b,c",
                              r->trace->path, thresholds->text);
    }
    return status;
}

adm_status adm_replay_check(const adm_trace *trace, const adm_replay_options *options, adm_error *err) {
    adm_replay r = {.trace = trace, .options = *options};
    adm_status status = check(&r, err);
    adm_free(&r.layer);
    adm_free(&r.segment);
    return status;
}

/* Layer steps of a segment that is to be replayed, for the progress. */
static uint64_t work_of(const adm_replay *r, const adm_segment *segment) {
    const adm_replay_options *o = &r->options;
    uint64_t n_timed = segment->n_steps < o->n_timed_steps ? segment->n_steps : o->n_timed_steps;
    return r->n_layers * (n_timed + (o->n_counters > 0 ? 0 : segment->n_steps));
}

/* --- The rows of the sweep ------------------------------------------------------------------------------------------ */

static adm_status add_row(adm_replay *r, adm_policy policy, adm_selection selection, size_t coding, adm_error *err) {
    adm_row *row = &r->row[r->n_rows++];
    *row = (adm_row){.policy = policy, .selection = selection, .coding = coding};
    adm_status status = adm_alloc(&row->slot, r->options.n_budgets * N_QUALITY, sizeof *row->slot, "rows of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&row->target, r->options.n_targets, sizeof *row->target, "rows of a sweep", err);
    return status;
}

/* Dense and the oracle of each head are always there: others are measured against them. */
static adm_status make_rows(adm_replay *r, adm_error *err) {
    const adm_replay_options *o = &r->options;
    adm_status status = adm_alloc(&r->row, 2 * ADM_N_POLICIES + o->n_codings, sizeof *r->row, "rows of a sweep", err);
    if (status == ADM_OK) status = add_row(r, ADM_POLICY_DENSE, ADM_SELECT_HEAD, 0, err);
    if (status == ADM_OK) status = add_row(r, ADM_POLICY_ORACLE, ADM_SELECT_HEAD, 0, err);
    for (adm_policy p = ADM_POLICY_ORACLE; status == ADM_OK && p < ADM_N_POLICIES; p++) {
        if (!o->policy[p]) continue;
        for (size_t c = 0; status == ADM_OK && p == ADM_POLICY_ADAMAS && c < o->n_codings; c++)
            status = add_row(r, p, o->codings[c].selection, c, err);
        if (p == ADM_POLICY_ADAMAS) continue;
        bool by_group = o->select_group[p] && p != ADM_POLICY_RANDOM, by_head = o->select_head[p] || !by_group;
        if (status == ADM_OK && by_head && p != ADM_POLICY_ORACLE) status = add_row(r, p, ADM_SELECT_HEAD, 0, err);
        if (status == ADM_OK && by_group) status = add_row(r, p, ADM_SELECT_GROUP, 0, err);
    }
    if (status == ADM_OK) status = adm_alloc(&r->target_metric, o->n_targets, sizeof *r->target_metric, "targets", err);
    if (status == ADM_OK) status = adm_alloc(&r->target_name, o->n_targets, sizeof *r->target_name, "targets", err);
    for (size_t i = 0; status == ADM_OK && i < o->n_targets; i++) {
        static const char *const meaning[] = {
            [ADM_TARGET_MASS] = "Smallest budget with which a head's selection keeps that much softmax mass",
            [ADM_TARGET_OUTPUT_REL_L2] = "Smallest budget with which a head's output_rel_l2 is at most that"};
        adm_target_name(&o->targets[i], r->target_name[i]);
        r->target_metric[i] = (adm_metric){r->target_name[i], "tokens", "lower", meaning[o->targets[i].kind]};
    }
    return status;
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
    uint32_t largest = options->budgets[options->n_budgets - 1];
    r->widest = largest < trace->n_tokens ? largest : trace->n_tokens;
    if (!options->policy[ADM_POLICY_ADAMAS]) r->options.n_codings = 0;
    status = check(r, err);
    if (status == ADM_OK) status = make_rows(r, err);
    if (status == ADM_OK) status = adm_quality_pass_open(r, err);
    if (status == ADM_OK) status = adm_stage_pass_open(r, err);
    if (status == ADM_OK && options->identify_input != NULL) status = options->identify_input(trace, err);
    if (status == ADM_OK) status = adm_store_trace(store, trace, &r->trace_id, err);
    if (status == ADM_OK) status = adm_alloc(&r->is_stored, r->n_segments, sizeof *r->is_stored, "segments", err);
    if (status == ADM_OK) status = adm_replay_find_stored(r, err);
    if (status == ADM_OK && options->timeline) status = adm_event_spool_open(&r->events, err);
    for (size_t i = 0; i < r->n_segments; i++) r->n_total += work_of(r, &r->segment[i]);
    if (status != ADM_OK) {
        adm_replay_close(&r);
        return status;
    }
    *out = r;
    return ADM_OK;
}

size_t adm_replay_n_resumed(const adm_replay *r) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_segments; i++) n += r->is_stored[i];
    return n;
}

void adm_replay_close(adm_replay **replay) {
    adm_replay *r = *replay;
    if (r == NULL) return;
    adm_replay_drop_segment(r);
    adm_event_spool_close(&r->events);
    adm_stage_pass_close(r);
    adm_quality_pass_close(r);
    for (size_t i = 0; i < r->n_rows; i++) {
        adm_free(&r->row[i].slot);
        adm_free(&r->row[i].target);
    }
    void *const owned[] = {&r->layer, &r->segment, &r->is_stored, &r->row, &r->target_metric, &r->target_name};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) adm_free(owned[i]);
    adm_free(replay);
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

adm_status adm_replay_interrupted(const adm_replay *r, const adm_segment *segment, adm_error *err) {
    return adm_fail(err, ADM_EINTERRUPTED,
                    "interrupted in %s at %u cached tokens; the lengths before it are kept, and "
                    "--resume goes on from there",
                    r->trace->path, segment->seq_len);
}

static adm_status run_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    const bool counts = r->options.n_counters > 0;
    adm_status status = adm_replay_begin_segment(r, segment, err);
    if (status == ADM_OK && (!counts || adm_replay_counts(r))) status = adm_stage_pass_run(r, segment, err);
    if (status == ADM_OK && !counts) status = adm_quality_pass_run(r, segment, err);
    return status == ADM_OK ? adm_replay_end_segment(r, segment, err) : status;
}

adm_status adm_replay_run(adm_replay *r, adm_probes *probes, adm_error *err) {
    r->probes = probes;
    adm_status status = adm_probes_start(probes, err);
    if (status != ADM_OK) return status;
    const adm_range session = {.kind = ADM_RANGE_SESSION, .variant = r->trace->name, .step = -1, .layer = -1};
    adm_probes_begin(probes, &session);
    for (size_t i = 0; status == ADM_OK && i < r->n_segments; i++) {
        if (!r->is_stored[i]) status = run_segment(r, &r->segment[i], err);
        else r->n_done += work_of(r, &r->segment[i]);
    }
    adm_probes_end(probes, &session);
    if (status == ADM_OK) status = adm_replay_end_session(r, err);
    adm_status stopped = adm_probes_stop(probes, status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : stopped;
}
