/* calibrate.c: tries codings on some steps of a trace and measures the best on the others. */
#include "core/calibrate/calibrate.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/calibrate/steps.h"
#include "core/policy/adamas.h"
#include "core/policy/sweep.h"
#include "core/replay/replay.h"
#include "core/system/hostinfo.h"

const char *const adm_calibrate_metrics[ADM_CALIBRATE_N_METRICS] = {"l1", "dot", "asym4", "asymmetric"};

/* What is tried of each: thresholds of the layer, with channels centred, by channel, and scaled by channel. */
static const char *const candidates_of[ADM_CALIBRATE_N_METRICS] = {
    "adamas:metric=l1,thresholds=calibrated+centred+channel+scaled:0.5+scaled:0.75+scaled:1",
    "adamas:metric=dot,thresholds=calibrated+centred+channel+scaled:0.75+scaled:1+scaled:1.25",
    "adamas:metric=asym4,thresholds=scaled:0.5+scaled:0.6+scaled:0.7+scaled:0.8+scaled:0.9+scaled:1+scaled:1.1+scaled:1.2+"
    "scaled:1.3+scaled:1.4+scaled:1.5",
    "adamas:metric=asymmetric,thresholds=calibrated+centred+channel+scaled:0.75+scaled:1+scaled:1.25",
};

#define BASE "adamas:metric=l1,thresholds=calibrated"

/* What a calibration works on. */
typedef struct calibrating {
    const adm_calibrate_options *options;
    adm_some_steps fit, held_out;
    adm_sweep candidates;
    adm_store *scratch; /* of the fit */
    int64_t scratch_run;
    adm_store *store;
    int64_t run_id;
    adm_calibrate_result *result;
} calibrating;

/* --- Replaying -------------------------------------------------------------------------------------------------------- */

static adm_status replay_steps(const calibrating *c, const adm_some_steps *steps, const adm_sweep *sweep, adm_store *store,
                               int64_t run_id, adm_error *err) {
    adm_replay_options o = c->options->replay;
    adm_replay *replay = NULL;
    adm_probes probes = {0};
    o.n_timed_steps = 0;
    o.seq_lens = steps->seq_len;
    o.n_seq_lens = steps->n_seq_lens;
    o.variants = sweep->variant;
    o.n_variants = sweep->n_variants;
    o.check_input = o.identify_input = NULL; /* the steps are no file's; the caller checks the whole trace */
    adm_status status = adm_replay_open(&steps->trace, &o, store, run_id, &replay, err);
    if (status == ADM_OK) status = adm_replay_run(replay, &probes, err);
    adm_replay_close(&replay);
    return status;
}

/* The mean mass that a variant kept in a layer, or with layer -1 in all, over lengths, heads, steps and budgets. */
static adm_status mean_mass(adm_store *store, int64_t run_id, const char *policy, const char *variant, int32_t layer,
                            double *mass, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        store,
        "SELECT sum(m.mean * m.n) / sum(m.n) FROM measurement m JOIN config c USING (config_id) "
        "JOIN metric k USING (metric_id) WHERE m.run_id = ? AND c.policy = ? AND c.variant = ? AND k.name = 'mass' "
        "AND m.status = 'ok' AND m.layer >= 0 AND "
        "(? < 0 OR m.layer = ?)",
        &query, err, "issii", run_id, policy, variant, (int64_t)layer, (int64_t)layer);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && (!row || adm_query_is_null(query, 0)))
        status = adm_fail(err, ADM_EINTERNAL, "no mass was measured of %s %s in layer %d", policy, variant, layer);
    if (status == ADM_OK) *mass = adm_query_double(query, 0);
    adm_query_close(&query);
    return status;
}

static adm_status mass_of(adm_store *store, int64_t run_id, const adm_variant *variant, int32_t layer, double *mass,
                          adm_error *err) {
    char name[ADM_VARIANT_NAME_BYTES];
    adm_variant_name(variant, name);
    return mean_mass(store, run_id, variant->policy->name, name, layer, mass, err);
}

/* --- Fitting ---------------------------------------------------------------------------------------------------------- */

static adm_status list_candidates(calibrating *c, adm_error *err) {
    char *text = NULL;
    size_t n_bytes = sizeof BASE;
    for (size_t m = 0; m < ADM_CALIBRATE_N_METRICS; m++) n_bytes += strlen(candidates_of[m]) + 1;
    adm_status status = adm_alloc(&text, n_bytes, 1, "candidates", err);
    if (status != ADM_OK) return status;
    memcpy(text, BASE, sizeof BASE); /* the first, so that of equals it stays */
    for (size_t m = 0; m < ADM_CALIBRATE_N_METRICS; m++)
        if (c->options->metric[m]) strcat(strcat(text, ","), candidates_of[m]);
    status = adm_sweep_parse(text, NULL, 0, &c->candidates, err);
    adm_free(&text);
    return status;
}

/* Whether the base is only measured, because l1 was not asked for. */
static bool is_candidate(const calibrating *c, size_t v) { return v > 0 || c->options->metric[0]; }

/* The candidate that keeps most, the first of equals, in a layer or with layer -1 in all. */
static adm_status choose(const calibrating *c, int32_t layer, adm_coding *coding, double *mass, double *base, adm_error *err) {
    size_t best = SIZE_MAX;
    adm_status status = ADM_OK;
    *mass = -1;
    for (size_t v = 0; status == ADM_OK && v < c->candidates.n_variants; v++) {
        double kept = 0;
        status = mass_of(c->scratch, c->scratch_run, &c->candidates.variant[v], layer, &kept, err);
        if (v == 0) *base = kept;
        if (status != ADM_OK || !is_candidate(c, v) || kept <= *mass) continue;
        best = v;
        *mass = kept;
    }
    if (status == ADM_OK && best == SIZE_MAX) status = adm_fail(err, ADM_EINPUT, "--metrics: none is left to try");
    if (status == ADM_OK) *coding = *adm_adamas_coding(&c->candidates.variant[best]);
    return status;
}

static void describe_model(const adm_trace *trace, adm_calibration *calibration) {
    calibration->shape = trace->shape;
    snprintf(calibration->model, sizeof calibration->model, "%s", trace->model);
    for (size_t i = 0; i < trace->n_meta; i++)
        if (strcmp(trace->meta[i].key, "weights_sha256") == 0)
            snprintf(calibration->weights_sha256, sizeof calibration->weights_sha256, "%s", trace->meta[i].value);
}

/* The layers that the replay took, from what it stored. */
static adm_status list_layers(calibrating *c, adm_error *err) {
    adm_calibrate_result *r = c->result;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_alloc(&r->layer, c->fit.trace.n_layers, sizeof *r->layer, "layers", err);
    if (status == ADM_OK)
        status = adm_alloc(&r->calibration.layer, c->fit.trace.n_layers, sizeof *r->calibration.layer, "layers", err);
    if (status == ADM_OK)
        status = adm_query_open(c->scratch, "SELECT DISTINCT layer FROM measurement WHERE run_id = ? AND layer >= 0 ORDER BY 1",
                                &query, err, "i", c->scratch_run);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        r->layer[r->n_layers++].layer = (int32_t)adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

static adm_status fit(calibrating *c, adm_error *err) {
    adm_calibrate_result *r = c->result;
    adm_run_info info = {
        .label = "", .command = "calibrate", .argv_json = "[]", .gpu_reason = "a calibration runs on the host"};
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info_host(&info, &host);
    adm_status status = adm_store_open_scratch(&c->scratch, err);
    if (status == ADM_OK) status = adm_store_begin_run(c->scratch, &info, &c->scratch_run, err);
    if (status == ADM_OK) status = replay_steps(c, &c->fit, &c->candidates, c->scratch, c->scratch_run, err);
    if (status == ADM_OK) status = list_layers(c, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_layers; i++) {
        adm_calibration_layer *own = &r->calibration.layer[r->calibration.n_layers++];
        own->number = (uint32_t)r->layer[i].layer;
        status = choose(c, r->layer[i].layer, &own->coding, &r->layer[i].fitted, &r->layer[i].fitted_base, err);
    }
    double of_one;
    if (status == ADM_OK) status = choose(c, -1, &r->calibration.other, &of_one, &r->all.fitted_base, err);
    for (size_t i = 0; i < r->n_layers; i++) r->all.fitted += r->layer[i].fitted / (double)r->n_layers;
    return status;
}

/* --- Held-out steps --------------------------------------------------------------------------------------------------- */

/* The exact top-k, the base, the best for all layers, and the calibration itself. */
static adm_status list_measured(const calibrating *c, adm_sweep *sweep, adm_variant *uniform, adm_variant *calibrated,
                                adm_error *err) {
    const adm_coding *other = &c->result->calibration.other;
    adm_sweep one = {0};
    char text[160];
    snprintf(text, sizeof text, "adamas:metric=%s,thresholds=%s", adm_code_metric_name(other->metric), other->thresholds.text);
    adm_status status = adm_sweep_parse("oracle," BASE, NULL, 0, sweep, err);
    if (status == ADM_OK) status = adm_sweep_parse(text, NULL, 0, &one, err);
    if (status != ADM_OK) return status;
    *uniform = *calibrated = one.variant[0];
    adm_adamas_calibrate(calibrated, &c->result->calibration);
    status = adm_sweep_add(sweep, uniform, err);
    if (status == ADM_OK) status = adm_sweep_add(sweep, calibrated, err);
    adm_sweep_clear(&one);
    return status;
}

static adm_status read_layer(const calibrating *c, const adm_sweep *sweep, const adm_variant *calibrated,
                             adm_calibrate_layer *layer, adm_error *err) {
    const int32_t at = layer == &c->result->all ? -1 : layer->layer;
    const adm_variant *oracle = &sweep->variant[0], *base = &c->candidates.variant[0];
    adm_status status = mass_of(c->store, c->run_id, calibrated, at, &layer->held_out, err);
    if (status == ADM_OK) status = mass_of(c->store, c->run_id, oracle, at, &layer->exact, err);
    return status == ADM_OK ? mass_of(c->store, c->run_id, base, at, &layer->base, err) : status;
}

static adm_status measure(const calibrating *c, adm_error *err) {
    adm_calibrate_result *r = c->result;
    adm_sweep sweep = {0};
    adm_variant uniform, calibrated;
    adm_status status = list_measured(c, &sweep, &uniform, &calibrated, err);
    if (status == ADM_OK) status = replay_steps(c, &c->held_out, &sweep, c->store, c->run_id, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_layers; i++) status = read_layer(c, &sweep, &calibrated, &r->layer[i], err);
    r->all.layer = -1;
    if (status == ADM_OK) status = read_layer(c, &sweep, &calibrated, &r->all, err);
    if (status == ADM_OK) status = mass_of(c->store, c->run_id, &uniform, -1, &r->uniform, err);
    adm_sweep_clear(&sweep);
    return status;
}

/* --- Both ------------------------------------------------------------------------------------------------------------- */

adm_status adm_calibrate(const adm_trace *trace, const adm_calibrate_options *options, adm_store *store, int64_t run_id,
                         adm_calibrate_result *result, adm_error *err) {
    calibrating c = {.options = options, .store = store, .run_id = run_id, .result = result};
    int64_t trace_id;
    *result = (adm_calibrate_result){.n_layers = 0};
    describe_model(trace, &result->calibration);
    adm_status status = adm_steps_split(trace, &c.fit, &c.held_out, err);
    if (status == ADM_OK) status = list_candidates(&c, err);
    if (status == ADM_OK) status = adm_store_trace(store, trace, &trace_id, err); /* the whole, before some of its steps */
    if (status == ADM_OK) status = fit(&c, err);
    const char *doing = status == ADM_OK ? "the best ones were measured" : "sketches were tried";
    if (status == ADM_OK) status = measure(&c, err);
    if (status == ADM_EINTERRUPTED) /* a replay's own words would name --resume, and a database that nobody knows of */
        status = adm_fail(err, ADM_EINTERRUPTED,
                          "interrupted in %s while %s: no calibration was written; the same command begins anew", trace->path,
                          doing);
    result->n_candidates = c.candidates.n_variants - !options->metric[0];
    result->n_fit_steps = c.fit.trace.n_steps;
    result->n_held_out_steps = c.held_out.trace.n_steps;
    adm_store_close(&c.scratch);
    adm_sweep_clear(&c.candidates);
    adm_steps_free(&c.fit);
    adm_steps_free(&c.held_out);
    return status;
}

void adm_calibrate_clear(adm_calibrate_result *result) {
    adm_calibration_clear(&result->calibration);
    adm_free(&result->layer);
    result->n_layers = 0;
}
