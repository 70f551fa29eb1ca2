/* replay.c: a replay from opening to closing: the session, the states of its policies, both passes and the recorder. */
#include "core/replay/replay.h"

#include "core/base/mem.h"
#include "core/policy/adamas.h"
#include "core/replay/quality_pass.h"
#include "core/replay/recorder.h"
#include "core/replay/session/session.h"
#include "core/replay/stage_pass.h"

struct adm_replay {
    adm_session session;
    adm_policy_set *set;       /* the states of the session's rows */
    adm_pool *pool;
    uint32_t *layer_number;    /* [n_layers] the model's */
    const float **thresholds;  /* [n_layers] of the contract */
    adm_advance advance;
    adm_stage_pass stages;
    adm_quality_pass quality;
    adm_recorder recorder;
};

adm_status adm_replay_check(const adm_trace *trace, const adm_replay_options *options, adm_error *err) {
    adm_session session;
    adm_status status = adm_session_open(trace, options, &session, err);
    if (status == ADM_OK) adm_session_close(&session);
    return status;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static bool counts(const adm_replay *r) { return r->session.options.n_counters > 0; }

static bool takes_quality(const adm_replay *r) { return adm_session_takes_quality(&r->session); }

/* Without quality the policies learn, and no key is ever appended. */
static adm_status open_policies(adm_replay *r, adm_error *err) {
    const adm_session *s = &r->session;
    adm_status status = adm_alloc(&r->layer_number, s->n_layers, sizeof *r->layer_number, "numbers of layers", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < s->n_layers; i++) r->layer_number[i] = s->layer[i]->index;
    const adm_policy_setup setup = {.pipeline = s->options.pipeline,
                                    .weights = s->options.quality->weights,
                                    .shape = s->trace->shape,
                                    .n_tokens = takes_quality(r) ? s->trace->n_tokens : 0,
                                    .n_held_heads = adm_quality_pass_held_heads(s),
                                    .n_layers = s->n_layers,
                                    .layer_number = r->layer_number,
                                    .max_selected = s->budgets.widest,
                                    .max_budgets = s->budgets.n};
    size_t n_threads = s->options.n_threads;
    status = adm_policy_set_open(&setup, s->row, s->n_rows, &r->set, err);
    if (status == ADM_OK && takes_quality(r))
        adm_quality_pass_plan(s, r->set, &r->recorder.quality, &r->advance, &r->quality, &n_threads);
    if (status == ADM_OK) status = adm_pool_create(n_threads, &r->pool, err);
    if (status == ADM_OK && takes_quality(r)) status = adm_quality_pass_start(&r->quality, r->pool, err);
    return status;
}

/* What takes long before the first step: what policies learn of a layer, a task a layer, and the scratch, whose pages the
 * system has to find and to clear, a task a thread. */
typedef struct preparation {
    adm_replay *r;
    adm_status *status; /* [tasks] */
    adm_error *err;
} preparation;

static void prepare_some(void *user, size_t task, size_t worker) {
    preparation *p = user;
    adm_replay *r = p->r;
    const adm_session *s = &r->session;
    (void)worker;
    if (task < s->n_layers) {
        const adm_policy_keys prompt = {.layer = task,
                                        .dtype = s->layer[task]->k_dtype,
                                        .k = s->layer[task]->k,
                                        .stride = s->trace->n_tokens,
                                        .n = adm_segment_prompt(s->trace, &s->segment[0])};
        p->status[task] = adm_policy_set_learn(r->set, &prompt, &p->err[task]);
    } else {
        p->status[task] = adm_quality_pass_make_worker(&r->quality, task - s->n_layers, &p->err[task]);
    }
}

static adm_status prepare(adm_replay *r, adm_error *err) {
    const size_t n_tasks = r->session.n_layers + (takes_quality(r) ? adm_pool_size(r->pool) : 0);
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

static adm_status open_stages(adm_replay *r, adm_error *err) {
    const adm_session *s = &r->session;
    adm_status status = adm_alloc(&r->thresholds, s->n_layers, sizeof *r->thresholds, "thresholds of layers", err);
    size_t variant;
    for (size_t layer = 0; status == ADM_OK && s->contract != NULL && layer < s->n_layers; layer++) {
        const adm_policy_state *state = adm_policy_set_state(r->set, s->contract_row, &variant);
        r->thresholds[layer] = adm_adamas_thresholds(state, variant, layer);
    }
    if (status != ADM_OK) return status;
    return adm_stage_pass_open(s, r->thresholds, &r->recorder.stages, r->recorder.events, &r->advance, &r->stages, err);
}

adm_status adm_replay_open(const adm_trace *trace, const adm_replay_options *options, adm_store *store, int64_t run_id,
                           adm_replay **out, adm_error *err) {
    adm_replay *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "replay", err);
    if (status == ADM_OK) status = adm_session_open(trace, options, &r->session, err);
    if (status == ADM_OK) status = open_policies(r, err);
    if (status == ADM_OK) status = prepare(r, err);
    if (status == ADM_OK) status = adm_recorder_open(&r->session, store, run_id, &r->recorder, err);
    if (status == ADM_OK) status = open_stages(r, err);
    for (size_t i = 0; status == ADM_OK && i < r->session.n_segments; i++)
        r->advance.n_total += adm_session_work(&r->session, &r->session.segment[i]);
    if (status != ADM_OK) adm_replay_close(&r);
    *out = r;
    return status;
}

void adm_replay_close(adm_replay **replay) {
    adm_replay *r = *replay;
    if (r == NULL) return;
    adm_recorder_close(&r->recorder);
    adm_stage_pass_close(&r->stages);
    adm_quality_pass_close(&r->quality);
    adm_policy_set_close(&r->set);
    adm_pool_free(&r->pool);
    adm_free(&r->thresholds);
    adm_free(&r->layer_number);
    adm_session_close(&r->session);
    adm_free(replay);
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    const adm_replay *r = replay;
    if (r->recorder.events != NULL) adm_event_spool_append(r->recorder.events, range, start_ns, end_ns);
}

void adm_replay_counter_sink(void *replay, const adm_range *range, const double *value) {
    adm_replay *r = replay;
    adm_stage_record_count(&r->recorder.stages, range, value);
}

static adm_status run_segment(adm_replay *r, adm_probes *probes, const adm_segment *segment, adm_error *err) {
    adm_status status = adm_recorder_begin_segment(&r->recorder, segment, err);
    if (status == ADM_OK && (!counts(r) || adm_stage_record_counts(&r->session)))
        status = adm_stage_pass_run(&r->stages, probes, segment, err);
    if (status == ADM_OK && takes_quality(r)) status = adm_quality_pass_run(&r->quality, segment, err);
    return status == ADM_OK ? adm_recorder_end_segment(&r->recorder, segment, r->set, err) : status;
}

adm_status adm_replay_run(adm_replay *r, adm_probes *probes, adm_error *err) {
    const adm_session *s = &r->session;
    adm_status status = adm_probes_start(probes, err);
    if (status != ADM_OK) return status;
    const adm_range session = {.kind = ADM_RANGE_SESSION, .variant = s->trace->name, .step = -1, .layer = -1};
    adm_probes_begin(probes, &session);
    for (size_t i = 0; status == ADM_OK && i < s->n_segments; i++) {
        if (!r->recorder.is_stored[i]) status = run_segment(r, probes, &s->segment[i], err);
        else r->advance.n_done += adm_session_work(s, &s->segment[i]);
    }
    adm_probes_end(probes, &session);
    if (status == ADM_OK) status = adm_recorder_end_session(&r->recorder, err);
    adm_status stopped = adm_probes_stop(probes, status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : stopped;
}
