/* timeline_export.c: a run's events as Chrome trace-event JSON. */
#include "analysis/db/timeline_export.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PID = 1, JSON_FLAGS = JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15) };

/* The clocks of the table event, and what ran on the GPU; and when each began. */
enum { HOST, GPU, KERNELS, N_TRACKS };
typedef struct track {
    const char *clock, *name;
    int tid;
    int64_t start_ns;
    bool used;
} track;

static json_t *text(const char *value) {
    json_t *string = json_string(value);
    return string != NULL ? string : json_string("(not UTF-8)");
}

/* One element of an array in which `first` says whether a comma is due; releases it. */
static adm_status write_element(FILE *out, json_t *element, bool *first, adm_error *err) {
    if (!*first) fputs(",\n", out);
    *first = false;
    if (element == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing a timeline");
    int failed = json_dumpf(element, out, JSON_FLAGS);
    json_decref(element);
    return failed ? adm_fail(err, ADM_EENVIRONMENT, "the timeline could not be written: %s", strerror(errno)) : ADM_OK;
}

/* --- The head ----------------------------------------------------------------------------------------------------- */

static adm_status find_tracks(adm_store *store, int64_t run_id, track tracks[N_TRACKS], adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store,
                                       "SELECT clock, min(start_ns) FROM event WHERE run_id = ?1 GROUP BY "
                                       "clock UNION ALL SELECT 'activity', min(start_ns) FROM activity WHERE run_id = ?1 "
                                       "HAVING count(*) > 0",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        for (int i = 0; i < N_TRACKS; i++)
            if (strcmp(adm_query_text(query, 0), tracks[i].clock) == 0) {
                tracks[i].used = true;
                tracks[i].start_ns = adm_query_int(query, 1);
            }
    adm_query_close(&query);
    /* One clock, hence one origin. */
    track *gpu = &tracks[GPU], *kernels = &tracks[KERNELS];
    if (!gpu->used || (kernels->used && kernels->start_ns < gpu->start_ns)) gpu->start_ns = kernels->start_ns;
    kernels->start_ns = gpu->start_ns;
    return status;
}

static adm_status write_head(adm_store *store, int64_t run_id, const track tracks[N_TRACKS], FILE *out, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first = true;
    adm_status status =
        adm_query_open(store,
                       "SELECT label, command, started_utc, host_name, cpu_model, gpu_name, tool_version, git_commit FROM run "
                       "WHERE run_id = ?",
                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && !row) status = adm_fail(err, ADM_EINPUT, "the database holds no run %lld", (long long)run_id);
    else if (status == ADM_OK && !tracks[HOST].used && !tracks[GPU].used && !tracks[KERNELS].used)
        status = adm_fail(err, ADM_EINPUT, "run %lld has no timeline: only runs with --timeline keep their events",
                          (long long)run_id);
    if (status == ADM_OK) {
        static const char *const names[] = {"label",     "command",  "started_utc",  "host_name",
                                            "cpu_model", "gpu_name", "tool_version", "git_commit"};
        json_t *run = json_pack("{s:I}", "run_id", (json_int_t)run_id);
        for (int i = 0; i < 8; i++)
            if (!adm_query_is_null(query, i)) json_object_set_new(run, names[i], text(adm_query_text(query, i)));
        fputs("{\"displayTimeUnit\":\"ns\",\"otherData\":", out);
        status = write_element(out, run, &first, err);
        fputs(",\n\"traceEvents\":[\n", out);
    }
    adm_query_close(&query);
    return status;
}

/* Names of the process and of its threads. */
static adm_status write_names(int64_t run_id, const track tracks[N_TRACKS], FILE *out, bool *first, adm_error *err) {
    char name[64];
    snprintf(name, sizeof name, "adamas run %lld", (long long)run_id);
    json_t *process = json_pack("{s:s, s:s, s:i, s:{s:s}}", "ph", "M", "name", "process_name", "pid", PID, "args", "name",
                                name);
    adm_status status = write_element(out, process, first, err);
    for (int i = 0; status == ADM_OK && i < N_TRACKS; i++) {
        if (!tracks[i].used) continue;
        json_t *thread = json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "ph", "M", "name", "thread_name", "pid", PID, "tid",
                                   tracks[i].tid, "args", "name", tracks[i].name);
        status = write_element(out, thread, first, err);
    }
    return status;
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

/* An argument of an event, and its column. */
typedef struct number {
    const char *name;
    int column;
} number;

enum { KIND, NAME, VARIANT, STEP, LAYER, SEQ_LEN, BUDGET, CLOCK, START, END, EVENT };

/* A parent's row comes after its children's, so of two events with the same times the later row is the outer one. */
static const char events_sql[] =
    "SELECT e.kind, e.name, e.variant, e.step, e.layer, c.seq_len, c.budget, e.clock, e.start_ns, e.end_ns, "
    "e.event_id FROM event e LEFT JOIN config c USING (config_id) WHERE e.run_id = ? "
    "ORDER BY e.start_ns, e.end_ns DESC, e.event_id DESC";

/* An arrow leads from a step to each of its kernels: the slices name the step, at the arrow's tail "flow_out" and at its heads
 * "flow_in". An event of its own would do for a kernel; of a step, Perfetto would take the stage that begins at the same time.
 * */
static json_t *with_arrow(json_t *slice, const char *direction, int64_t step) {
    char id[24];
    snprintf(id, sizeof id, "0x%" PRIx64, (uint64_t)step);
    if (slice != NULL && (json_object_set_new(slice, "bind_id", json_string(id)) != 0 ||
                          json_object_set_new(slice, direction, json_true()) != 0)) {
        json_decref(slice);
        return NULL;
    }
    return slice;
}

/* One slice; takes args over. */
static json_t *slice(const char *name, const char *category, const track *on, int64_t start_ns, int64_t end_ns, json_t *args) {
    return json_pack("{s:s, s:o, s:s, s:f, s:f, s:i, s:i, s:o}", "ph", "X", "name", text(name), "cat", category, "ts",
                     (double)(start_ns - on->start_ns) / 1e3, "dur", (double)(end_ns - start_ns) / 1e3, "pid", PID, "tid",
                     on->tid, "args", args);
}

static void add_numbers(json_t *args, const adm_query *q, const number *numbers, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!adm_query_is_null(q, numbers[i].column))
            json_object_set_new(args, numbers[i].name, json_integer((json_int_t)adm_query_int(q, numbers[i].column)));
}

static json_t *event_of(const adm_query *q, const track tracks[N_TRACKS]) {
    static const number numbers[] = {{"step", STEP}, {"layer", LAYER}, {"seq_len", SEQ_LEN}, {"budget", BUDGET}};
    const track *on = strcmp(adm_query_text(q, CLOCK), tracks[HOST].clock) == 0 ? &tracks[HOST] : &tracks[GPU];
    json_t *args = json_object();
    if (adm_query_text(q, VARIANT)[0] != '\0') json_object_set_new(args, "variant", text(adm_query_text(q, VARIANT)));
    add_numbers(args, q, numbers, sizeof numbers / sizeof numbers[0]);
    json_t *event = slice(adm_query_text(q, NAME), adm_query_text(q, KIND), on, adm_query_int(q, START), adm_query_int(q, END),
                          args);
    const bool has_kernels = on == &tracks[GPU] && tracks[KERNELS].used && strcmp(adm_query_text(q, KIND), "step") == 0;
    return has_kernels ? with_arrow(event, "flow_out", adm_query_int(q, EVENT)) : event;
}

/* --- Kernels ------------------------------------------------------------------------------------------------------ */

enum {
    A_KIND,
    A_NAME,
    A_STAGE,
    A_START,
    A_END,
    A_STEP,
    A_SEQ_LEN,
    A_BUDGET,
    A_BYTES,
    A_REGISTERS,
    A_STATIC,
    A_DYNAMIC,
    A_GRID,
    A_BLOCK,
    A_CONFIG,
    A_STEP_EVENT
};

static const char activities_sql[] =
    "SELECT a.kind, a.name, a.stage, a.start_ns, a.end_ns, a.step, c.seq_len, c.budget, a.bytes, a.registers, "
    "a.static_shared_bytes, a.dynamic_shared_bytes, a.grid_x * a.grid_y * a.grid_z, a.block_x * a.block_y * a.block_z, "
    "a.config_id, (SELECT e.event_id FROM event e WHERE e.run_id = a.run_id AND e.start_ns <= a.start_ns "
    "AND e.clock = 'gpu' AND e.kind = 'step' AND e.config_id = a.config_id AND e.step = a.step AND e.end_ns >= a.end_ns "
    "ORDER BY e.start_ns DESC LIMIT 1) "
    "FROM activity a LEFT JOIN config c USING (config_id) WHERE a.run_id = ? ORDER BY a.start_ns, a.activity_id";

/* *slice_ns: where the slice begins, which is later than the kernel where the one before still ran. */
static json_t *activity_of(const adm_query *q, const track *on, int64_t *until_ns, int64_t *slice_ns) {
    static const number numbers[] = {{"step", A_STEP},
                                     {"seq_len", A_SEQ_LEN},
                                     {"budget", A_BUDGET},
                                     {"bytes", A_BYTES},
                                     {"registers", A_REGISTERS},
                                     {"static_shared_bytes", A_STATIC},
                                     {"dynamic_shared_bytes", A_DYNAMIC},
                                     {"blocks", A_GRID},
                                     {"threads", A_BLOCK}};
    int64_t start_ns = adm_query_int(q, A_START), end_ns = adm_query_int(q, A_END), from_ns = start_ns;
    if (from_ns < *until_ns) from_ns = *until_ns < end_ns ? *until_ns : end_ns;
    if (end_ns > *until_ns) *until_ns = end_ns;
    *slice_ns = from_ns;
    json_t *args = json_object();
    if (!adm_query_is_null(q, A_STAGE)) json_object_set_new(args, "stage", text(adm_query_text(q, A_STAGE)));
    add_numbers(args, q, numbers, sizeof numbers / sizeof numbers[0]);
    if (from_ns > start_ns) json_object_set_new(args, "early_ns", json_integer((json_int_t)(from_ns - start_ns)));
    json_t *kernel = slice(adm_query_text(q, A_NAME), adm_query_text(q, A_KIND), on, from_ns, end_ns, args);
    return adm_query_is_null(q, A_STEP_EVENT) ? kernel : with_arrow(kernel, "flow_in", adm_query_int(q, A_STEP_EVENT));
}

static json_t *counter(const char *name, double value, const track *on, int64_t at_ns) {
    return json_pack("{s:s, s:o, s:f, s:i, s:{s:f}}", "ph", "C", "name", text(name), "ts", (double)(at_ns - on->start_ns) / 1e3,
                     "pid", PID, "args", "value", value);
}

/* A track per hardware counter that is a share: what the run counted for the kernel's stage while it runs, else 0. Counters are
 * read in passes of their own, so this is the stage's median, not this launch's. */
static adm_status write_counters(adm_store *store, int64_t run_id, const adm_query *q, const track *on, int64_t from_ns,
                                 FILE *out, bool *first, adm_error *err) {
    static const char sql[] = "SELECT c.name || ' [%]', m.median FROM measurement m JOIN metric c USING (metric_id) WHERE "
                              "m.run_id = ? AND m.config_id = ? AND m.stage = ? AND m.layer IS NULL AND m.head IS NULL "
                              "AND m.median IS NOT NULL AND c.unit = '%' AND instr(c.name, '__') ORDER BY c.name";
    adm_query *query = NULL;
    bool row = false;
    if (adm_query_is_null(q, A_CONFIG) || adm_query_is_null(q, A_STAGE)) return ADM_OK;
    adm_status status = adm_query_open(store, sql, &query, err, "iis", run_id, adm_query_int(q, A_CONFIG),
                                       adm_query_text(q, A_STAGE));
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        const char *name = adm_query_text(query, 0);
        status = write_element(out, counter(name, adm_query_double(query, 1), on, from_ns), first, err);
        if (status == ADM_OK) status = write_element(out, counter(name, 0, on, adm_query_int(q, A_END)), first, err);
    }
    adm_query_close(&query);
    return status;
}

static adm_status write_activities(adm_store *store, int64_t run_id, const track tracks[N_TRACKS], FILE *out, bool *first,
                                   uint64_t *n_events, adm_error *err) {
    const track *on = &tracks[KERNELS];
    adm_query *query = NULL;
    bool row = false;
    int64_t until_ns = INT64_MIN, slice_ns = 0;
    adm_status status = adm_query_open(store, activities_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        status = write_element(out, activity_of(query, on, &until_ns, &slice_ns), first, err);
        *n_events += status == ADM_OK;
        if (status == ADM_OK) status = write_counters(store, run_id, query, on, slice_ns, out, first, err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_timeline_export(adm_store *store, int64_t run_id, FILE *out, uint64_t *n_events, adm_error *err) {
    track tracks[N_TRACKS] = {[HOST] = {.clock = "host", .name = "host clock", .tid = 1},
                              [GPU] = {.clock = "gpu", .name = "gpu clock", .tid = 2},
                              [KERNELS] = {.clock = "activity", .name = "gpu kernels", .tid = 3}};
    adm_query *query = NULL;
    bool row = false, first = true;
    *n_events = 0;
    adm_status status = find_tracks(store, run_id, tracks, err);
    if (status == ADM_OK) status = write_head(store, run_id, tracks, out, err);
    if (status == ADM_OK) status = write_names(run_id, tracks, out, &first, err);
    if (status == ADM_OK) status = adm_query_open(store, events_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        status = write_element(out, event_of(query, tracks), &first, err);
        *n_events += status == ADM_OK;
    }
    adm_query_close(&query);
    if (status == ADM_OK) status = write_activities(store, run_id, tracks, out, &first, n_events, err);
    if (status == ADM_OK) fputs("\n]}\n", out);
    return status;
}
