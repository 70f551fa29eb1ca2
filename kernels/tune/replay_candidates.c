/* replay_candidates.c: see replay_candidates.h. */
#include "kernels/tune/replay_candidates.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/adamas.h"
#include "core/replay/session/segment.h"
#include "core/system/hostinfo.h"
#include "kernels/tune/pipeline.h"
#include "kernels/tune/record.h"
#include "kernels/tune/host/trace_source.h"

static const uint64_t limit_ns = 10000000000u,
                      cap_ns = 300000000u; /* tune's default is 500 ms, and a replay has more configurations */

void adm_replay_candidates_close(adm_replay_candidates *p) {
    for (size_t i = 0; p->session != NULL && i < p->n_sessions; i++) adm_tune_session_close(&p->session[i]);
    adm_free(&p->session);
    p->n_sessions = 0;
}

/* --- Opening -------------------------------------------------------------------------------------------------------- */

static adm_tune_session *session_of(adm_replay_candidates *p, adm_stage stage) {
    for (size_t i = 0; i < p->n_sessions; i++)
        if (p->session[i].stage == stage) return &p->session[i];
    p->session[p->n_sessions] = (adm_tune_session){.stage = stage, .no_search = true, .options.limit_ns = limit_ns};
    return &p->session[p->n_sessions++];
}

static bool has_row(const adm_tune_list *list, const adm_host_impl *row) {
    for (size_t i = 0; i < list->n; i++)
        if (list->c[i].host_row == row) return true;
    return false;
}

/* In front of the candidates: the rows of the other pipelines, and last, as the default, the replay's own. */
static adm_status add_rows(adm_replay_candidates *p, adm_stage stage, const adm_host_pipeline *pipeline,
                           const adm_host_pipeline *others, size_t n_others, adm_error *err) {
    adm_host_pipeline own = *pipeline;
    const adm_host_impl *const mine = *adm_pipeline_slot(&own, stage);
    adm_tune_list rows = {0};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < n_others && status == ADM_OK; i++) {
        adm_host_pipeline other = others[i];
        const adm_host_impl *row = *adm_pipeline_slot(&other, stage);
        if (row != mine && !has_row(&rows, row)) status = adm_tune_add_rows(&rows, stage, false, row->name, err);
    }
    bool is_asked = rows.n > 0;
    for (size_t i = 0; i < p->n_sessions; i++) is_asked |= p->session[i].stage == stage;
    if (status == ADM_OK && is_asked) {
        adm_tune_session *s = session_of(p, stage);
        status = adm_tune_add_rows(&rows, stage, false, mine->name, err);
        if (status == ADM_OK) status = adm_tune_append(&rows, &s->list[0], err);
        if (status == ADM_OK) {
            adm_free(&s->list[0].c);
            s->list[0] = rows;
            return ADM_OK;
        }
    }
    adm_free(&rows.c);
    return status;
}

adm_status adm_replay_candidates_open(const adm_bring *bring, const adm_host_pipeline *pipeline,
                                      const adm_host_pipeline *others, size_t n_others, bool quiet, adm_replay_candidates *p,
                                      adm_error *err) {
    const adm_tune_options options = {.limit_ns = limit_ns};
    *p = (adm_replay_candidates){.session = NULL};
    adm_status status = adm_bring_sessions(bring, &options, &p->session, &p->n_sessions, err);
    for (size_t i = 0; i < p->n_sessions && status == ADM_OK; i++) {
        const adm_tune_session *s = &p->session[i];
        if (s->list[1].n > 0)
            status = adm_fail(err, ADM_EINPUT,
                              "--candidate: %s is for a GPU, and replay runs the host's stages; `adamas profile` and `adamas "
                              "tune` take it",
                              s->list[1].c[0].path);
        else if (s->stage == ADM_STAGE_APPEND || s->stage == ADM_STAGE_STEP)
            status = adm_fail(err, ADM_EINPUT, "--candidate: the stage %s has no function of its own on the host",
                              adm_stage_name(s->stage));
    }
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_DENSE && status == ADM_OK; stage++)
        if (stage != ADM_STAGE_APPEND && stage != ADM_STAGE_STEP) status = add_rows(p, stage, pipeline, others, n_others, err);
    for (size_t i = 0; i < p->n_sessions && status == ADM_OK; i++) {
        p->session[i].quiet = quiet;
        status = adm_tune_session_prepare(&p->session[i], err);
    }
    return status;
}

/* --- Running -------------------------------------------------------------------------------------------------------- */

/* A replay of one trace. */
typedef struct trace_run {
    adm_replay_candidates *p;
    const adm_trace *trace;
    const adm_replay_options *o;
    adm_tune_record record;
    adm_tune_options options; /* of the configuration at hand */
    adm_error *err;
} trace_run;

/* The selection rule of the coding whose stages the replay times. */
static adm_select_rule rule_of(const adm_replay_options *o, uint32_t budget) {
    for (size_t v = 0; v < o->n_variants; v++) {
        const adm_coding *coding = adm_adamas_coding(&o->variants[v]);
        if (coding != NULL) return adm_coding_rule(coding, budget);
    }
    return (adm_select_rule){.budget = budget};
}

/* The first replayed layer: what a candidate is timed on. */
static const adm_trace_layer *layer_of(const adm_trace *trace, const adm_replay_options *o) {
    for (size_t i = 0; i < trace->n_layers; i++) {
        const adm_trace_layer *l = &trace->layers[i];
        bool is_asked = o->n_layers == 0;
        for (size_t k = 0; k < o->n_layers; k++) is_asked |= o->layers[k] == l->index;
        if (is_asked && l->index >= o->n_dense_layers) return l;
    }
    return &trace->layers[0];
}

static adm_status judge_one(trace_run *r, adm_tune_session *s, uint32_t budget) {
    r->options.rule = rule_of(r->o, budget);
    const bool has_checked = s->options.skips_small;
    bool all_right = true;
    s->options = r->options;
    s->options.skips_small = has_checked;
    s->seed = 0;
    adm_status status = adm_tune_session_judge(s, r->err);
    for (size_t i = 0; status == ADM_OK && i < s->list[0].n; i++) {
        all_right &= s->result[0][i].status == ADM_OK;
        adm_tune_tally_add(&r->p->tally, &s->list[0].c[i], &s->result[0][i]);
        status = adm_tune_record_put(&r->record, &s->list[0].c[i], &s->result[0][i], r->err);
    }
    adm_tune_session_forget(s);
    s->options.skips_small |= all_right; /* one that was wrong, or was not looked at, is checked again */
    return status;
}

static adm_status judge_segment(trace_run *r, const adm_segment *segment) {
    adm_trace_source *source = NULL;
    const adm_trace_place place = {.layer = layer_of(r->trace, r->o),
                                   .first_step = segment->first_step,
                                   .n_steps = segment->n_steps,
                                   .n_tokens = (uint32_t)r->trace->positions[segment->first_step] + 1};
    adm_status status = adm_trace_source_open(r->trace, &place, &source, r->err);
    r->options.dtype = place.layer->k_dtype;
    r->options.n_tokens = place.n_tokens;
    r->options.seq_len = segment->seq_len;
    r->options.source = source;
    for (size_t i = 0; status == ADM_OK && i < r->p->n_sessions; i++) {
        const adm_stage stage = r->p->session[i].stage;
        const bool by_budget = stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION;
        for (size_t b = 0; status == ADM_OK && b < (by_budget ? r->o->n_budgets : 1); b++) {
            if (r->o->should_stop != NULL && r->o->should_stop())
                status = adm_fail(r->err, ADM_EINTERRUPTED, "interrupted while candidates were judged at %u tokens",
                                  segment->seq_len);
            if (status == ADM_OK) status = judge_one(r, &r->p->session[i], r->o->budgets[b]);
        }
    }
    adm_trace_source_close(&source);
    return status;
}

adm_status adm_replay_candidates_run(adm_replay_candidates *p, const adm_trace *trace, const adm_replay_options *o,
                                     adm_store *store, int64_t run_id, adm_error *err) {
    adm_segment *segments = NULL;
    size_t n = 0;
    adm_host_info host;
    if (p->n_sessions == 0) return ADM_OK;
    adm_host_info_read(&host);
    trace_run r = {.p = p, .trace = trace, .o = o, .err = err};
    r.options = (adm_tune_options){.shape = trace->shape,
                                   .limit_ns = limit_ns,
                                   .cap_ns = cap_ns,
                                   .target = 0.01,
                                   .should_stop = o->should_stop,
                                   .scale = trace->softmax_scale};
    r.record = (adm_tune_record){.store = store, .run_id = run_id, .options = &r.options, .device = host.cpu_model};
    adm_status status = adm_store_trace(store, trace, &r.options.trace_id, err);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    if (status == ADM_OK) status = adm_replay_segments(trace, o->seq_lens, o->n_seq_lens, &segments, &n, err);
    for (size_t i = 0; i < n && status == ADM_OK; i++)
        if (o->is_elsewhere == NULL || !o->is_elsewhere[i]) status = judge_segment(&r, &segments[i]);
    adm_free(&segments);
    return status;
}
