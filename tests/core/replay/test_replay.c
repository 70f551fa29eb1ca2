/* test_replay.c: the replay engine on sessions made in memory, seen through the database. */
#include "tests/support/replay_fixture.h"

#include <math.h>

static void selections_are_as_good_as_they_must_be(void **state) {
    fixture *f = *state;
    int64_t run_id;
    assert_int_equal(replay(f, &run_id), ADM_OK);

    /* Two lengths; each value covers 12 steps, 2 layers, 4 heads. */
    assert_int_equal((int)number(f, "SELECT count(DISTINCT seq_len) FROM quality_summary"), 2);
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary WHERE metric='recall' AND n <> 96"), 0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary WHERE metric='recall'"), 2 * (1 + 4 + 8));
    /* The oracle is exact everywhere. */
    assert_true(number(f, "SELECT min(m.min) FROM measurement m JOIN config USING (config_id) JOIN metric k USING (metric_id) "
                          "WHERE policy='oracle' AND k.name='recall'") == 1.0);
    /* The identities, on means: mass is a share, so its rounding is about 1e-16 a value. */
    assert_true(number(f, "SELECT max(abs(1 - a.mean - b.mean)) FROM quality_summary a JOIN quality_summary b "
                          "USING (run_id, policy, variant, seq_len) WHERE a.metric='mass' AND b.metric='tv' AND "
                          "a.budget IS b.budget") < 1e-12);
    /* At or above the length nothing is lost: the same output as dense, which differs from double by one rounding. */
    assert_true(number(f, "SELECT min(mean) FROM quality_summary WHERE budget=600 AND metric IN ('mass', 'recall')") == 1.0);
    assert_true(number(f, "SELECT max(worst) FROM quality_summary WHERE budget=600 AND metric='output_rel_l2'") < 1.2e-7);
    assert_true(number(f, "SELECT max(abs(a.mean - d.mean)) FROM quality_summary a JOIN quality_summary d "
                          "USING (run_id, seq_len, metric) WHERE a.budget=600 AND d.policy='dense'") == 0.0);
    /* More budget never keeps less mass, for a policy and length. */
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary a JOIN quality_summary b USING (run_id, policy, "
                                    "variant, seq_len, metric) WHERE metric='mass' AND a.budget < b.budget AND "
                                    "a.mean > b.mean"),
                     0);
    /* No selection of a size keeps more mass than the exact top-k of that size. */
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary a JOIN quality_summary o USING (run_id, seq_len, "
                                    "budget, metric) WHERE metric='mass' AND a.policy='adamas' AND o.policy='oracle' AND "
                                    "a.mean > o.mean + 1e-12"),
                     0);
}

/* Every policy at once: the invariants that no selection escapes, and where quest has no meaning, a reason. */
static void every_policy_keeps_the_rules(void **state) {
    fixture *f = *state;
    int64_t run_id;
    set_policies(f, ALL_POLICIES);
    assert_int_equal(replay(f, &run_id), ADM_OK);
    assert_int_equal((int)number(f, "SELECT count(DISTINCT policy) FROM config"), N_ALL_POLICIES);
    assert_int_equal((int)number(f, "SELECT count(DISTINCT policy) FROM quality_summary"),
                     N_ALL_POLICIES - 1); /* h2o, see there */
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary WHERE policy='quest' AND budget=1"), 0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM measurement JOIN config USING (config_id) WHERE policy='quest' AND "
                                    "budget=1 AND status='skipped' AND reason LIKE '%whole pages%'"),
                     2 * 8);
    assert_true(number(f, "SELECT min(mean) FROM quality_summary WHERE budget=600 AND metric IN ('mass', 'recall')") == 1.0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary a JOIN quality_summary o USING (run_id, seq_len, "
                                    "budget, metric) WHERE metric='mass' AND o.policy='oracle' AND a.mean > o.mean + 1e-12"),
                     0);
    /* Knowing something beats knowing nothing: these keys have an outlier channel and the queries see it. */
    assert_true(number(f,
                       "SELECT min(a.mean - r.mean) FROM quality_summary a JOIN quality_summary r USING (run_id, seq_len, "
                       "budget, metric) WHERE metric='mass' AND budget IN (16, 200) AND r.policy='random' AND seq_len=500 AND "
                       "(a.policy='oracle' OR a.variant='l1 calibrated')") > 0);
}

static void codes_are_counted_and_calibrated(void **state) {
    fixture *f = *state;
    int64_t run_id;
    assert_int_equal(replay(f, &run_id), ADM_OK);
    assert_int_equal((int)number(f, "SELECT count(*) FROM calibration"), 2 * N_LAYERS);
    assert_true(number(f, "SELECT max(abs(s - 1)) FROM (SELECT sum(mean) AS s FROM quality_summary WHERE metric LIKE "
                          "'bucket_occupancy%' GROUP BY variant, seq_len)") < 1e-12);
    /* Quantiles 1/3, 1/2, 2/3 of the first 100 tokens, 12,800 values; later keys have the same distribution. */
    assert_true(number(f, "SELECT max(abs(mean - CASE WHEN metric LIKE '%_0' OR metric LIKE '%_3' THEN 1.0/3 ELSE 1.0/6 END)) "
                          "FROM quality_summary WHERE metric LIKE 'bucket_occupancy%' AND variant='l1 calibrated'") < 0.02);
    /* The entropy of (1/3, 1/6, 1/6, 1/3): (2/3) log2 3 + (1/3) log2 6. Over 40 seeds it strays by up to 0.01. */
    assert_true(number(f, "SELECT max(abs(mean - 1.91830)) FROM quality_summary WHERE metric='bucket_entropy_bits' AND "
                          "variant='l1 calibrated'") < 0.03);
}

static void every_stage_is_timed(void **state) {
    fixture *f = *state;
    int64_t run_id;
    f->options.timeline = true;
    assert_int_equal(replay(f, &run_id), ADM_OK);
    for (adm_stage stage = 0; stage < ADM_N_STAGES; stage++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM stage_summary WHERE stage='%s' AND metric='time_ns' AND n=24 AND "
                 "median > 0 AND source='host'",
                 adm_stage_name(stage));
        bool by_budget = stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
        assert_int_equal((int)number(f, sql), by_budget ? 8 : 2);
    }
    /* A step is its parts: its mean is the sum of their means. */
    assert_true(
        number(f,
               "WITH t AS (SELECT m.stage, c.seq_len, c.budget, m.mean FROM measurement m JOIN config c USING (config_id) JOIN "
               "metric k USING (metric_id) WHERE k.name='time_ns' AND m.stage <> 'dense') SELECT max(abs(s.mean - (SELECT "
               "sum(p.mean) FROM t p WHERE p.stage <> 'step' AND p.seq_len=s.seq_len AND (p.budget IS NULL OR "
               "p.budget=s.budget))) / s.mean) FROM t s WHERE s.stage='step'") < 1e-9);
    assert_int_equal((int)number(f, "SELECT count(*) FROM sample s JOIN measurement m USING (measurement_id) JOIN metric k "
                                    "USING (metric_id) WHERE k.name='time_ns' AND m.stage='distance'"),
                     48);
    /* Events: one session, a step each, a layer each; stages inside layers inside steps inside the session. */
    assert_int_equal((int)number(f, "SELECT count(*) FROM event WHERE kind='session'"), 1);
    assert_int_equal((int)number(f, "SELECT count(*) FROM event WHERE kind='step'"), N_STEPS);
    assert_int_equal((int)number(f, "SELECT count(*) FROM event WHERE kind='layer'"), N_STEPS * N_LAYERS);
    assert_int_equal((int)number(f, "SELECT count(*) FROM event s WHERE kind='stage' AND step IS NOT NULL AND NOT EXISTS "
                                    "(SELECT 1 FROM event l WHERE l.kind='layer' AND l.step=s.step AND l.layer=s.layer AND "
                                    "l.start_ns <= s.start_ns AND s.end_ns <= l.end_ns)"),
                     0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM event l WHERE kind='layer' AND NOT EXISTS (SELECT 1 FROM event s "
                                    "WHERE s.kind='step' AND s.step=l.step AND s.start_ns <= l.start_ns AND "
                                    "l.end_ns <= s.end_ns)"),
                     0);
}

static bool stop_at_once(void) { return true; }

/* A counting probe that makes its values up: counter 0 sees layer * 1000 + budget, counter 1 nothing in layer 7, and
 * counter 2 has a reason. */
static void begin_nothing(adm_probe *self, const adm_range *range) { (void)self, (void)range; }

typedef struct made_up_probe {
    adm_probe probe;
    adm_replay *replay;
} made_up_probe;

static void end_made_up(adm_probe *self, const adm_range *range) {
    const double value[] = {range->layer * 1000.0 + range->budget, range->layer == 7 ? (double)NAN : 5, (double)NAN};
    adm_replay_counter_sink(((made_up_probe *)self)->replay, range, value);
}

/* One counting pass of the fixture's session as a run of its own. */
static void count(fixture *f, const adm_counter *counters, size_t n_counters, int64_t *run_id) {
    adm_store *store = NULL;
    adm_probes probes = {0};
    made_up_probe made_up = {.probe = {.name = "made up", .begin = begin_nothing, .end = end_made_up}};
    adm_run_info info = {.label = "",
                         .command = "replay",
                         .argv_json = "[]",
                         .host_name = "h",
                         .os = "o",
                         .cpu_model = "c",
                         .compiler = "cc",
                         .n_cpus = 1,
                         .memory_bytes = 1,
                         .gpu_reason = "none"};
    f->options.counters = counters;
    f->options.n_counters = n_counters;
    assert_int_equal(adm_store_open(f->path, ADM_STORE_WRITE, &store, &f->err), ADM_OK);
    assert_int_equal(adm_store_begin_run(store, &info, run_id, &f->err), ADM_OK);
    assert_int_equal(adm_replay_open(&f->s.trace, &f->options, store, *run_id, &made_up.replay, &f->err), ADM_OK);
    adm_probes_attach(&probes, &made_up.probe, NULL);
    assert_int_equal(adm_replay_run(made_up.replay, &probes, &f->err), ADM_OK);
    adm_replay_close(&made_up.replay);
    adm_store_close(&store);
}

static void a_counting_pass_keeps_counts_and_nothing_else(void **state) {
    fixture *f = *state;
    const adm_counter counters[] = {{"made_up", "1", "lower", "Made up", NULL},
                                    {"half", "1", "lower", "Of one layer", NULL},
                                    {"none", "1", "lower", "Of nothing", "it is not there"}};
    int64_t run_id;
    count(f, counters, 3, &run_id);
    /* Two lengths; dense and five stages once, topk and attention at four budgets; step, a sum, is not counted. */
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='made_up' AND status='ok' AND n=24"),
                     2 * (1 + 5 + 2 * 4));
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='made_up' AND stage='step'"), 0);
    /* Twelve steps of layer 3, then twelve of layer 7 in turn: the median lies between. */
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='made_up' AND "
                                    "median <> 5000 + ifnull(budget, 0)"),
                     0);
    assert_int_equal((int)number(f,
                                 "SELECT count(*) FROM sample s JOIN measurement m USING (measurement_id) JOIN metric k USING "
                                 "(metric_id) JOIN config c USING (config_id) WHERE k.name='made_up' AND s.value <> "
                                 "CASE s.i % 2 WHEN 0 THEN 3000 ELSE 7000 END + ifnull(c.budget, 0)"),
                     0);
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='half' AND n=12 AND median=5"), 28);
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='none' AND n=0 AND status='skipped' AND "
                                    "reason='it is not there'"),
                     28);
    assert_int_equal((int)number(f, "SELECT count(*) FROM measurement"), 3 * 28);
    assert_int_equal((int)number(f, "SELECT (SELECT count(*) FROM calibration) + (SELECT count(*) FROM event)"), 0);
}

static void where_nothing_counts_no_step_is_replayed(void **state) {
    fixture *f = *state;
    const adm_counter counters[] = {{"none", "1", "lower", "Of nothing", "it is not there"}};
    int64_t run_id;
    f->options.should_stop = stop_at_once;
    count(f, counters, 1, &run_id);
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE metric='none' AND status='skipped'"), 28);
}

static void the_same_session_gives_the_same_values(void **state) {
    fixture *f = *state;
    int64_t first, second;
    assert_int_equal(replay(f, &first), ADM_OK);
    assert_int_equal(replay(f, &second), ADM_OK);
    assert_int_equal((int)number(f, "SELECT count(*) FROM measurement a JOIN measurement b USING (config_id, metric_id) WHERE "
                                    "a.run_id < b.run_id AND a.stage IS NULL AND b.stage IS NULL AND a.layer IS b.layer AND "
                                    "a.head IS b.head AND (a.mean <> b.mean OR a.median <> b.median OR a.p99 <> b.p99)"),
                     0);
    assert_true(number(f,
                       "SELECT count(*) FROM measurement a JOIN measurement b USING (config_id, metric_id) WHERE a.run_id < "
                       "b.run_id AND a.stage IS NULL AND b.stage IS NULL AND a.layer IS b.layer AND a.head IS b.head") > 500);
}

static int steps_until_stop;
static bool stop_after_a_while(void) { return steps_until_stop-- <= 0; }

static void an_interrupt_keeps_whole_lengths(void **state) {
    fixture *f = *state;
    int64_t run_id;
    f->options.should_stop = stop_after_a_while;
    f->options.n_threads = 1;
    /* The first length asks before each timed step, and in each of two layers before every chunk of keys of every KV head, and
     * before every KV head of all its steps, which are one batch; a round of tasks asks once more to learn that there is
     * none. */
    steps_until_stop = 12 + N_LAYERS * (N_KV + 1 + N_KV + 1) + 5;
    assert_int_equal(replay(f, &run_id), ADM_EINTERRUPTED);
    assert_non_null(strstr(f->err.text, "at 500 cached tokens"));
    assert_int_equal((int)number(f, "SELECT count(DISTINCT seq_len) FROM quality_summary"), 1);
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary WHERE metric='recall' AND seq_len=100"), 13);
    assert_int_equal((int)number(f, "SELECT count(*) FROM stage_summary WHERE seq_len <> 100"), 0);
}

static void lengths_choose_their_steps(void **state) {
    fixture *f = *state;
    const adm_trace *trace = &f->s.trace;
    adm_segment *segments;
    size_t n;
    assert_int_equal(adm_replay_segments(trace, NULL, 0, &segments, &n, &f->err), ADM_OK);
    assert_int_equal(n, 2);
    assert_int_equal(segments[0].seq_len, 100);
    assert_int_equal(segments[1].seq_len, 500);
    assert_int_equal(segments[1].first_step, 12);
    assert_int_equal(segments[1].n_steps, 12);
    adm_free(&segments);

    const uint32_t close_lengths[] = {105, 108};
    assert_int_equal(adm_replay_segments(trace, close_lengths, 2, &segments, &n, &f->err), ADM_OK);
    assert_int_equal(segments[0].first_step, 5);
    assert_int_equal(segments[0].n_steps, 3); /* 105..107: each step counts once */
    assert_int_equal(segments[1].n_steps, 4);
    adm_free(&segments);

    const uint32_t absent[] = {100, 300};
    assert_int_equal(adm_replay_segments(trace, absent, 2, &segments, &n, &f->err), ADM_EINPUT);
    assert_null(segments);
    assert_string_equal(f->err.text, "session: no decode step has 300 to 363 cached tokens; its steps are at 100-111, 500-511");
}

/* Changes one option or property of the session, and expects a refusal that says so, before anything is stored. */
static void expect_refusal(fixture *f, const char *says) {
    assert_int_equal(adm_replay_check(&f->s.trace, &f->options, &f->err), ADM_EINPUT);
    if (strstr(f->err.text, says) == NULL) fail_msg("'%s' does not say '%s'", f->err.text, says);
}

static void wrong_options_are_refused(void **state) {
    fixture *f = *state;
    const uint32_t layer_5[] = {5};
    f->options.layers = layer_5;
    f->options.n_layers = 1;
    expect_refusal(f, "has no layer 5");
    f->options.n_layers = 0;
    f->options.n_dense_layers = 8;
    expect_refusal(f, "first 8");
    f->options.n_dense_layers = 2;
    set_policies(f, "adamas:sinks=1");
    expect_refusal(f, "do not fit a budget of 1");
    set_policies(f, "adamas");
    f->s.layer[1].q_dtype = ADM_BF16;
    expect_refusal(f, "layer 7 has q, k, v in BF16, F16, F16");
    f->s.layer[1].q_dtype = ADM_F16;
    f->s.trace.shape.n_kv_heads = 3;
    expect_refusal(f, "4 query heads cannot share 3 KV heads");
    f->s.trace.shape.n_kv_heads = N_KV;
    f->s.positions[0] = 0;
    expect_refusal(f, "no token stands before the first step");
    f->s.positions[0] = 100;
    assert_int_equal(adm_replay_check(&f->s.trace, &f->options, &f->err), ADM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REPLAY_TEST(selections_are_as_good_as_they_must_be),
        REPLAY_TEST(every_policy_keeps_the_rules),
        REPLAY_TEST(codes_are_counted_and_calibrated),
        REPLAY_TEST(a_counting_pass_keeps_counts_and_nothing_else),
        REPLAY_TEST(where_nothing_counts_no_step_is_replayed),
        REPLAY_TEST(every_stage_is_timed),
        REPLAY_TEST(the_same_session_gives_the_same_values),
        REPLAY_TEST(an_interrupt_keeps_whole_lengths),
        REPLAY_TEST(lengths_choose_their_steps),
        REPLAY_TEST(wrong_options_are_refused),
    };
    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
