/* figures.c: gathers the figures of a stage from a run; see figures.h. */
#include "analysis/explain/figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/suggest.h"

/* The run: the newest that has the stage on a GPU and, where they are named, the variant and the shape. */
#define TIMED                                                                                                             \
    " FROM stage_summary s JOIN run r USING (run_id)"                                                                     \
    " WHERE s.source = 'gpu' AND s.metric = 'time_ns' AND s.status = 'ok' AND s.stage = ?1 AND (?2 = 0 OR s.run_id = ?2)" \
    "  AND (s.variant = ?3 OR ?3 IS NULL AND s.variant <> 'xor') AND (?4 = 0 OR s.seq_len = ?4)"                          \
    "  AND (?5 = 0 OR s.kv_heads = ?5) AND (?6 = 0 OR s.batch = ?6) AND (?7 = 0 OR s.budget = ?7)"
static const char run_sql[] = "SELECT s.run_id" TIMED " ORDER BY s.run_id DESC LIMIT 1";

/* Another run of the same build on the same kind of GPU that has counters of the stage, as the run ?1 may have times alone:
 * counting takes long, and is done for few configurations. */
static const char lender_sql[] =
    "SELECT q.run_id FROM run r JOIN run q ON q.gpu_name = r.gpu_name AND q.git_commit = r.git_commit AND q.run_id <> r.run_id"
    " WHERE r.run_id = ?1 AND r.git_dirty = 0 AND q.git_dirty = 0 AND EXISTS (SELECT 1 FROM stage_summary k"
    "  WHERE k.run_id = q.run_id AND k.stage = ?2 AND k.metric = 'achieved_occupancy_ratio' AND k.status = 'ok')"
    " ORDER BY q.run_id DESC LIMIT 1";

/* The configuration: the one with counters, also those of the lender ?8, before others, then the longest, widest, fastest. */
static const char subject_sql[] =
    "SELECT s.run_id, s.label, ifnull(r.gpu_name, ''), s.variant, s.q_heads, s.kv_heads, s.head_dim, s.seq_len, s.batch,"
    " ifnull(s.budget, 0), (SELECT max(k.run_id = s.run_id) FROM stage_summary k WHERE k.run_id IN (s.run_id, ?8)"
    "   AND k.stage = s.stage AND k.variant = s.variant AND k.seq_len = s.seq_len AND k.kv_heads = s.kv_heads"
    "   AND k.q_heads = s.q_heads AND k.head_dim = s.head_dim AND k.batch = s.batch"
    "   AND ifnull(k.budget, 0) = ifnull(s.budget, 0)"
    "   AND k.metric = 'achieved_occupancy_ratio' AND k.status = 'ok') AS own" TIMED
    " ORDER BY own IS NOT NULL DESC, s.seq_len DESC, s.kv_heads DESC, s.batch DESC, s.budget DESC, s.launch, s.median LIMIT 1";

/* Every metric of it, over launch modes: a graph's before a stream's. */
static const char metrics_sql[] =
    "SELECT metric, median FROM stage_summary WHERE run_id = ? AND stage = ? AND variant = ? AND seq_len = ? AND kv_heads = ?"
    " AND batch = ? AND ifnull(budget, 0) = ? AND status = 'ok' AND source IN ('gpu', 'model') ORDER BY launch = 'graph' DESC";

static const char kernel_sql[] =
    "SELECT a.registers, a.block_x * a.block_y * a.block_z, a.grid_x * a.grid_y * a.grid_z,"
    " a.static_shared_bytes + a.dynamic_shared_bytes"
    " FROM activity a JOIN config c USING (config_id) WHERE a.run_id = ? AND a.stage = ? AND c.variant = ? AND c.seq_len = ?"
    " AND c.n_kv_heads = ? AND c.batch = ? AND ifnull(c.budget, 0) = ? AND a.kind = 'kernel' ORDER BY a.registers DESC LIMIT 1";

/* A step of the same configuration; any budget where the stage has none. */
static const char step_sql[] =
    "SELECT min(CASE variant WHEN 'six' THEN median END), min(median) FROM stage_summary WHERE run_id = ? AND stage = 'step'"
    " AND metric = 'time_ns' AND status = 'ok' AND launch = 'graph' AND seq_len = ? AND kv_heads = ? AND batch = ?"
    " AND (?5 = 0 OR budget = ?5)";

/* Refuses an implementation of which there is no time at all. */
static adm_status check_variant(adm_store *store, const adm_explain_subject *s, adm_error *err) {
    enum { MAX_NAMES = 32, NAME_BYTES = 128 };
    char name[MAX_NAMES][NAME_BYTES];
    const char *names[MAX_NAMES];
    adm_query *query = NULL;
    bool row = false, is_there = false;
    size_t n = 0;
    adm_status status = adm_query_open(
        store,
        "SELECT DISTINCT variant FROM stage_summary WHERE source = 'gpu' AND metric = 'time_ns' AND status = 'ok'"
        " AND stage = ? AND (?2 = 0 OR run_id = ?2) ORDER BY variant",
        &query, err, "si", s->stage, s->run_id);
    while (status == ADM_OK && n < MAX_NAMES && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        snprintf(name[n], NAME_BYTES, "%s", adm_query_text(query, 0));
        is_there |= strcmp(name[n], s->variant) == 0;
        names[n] = name[n];
        n++;
    }
    adm_query_close(&query);
    return status != ADM_OK || is_there || n == MAX_NAMES ? status
                                                          : adm_refuse_word("--implementation", s->variant, names, n, err);
}

static adm_status no_subject(adm_store *store, const adm_explain_subject *s, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    char where[64] = "the database has";
    if (s->run_id != 0) snprintf(where, sizeof where, "run %" PRId64 " has", s->run_id);
    adm_status status =
        adm_query_open(store,
                       "SELECT count(*) FROM stage_summary WHERE source = 'gpu' AND metric = 'time_ns' AND status = 'ok'"
                       " AND stage = ? AND (?2 = 0 OR run_id = ?2)",
                       &query, err, "si", s->stage, s->run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    const bool any = status == ADM_OK && row && adm_query_int(query, 0) > 0;
    adm_query_close(&query);
    if (status != ADM_OK) return status;
    if (any && s->variant != NULL) status = check_variant(store, s, err);
    if (status != ADM_OK) return status;
    if (any)
        return adm_fail(err, ADM_EINPUT, "%s GPU times of the stage %s, but none of that variant and shape", where, s->stage);
    return adm_fail(err, ADM_EINPUT,
                    "%s no GPU time of the stage %s: `adamas profile --stages %s,step --counters full --timeline` takes it",
                    where, s->stage, s->stage);
}

/* The number of the one row that a query has, into *id; 0: there is none. Takes the query. */
static adm_status one_id(adm_status status, adm_query *query, int64_t *id, adm_error *err) {
    bool row = false;
    *id = 0;
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) *id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

static adm_status find_runs(adm_store *store, const adm_explain_subject *s, int64_t *run_id, int64_t *lender, adm_error *err) {
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, run_sql, &query, err, "sisiiii", s->stage, s->run_id, s->variant,
                                       (int64_t)s->seq_len, (int64_t)s->kv_heads, (int64_t)s->batch, (int64_t)s->budget);
    status = one_id(status, query, run_id, err);
    query = NULL;
    if (status == ADM_OK) status = adm_query_open(store, lender_sql, &query, err, "is", *run_id, s->stage);
    return one_id(status, query, lender, err);
}

/* Stalls with another number of KV heads, all else equal, where this one's were not counted: ?1 is the run, ?2 its lender. They
 * are shares, and the top-k and attention of a selection per query head do the same work. */
static const char near_sql[] =
    "WITH counted AS MATERIALIZED (SELECT metric, median, kv_heads, run_id FROM stage_summary WHERE run_id IN (?1, ?2)"
    "  AND stage = ?3 AND variant = ?4 AND seq_len = ?5 AND batch = ?6 AND ifnull(budget, 0) = ?7 AND q_heads = ?8"
    "  AND head_dim = ?9 AND status = 'ok' AND source = 'gpu' AND metric GLOB 'stall_*_share')"
    " SELECT metric, median, kv_heads FROM counted WHERE (run_id, kv_heads) = (SELECT run_id, kv_heads FROM counted"
    "  ORDER BY abs(kv_heads - ?10), run_id = ?1 DESC LIMIT 1)";

static adm_status read_near(adm_store *store, const char *stage, int64_t lender, adm_explained *e, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, near_sql, &query, err, "iissiiiiii", e->run_id, lender, stage, e->variant,
                                       e->seq_len, e->batch, e->budget, e->q_heads, e->head_dim, e->kv_heads);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        adm_figures_add(&e->figures, adm_query_text(query, 0), adm_query_double(query, 1));
        e->stalls_kv_heads = adm_query_int(query, 2) != e->kv_heads ? adm_query_int(query, 2) : 0;
    }
    adm_query_close(&query);
    return status;
}

/* *near: the run that may lend what this configuration lacks, or 0. */
static adm_status find_subject(adm_store *store, const adm_explain_subject *s, adm_explained *out, int64_t *near,
                               adm_error *err) {
    adm_query *query = NULL;
    int64_t run_id = 0, lender = 0;
    bool row = false;
    adm_status status = find_runs(store, s, &run_id, &lender, err);
    if (status == ADM_OK && run_id == 0) return no_subject(store, s, err);
    if (status == ADM_OK)
        status = adm_query_open(store, subject_sql, &query, err, "sisiiiii", s->stage, run_id, s->variant, (int64_t)s->seq_len,
                                (int64_t)s->kv_heads, (int64_t)s->batch, (int64_t)s->budget, lender);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        out->run_id = adm_query_int(query, 0);
        snprintf(out->label, sizeof out->label, "%s", adm_query_text(query, 1));
        snprintf(out->gpu, sizeof out->gpu, "%s", adm_query_text(query, 2));
        snprintf(out->variant, sizeof out->variant, "%s", adm_query_text(query, 3));
        int64_t *const numbers[] = {&out->q_heads, &out->kv_heads, &out->head_dim, &out->seq_len, &out->batch, &out->budget};
        for (int i = 0; i < 6; i++) *numbers[i] = adm_query_int(query, 4 + i);
        out->has_counters = !adm_query_is_null(query, 10);
        out->lender_id = out->has_counters && adm_query_int(query, 10) == 0 ? lender : 0;
    }
    adm_query_close(&query);
    *near = lender;
    return status == ADM_OK && !row ? no_subject(store, s, err) : status;
}

static adm_status open_of(adm_store *store, const char *sql, int64_t run_id, const char *stage, const adm_explained *e,
                          adm_query **query, adm_error *err) {
    return adm_query_open(store, sql, query, err, "issiiii", run_id, stage, e->variant, e->seq_len, e->kv_heads, e->batch,
                          e->budget);
}

/* What is known of a figure stays: the run's own are read before the lender's. */
static adm_status read_metrics(adm_store *store, int64_t run_id, const char *stage, adm_explained *e, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = open_of(store, metrics_sql, run_id, stage, e, &query, err);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        adm_figures_add(&e->figures, adm_query_text(query, 0), adm_query_double(query, 1));
    adm_query_close(&query);
    if (status == ADM_OK) status = open_of(store, kernel_sql, run_id, stage, e, &query, err);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    static const char *const names[] = {"registers", "block_threads", "grid_blocks", "shared_bytes"};
    e->has_timeline |= status == ADM_OK && row;
    for (int i = 0; i < 4 && status == ADM_OK && row; i++) adm_figures_add(&e->figures, names[i], adm_query_double(query, i));
    adm_query_close(&query);
    return status;
}

static adm_status read_step(adm_store *store, adm_explained *e, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, step_sql, &query, err, "iiiii", e->run_id, e->seq_len, e->kv_heads, e->batch,
                                       e->budget);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    static const char *const names[] = {"six_ns", "step_ns"};
    for (int i = 0; i < 2 && status == ADM_OK && row; i++)
        if (!adm_query_is_null(query, i)) adm_figures_add(&e->figures, names[i], adm_query_double(query, i));
    adm_query_close(&query);
    return status;
}

static double figure(const adm_explained *e, const char *name) {
    double value;
    return adm_figures_find(&e->figures, name, &value) ? value : NAN;
}

/* What a token's encoding takes in the same configuration as four launches, and as one. */
static const char encode_sql[] =
    "SELECT sum(CASE variant WHEN 'separate' THEN median END), max(CASE variant WHEN 'fused' THEN median END)"
    " FROM stage_summary WHERE run_id = ? AND stage IN ('hadamard', 'bucket', 'pack', 'append') AND metric = 'time_ns'"
    " AND status = 'ok' AND launch = 'graph' AND seq_len = ? AND kv_heads = ? AND batch = ? AND budget IS NULL"
    " AND variant IN ('separate', 'fused')"
    " HAVING count(DISTINCT stage || variant) = 5 AND count(*) = 5";

static adm_status read_encode(adm_store *store, const char *stage, adm_explained *e, adm_error *err) {
    static const char *const stages[] = {"hadamard", "bucket", "pack", "append"};
    adm_query *query = NULL;
    bool row = false, encodes = false;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) encodes |= strcmp(stage, stages[i]) == 0;
    if (!encodes || strcmp(e->variant, "separate") != 0) return ADM_OK;
    adm_status status = adm_query_open(store, encode_sql, &query, err, "iiii", e->run_id, e->seq_len, e->kv_heads, e->batch);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    const double apart = status == ADM_OK && row ? adm_query_double(query, 0) : NAN;
    const double fused = status == ADM_OK && row ? adm_query_double(query, 1) : NAN;
    adm_query_close(&query);
    if (!(apart > fused)) return status;
    adm_figures_add(&e->figures, "encode_apart_ns", apart);
    adm_figures_add(&e->figures, "encode_fused_ns", fused);
    adm_figures_add(&e->figures, "encode_saved_ns", figure(e, "time_ns") * (1 - fused / apart));
    return status;
}

/* What an SM holds at once, and how many there are: NVIDIA, CUDA C++ Programming Guide, "Technical Specifications per Compute
 * Capability"; numbers of SMs as the devices report them. The first name that the GPU's has counts. */
static const struct {
    const char *name;
    double n_sms, threads, registers, shared_bytes, blocks;
} chips[] = {
    {"H100 PCIe", 114, 2048, 65536, 233472, 32},
    {"H100", 132, 2048, 65536, 233472, 32},
    {"H200", 132, 2048, 65536, 233472, 32},
    {"A100", 108, 2048, 65536, 167936, 32},
};

/* Blocks of the largest kernel that an SM takes; NAN: not known. */
static double blocks_per_sm(const adm_explained *e, size_t chip) {
    const double threads = ceil(figure(e, "block_threads") / 32) * 32, registers = ceil(figure(e, "registers") / 8) * 8;
    const double reserved = 1024; /* of shared memory per block, since compute capability 8.0 */
    const double fit = fmin(fmin(floor(chips[chip].threads / threads), floor(chips[chip].registers / (registers * threads))),
                            floor(chips[chip].shared_bytes / (figure(e, "shared_bytes") + reserved)));
    return isfinite(fit) ? fmin(fit, chips[chip].blocks) : NAN;
}

static void derive_waves(adm_explained *e) {
    size_t chip = 0;
    while (chip < sizeof chips / sizeof *chips && strstr(e->gpu, chips[chip].name) == NULL) chip++;
    if (chip == sizeof chips / sizeof *chips) return;
    const double fit = blocks_per_sm(e, chip), waves = figure(e, "grid_blocks") / (chips[chip].n_sms * fit);
    if (!isfinite(waves)) return;
    adm_figures_add(&e->figures, "waves", waves);
    if (waves <= 1) return;
    adm_figures_add(&e->figures, "last_wave_share", waves - ceil(waves) + 1);
    adm_figures_add(&e->figures, "tail_ns", figure(e, "time_ns") * (1 - waves / ceil(waves)));
}

/* Counters count a kernel of their own pass; clocks of passes differ by little. */
static void derive_idle(adm_explained *e) {
    const double time_ns = figure(e, "time_ns");
    const double active_ns = figure(e, "sm__cycles_active.avg") / figure(e, "sm__cycles_elapsed.avg.per_second") * 1e9;
    adm_figures_add(&e->figures, "sm_active_share", fmin(active_ns / time_ns, 1));
    adm_figures_add(&e->figures, "sm_idle_ns", fmax(time_ns - active_ns, 0));
}

static bool is_phase(const adm_figure *f, size_t *length) {
    *length = strlen(f->name);
    return strncmp(f->name, "phase_", 6) == 0 && *length > 9 && strcmp(f->name + *length - 3, "_ns") == 0;
}

static void derive_phases(adm_explained *e) {
    const size_t n = e->figures.n;
    double sum = 0;
    size_t length;
    for (size_t i = 0; i < n; i++)
        if (is_phase(&e->figures.figure[i], &length)) sum += e->figures.figure[i].value;
    e->has_phases = sum > 0;
    for (size_t i = 0; i < n && sum > 0; i++) {
        const adm_figure f = e->figures.figure[i];
        char name[sizeof f.name];
        if (!is_phase(&f, &length)) continue;
        snprintf(name, sizeof name, "%.*s_share", (int)(length - 3), f.name);
        adm_figures_add(&e->figures, name, f.value / sum);
    }
}

/* The reason that warps wait for the most, of those that a set counts; no share of it: nothing was counted. */
static void derive_top_stall(adm_explained *e) {
    double top = NAN;
    for (size_t i = 0; i < e->figures.n; i++) {
        const adm_figure *f = &e->figures.figure[i];
        const size_t length = strlen(f->name);
        if (strncmp(f->name, "stall_", 6) != 0 || length < 12 || strcmp(f->name + length - 6, "_share") != 0) continue;
        top = fmax(top, f->value);
    }
    adm_figures_add(&e->figures, "has_stalls", isfinite(top));
    adm_figures_add(&e->figures, "top_stall_share", top);
}

static void derive(adm_explained *e) {
    static const char *const stalls[] = {"short_scoreboard",   "barrier", "mio_throttle", "lg_throttle",
                                         "math_pipe_throttle", "wait"};
    const double time_ns = figure(e, "time_ns"), floor_ns = figure(e, "floor_ns"), launches = figure(e, "kernel_launches");
    char share[64], name[64];
    adm_figures_add(&e->figures, "over_floor_ns", fmax(time_ns - floor_ns, 0));
    for (size_t i = 0; i < sizeof stalls / sizeof *stalls; i++) {
        snprintf(share, sizeof share, "stall_%s_share", stalls[i]);
        snprintf(name, sizeof name, "%s_ns", stalls[i]);
        adm_figures_add(&e->figures, name, figure(e, share) * time_ns);
    }
    derive_top_stall(e);
    double unused;
    adm_figures_add(&e->figures, "has_encode_fused", adm_figures_find(&e->figures, "encode_fused_ns", &unused));
    adm_figures_add(&e->figures, "extra_reads_ns", fmin((figure(e, "dram_read_model_ratio") - 1) * floor_ns, time_ns));
    derive_waves(e);
    derive_idle(e);
    derive_phases(e);
    adm_figures_add(&e->figures, "launch_cost_ns", fmin((launches - 1) * 500, time_ns));
}

adm_status adm_explain_read(adm_store *store, const adm_explain_subject *subject, adm_explained *out, adm_error *err) {
    int64_t near = 0;
    *out = (adm_explained){.run_id = 0};
    adm_status status = find_subject(store, subject, out, &near, err);
    if (status == ADM_OK) status = read_metrics(store, out->run_id, subject->stage, out, err);
    if (status == ADM_OK && out->lender_id != 0) status = read_metrics(store, out->lender_id, subject->stage, out, err);
    const bool is_slow = !(figure(out, "limit_ratio") >= 0.5); /* where bytes are the limit, other stalls say nothing */
    if (status == ADM_OK && !out->has_counters && is_slow) status = read_near(store, subject->stage, near, out, err);
    if (status == ADM_OK) status = read_encode(store, subject->stage, out, err);
    if (status == ADM_OK) status = read_step(store, out, err);
    if (status == ADM_OK) derive(out);
    return status;
}
