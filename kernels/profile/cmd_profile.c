/* cmd_profile.c: `adamas profile`: checks, times and stores the GPU stages over a grid. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/print.h"
#include "core/system/hostinfo.h"
#include "core/base/mem.h"
#include "core/cli/options.h"
#include "core/store/remove.h"
#include "kernels/profile/arguments.h"
#include "kernels/profile/gpus/gpus.h"
#include "kernels/profile/grid/plan_print.h"
#include "kernels/profile/print.h"
#include "kernels/profile/grid/spent.h"
#include "kernels/profile/observe/probes.h"
#include "kernels/profile/gpus/ranks.h"
#include "kernels/profile/grid/resume.h"
#include "kernels/sass/static.h"
#include "kernels/tune/profile_candidates.h"
#include "traces/format/trace_file.h"

/* --- Trace -------------------------------------------------------------------------------------------------------- */

/* Without --layers: all but the model's first two, or all if there are no others. */
static adm_status choose_layers(adm_profile_command *c, adm_error *err) {
    adm_profile_trace_options *o = &c->trace_options;
    if (c->layers != NULL || c->layer_list != NULL) return ADM_OK;
    adm_status status = adm_alloc(&c->layer_list, c->trace->n_layers, sizeof *c->layer_list, "layers of a trace", err);
    for (size_t i = 0; status == ADM_OK && i < c->trace->n_layers; i++)
        if (c->trace->layers[i].index >= ADM_DENSE_LAYERS) c->layer_list[o->n_layers++] = c->trace->layers[i].index;
    o->layers = c->layer_list;
    return status;
}

/* Opens the trace and takes the shape of the profile from it. */
static adm_status open_trace(adm_profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    if (c->trace_path == NULL) return ADM_OK;
    adm_status status = adm_trace_open(c->trace_path, &c->trace, err);
    if (status == ADM_OK) status = adm_trace_check_finite(c->trace, err);
    if (status == ADM_OK && c->calibration_path != NULL) {
        status = adm_calibration_check(&c->calibration, c->calibration_path, c->trace_path, &c->trace->shape, err);
        c->trace_options.calibration = &c->calibration;
    }
    if (status == ADM_OK) status = choose_layers(c, err);
    if (status != ADM_OK) return status;
    o->n_q_heads = c->trace->shape.n_q_heads;
    o->head_dim = c->trace->shape.head_dim;
    c->lists[2][0] = c->trace->shape.n_kv_heads;
    o->scale = (float)c->trace->softmax_scale;
    if (c->dtype == NULL && c->trace->layers[0].k_dtype == ADM_BF16) c->dtype_list[0] = ADM_BF16;
    c->trace_options.dtype = c->dtype_list[0];
    c->trace_options.seq_lens = o->seq_lens;
    c->trace_options.n_seq_lens = o->n_seq_lens;
    status = adm_shape_check(&c->trace->shape, err);
    if (status == ADM_OK) status = adm_profile_trace_open(c->trace, &c->trace_options, &c->profile_trace, err);
    if (status == ADM_OK) o->sessions = adm_profile_trace_sessions(c->profile_trace, &o->n_sessions);
    return status;
}

/* --- The run ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

/* device: NULL where no GPU is used. */
static adm_status begin_run(adm_profile_command *c, const adm_device_info *device, adm_store *store, adm_fleet_run *run,
                            adm_error *err) {
    char driver[16], runtime[16];
    adm_host_info host;
    adm_host_info_read(&host);
    if (device == NULL) {
        adm_run_info info = {.label = c->label != NULL ? c->label : "",
                             .command = "profile",
                             .argv_json = c->argv_json,
                             .gpu_reason = "static figures of the build, no GPU used"};
        adm_run_info_host(&info, &host);
        return adm_fleet_begin(&c->fleet, store, &info, run, err);
    }
    snprintf(driver, sizeof driver, "%d.%d", device->driver_version / 1000, device->driver_version % 1000 / 10);
    snprintf(runtime, sizeof runtime, "%d.%d", device->runtime_version / 1000, device->runtime_version % 1000 / 10);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = c->ranks != NULL ? "ranks" : "profile",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->options.seed,
                         .gpu_name = device->name,
                         .gpu_uuid = device->uuid,
                         .driver_version = driver,
                         .cuda_version = runtime};
    info.together_uuid = c->together != NULL ? c->together_uuid : NULL;
    info.n_together = c->n_together;
    adm_profile_probes_clocks(device->uuid, &info);
    adm_run_info_host(&info, &host);
    return adm_fleet_begin(&c->fleet, store, &info, run, err);
}

static adm_status profile(adm_profile_command *c, adm_profile_tally *tally, adm_error *err) {
    adm_gpu *gpu = NULL;
    adm_store *store = NULL;
    adm_profile_probes *probes = NULL;
    adm_fleet_run run;
    adm_profile_start start;
    bool has_start = false;
    adm_profile_candidates *candidates = NULL;
    adm_profile_spent spent = {0};
    const bool is_observed = c->counters != NULL || c->timeline;
    const adm_profile_candidates_ask ask = {.bring = &c->bring,
                                            .tuned_db = c->tuned ? c->common.db_path : NULL,
                                            .device = (int)c->device_number,
                                            .seed = c->seed != NULL ? c->options.seed : 0,
                                            .quiet = c->common.quiet || c->common.json};
    /* In processes of their own, which cannot come from one that has the device open. */
    if (c->fleet.shard_text != NULL && c->tuned)
        return adm_fail(err, ADM_EINPUT,
                        "--shard: --tuned reads choices from the shard's own database, which has none; leave it out");
    adm_status status = adm_profile_candidates_judge(&ask, &c->options, &candidates, err);
    if (status == ADM_OK && is_observed)
        adm_cupti_features_prepare(c->timeline && !c->software_timestamps, &c->features); /* before a context */
    if (status == ADM_OK) status = adm_gpu_open((int)c->device_number, &gpu, err);
    if (status == ADM_OK && c->seconds_path != NULL) {
        status = adm_profile_spent_open(&spent, c->seconds_path, err);
        c->options.spent = &spent;
    }
    if (status == ADM_OK && is_observed) {
        adm_cupti_features_read(&c->features);
        c->options.fact = c->features.fact;
        c->options.fact_value = c->features.value;
        c->options.n_facts = ADM_CUPTI_N_FACTS;
    }
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, adm_gpu_device(gpu), store, &run, err);
    if (status == ADM_OK) {
        const int64_t run_id = run.run_id;
        if (run.is_resumed) status = adm_store_remove_candidates(store, run_id, err);
        if (run.is_resumed && status == ADM_OK)
            status = adm_profile_resume(&c->options, store, run_id, &start, &has_start, err);
        if (has_start) c->options.start = &start;
        if (status == ADM_OK && c->profile_trace != NULL)
            status = adm_profile_trace_record(c->profile_trace, store, run_id, &c->options.trace_id, err);
        adm_progress_start(&c->progress, adm_gpu_device(gpu)->name, 0, c->common.quiet);
        if (status == ADM_OK)
            status = adm_profile_probes_open(&c->options, c->counters, c->timeline, (int)c->device_number, gpu, store, run_id,
                                             &probes, err);
        if (status == ADM_OK) status = adm_profile_run(&c->options, gpu, store, run_id, tally, err);
        if (status == ADM_OK) status = adm_profile_candidates_record(candidates, store, run_id, tally, &c->brought, err);
        adm_progress_end(&c->progress);
        const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
        adm_status ended = adm_fleet_end(&c->fleet, store, &run, outcome, status == ADM_OK ? NULL : err->text,
                                         status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
        if (status == ADM_OK && (!c->common.quiet || c->common.json))
            status = adm_profile_print_run(&c->common, &c->options, c->trace, store, run_id, tally, err);
        if (status == ADM_OK && !c->common.quiet && !c->common.json) adm_profile_probes_print(probes);
    }
    if (status == ADM_OK && c->seconds_path != NULL) status = adm_output_commit(&spent.output, err);
    adm_output_discard(&spent.output);
    adm_profile_candidates_free(&candidates);
    adm_profile_probes_close(&probes);
    adm_store_close(&store);
    adm_gpu_close(&gpu);
    return status;
}

/* Without a GPU the plan is that of a typical one. */
static adm_status print_plan(const adm_profile_command *c, adm_error *err) {
    adm_device_info list[16];
    adm_error none;
    int n = 0;
    const bool found = adm_device_list(list, 16, &n, &none) == ADM_OK && (int)c->device_number < (n < 16 ? n : 16);
    json_t *document = c->common.json ? json_object() : NULL;
    const adm_profile_candidates_ask ask = {.bring = &c->bring, .tuned_db = c->tuned ? c->common.db_path : NULL};
    adm_status status = adm_profile_candidates_plan(&ask, &c->options, document, err);
    if (status == ADM_OK)
        status = adm_profile_print_plan(&c->options, c->trace, &c->shards, found ? &list[c->device_number] : NULL, document,
                                        err);
    if (status == ADM_OK) status = adm_profile_probes_plan(c->counters, c->timeline, document, err);
    if (status == ADM_OK && document != NULL) return adm_print_json(document, err);
    json_decref(document);
    return status;
}

/* Divides the grid, and makes what it is of part of the sweep. */
static adm_status plan_shards(adm_profile_command *c, adm_error *err) {
    adm_fleet *f = &c->fleet;
    if (f->shard.count > 0 && c->is_static)
        return adm_fail(err, ADM_EINPUT, "--static is about the build and has no grid: leave out --shard");
    adm_status status = adm_profile_shards_make(&c->options, f->shard, &c->shards, err);
    if (status != ADM_OK || f->shard.count == 0) return status;
    c->options.is_ours = c->shards.is_ours;
    c->options.first_of_case = c->shards.first;
    adm_fleet_add_parts(f, c->shards.part, c->shards.n_items);
    if (c->trace != NULL) adm_fleet_add_input(f, c->trace->xxh128);
    status = adm_fleet_add_file(f, c->calibration_path, err);
    if (status == ADM_OK) status = adm_bring_add_inputs(&c->bring, f, err);
    return status == ADM_OK && c->counters != NULL && strchr(c->counters, '/') != NULL ? adm_fleet_add_file(f, c->counters, err)
                                                                                       : status;
}

/* --ranks: what several GPUs do together is no measurement of one of them, and a run of its own kind. */
static adm_status profile_ranks(adm_profile_command *c, adm_profile_tally *tally, adm_error *err) {
    adm_gpu *gpu = NULL;
    adm_store *store = NULL;
    adm_fleet_run run;
    adm_status status = adm_gpu_open(0, &gpu, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, adm_gpu_device(gpu), store, &run, err);
    if (status == ADM_OK) {
        status = adm_profile_ranks_run(&c->options, c->rank_list, c->n_ranks, store, run.run_id, tally, err);
        const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
        adm_status ended = adm_store_end_run(store, run.run_id, outcome, status == ADM_OK ? NULL : err->text,
                                             status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    if (status == ADM_OK && (!c->common.quiet || c->common.json))
        status = adm_profile_ranks_print(&c->common, store, run.run_id, err);
    adm_store_close(&store);
    adm_gpu_close(&gpu);
    return status;
}

/* --gpus: the same command once per GPU. argv as it was typed: argp sorted it, and left the words alone. */
static adm_status profile_gpus(adm_profile_command *c, int argc, char **argv, adm_error *err) {
    adm_gpus *g = NULL;
    adm_status status = adm_alloc(&g, 1, sizeof *g, "GPUs", err);
    if (status != ADM_OK) return status;
    *g = (adm_gpus){.common = &c->common, .argv = argv, .argc = argc, .alone = c->alone, .split = c->split};
    if (c->split && (c->alone || c->fleet.shard_text != NULL))
        status = adm_fail(err, ADM_EINPUT, "--split shares the grid among GPUs: leave out --alone and --shard");
    if (status == ADM_OK && (c->ranks != NULL || c->is_static || c->device != NULL))
        status = adm_fail(err, ADM_EINPUT, "--gpus profiles each GPU by itself: leave out --ranks, --static and --device");
    if (status == ADM_OK) status = adm_gpus_choose(g, c->gpus, err);
    if (status == ADM_OK) status = adm_gpus_run(g, err);
    adm_free(&g);
    return status;
}

static const char static_sql[] =
    "SELECT stage, variant, max(CASE metric WHEN 'registers' THEN median END),"
    " max(CASE metric WHEN 'static_shared_bytes' THEN median END), max(CASE metric WHEN 'stack_bytes' THEN median END),"
    " max(CASE metric WHEN 'spill_store_bytes' THEN median END) + max(CASE metric WHEN 'spill_load_bytes' THEN median END)"
    " FROM stage_summary WHERE run_id = ? GROUP BY stage, variant ORDER BY stage, variant";

static json_t *static_as_json(const adm_query *q) {
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "stage", adm_query_text(q, 0), "kernel", adm_query_text(q, 1),
                     "registers", adm_query_double(q, 2), "static_shared_bytes", adm_query_double(q, 3), "stack_bytes",
                     adm_query_double(q, 4), "spill_bytes", adm_query_double(q, 5));
}

static adm_status print_static(adm_store *store, int64_t run_id, bool as_json, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    json_t *kernels = json_array();
    adm_status status = adm_query_open(store, static_sql, &query, err, "i", run_id);
    if (!as_json) adm_print("%-10s %9s %7s %6s %7s  kernel\n", "stage", "registers", "shared", "stack", "spilled");
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (as_json) json_array_append_new(kernels, static_as_json(query));
        else
            adm_print("%-10s %9.0f %7.0f %6.0f %7.0f  %s\n", adm_query_text(query, 0), adm_query_double(query, 2),
                      adm_query_double(query, 3), adm_query_double(query, 4), adm_query_double(query, 5),
                      adm_query_text(query, 1));
    }
    adm_query_close(&query);
    if (status == ADM_OK && as_json)
        return adm_print_json(json_pack("{s:I, s:o}", "run_id", (json_int_t)run_id, "kernels", kernels), err);
    json_decref(kernels);
    return status;
}

/* --static: the build's own figures, as a run of their own. */
static adm_status profile_static(adm_profile_command *c, adm_error *err) {
    adm_store *store = NULL;
    adm_fleet_run run = {0};
    size_t n_kernels = 0;
    if (adm_gpu_registry_count() == 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "--static: this build has no CUDA kernels; configure it with a CUDA toolkit");
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, NULL, store, &run, err);
    const int64_t run_id = run.run_id;
    if (status == ADM_OK) {
        status = adm_profile_static(store, run_id, &n_kernels, err);
        adm_status ended = adm_store_end_run(store, run_id, status == ADM_OK ? "complete" : "failed",
                                             status == ADM_OK ? NULL : err->text, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    if (status == ADM_OK && (!c->common.quiet || c->common.json)) status = print_static(store, run_id, c->common.json, err);
    adm_store_close(&store);
    return status;
}

static int run(int argc, char **argv) {
    adm_profile_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    adm_profile_tally tally = {0};
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&adm_profile_argp, argc, argv, &c);
    c.options.on_progress = on_progress;
    c.options.should_stop = adm_interrupted;
    c.options.user = &c.progress;
    static const char *const apart[] = {"device", "gpus", "alone", "split", "together", "seconds", NULL};
    static const char *const with_static[] = {"db", "json", "label", "quiet", NULL};
    adm_status status = adm_profile_arguments_read(&c, &err);
    if (status == ADM_OK && c.is_static && c.gpus == NULL)
        status = adm_options_only(&adm_profile_argp, argc, argv, "static", with_static, &err);
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "profile", &adm_profile_argp, apart, argc, argv, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    if (status == ADM_OK) status = adm_profile_check_only(&c.options, &err); /* before a run begins */
    if (status == ADM_OK) status = adm_profile_probes_check(c.counters, &err);
    if (status == ADM_OK && !c.is_static) status = open_trace(&c, &err);
    if (status == ADM_OK && !c.is_static) status = plan_shards(&c, &err);
    if (status == ADM_OK)
        status = c.fleet.dry_run            ? print_plan(&c, &err)
                 : c.is_static              ? profile_static(&c, &err)
                 : adm_profile_has_gpus(&c) ? profile_gpus(&c, argc, argv, &err)
                 : c.ranks != NULL          ? profile_ranks(&c, &tally, &err)
                                            : profile(&c, &tally, &err);
    if (status == ADM_OK && tally.n_failed > c.brought.n_invalid)
        status = adm_fail(&err, ADM_EINTERNAL, "%zu units failed their check or could not run; the database says why",
                          tally.n_failed);
    if (status == ADM_OK) status = adm_tune_tally_failure(&c.brought, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_profile_shards_free(&c.shards);
    adm_profile_trace_close(&c.profile_trace);
    adm_trace_close(&c.trace);
    adm_profile_arguments_clear(&c);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_profile = {"profile", "check and time the GPU stages over a grid", run};
