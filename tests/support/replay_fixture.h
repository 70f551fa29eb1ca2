/* replay_fixture.h: a session made in memory, its replay into a database, and questions to that. */
#ifndef ADM_TESTS_SUPPORT_REPLAY_FIXTURE_H
#define ADM_TESTS_SUPPORT_REPLAY_FIXTURE_H

#include "tests/support/stage_check.h"

#include <stdbool.h>

#include "core/base/mem.h"
#include "core/policy/sweep.h"
#include "core/replay/replay.h"
#include "kernels/attention/quality.h"
#include "probes/clock_probe.h"

enum { N_Q = 4, N_KV = 2, D = 64, N_TOKENS = 600, N_STEPS = 24, N_LAYERS = 2 };

/* A session of two layers (numbers 3 and 7) in float16: steps 100..111 and 500..511. */
typedef struct session {
    adm_trace trace;
    adm_trace_layer layer[N_LAYERS];
    int64_t positions[N_STEPS];
    uint16_t k[N_LAYERS][N_KV * N_TOKENS * D], v[N_LAYERS][N_KV * N_TOKENS * D], q[N_LAYERS][N_STEPS * N_Q * D];
} session;

typedef struct fixture {
    session s;
    char path[64];
    adm_host_pipeline pipeline;
    adm_sweep sweep;
    adm_replay_options options;
    adm_error err;
} fixture;

/* Every policy in its plainest form, with two variants of adamas. */
#define ALL_POLICIES "dense,oracle,adamas:thresholds=calibrated+fixed:-1,0,1,quest,streaming,h2o,accumulated,random"
enum { N_ALL_POLICIES = 8 };

static const uint32_t budgets[] = {1, 16, 200, N_TOKENS};

static inline void fill(adm_rng *rng, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = adm_f32_to_f16((float)adm_rng_normal(rng) * (i % D == 5 ? 6.0f : 1.0f));
}

/* What is compared, as on the command line; fails the test if it is not understood. */
static inline void set_policies(fixture *f, const char *policies) {
    adm_error err = {0};
    adm_sweep_clear(&f->sweep);
    if (adm_sweep_parse(policies, NULL, 0, &f->sweep, &err) != ADM_OK) fail_msg("%s: %s", policies, err.text);
    f->options.variants = f->sweep.variant;
    f->options.n_variants = f->sweep.n_variants;
}

static inline int make_fixture(void **state) {
    fixture *f = calloc(1, sizeof *f);
    session *s = &f->s;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int i = 0; i < N_STEPS; i++) s->positions[i] = i < 12 ? 100 + i : 500 + (i - 12);
    for (uint32_t l = 0; l < N_LAYERS; l++) {
        fill(&rng, s->k[l], N_KV * N_TOKENS * D);
        fill(&rng, s->v[l], N_KV * N_TOKENS * D);
        fill(&rng, s->q[l], N_STEPS * N_Q * D);
        s->layer[l] = (adm_trace_layer){.index = l == 0 ? 3 : 7,
                                        .k_dtype = ADM_F16,
                                        .v_dtype = ADM_F16,
                                        .q_dtype = ADM_F16,
                                        .k = s->k[l],
                                        .v = s->v[l],
                                        .q = s->q[l]};
    }
    s->trace = (adm_trace){.path = "session",
                           .name = "session",
                           .kind = "synthetic",
                           .model = "none",
                           .xxh128 = "00000000000000000000000000000001",
                           .shape = {N_Q, N_KV, D},
                           .softmax_scale = 0.125,
                           .n_tokens = N_TOKENS,
                           .n_steps = N_STEPS,
                           .positions = s->positions,
                           .n_layers = N_LAYERS,
                           .layers = s->layer};
    snprintf(f->path, sizeof f->path, "/tmp/adamas-replay-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0) return -1;
    close(fd);
    adm_host_pipeline_default(&f->pipeline);
    f->options = (adm_replay_options){.pipeline = &f->pipeline,
                                      .quality = adm_quality_fastest(),
                                      .n_threads = 2,
                                      .n_timed_steps = 16,
                                      .budgets = budgets,
                                      .n_budgets = 4,
                                      .n_dense_layers = ADM_DENSE_LAYERS,
                                      .eps = 0.05};
    set_policies(f, "dense,oracle,adamas:thresholds=calibrated+fixed:-1,0,1");
    *state = f;
    return 0;
}

static inline int drop_fixture(void **state) {
    fixture *f = *state;
    adm_sweep_clear(&f->sweep);
    remove(f->path);
    free(f);
    return 0;
}

static const adm_run_info fixture_run = {.label = "",
                                         .command = "replay",
                                         .argv_json = "[]",
                                         .host_name = "h",
                                         .os = "o",
                                         .cpu_model = "c",
                                         .compiler = "cc",
                                         .n_cpus = 1,
                                         .memory_bytes = 1,
                                         .gpu_reason = "none"};

/* One replay into the fixture's database, as a new run or, with *run_id > 0, going on with that; returns the first failure.
 * The run ends as the program would end it. */
static inline adm_status replay_run(fixture *f, int64_t *run_id) {
    adm_store *store = NULL;
    adm_replay *r = NULL;
    adm_clock_probe clock;
    adm_probes probes = {0};
    adm_status status = adm_store_open(f->path, ADM_STORE_WRITE, &store, &f->err);
    if (status == ADM_OK)
        status = *run_id > 0 ? adm_store_resume_run(store, *run_id, &fixture_run, &f->err)
                             : adm_store_begin_run(store, &fixture_run, run_id, &f->err);
    bool begun = status == ADM_OK;
    if (status == ADM_OK) status = adm_replay_open(&f->s.trace, &f->options, store, *run_id, &r, &f->err);
    if (status == ADM_OK) {
        adm_clock_probe_init(&clock, adm_replay_range_sink, r);
        adm_probes_attach(&probes, &clock.probe, NULL);
        status = adm_replay_run(r, &probes, &f->err);
    }
    adm_replay_close(&r);
    if (begun)
        adm_store_end_run(store, *run_id,
                          status == ADM_OK             ? "complete"
                          : status == ADM_EINTERRUPTED ? "interrupted"
                                                       : "failed",
                          status == ADM_OK ? NULL : f->err.text, NULL);
    adm_store_close(&store);
    return status;
}

static inline adm_status replay(fixture *f, int64_t *run_id) {
    *run_id = 0;
    return replay_run(f, run_id);
}

/* The single number that a query of the fixture's database gives. */
static inline double number(const fixture *f, const char *sql) {
    adm_store *store = NULL;
    adm_query *query = NULL;
    adm_error err;
    bool row = false;
    assert_int_equal(adm_store_open(f->path, ADM_STORE_READ, &store, &err), ADM_OK);
    if (adm_query_open(store, sql, &query, &err, "") != ADM_OK || adm_query_next(query, &row, &err) != ADM_OK)
        fail_msg("%s: %s", sql, err.text);
    if (!row || adm_query_is_null(query, 0)) fail_msg("no value: %s", sql);
    double value = adm_query_double(query, 0);
    adm_query_close(&query);
    adm_store_close(&store);
    return value;
}

#define REPLAY_TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

#endif
