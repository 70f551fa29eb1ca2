/* cmd_replay.c: `adamas replay`: wires trace reader, host stages, probes and store to the replay engine. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/store/remove.h"
#include "core/store/runs_find.h"
#include "core/system/hostinfo.h"
#include "core/base/mem.h"
#include "core/replay/arguments.h"
#include "core/replay/summary.h"
#include "kernels/attention/quality.h"
#include "kernels/registry.h"
#include "probes/clock_probe.h"
#include "probes/nvtx_probe.h"
#include "probes/perf_probe.h"
#include "traces/format/trace_file.h"

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

/* Whether traces are to be told apart before the first is replayed. Where not, the engine waits for the hash (identify_input)
 * when it has done all that it can without. */
static bool needs_hashes(const adm_replay_command *c) {
    return c->n_paths > 1 || c->resume != NULL || c->fleet.shard.count > 0;
}

/* Opens and checks every trace before anything is written, so that bad input leaves no rows. */
static adm_status open_traces(const adm_replay_command *c, const adm_trace **traces, adm_error *err) {
    for (size_t i = 0; i < c->n_paths; i++) {
        adm_status status = adm_trace_open_early(c->paths[i], c->options.n_threads > 1, &traces[i], err);
        if (status == ADM_OK && c->calibration_path != NULL)
            status = adm_calibration_check(&c->calibration, c->calibration_path, c->paths[i], &traces[i]->shape, err);
        if (status == ADM_OK) status = adm_replay_check(traces[i], &c->options, err);
        if (status == ADM_OK) status = adm_trace_check_finite(traces[i], err);
        if (status == ADM_OK && needs_hashes(c)) status = adm_trace_wait_for_hash(traces[i], err);
        for (size_t j = 0; status == ADM_OK && j < i; j++)
            if (strcmp(traces[i]->xxh128, traces[j]->xxh128) == 0)
                status = adm_fail(err, ADM_EINPUT, "%s: is given twice (the same trace as %s)", c->paths[i], c->paths[j]);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static adm_status replay_trace(adm_replay_command *c, size_t i, const adm_trace *trace, adm_store *store, int64_t run_id,
                               adm_error *err) {
    adm_replay *replay = NULL;
    adm_nvtx_probe nvtx;
    adm_clock_probe clock;
    adm_probes probes = {0};
    if (!adm_replay_shards_has(&c->shards, i)) return ADM_OK;
    c->options.is_elsewhere = adm_replay_shards_elsewhere(&c->shards, i);
    adm_progress_start(&c->progress, trace->name, 0, c->common.quiet);
    adm_status status = adm_replay_open(trace, &c->options, store, run_id, &replay, err);
    if (status == ADM_OK) {
        adm_nvtx_probe_init(&nvtx);
        adm_clock_probe_init(&clock, adm_replay_range_sink, replay);
        status = adm_probes_attach(&probes, &nvtx.probe, err);
    }
    if (status == ADM_OK) status = adm_probes_attach(&probes, &clock.probe, err);
    if (status == ADM_OK) status = adm_replay_run(replay, &probes, err);
    adm_progress_end(&c->progress);
    adm_replay_close(&replay);
    return status;
}

/* The same work once more, counted: what counts would be in the times, and what times in the counts. */
static adm_status count_trace(adm_replay_command *c, size_t t, const adm_trace *trace, adm_store *store, int64_t run_id,
                              adm_error *err) {
    adm_replay *replay = NULL;
    adm_nvtx_probe nvtx;
    adm_perf_probe perf;
    adm_probes probes = {0};
    if (!adm_replay_shards_has(&c->shards, t)) return ADM_OK;
    adm_replay_options counted = c->options;
    counted.is_elsewhere = adm_replay_shards_elsewhere(&c->shards, t);
    adm_perf_probe_open(&perf, NULL, 0, NULL);
    counted.counters = perf.counter;
    counted.n_counters = perf.n_counters;
    for (size_t i = 0; i < perf.n_counters; i++)
        if (perf.counter[i].reason != NULL && c->uncounted[0] == '\0')
            snprintf(c->uncounted, sizeof c->uncounted, "%s", perf.counter[i].reason);
    adm_progress_start(&c->progress, "counters", 0, c->common.quiet);
    adm_status status = adm_replay_open(trace, &counted, store, run_id, &replay, err);
    adm_nvtx_probe_init(&nvtx);
    adm_perf_probe_deliver_to(&perf, adm_replay_counter_sink, replay);
    if (status == ADM_OK) status = adm_probes_attach(&probes, &nvtx.probe, err);
    if (status == ADM_OK) status = adm_probes_attach(&probes, &perf.probe, err);
    if (status == ADM_OK) status = adm_replay_run(replay, &probes, err);
    adm_progress_end(&c->progress);
    adm_replay_close(&replay);
    adm_perf_probe_close(&perf);
    return status;
}

static adm_status begin_run(adm_replay_command *c, adm_store *store, adm_fleet_run *run, adm_error *err) {
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "replay",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->seed_number,
                         .only_times = c->only_times,
                         .gpu_reason = "a replay runs on the host"};
    adm_run_info_host(&info, &host);
    if (c->resume == NULL) return adm_fleet_begin(&c->fleet, store, &info, run, err);
    run->is_resumed = true;
    adm_status status = adm_run_find(store, c->resume, ADM_RUNS_UNFINISHED, c->common.db_path, &run->run_id, err);
    if (status != ADM_OK) return status;
    return adm_store_resume_run(store, run->run_id, &info, err);
}

/* A run is of one set of files: those that it has values of must be among those given. */
static adm_status check_traces(const adm_replay_command *c, const adm_trace *const *traces, adm_store *store, int64_t run_id,
                               adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store,
                                       "SELECT DISTINCT t.xxh128, t.name FROM measurement m JOIN config c USING "
                                       "(config_id) JOIN trace t USING (trace_id) WHERE m.run_id = ?",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        size_t i = 0;
        while (i < c->n_paths && strcmp(traces[i]->xxh128, adm_query_text(query, 0)) != 0) i++;
        if (i == c->n_paths)
            status = adm_fail(err, ADM_EINPUT, "run %" PRId64 " cannot be resumed: %s is not the file that it has values of",
                              run_id, adm_query_text(query, 1));
    }
    adm_query_close(&query);
    return status;
}

/* The rows against the reference, on the types and sizes of these traces, before any is timed. Attention runs for its time
 * alone (a replay's figures come from `quality`), so its rows are left unchecked where no step is timed. */
static adm_status check_rows(adm_replay_command *c, const adm_trace *const *traces, adm_error *err) {
    const adm_host_impl *const attention = c->pipeline.attention, *const dense = c->pipeline.dense;
    const bool timed = c->options.n_timed_steps > 0;
    uint32_t head_dims = 0, dtypes = 1u << ADM_F32;
    for (size_t i = 0; i < c->n_paths; i++) {
        head_dims |= traces[i]->shape.head_dim;
        for (size_t l = 0; l < traces[i]->n_layers; l++)
            dtypes |= 1u << traces[i]->layers[l].k_dtype | 1u << traces[i]->layers[l].q_dtype;
    }
    if (!timed) c->pipeline.attention = c->pipeline.dense = NULL;
    adm_status status = adm_pipeline_check(&c->pipeline, head_dims, dtypes, c->seed_number, c->fault, &c->n_faults, err);
    if (!timed) c->pipeline.attention = attention, c->pipeline.dense = dense;
    return status;
}

/* A row that is wrong is a failed time, with the reason; the reference ran in its place. */
static adm_status put_faults(const adm_replay_command *c, const adm_trace *trace, adm_store *store, int64_t run_id,
                             adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_faults && status == ADM_OK; i++) {
        const adm_config config = {.policy = "adamas",
                                   .variant = c->fault[i].row->name,
                                   .shape = trace->shape,
                                   .dtype = trace->layers[0].k_dtype,
                                   .seq_len = (uint32_t)trace->n_tokens,
                                   .batch = 1,
                                   .n_sinks = -1,
                                   .n_recent = -1,
                                   .launch = "host"};
        adm_measurement m = {.run_id = run_id,
                             .source = "host",
                             .stage = adm_stage_name(c->fault[i].row->stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &adm_metric_time,
                             .status = "failed",
                             .reason = c->fault[i].reason};
        status = adm_store_config(store, &config, &m.config_id, err);
        if (status == ADM_OK) status = adm_store_measurement(store, &m, err);
    }
    return status;
}

/* The pipelines that were asked for, and what is timed beside the first. */
static adm_status choose_rows(adm_replay_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_implementations && status == ADM_OK; i++) {
        adm_host_pipeline *p = i == 0 ? &c->pipeline : &c->other[i - 1];
        adm_host_pipeline_default(p);
        status = adm_pipeline_choose(c->implementation[i], p, err);
    }
    const size_t n_others = c->n_implementations > 1 ? c->n_implementations - 1 : 0;
    if (status == ADM_OK)
        status = adm_replay_candidates_open(&c->bring, &c->pipeline, c->other, n_others, c->common.quiet || c->common.json,
                                            &c->candidates, err);
    if (status == ADM_OK && c->candidates.n_sessions > 0 && c->resume != NULL)
        status = adm_fail(err, ADM_EINPUT,
                          "--resume: candidates are judged anew in a run of their own; leave out --candidate and "
                          "further --implementation");
    return status;
}

/* Replays every trace as one run; the run's row says how it ended, whatever happened. */
static adm_status run_all(adm_replay_command *c, const adm_trace *const *traces, adm_store *store, int64_t *run_id,
                          adm_error *err) {
    adm_fleet_run run;
    adm_status status = begin_run(c, store, &run, err);
    if (status != ADM_OK) return status;
    *run_id = run.run_id;
    if (c->resume != NULL) status = check_traces(c, traces, store, *run_id, err);
    if (status == ADM_OK && !run.is_resumed) status = put_faults(c, traces[0], store, *run_id, err);
    if (status == ADM_OK && run.is_resumed) status = adm_store_remove_candidates(store, *run_id, err);
    for (size_t i = 0; status == ADM_OK && i < c->n_paths; i++) status = replay_trace(c, i, traces[i], store, *run_id, err);
    for (size_t i = 0; status == ADM_OK && i < c->n_paths; i++) {
        c->options.is_elsewhere = adm_replay_shards_elsewhere(&c->shards, i);
        status = adm_replay_candidates_run(&c->candidates, traces[i], &c->options, store, *run_id, err);
    }
    for (size_t i = 0; status == ADM_OK && c->counting && i < c->n_paths; i++)
        status = count_trace(c, i, traces[i], store, *run_id, err);
    const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
    adm_status ended = adm_fleet_end(&c->fleet, store, &run, outcome, status == ADM_OK ? NULL : err->text,
                                     status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : ended;
}

/* Divides the lengths of all traces, and makes them part of what the sweep is. */
static adm_status plan_shards(adm_replay_command *c, const adm_trace *const *traces, adm_error *err) {
    adm_fleet *s = &c->fleet;
    adm_status status = adm_replay_shards_make(traces, c->n_paths, &c->options, s->shard, &c->shards, err);
    for (size_t i = 0; status == ADM_OK && s->shard.count > 0 && i < c->n_paths; i++) {
        adm_fleet_add_name(s, c->paths[i]);
        adm_fleet_add_input(s, traces[i]->xxh128);
    }
    if (status == ADM_OK && s->shard.count > 0) adm_fleet_add_parts(s, c->shards.part, c->shards.n_items);
    if (status == ADM_OK) status = adm_fleet_add_file(s, c->calibration_path, err);
    return status == ADM_OK ? adm_bring_add_inputs(&c->bring, s, err) : status;
}

/* --- The program -------------------------------------------------------------------------------------------------- */

/* The command line as JSON, but for --resume RUN; NULL when out of memory. */
static char *json_without_resume(int argc, char **argv) {
    char **kept = NULL, *json = NULL;
    int n = 0;
    if (adm_alloc(&kept, (size_t)argc + 1, sizeof *kept, "the command line", NULL) != ADM_OK) return NULL;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--resume") == 0) i++;
        else if (strncmp(argv[i], "--resume=", 9) != 0) kept[n++] = argv[i];
    }
    json = adm_argv_json(n, kept);
    adm_free(&kept);
    return json;
}

static int run(int argc, char **argv) {
    adm_replay_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    const adm_trace **traces = NULL;
    adm_store *store = NULL;
    int64_t run_id = 0;
    uint64_t start_ns = adm_clock_ns();
    adm_interrupt_ask();
    c.argv_json = json_without_resume(argc, argv);
    adm_argp_parse(&adm_replay_argp, argc, argv, &c);
    adm_host_pipeline_default(&c.pipeline);
    c.options.pipeline = &c.pipeline;
    c.options.on_progress = on_progress;
    c.options.quality = adm_quality_fastest();
    c.options.should_stop = adm_interrupted;
    c.options.check_input = adm_trace_check_unchanged;
    c.options.identify_input = adm_trace_wait_for_hash;
    c.options.user = &c.progress;

    adm_status status = adm_replay_parse_values(&c, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    static const char *const apart[] = {"resume", NULL};
    if (status == ADM_OK && c.resume != NULL && c.fleet.shard_text != NULL)
        status = adm_fail(&err, ADM_EINPUT, "--resume: a shard goes on by itself when its command is repeated");
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "replay", &adm_replay_argp, apart, argc, argv, &err);
    if (status == ADM_OK) status = adm_alloc(&traces, c.n_paths, sizeof *traces, "traces", &err);
    if (status == ADM_OK) status = choose_rows(&c, &err);
    if (status == ADM_OK) status = open_traces(&c, traces, &err);
    if (status == ADM_OK) status = plan_shards(&c, traces, &err);
    if (status == ADM_OK && c.fleet.dry_run) status = adm_replay_shards_print(&c.shards, traces, c.common.json, &err);
    const bool runs = status == ADM_OK && !c.fleet.dry_run;
    if (runs) status = check_rows(&c, traces, &err);
    if (runs && status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    if (runs && status == ADM_OK) status = run_all(&c, traces, store, &run_id, &err);
    if (runs && status == ADM_OK && (!c.common.quiet || c.common.json))
        status = adm_replay_print_summary(store, run_id, &c.common, (double)(adm_clock_ns() - start_ns) * 1e-9, c.uncounted,
                                          &err);
    if (status == ADM_OK) status = adm_tune_tally_failure(&c.candidates.tally, &err);
    adm_replay_candidates_close(&c.candidates);
    adm_store_close(&store);
    adm_replay_shards_free(&c.shards);
    for (size_t i = 0; traces != NULL && i < c.n_paths; i++) adm_trace_close(&traces[i]);
    adm_free(&traces);
    adm_sweep_clear(&c.sweep);
    adm_calibration_clear(&c.calibration);
    adm_free(&c.budget_list);
    adm_free(&c.seq_len_list);
    adm_free(&c.layer_list);
    adm_free(&c.only_list);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_replay = {"replay", "replay decode sessions on the host: quality and stage times", run};
