/* timeline_export.c: a run's events as Chrome trace-event JSON. */
#include "analysis/timeline_export.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

enum { PID = 1, JSON_FLAGS = JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15) };

/* The clocks of the table event, and when each began. */
typedef struct track {
    const char *clock;
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

static adm_status find_tracks(adm_store *store, int64_t run_id, track tracks[2], adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, "SELECT clock, min(start_ns) FROM event WHERE run_id = ? GROUP BY clock",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        for (int i = 0; i < 2; i++)
            if (strcmp(adm_query_text(query, 0), tracks[i].clock) == 0) {
                tracks[i].used = true;
                tracks[i].start_ns = adm_query_int(query, 1);
            }
    adm_query_close(&query);
    return status;
}

static adm_status write_head(adm_store *store, int64_t run_id, const track tracks[2], FILE *out, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first = true;
    adm_status status = adm_query_open(
        store, "SELECT label, command, started_utc, host_name, cpu_model, gpu_name, tool_version, git_commit FROM run "
               "WHERE run_id = ?", &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && !row)
        status = adm_fail(err, ADM_EINPUT, "the database holds no run %lld", (long long)run_id);
    else if (status == ADM_OK && !tracks[0].used && !tracks[1].used)
        status = adm_fail(err, ADM_EINPUT, "run %lld has no timeline: only runs with --timeline keep their events",
                          (long long)run_id);
    if (status == ADM_OK) {
        static const char *const names[] = {"label", "command", "started_utc", "host_name", "cpu_model", "gpu_name",
                                            "tool_version", "git_commit"};
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
static adm_status write_names(int64_t run_id, const track tracks[2], FILE *out, bool *first, adm_error *err) {
    char name[64];
    snprintf(name, sizeof name, "adamas run %lld", (long long)run_id);
    json_t *process = json_pack("{s:s, s:s, s:i, s:{s:s}}", "ph", "M", "name", "process_name", "pid", PID, "args", "name",
                                name);
    adm_status status = write_element(out, process, first, err);
    for (int i = 0; status == ADM_OK && i < 2; i++) {
        if (!tracks[i].used) continue;
        snprintf(name, sizeof name, "%s clock", tracks[i].clock);
        json_t *thread = json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "ph", "M", "name", "thread_name", "pid", PID, "tid",
                                   tracks[i].tid, "args", "name", name);
        status = write_element(out, thread, first, err);
    }
    return status;
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

enum { KIND, NAME, VARIANT, STEP, LAYER, SEQ_LEN, BUDGET, CLOCK, START, END };

/* A parent's row comes after its children's, so of two events with the same times the later row is the outer one. */
static const char events_sql[] =
    "SELECT e.kind, e.name, e.variant, e.step, e.layer, c.seq_len, c.budget, e.clock, e.start_ns, e.end_ns "
    "FROM event e LEFT JOIN config c USING (config_id) WHERE e.run_id = ? "
    "ORDER BY e.start_ns, e.end_ns DESC, e.event_id DESC";

static json_t *event_of(const adm_query *q, const track tracks[2]) {
    static const struct { const char *name; int column; } numbers[] = {
        {"step", STEP}, {"layer", LAYER}, {"seq_len", SEQ_LEN}, {"budget", BUDGET}};
    const track *on = strcmp(adm_query_text(q, CLOCK), tracks[0].clock) == 0 ? &tracks[0] : &tracks[1];
    json_t *args = json_object();
    if (adm_query_text(q, VARIANT)[0] != '\0') json_object_set_new(args, "variant", text(adm_query_text(q, VARIANT)));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!adm_query_is_null(q, numbers[i].column))
            json_object_set_new(args, numbers[i].name, json_integer((json_int_t)adm_query_int(q, numbers[i].column)));
    int64_t start_ns = adm_query_int(q, START);
    return json_pack("{s:s, s:o, s:o, s:f, s:f, s:i, s:i, s:o}", "ph", "X", "name", text(adm_query_text(q, NAME)), "cat",
                     text(adm_query_text(q, KIND)), "ts", (double)(start_ns - on->start_ns) / 1e3, "dur",
                     (double)(adm_query_int(q, END) - start_ns) / 1e3, "pid", PID, "tid", on->tid, "args", args);
}

adm_status adm_timeline_export(adm_store *store, int64_t run_id, FILE *out, uint64_t *n_events, adm_error *err) {
    track tracks[2] = {{.clock = "host", .tid = 1}, {.clock = "gpu", .tid = 2}};
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
    if (status == ADM_OK) fputs("\n]}\n", out);
    return status;
}
