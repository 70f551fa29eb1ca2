/* shards_show.c: what `adamas db merge` says of the sweeps that it joined. */
#include "analysis/db/shards_show.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/print.h"
#include "core/base/printable.h"

/* A joined run as it is now. */
typedef struct joined_state {
    char status[16], reason[512], hosts[256], gpus[256];
    int64_t n_there;
} joined_state;

static adm_status read_state(adm_store *store, int64_t run_id, joined_state *s, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *s = (joined_state){0};
    adm_status status =
        adm_query_open(store,
                       "SELECT status, ifnull(reason, ''), host_name, ifnull(gpu_name, ''), (SELECT count(*) FROM "
                       "shard s WHERE s.run_id = r.run_id) FROM run r WHERE run_id = ?",
                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        adm_printable(adm_query_text(query, 0), s->status, sizeof s->status);
        adm_printable(adm_query_text(query, 1), s->reason, sizeof s->reason);
        adm_printable(adm_query_text(query, 2), s->hosts, sizeof s->hosts);
        adm_printable(adm_query_text(query, 3), s->gpus, sizeof s->gpus);
        s->n_there = adm_query_int(query, 4);
    }
    adm_query_close(&query);
    return status;
}

static const char *fate_name(adm_shard_fate fate) {
    static const char *const names[] = {"joined", "was there", "older", "unfinished"};
    return names[fate];
}

/* Runs that were not joined, and why. A run that was there already is no news. */
static void print_left(const adm_collection *c, size_t sweep, char *const *paths) {
    char shown[256];
    for (size_t i = 0; i < c->n_runs; i++) {
        const adm_shard_run *r = &c->run[i];
        if (r->sweep != sweep) continue;
        if (r->fate == ADM_SHARD_OLDER)
            adm_print("  shard %" PRId64 " is doubled: %s of %s on %s is older, and left out\n", r->shard,
                      adm_printable(paths[r->file], shown, sizeof shown), r->started_utc, r->host);
        else if (r->fate == ADM_SHARD_UNFINISHED)
            adm_print("  shard %" PRId64 " is unfinished (%s): %s on %s\n", r->shard, r->status,
                      adm_printable(paths[r->file], shown, sizeof shown), r->host);
    }
}

static json_t *as_json(const adm_collection *c, size_t sweep, const joined_state *state, char *const *paths) {
    const adm_sweep_found *s = &c->sweep[sweep];
    json_t *left = json_array();
    char shown[512];
    for (size_t i = 0; i < c->n_runs; i++) {
        const adm_shard_run *r = &c->run[i];
        if (r->sweep == sweep && (r->fate == ADM_SHARD_OLDER || r->fate == ADM_SHARD_UNFINISHED))
            json_array_append_new(left,
                                  json_pack("{s:I, s:s, s:s, s:s}", "shard", (json_int_t)r->shard, "fate", fate_name(r->fate),
                                            "host", r->host, "file", adm_printable(paths[r->file], shown, sizeof shown)));
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:b, s:o}", "sweep", c->run[s->first].sweep_id, "run_id",
                     (json_int_t)s->joined_id, "n_shards", (json_int_t)s->n_shards, "n_joined", (json_int_t)s->n_taken,
                     "n_there", (json_int_t)state->n_there, "status", state->status, "reason", state->reason, "is_across",
                     s->is_across, "left", left);
}

adm_status adm_shards_show(const adm_common *common, const adm_collection *c, char *const *paths, adm_store *store,
                           json_t *document, bool *is_whole, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_sweeps; i++) {
        const adm_sweep_found *s = &c->sweep[i];
        joined_state state = {.status = "none"};
        if (s->joined_id != 0) status = read_state(store, s->joined_id, &state, err);
        if (status != ADM_OK) break;
        *is_whole &= strcmp(state.status, "complete") == 0;
        if (common->json && json_array_append_new(document, as_json(c, i, &state, paths)) != 0)
            status = adm_fail(err, ADM_EENVIRONMENT, "out of memory");
        if (common->json || common->quiet) continue;
        adm_print("sweep %.12s (%s): ", c->run[s->first].sweep_id, c->run[s->first].command);
        if (s->joined_id == 0) adm_print("none of %" PRId64 " shards is complete\n", s->n_shards);
        else
            adm_print("%zu shards joined, %" PRId64 " of %" PRId64 " are in run %" PRId64 " (%s)%s%s\n", s->n_taken,
                      state.n_there, s->n_shards, s->joined_id, state.hosts, state.reason[0] != '\0' ? "; " : "", state.reason);
        if (s->is_across) adm_print("  these shards are of different builds or machines; the run's commit and GPU name them\n");
        print_left(c, i, paths);
    }
    return status;
}
