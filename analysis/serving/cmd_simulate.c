/* cmd_simulate.c: `adamas simulate`: wires request traces, the cost model, the simulator and the store. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "analysis/cost/load.h"
#include "analysis/db/recorded_import.h"
#include "analysis/output/rows.h"
#include "analysis/serving/arguments.h"
#include "analysis/serving/model_file.h"
#include "analysis/serving/print.h"
#include "analysis/serving/record.h"
#include "analysis/serving/validate_show.h"
#include "analysis/serving/whole.h"
#include "core/base/embedded.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/system/threads.h"
#include "core/cli/command.h"
#include "core/cli/options.h"
#include "core/fleet/fleet.h"
#include "core/system/hostinfo.h"
#include "core/store/runs_find.h"
#include "traces/requests/requests.h"

#define EMBEDDED_CALIBRATION "analysis/recorded/h200.json"
#define DEFAULT_WHOLE "recorded:h200-decode"
#define EMBEDDED_WHOLE "analysis/recorded/h200-decode.json"

/* --- Shards --------------------------------------------------------------------------------------------------------- */

/* Every case serves the same requests, so that they take about the same: a step costs what it costs to look its time up. */
static adm_status divide(adm_simulate_command *c, adm_error *err) {
    adm_shard_item item[ADM_SIMULATE_MAX_CASES];
    const adm_shard shard = c->fleet.shard;
    for (size_t i = 0; i < c->n_cases; i++) item[i] = (adm_shard_item){1, i};
    adm_status status = adm_shard_split(item, c->n_cases, NULL, shard.count > 0 ? shard.count : 1, c->part, NULL, err);
    if (status == ADM_OK && shard.count > 0) adm_fleet_add_parts(&c->fleet, c->part, c->n_cases);
    return status;
}

static void print_cases(const adm_simulate_command *c) {
    const adm_shard shard = c->fleet.shard;
    char name[32];
    for (size_t i = 0; i < c->n_cases; i++) {
        if (shard.count > 0) adm_print("%c%5u  ", c->part[i] == shard.index ? '*' : ' ', c->part[i]);
        adm_print("%-9s %s\n", adm_case_name(&c->cases[i], name), c->cases[i].contiguous ? "contiguous" : "paged");
    }
    if (shard.count > 0) adm_print("shard %u of %u has the cases with *\n", shard.index, shard.count);
}

/* Leaves the cases of this shard. */
static void keep_ours(adm_simulate_command *c) {
    size_t n = 0;
    for (size_t i = 0; c->fleet.shard.count > 0 && i < c->n_cases; i++)
        if (c->part[i] == c->fleet.shard.index) c->cases[n++] = c->cases[i];
    if (c->fleet.shard.count > 0) c->n_cases = n;
}

/* What the figures come from, as part of what the sweep is. */
static adm_status add_inputs(adm_simulate_command *c, adm_error *err) {
    adm_fleet_add_input(&c->fleet, c->cost.run_uuid);
    adm_fleet_add_input(&c->fleet, c->quality_source.run_uuid);
    adm_status status = adm_fleet_add_file(&c->fleet, c->requests_path, err);
    return status == ADM_OK && access(c->model_name, R_OK) == 0 ? adm_fleet_add_file(&c->fleet, c->model_name, err) : status;
}

/* --- What goes in --------------------------------------------------------------------------------------------------- */

/* A run by number, the latest complete one with a label, or what runs_find.h has besides. 0: none has the label. */
static adm_status find_run(adm_simulate_command *c, const char *option, const char *named, int64_t *run_id, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    *run_id = 0;
    if (named[0] >= '0' && named[0] <= '9') {
        uint64_t number = 0;
        adm_status parsed = adm_parse_u64(option, named, 1, INT64_MAX, &number, err);
        *run_id = (int64_t)number;
        return parsed;
    }
    if (strncmp(named, "last", 4) == 0 || strncmp(named, "label:", 6) == 0 || strncmp(named, "commit:", 7) == 0)
        return adm_run_find(c->store, named, ADM_RUNS_COMPLETE, c->common.db_path, run_id, err);
    adm_status status =
        adm_query_open(c->store,
                       "SELECT run_id FROM run WHERE label = ? AND status = 'complete' ORDER BY started_utc DESC, "
                       "run_id DESC LIMIT 1",
                       &query, err, "s", named);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) *run_id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

/* Puts a file that ships with the program into the database: the runs of it that are not there. */
static adm_status import_embedded(adm_simulate_command *c, const char *name, adm_error *err) {
    const adm_embedded_file *file = adm_embedded(name);
    adm_recorded_run *runs = NULL;
    size_t n = 0;
    char path[40];
    const int fd = memfd_create("calibration", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file->data, file->n_bytes) != (ssize_t)file->n_bytes) {
        if (fd >= 0) close(fd);
        return adm_fail(err, ADM_EENVIRONMENT, "the recorded calibration of %zu bytes cannot be unpacked into memory",
                        file->n_bytes);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    adm_status status = adm_recorded_import(c->store, path, &runs, &n, err);
    if (status == ADM_OK) status = adm_store_flush(c->store, err);
    adm_free(&runs);
    close(fd);
    return status;
}

/* The profile, and decode steps of whole models on the same GPU, as far as the database lacks them. */
static adm_status import_default(adm_simulate_command *c, adm_error *err) {
    static const char *const shipped[][2] = {{ADM_DEFAULT_CALIBRATION, EMBEDDED_CALIBRATION}, {DEFAULT_WHOLE, EMBEDDED_WHOLE}};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0] && status == ADM_OK; i++) {
        int64_t run_id;
        status = find_run(c, "--calibration", shipped[i][0], &run_id, err);
        if (status == ADM_OK && run_id == 0) status = import_embedded(c, shipped[i][1], err);
    }
    return status;
}

/* A label that no run has. */
static adm_status no_label(adm_simulate_command *c, const char *option, const char *named, adm_error *err) {
    char shown[96], meant[ADM_DID_YOU_MEAN_BYTES];
    return adm_fail(err, ADM_EINPUT, "%s: no complete run has the label '%s'; `adamas db list` shows what there is%s", option,
                    adm_printable(named, shown, sizeof shown), adm_runs_meant(c->store, named, meant));
}

static adm_status load_calibration(adm_simulate_command *c, adm_error *err) {
    const char *named = c->calibration != NULL ? c->calibration : ADM_DEFAULT_CALIBRATION;
    int64_t run_id;
    adm_status status = strcmp(named, ADM_DEFAULT_CALIBRATION) == 0 ? import_default(c, err) : ADM_OK;
    if (status == ADM_OK) status = find_run(c, "--calibration", named, &run_id, err);
    if (status == ADM_OK && run_id == 0) return no_label(c, "--calibration", named, err);
    return status == ADM_OK ? adm_cost_load(c->store, run_id, &c->cost, err) : status;
}

static adm_status load_requests(adm_simulate_command *c, adm_error *err) {
    uint64_t limit = 0;
    adm_status status = c->limit != NULL ? adm_parse_u64("--limit", c->limit, 1, ADM_REQUESTS_MAX, &limit, err) : ADM_OK;
    if (status == ADM_OK && c->requests_path != NULL)
        status = adm_requests_read(c->requests_path, c->seed_number, &c->requests, &c->source, err);
    else if (status == ADM_OK) status = adm_requests_generate(c->generate, c->seed_number, &c->requests, err);
    if (status != ADM_OK || limit == 0 || limit >= c->requests->n) return status;
    c->requests->n = limit; /* a parent that comes later is none then */
    for (size_t i = 0; i < limit; i++)
        if (c->requests->request[i].parent >= (int64_t)limit) c->requests->request[i].parent = -1;
    return ADM_OK;
}

static adm_status load_quality(adm_simulate_command *c, adm_error *err) {
    int64_t run_id = 0;
    adm_status status = c->quality != NULL ? find_run(c, "--quality", c->quality, &run_id, err) : ADM_OK;
    if (status == ADM_OK && c->quality != NULL && run_id == 0) status = no_label(c, "--quality", c->quality, err);
    return status == ADM_OK ? adm_quality_source_find(c->store, run_id, &c->quality_source, err) : status;
}

/* --- What comes out ------------------------------------------------------------------------------------------------- */

static adm_status settings_json(const adm_simulate_command *c, char **text, adm_error *err) {
    const adm_engine *e = &c->setup.engine;
    json_t *settings = json_pack(
        "{s:i, s:i, s:i, s:i, s:b, s:b, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "max_batch", (int)e->max_batch,
        "max_tokens", (int)e->max_tokens, "chunk_tokens", (int)e->chunk_tokens, "page_tokens", (int)e->page_tokens,
        "share_prefixes", e->share_prefixes, "open_loop", e->open_loop, "arrival_scale", e->arrival_scale, "compute_share",
        c->setup.compute_share, "memory_share", c->setup.memory_share, "overhead_ns", (json_int_t)c->setup.overhead_ns,
        "target_ttft_ns", (json_int_t)c->setup.target.ttft_ns, "target_tpot_ns", (json_int_t)c->setup.target.tpot_ns,
        "read_bytes_per_s", c->cost.device.read_bytes_per_s, "flops_per_s", c->cost.device.flops_per_s, "memory_bytes",
        c->cost.device.memory_bytes, "copy_bytes_per_s", c->cost.device.copy_bytes_per_s);
    adm_status status = adm_json_text(settings, JSON_COMPACT, "a simulation's settings", text, err);
    json_decref(settings);
    return status;
}

static const char *trace_name(const adm_simulate_command *c, char out[128]) {
    const char *path = c->requests_path != NULL ? c->requests_path : c->generate, *slash = strrchr(path, '/');
    return adm_printable(c->requests_path != NULL && slash != NULL ? slash + 1 : path, out, 128);
}

static adm_status record_cases(adm_simulate_command *c, int64_t run_id, adm_error *err) {
    char name[128], *settings = NULL;
    adm_status status = settings_json(c, &settings, err);
    for (size_t i = 0; i < c->n_cases && status == ADM_OK; i++) {
        const adm_case *k = &c->cases[i];
        const adm_simulation_row row = {.run_id = run_id,
                                        .calibration_uuid = c->cost.run_uuid,
                                        .model = c->model.name,
                                        .gpu = c->cost.device.name,
                                        .trace = trace_name(c, name),
                                        .trace_xxh128 = c->source.xxh128,
                                        .n_requests = c->requests->n,
                                        .plan = &k->plan,
                                        .variant = adm_step_time_variants(k->time),
                                        .memory = k->contiguous ? "contiguous" : "paged",
                                        .settings = settings,
                                        .quality = &c->quality_source};
        status = adm_simulation_record(c->store, &row, &k->outcome, k->time, err);
    }
    adm_free(&settings);
    return status;
}

static adm_status begin_run(adm_simulate_command *c, adm_fleet_run *run, adm_error *err) {
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "simulate",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->seed_number,
                         .gpu_reason = "a simulation runs on the host"};
    adm_run_info_host(&info, &host);
    return adm_fleet_begin(&c->fleet, c->store, &info, run, err);
}

static adm_status end_run(adm_simulate_command *c, const adm_fleet_run *run, adm_status status, adm_error *err) {
    adm_status ended = adm_fleet_end(&c->fleet, c->store, run, status == ADM_OK ? "complete" : "failed",
                                     status == ADM_OK ? NULL : err->text, status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : ended;
}

/* The run's row is written once all figures are there: an interrupted simulation leaves none. */
static adm_status record(adm_simulate_command *c, adm_error *err) {
    adm_fleet_run run;
    adm_status status = begin_run(c, &run, err);
    return status == ADM_OK ? end_run(c, &run, record_cases(c, run.run_id, err), err) : status;
}

static adm_status show(adm_simulate_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_cases && status == ADM_OK; i++)
        status = adm_quality_source_value(c->store, &c->quality_source, c->cases[i].plan.budget, "output_rel_l2",
                                          &c->case_quality[i].found, &c->case_quality[i].output_rel_l2, err);
    if (status != ADM_OK) return status;
    if (c->common.json)
        status = adm_print_json(adm_cases_json(&c->setup, c->cases, c->n_cases, &c->quality_source, c->case_quality), err);
    else if (!c->common.quiet) adm_cases_print(&c->setup, c->cases, c->n_cases, &c->quality_source, c->case_quality);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

static void on_case(void *user) {
    static pthread_mutex_t drawing = PTHREAD_MUTEX_INITIALIZER;
    adm_simulate_command *c = user;
    pthread_mutex_lock(&drawing);
    adm_progress_step(&c->progress, c->progress.n_done + 1);
    pthread_mutex_unlock(&drawing);
}

static adm_status simulate(adm_simulate_command *c, adm_error *err) {
    adm_status status = adm_simulate_parse_engine(c, err);
    if (status == ADM_OK) status = adm_model_read(c->model_name, &c->model, err);
    if (status == ADM_OK) status = adm_simulate_make_cases(c, err);
    if (status == ADM_OK) status = divide(c, err);
    if (status == ADM_OK && c->fleet.dry_run) {
        print_cases(c);
        return adm_finish_output(err);
    }
    keep_ours(c);
    if (status == ADM_OK) status = load_requests(c, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &c->store, err);
    if (status == ADM_OK) status = load_calibration(c, err);
    if (status == ADM_OK) status = adm_simulate_parse_gpu(c, err);
    if (status == ADM_OK) status = load_quality(c, err);
    if (status == ADM_OK) status = add_inputs(c, err);
    c->setup.cost = &c->cost;
    c->setup.model = &c->model;
    c->setup.requests = c->requests;
    /* Activations of a step's tokens: a few vectors of each layer's widest matrix are alive at once. */
    c->setup.workspace_bytes = (double)c->setup.engine.max_tokens * (4.0 * c->model.hidden + 2.0 * c->model.intermediate) * 2;
    c->setup.on_case = on_case;
    c->setup.user = c;
    adm_progress_start(&c->progress, "simulate", c->n_cases, c->common.quiet);
    if (status == ADM_OK) status = adm_cases_run(&c->setup, c->cases, c->n_cases, c->n_threads, adm_interrupted, err);
    adm_progress_end(&c->progress);
    if (status == ADM_OK) status = record(c, err);
    return status == ADM_OK ? show(c, err) : status;
}

/* --- Validation ----------------------------------------------------------------------------------------------------- */

static adm_status load_other(adm_simulate_command *c, adm_cost *other, adm_error *err) {
    int64_t run_id;
    adm_status status = find_run(c, "--against", c->against, &run_id, err);
    if (status == ADM_OK && run_id == 0) return no_label(c, "--against", c->against, err);
    return status == ADM_OK ? adm_cost_load(c->store, run_id, other, err) : status;
}

static adm_status validate(adm_simulate_command *c, adm_error *err) {
    adm_validation v = {0};
    adm_cost other = {0};
    adm_whole_row *whole = NULL;
    size_t n_whole = 0;
    adm_fleet_run run;
    adm_status status = adm_simulate_parse_engine(c, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &c->store, err);
    if (status == ADM_OK) status = load_calibration(c, err);
    if (status == ADM_OK && c->against != NULL) status = load_other(c, &other, err);
    const adm_cost *against = c->against != NULL ? &other : NULL;
    if (status == ADM_OK) status = adm_validate(&c->cost, against, c->seed_number, &v, err);
    if (status == ADM_OK) status = adm_whole_compare(&c->cost, c->setup.compute_share, &whole, &n_whole, err);
    if (status == ADM_OK) status = begin_run(c, &run, err);
    if (status == ADM_OK) {
        adm_status recorded = adm_validation_record(c->store, run.run_id, &c->cost, &v, err);
        if (recorded == ADM_OK) recorded = adm_whole_record(c->store, run.run_id, &c->cost, whole, n_whole, err);
        status = end_run(c, &run, recorded, err);
    }
    if (status == ADM_OK && c->common.json) {
        json_t *document = adm_validation_json(&c->cost, against, &v);
        if (document != NULL) json_object_set_new(document, "whole_models", adm_whole_json(whole, n_whole));
        status = adm_print_json(document, err);
    } else if (status == ADM_OK && !c->common.quiet) {
        adm_validation_print(&c->cost, against, &v);
        adm_whole_print(whole, n_whole);
    }
    if (status == ADM_OK) status = adm_finish_output(err);
    adm_validation_free(&v);
    adm_free(&whole);
    adm_cost_free(&other);
    return status;
}

static int run(int argc, char **argv) {
    static adm_simulate_command c;
    c = (adm_simulate_command){.common = ADM_COMMON_DEFAULTS, .seed_number = ADM_REQUESTS_SEED};
    adm_error err = {0};
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&adm_simulate_argp, argc, argv, &c);
    static const char *const apart[] = {NULL};
    static const char *const with_validate[] = {"against", "calibration", "compute-share", "db", "json",
                                                "label",   "quiet",       "seed",          NULL};
    adm_status status = c.argv_json == NULL ? adm_fail(&err, ADM_EENVIRONMENT, "out of memory") : ADM_OK;
    if (status == ADM_OK && c.validate)
        status = adm_options_only(&adm_simulate_argp, argc, argv, "validate", with_validate, &err);
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "simulate", &adm_simulate_argp, apart, argc, argv, &err);
    if (status == ADM_OK) status = c.validate ? validate(&c, &err) : simulate(&c, &err);
    adm_cases_free(c.cases, c.n_cases);
    adm_requests_free(&c.requests);
    adm_cost_free(&c.cost);
    adm_store_close(&c.store);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_simulate = {"simulate", "serve request traffic on the cost model, per budget", run};
