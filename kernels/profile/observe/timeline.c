/* timeline.c: traces a profile's units. Each is called a few times in each launch mode, back to back. What the GPU did in each
 * call becomes rows of the tables activity and event, and figures of the call.
 *
 *     unit, mode     prepare sets 0..n-1, flush, wait
 *       call 0..n-1  begin { launch, or for a step each stage in a range of its own } end        nobody waits in between
 *       wait
 *     stop           activities come by range -> the call they belong to
 *
 * A graph is one launch, so all its kernels belong to the range of the call. It was captured from one stream, so they run in
 * the order of its nodes, and that order tells the stage of each kernel. */
#include "kernels/profile/observe/timeline.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

enum { N_CALLS = 5, MAX_HOST_EVENTS = 1 << 16 };

typedef struct call {
    adm_range range;                       /* as begun */
    const adm_profile_unit *unit;
    bool is_graph;
    size_t n_nodes[ADM_MAX_UNIT_IMPLS];    /* of a graph: nodes up to and with each implementation's */
    uint64_t start_ns, end_ns;             /* on the GPU; of what has been delivered so far */
    double busy_ns;                        /* time in which something of it ran */
    size_t n_kernels, n_activities;
} call;

typedef struct host_event {
    adm_range range;
    uint64_t start_ns, end_ns;
} host_event;

struct adm_profile_timeline {
    call *call;
    size_t n_calls, at;                    /* at: the call being delivered */
    uint64_t busy_until_ns;                /* the latest end of what was delivered */
    host_event *host;                      /* [MAX_HOST_EVENTS] */
    size_t n_host, n_host_lost;
};

adm_status adm_profile_timeline_open(adm_profile_timeline **out, adm_error *err) {
    adm_profile_timeline *t = NULL;
    adm_status status = adm_alloc(&t, 1, sizeof *t, "a timeline", err);
    if (status == ADM_OK) status = adm_alloc(&t->host, MAX_HOST_EVENTS, sizeof *t->host, "a timeline", err);
    if (status == ADM_OK) *out = t;
    else adm_profile_timeline_close(&t);
    return status;
}

void adm_profile_timeline_close(adm_profile_timeline **timeline) {
    if (*timeline == NULL) return;
    adm_free(&(*timeline)->call);
    adm_free(&(*timeline)->host);
    adm_free(timeline);
}

/* --- Sinks -------------------------------------------------------------------------------------------------------- */

void adm_profile_range_sink(void *observer, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_profile_timeline *t = ((adm_profile_observer *)observer)->timeline;
    if (t->n_host < MAX_HOST_EVENTS) t->host[t->n_host++] = (host_event){*range, start_ns, end_ns};
    else t->n_host_lost++;
}

/* Whether a range is a call's own or inside it. Stages that share the name of their implementation share a configuration. */
static bool is_of(const adm_range *call_range, const adm_range *range) {
    return call_range->config_id == range->config_id && call_range->step == range->step &&
           (call_range->kind == ADM_RANGE_STEP || call_range->stage == range->stage);
}

/* Ranges are delivered in the order in which they began, and so are calls. */
static call *call_of(adm_profile_timeline *t, const adm_range *range) {
    for (; t->at < t->n_calls; t->at++)
        if (is_of(&t->call[t->at].range, range)) return &t->call[t->at];
    return NULL;
}

/* The range of the stage that an activity belongs to: its own, or inside a graph that of its node. */
static adm_range stage_of(const call *c, const adm_range *range, size_t i, size_t n) {
    adm_range stage = *range;
    if (c == NULL || !c->is_graph) return stage;
    if (c->n_nodes[c->unit->n_impls - 1] != n) return stage; /* not the graph that was captured: nobody knows */
    size_t k = 0;
    while (i >= c->n_nodes[k]) k++;
    stage.kind = ADM_RANGE_STAGE;
    stage.stage = c->unit->impl[k]->stage;
    stage.variant = c->unit->impl[k]->name;
    return stage;
}

/* Since when an activity is the one that the GPU works on: a dependent launch starts while the kernel before it still
 * runs, and waits for it. */
static uint64_t own_start(const adm_profile_timeline *t, const adm_activity *a) {
    uint64_t from = a->start_ns > t->busy_until_ns ? a->start_ns : t->busy_until_ns;
    return from < a->end_ns ? from : a->end_ns;
}

static void add_to_call(adm_profile_timeline *t, call *c, const adm_activity *a) {
    uint64_t from = own_start(t, a);
    if (c->n_activities++ == 0) c->start_ns = from;
    c->busy_ns += (double)(a->end_ns - from);
    if (a->end_ns > t->busy_until_ns) t->busy_until_ns = a->end_ns;
    c->end_ns = t->busy_until_ns;
    c->n_kernels += a->kind == ADM_ACTIVITY_KERNEL;
}

void adm_profile_activity_sink(void *observer, const adm_range *range, const adm_activity *activity, size_t n) {
    adm_profile_observer *o = observer;
    call *c = range != NULL ? call_of(o->timeline, range) : NULL;
    if (c == NULL) return; /* the session's own: preparing, flushing */
    for (size_t i = 0, end; o->sink_status == ADM_OK && i < n; i = end) {
        const adm_range stage = stage_of(c, range, i, n);
        uint64_t first_ns = own_start(o->timeline, &activity[i]), last_ns = activity[i].end_ns;
        for (end = i; end < n && o->sink_status == ADM_OK; end++) {
            adm_range other = stage_of(c, range, end, n);
            if (other.kind != stage.kind || other.stage != stage.stage) break;
            o->sink_status = adm_store_activity(o->store, o->run_id, &stage, &activity[end], &o->sink_error);
            add_to_call(o->timeline, c, &activity[end]);
            if (activity[end].end_ns > last_ns) last_ns = activity[end].end_ns;
        }
        if (o->sink_status == ADM_OK && stage.kind == ADM_RANGE_STAGE)
            o->sink_status = adm_store_event(o->store, o->run_id, &stage, "gpu", first_ns, last_ns, &o->sink_error);
    }
}

/* --- Calling ------------------------------------------------------------------------------------------------------ */

/* The implementations one after another, those of a step each in a range of its own. c->n_nodes is filled in while a
 * graph is captured. */
static adm_status launch_stages(adm_profile_observer *o, const adm_profile_subject *s, call *c, uint32_t set, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->unit->n_impls; i++) {
        adm_range stage = c->range;
        bool bracketed = c->range.kind == ADM_RANGE_STEP && !c->is_graph;
        stage.kind = ADM_RANGE_STAGE;
        stage.stage = c->unit->impl[i]->stage;
        stage.variant = c->unit->impl[i]->name;
        if (bracketed) adm_probes_begin(&o->tracing, &stage);
        status = adm_gpu_case_launch(s->gpu_case, c->unit->impl[i], set, err);
        if (bracketed) adm_probes_end(&o->tracing, &stage);
        if (status == ADM_OK && c->is_graph) status = adm_gpu_graph_nodes(o->gpu, &c->n_nodes[i], err);
    }
    return status;
}

static adm_status capture(adm_profile_observer *o, const adm_profile_subject *s, call *c, uint32_t set, adm_gpu_graph **graph,
                          adm_error *err) {
    adm_status status = adm_gpu_graph_begin(o->gpu, err);
    if (status != ADM_OK) return status;
    status = launch_stages(o, s, c, set, err);
    adm_status ended = adm_gpu_graph_end(o->gpu, graph, status == ADM_OK ? err : NULL);
    return status == ADM_OK ? ended : status;
}

/* The calls of one unit in one mode, with everything prepared before the first. */
static adm_status call_unit(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *unit, bool is_graph,
                            int64_t config_id, adm_error *err) {
    adm_profile_timeline *t = o->timeline;
    adm_gpu_graph *graph[N_CALLS] = {NULL};
    call *calls = &t->call[t->n_calls];
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < N_CALLS; i++) {
        const uint32_t set = i % s->n_sets;
        calls[i] = (call){.unit = unit,
                          .is_graph = is_graph,
                          .range = {.kind = unit->stage == ADM_STAGE_STEP ? ADM_RANGE_STEP : ADM_RANGE_STAGE,
                                    .stage = unit->stage,
                                    .variant = unit->variant,
                                    .config_id = config_id,
                                    .step = (int32_t)i,
                                    .layer = -1,
                                    .seq_len = s->seq_len,
                                    .budget = unit->budget}};
        status = adm_profile_prepare_set(s, unit, set, err);
        for (size_t k = 0; status == ADM_OK && k < unit->n_impls; k++) /* loads the kernels, too */
            status = adm_gpu_case_launch(s->gpu_case, unit->impl[k], set, err);
        if (status == ADM_OK && is_graph) status = capture(o, s, &calls[i], set, &graph[i], err);
    }
    if (status == ADM_OK && s->cold) status = adm_gpu_flush_l2(o->flusher, err);
    if (status == ADM_OK) status = adm_gpu_wait(o->gpu, err);
    for (uint32_t i = 0; status == ADM_OK && i < N_CALLS; i++) {
        t->n_calls++;
        adm_probes_begin(&o->tracing, &calls[i].range);
        status = is_graph ? adm_gpu_graph_launch(graph[i], err) : launch_stages(o, s, &calls[i], i % s->n_sets, err);
        adm_probes_end(&o->tracing, &calls[i].range);
    }
    adm_status done = adm_gpu_wait(o->gpu, status == ADM_OK ? err : NULL);
    for (int i = 0; i < N_CALLS; i++) adm_gpu_graph_free(&graph[i]);
    return status == ADM_OK ? done : status;
}

/* --- Storing ------------------------------------------------------------------------------------------------------ */

static const adm_metric kernel_metric = {
    "kernel_time_ns", "ns", "lower",
    "Time of one call in which one of its kernels ran; where a kernel was launched before the "
    "one before it ended, from that end on. Caveat: of the traced run, which is slower"};
static const adm_metric gap_metric = {
    "launch_gap_ns", "ns", "lower",
    "Time of one call, from its first kernel's start to its last one's end, in which the GPU did "
    "nothing. Caveat: of the traced run"};
static const adm_metric launches_metric = {"kernel_launches", "1", "none", "Kernels of one call"};
static const adm_metric dropped_metric = {"activity_dropped", "1", "lower",
                                          "GPU activity records of this configuration's trace that were lost"};
static const adm_metric *const metrics[] = {&kernel_metric, &gap_metric, &launches_metric, &dropped_metric};
enum { N_METRICS = sizeof metrics / sizeof metrics[0] };

/* One metric of the calls of one configuration; reason: why there are none. */
static adm_status put_metric(adm_profile_observer *o, const adm_metric *metric, const call *calls, size_t n_calls,
                             const char *reason, adm_error *err) {
    double values[N_CALLS], sorted[N_CALLS];
    size_t n = 0;
    for (size_t i = 0; reason == NULL && i < n_calls; i++) {
        const call *c = &calls[i];
        if (c->n_activities == 0 && metric != &dropped_metric) continue;
        if (metric == &kernel_metric) values[n++] = c->busy_ns;
        if (metric == &gap_metric) values[n++] = (double)(c->end_ns - c->start_ns) - c->busy_ns;
        if (metric == &launches_metric) values[n++] = (double)c->n_kernels;
    }
    if (metric == &dropped_metric && reason == NULL && o->n_dropped != NULL) values[n++] = (double)o->n_dropped(o->trace_user);
    memcpy(sorted, values, n * sizeof *values);
    adm_distribution distribution = adm_distribution_of(sorted, n);
    adm_measurement m = {.run_id = o->run_id,
                         .config_id = calls[0].range.config_id,
                         .source = "gpu",
                         .stage = adm_stage_name(calls[0].range.stage),
                         .layer = -1,
                         .head = -1,
                         .metric = metric,
                         .status = "skipped",
                         .reason = reason != NULL ? reason : "the trace holds nothing of it"};
    if (n > 0) {
        m.status = "ok";
        m.reason = NULL;
        m.distribution = &distribution;
        m.samples = values;
        m.n_samples = n;
    }
    return adm_store_measurement(o->store, &m, err);
}

static adm_status put_calls(adm_profile_observer *o, adm_error *err) {
    const adm_profile_timeline *t = o->timeline;
    adm_status status = ADM_OK;
    for (size_t i = 0, n; status == ADM_OK && i < t->n_calls; i += n) {
        const call *first = &t->call[i];
        for (n = 0; i + n < t->n_calls && first[n].unit == first->unit && first[n].is_graph == first->is_graph; n++) {
            if (status == ADM_OK && first[n].range.kind == ADM_RANGE_STEP && first[n].n_activities > 0)
                status = adm_store_event(o->store, o->run_id, &first[n].range, "gpu", first[n].start_ns, first[n].end_ns, err);
        }
        for (int m = 0; status == ADM_OK && m < N_METRICS; m++) status = put_metric(o, metrics[m], first, n, NULL, err);
    }
    for (size_t i = 0; status == ADM_OK && i < t->n_host; i++)
        status = adm_store_event(o->store, o->run_id, &t->host[i].range, "host", t->host[i].start_ns, t->host[i].end_ns, err);
    return status;
}

static adm_status put_untraced(adm_profile_observer *o, const adm_profile_unit *unit, int64_t config_id, const char *reason,
                               adm_error *err) {
    const call none = {.range = {.stage = unit->stage, .config_id = config_id}};
    adm_status status = ADM_OK;
    if (o->untraced[0] == '\0') snprintf(o->untraced, sizeof o->untraced, "%.300s", reason);
    for (int m = 0; status == ADM_OK && m < N_METRICS; m++) status = put_metric(o, metrics[m], &none, 1, reason, err);
    return status;
}

/* --- All of it ---------------------------------------------------------------------------------------------------- */

/* Calls every unit in every mode asked for. What cannot run is stored with its reason; `broken` says that nothing will. */
static adm_status call_all(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *units, size_t n_units,
                           const int64_t (*config_id)[2], const adm_error *broken, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_units; i++)
        for (int mode = 0; status == ADM_OK && mode < 2; mode++) {
            if (config_id[i][mode] == 0) continue;
            size_t n_before = o->timeline->n_calls;
            adm_error why = *broken;
            if (why.status == ADM_OK) call_unit(o, s, &units[i], mode == ADM_LAUNCH_GRAPH, config_id[i][mode], &why);
            if (why.status == ADM_OK) continue;
            o->timeline->n_calls = n_before; /* what was begun of it is not delivered either: no call takes it */
            status = put_untraced(o, &units[i], config_id[i][mode], why.text, err);
        }
    return status;
}

adm_status adm_profile_timeline_take(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *units,
                                     size_t n_units, adm_error *err) {
    static const char *const launch[2] = {[ADM_LAUNCH_GRAPH] = "graph", [ADM_LAUNCH_STREAM] = "stream"};
    adm_profile_timeline *t = o->timeline;
    int64_t(*config_id)[2] = NULL;
    adm_error broken = {0};
    t->n_calls = t->at = t->n_host = 0;
    t->busy_until_ns = 0;
    adm_free(&t->call);
    adm_status status = adm_alloc(&t->call, 2 * N_CALLS * n_units, sizeof *t->call, "traced calls", err);
    if (status == ADM_OK) status = adm_alloc(&config_id, n_units, sizeof *config_id, "traced configurations", err);
    for (size_t i = 0; status == ADM_OK && i < n_units; i++)
        for (int mode = 0; status == ADM_OK && mode < 2; mode++) {
            adm_config config = s->config(s->user, &units[i], launch[mode]);
            if (s->launch[mode]) status = adm_store_config(o->store, &config, &config_id[i][mode], err);
        }
    if (status == ADM_OK) status = adm_store_flush(o->store, err);
    if (status == ADM_OK) {
        adm_probes_start(&o->tracing, &broken);
        status = call_all(o, s, units, n_units, (const int64_t(*)[2])config_id, &broken, err);
        adm_error lost = {0};
        if (broken.status == ADM_OK) adm_probes_stop(&o->tracing, &lost);
        if (lost.status != ADM_OK && o->untraced[0] == '\0') snprintf(o->untraced, sizeof o->untraced, "%.300s", lost.text);
        if (status == ADM_OK && broken.status == ADM_OK) status = put_calls(o, err);
    }
    if (status == ADM_OK) status = adm_store_flush(o->store, err);
    adm_free(&config_id);
    return status;
}
