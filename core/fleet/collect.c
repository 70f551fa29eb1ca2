/* collect.c: which runs of shards make up which sweep. */
#include "core/fleet/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/store/merge/joined.h"
#include "core/store/store.h"

/* --- Reading ------------------------------------------------------------------------------------------------------ */

static const char runs_sql[] =
    "SELECT run_id, shard, ifnull(n_shards, 0), run_uuid, command, ifnull(sweep_id, ''), ifnull(sweep_grid, ''), "
    "ifnull(sweep_parts, ''), ifnull(sweep_inputs, ''), ifnull(sweep_build, ''), host_name, cpu_model, ifnull(gpu_name, ''), "
    "started_utc, status FROM run WHERE shard IS NOT NULL ORDER BY run_id";

static void read_run(const adm_query *q, size_t file, adm_shard_run *r) {
    *r = (adm_shard_run){
        .file = file, .run_id = adm_query_int(q, 0), .shard = adm_query_int(q, 1), .n_shards = adm_query_int(q, 2)};
    const struct {
        char *out;
        size_t bytes;
    } texts[] = {{r->uuid, sizeof r->uuid},
                 {r->command, sizeof r->command},
                 {r->sweep_id, sizeof r->sweep_id},
                 {r->grid, sizeof r->grid},
                 {r->parts, sizeof r->parts},
                 {r->inputs, sizeof r->inputs},
                 {r->build, sizeof r->build},
                 {r->host, sizeof r->host},
                 {r->cpu, sizeof r->cpu},
                 {r->gpu, sizeof r->gpu},
                 {r->started_utc, sizeof r->started_utc},
                 {r->status, sizeof r->status}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        adm_printable(adm_query_text(q, 3 + (int)i), texts[i].out, texts[i].bytes);
}

adm_status adm_collection_add(adm_collection *c, size_t file, const char *path, adm_error *err) {
    adm_store *store = NULL;
    adm_query *query = NULL;
    bool row = false;
    char shown[256];
    adm_status status = adm_store_open_known(path, ADM_STORE_READ, &c->known, &store, err);
    if (status == ADM_OK) status = adm_query_open(store, runs_sql, &query, err, "");
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        status = adm_grow(&c->run, c->n_runs, &c->capacity, sizeof *c->run, "runs of shards", err);
        if (status != ADM_OK) break;
        adm_shard_run *r = &c->run[c->n_runs++];
        read_run(query, file, r);
        if (r->shard < 1 || r->shard > r->n_shards || r->sweep_id[0] == '\0')
            status = adm_fail(err, ADM_EINPUT,
                              "%s: run %" PRId64 " says that it is shard %" PRId64 " of %" PRId64 " of a sweep '%s'",
                              adm_printable(path, shown, sizeof shown), r->run_id, r->shard, r->n_shards, r->sweep_id);
    }
    adm_query_close(&query);
    adm_store_close(&store);
    return status;
}

/* --- Putting together --------------------------------------------------------------------------------------------- */

static bool is_same_grid(const adm_shard_run *a, const adm_shard_run *b) {
    return a->n_shards == b->n_shards && strcmp(a->command, b->command) == 0 && strcmp(a->grid, b->grid) == 0;
}

static adm_status group(adm_collection *c, adm_error *err) {
    adm_status status = adm_alloc(&c->sweep, c->n_runs, sizeof *c->sweep, "sweeps", err);
    for (size_t i = 0; status == ADM_OK && i < c->n_runs; i++) {
        size_t s = 0;
        while (s < c->n_sweeps && !is_same_grid(&c->run[c->sweep[s].first], &c->run[i])) s++;
        if (s == c->n_sweeps) c->sweep[c->n_sweeps++] = (adm_sweep_found){.first = i, .n_shards = c->run[i].n_shards};
        c->run[i].sweep = s;
        if (strcmp(c->run[i].status, "complete") != 0) c->run[i].fate = ADM_SHARD_UNFINISHED;
    }
    return status;
}

static adm_status refuse(char *const *paths, const adm_shard_run *a, const adm_shard_run *b, const char *what, const char *x,
                         const char *y, const char *cure, adm_error *err) {
    char one[160], other[160];
    return adm_fail(err, ADM_EINPUT,
                    "%s (shard %" PRId64 ") and %s (shard %" PRId64
                    ") are of one grid and differ in %s: '%.60s' and '%.60s'; %s",
                    adm_printable(paths[a->file], one, sizeof one), a->shard,
                    adm_printable(paths[b->file], other, sizeof other), b->shard, what, x, y, cure);
}

/* Times on the host stand on the processor, those of a profile on the GPU, and a simulation's on neither. */
static const char *kind_of(const adm_shard_run *r) {
    return strcmp(r->command, "profile") == 0 ? r->gpu : strcmp(r->command, "simulate") == 0 ? "" : r->cpu;
}

static adm_status check(adm_collection *c, char *const *paths, bool across_builds, bool across_machines, adm_error *err) {
    for (size_t i = 0; i < c->n_runs; i++) {
        const adm_shard_run *b = &c->run[i];
        adm_sweep_found *s = &c->sweep[b->sweep];
        const adm_shard_run *a = &c->run[s->first];
        if (b->fate == ADM_SHARD_UNFINISHED) continue;
        if (a->fate == ADM_SHARD_UNFINISHED) { /* the first that is complete is what the others are compared with */
            s->first = i;
            continue;
        }
        const bool builds = strcmp(a->build, b->build) != 0, kinds = strcmp(kind_of(a), kind_of(b)) != 0;
        if (strcmp(a->inputs, b->inputs) != 0)
            return refuse(paths, a, b, "what their input files hold", a->inputs, b->inputs, "give every shard the same files",
                          err);
        if (builds && !across_builds)
            return refuse(paths, a, b, "their build", a->build, b->build,
                          "merge each build's shards by themselves, or join them all the same with --across-builds", err);
        if (strcmp(a->parts, b->parts) != 0)
            return refuse(paths, a, b, "how their builds divide the grid", a->parts, b->parts, "run all shards with one build",
                          err);
        if (kinds && !across_machines)
            return refuse(paths, a, b, strcmp(a->command, "profile") == 0 ? "their GPU" : "their processor", kind_of(a),
                          kind_of(b), "join them all the same with --across-machines", err);
        s->is_across |= builds || kinds;
    }
    return ADM_OK;
}

/* --- Deciding ----------------------------------------------------------------------------------------------------- */

/* Whether a ran after b. */
static bool is_later(const adm_shard_run *a, const adm_shard_run *b) {
    const int order = strcmp(a->started_utc, b->started_utc);
    return order != 0 ? order > 0 : a > b;
}

/* Of runs of the same shard the latest counts. */
static adm_status decide_between(adm_collection *c, adm_error *err) {
    size_t *best = NULL;
    adm_status status = ADM_OK;
    for (size_t s = 0; status == ADM_OK && s < c->n_sweeps; s++) {
        const size_t n_shards = (size_t)c->sweep[s].n_shards;
        status = adm_alloc(&best, n_shards + 1, sizeof *best, "shards of a sweep", err); /* 0: none, else index + 1 */
        for (size_t i = 0; status == ADM_OK && i < c->n_runs; i++) {
            adm_shard_run *r = &c->run[i];
            if (r->sweep != s || r->fate == ADM_SHARD_UNFINISHED) continue;
            size_t *at = &best[r->shard];
            if (*at > 0 && strcmp(c->run[*at - 1].uuid, r->uuid) == 0) r->fate = ADM_SHARD_PRESENT; /* the same run twice */
            else if (*at > 0 && is_later(&c->run[*at - 1], r)) r->fate = ADM_SHARD_OLDER;
            else {
                if (*at > 0) c->run[*at - 1].fate = ADM_SHARD_OLDER;
                *at = i + 1;
            }
        }
        adm_free(&best);
    }
    return status;
}

static adm_status find_joined(adm_collection *c, adm_store *store, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_runs; i++) {
        adm_sweep_found *s = &c->sweep[c->run[i].sweep];
        if (s->joined_id == 0) status = adm_joined_find(store, c->run[i].sweep_id, s->n_shards, &s->joined_id, err);
    }
    return status;
}

/* Against what the joined run has. */
static adm_status decide_against(adm_collection *c, adm_store *store, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_runs; i++) {
        adm_shard_run *r = &c->run[i];
        adm_query *query = NULL;
        bool row = false;
        if (r->fate != ADM_SHARD_TAKEN || c->sweep[r->sweep].joined_id == 0) continue;
        status = adm_query_open(store, "SELECT run_uuid, started_utc FROM shard WHERE run_id = ? AND shard = ?", &query, err,
                                "ii", c->sweep[r->sweep].joined_id, r->shard);
        if (status == ADM_OK) status = adm_query_next(query, &row, err);
        if (status == ADM_OK && row && strcmp(adm_query_text(query, 0), r->uuid) == 0) r->fate = ADM_SHARD_PRESENT;
        else if (status == ADM_OK && row && strcmp(adm_query_text(query, 1), r->started_utc) > 0) r->fate = ADM_SHARD_OLDER;
        adm_query_close(&query);
    }
    return status;
}

static adm_status begin_joined(adm_collection *c, char *const *paths, adm_store *store, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_runs; i++) {
        const adm_shard_run *r = &c->run[i];
        adm_sweep_found *s = &c->sweep[r->sweep];
        s->n_taken += r->fate == ADM_SHARD_TAKEN;
        s->n_present += r->fate == ADM_SHARD_PRESENT;
        s->n_older += r->fate == ADM_SHARD_OLDER;
        s->n_unfinished += r->fate == ADM_SHARD_UNFINISHED;
        if (r->fate == ADM_SHARD_TAKEN && s->joined_id == 0)
            status = adm_joined_begin(store, paths[r->file], r->run_id, &s->joined_id, err);
    }
    return status;
}

adm_status adm_collection_plan(adm_collection *c, char *const *paths, adm_store *store, bool across_builds,
                               bool across_machines, adm_error *err) {
    if (c->n_runs == 0) return ADM_OK;
    adm_status status = group(c, err);
    if (status == ADM_OK) status = check(c, paths, across_builds, across_machines, err);
    if (status == ADM_OK) status = decide_between(c, err);
    if (status == ADM_OK) status = find_joined(c, store, err);
    if (status == ADM_OK) status = decide_against(c, store, err);
    return status == ADM_OK ? begin_joined(c, paths, store, err) : status;
}

size_t adm_collection_parts(const adm_collection *c, size_t file, adm_merge_part *parts) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->run[i].file == file && c->run[i].fate == ADM_SHARD_TAKEN)
            parts[n++] = (adm_merge_part){c->run[i].run_id, c->sweep[c->run[i].sweep].joined_id};
    return n;
}

adm_status adm_collection_finish(const adm_collection *c, adm_store *store, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t s = 0; status == ADM_OK && s < c->n_sweeps; s++)
        if (c->sweep[s].joined_id != 0) status = adm_joined_finish(store, c->sweep[s].joined_id, err);
    return status;
}

void adm_collection_free(adm_collection *c) {
    adm_free(&c->run);
    adm_free(&c->sweep);
    adm_schema_free(&c->known);
}
