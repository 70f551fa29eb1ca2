/* test_replay_sweep.c: a replay of many policies and variants at once: that no value depends on the number of threads
 * or of heads whose codes are held, and selections per group and adaptive budgets against their definitions, written out. */
#include "tests/support/replay_fixture.h"

/* --- Threads --------------------------------------------------------------------------------------------------------- */

/* Everything that the engine can do, at once. */
static void ask_for_all(fixture *f) {
    static const adm_target targets[] = {{ADM_TARGET_MASS, 0.9}, {ADM_TARGET_OUTPUT_REL_L2, 0.2}};
    set_policies(f,
                 "dense,random,oracle:select=head+group,quest:select=head+group,streaming:select=head+group,"
                 "accumulated:select=head+group,adamas:thresholds=calibrated,recent=3,adamas:thresholds=fixed:-1,0,1,sinks=1,"
                 "recent=3,adamas:metric=dot,thresholds=channel,select=group,sinks=2,recent=3,adamas:metric=asymmetric,"
                 "bits=3,hadamard=off,thresholds=centred,sinks=3,recent=3");
    f->options.targets = targets;
    f->options.n_targets = 2;
    static const uint32_t some[] = {8, 16, 200, N_TOKENS};
    f->options.budgets = some;
}

static void no_value_depends_on_threads_or_on_heads_held_at_once(void **state) {
    fixture *f = *state;
    static const size_t n_threads[] = {1, 2, 3, 7, 2};
    int64_t first = 0, run_id;
    ask_for_all(f);
    for (int i = 0; i < 5; i++) {
        char sql[1024];
        f->options.n_threads = n_threads[i];
        f->options.max_held_bytes = i == 4; /* one head at a time */
        if (replay(f, &run_id) != ADM_OK) fail_msg("%s", f->err.text);
        if (i == 0) first = run_id;
        snprintf(sql, sizeof sql, "SELECT count(*) FROM measurement WHERE run_id=%d AND stage IS NULL", (int)first);
        const double n_rows = number(f, sql);
        assert_true(n_rows > 3000);
        snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM (SELECT config_id, metric_id, layer, head, n, mean, min, p01, p05, p10, "
            "median, p90, p95, p99, max, status, reason FROM measurement WHERE run_id=%d AND stage IS NULL INTERSECT SELECT "
            "config_id, metric_id, layer, head, n, mean, min, p01, p05, p10, median, p90, p95, p99, max, status, reason "
            "FROM measurement WHERE run_id=%d AND stage IS NULL)",
            (int)first, (int)run_id);
        assert_true(number(f, sql) == n_rows);
    }
    assert_int_equal((int)number(f, "SELECT count(DISTINCT policy || variant) FROM quality_summary"),
                     1 + 2 + 4 + 2 + 2 + 2 + 1);
}

/* A trace that holds the query of every token is what h2o needs: the prompt of 8 tokens is observed, and 16 steps follow. */
static void h2o_has_values_where_every_query_is_there(void **state) {
    fixture *f = *state;
    static const uint32_t seq_lens[] = {8}, some[] = {1, 5, 8, 100};
    int64_t first = 0, run_id;
    char sql[512];
    set_policies(f, "h2o:select=head+group");
    if (replay(f, &run_id) != ADM_OK) fail_msg("%s", f->err.text);
    assert_int_equal((int)number(f, "SELECT count(*) FROM measurement JOIN config USING (config_id) WHERE policy='h2o' AND "
                                    "status='skipped' AND reason LIKE '%of 512 the trace holds 24'"),
                     4 * 2 * 8); /* budgets, variants, metrics */
    for (int i = 0; i < N_STEPS; i++) f->s.positions[i] = i;
    f->options.seq_lens = seq_lens;
    f->options.n_seq_lens = 1;
    f->options.budgets = some;
    f->s.trace.xxh128[0] = '1';
    static const adm_target target = {ADM_TARGET_MASS, 0.9};
    f->options.targets = &target;
    f->options.n_targets = 1;
    for (size_t n_threads = 1; n_threads < 4; n_threads++) {
        f->options.n_threads = n_threads;
        if (replay(f, &run_id) != ADM_OK) fail_msg("%s", f->err.text);
        if (first == 0) first = run_id;
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM measurement a JOIN measurement b USING (config_id, metric_id) WHERE a.run_id=%d AND "
                 "b.run_id=%d AND a.stage IS NULL AND b.stage IS NULL AND a.layer IS b.layer AND a.head IS b.head AND "
                 "a.mean=b.mean AND a.p99=b.p99 AND a.n=b.n",
                 (int)first, (int)run_id);
        assert_int_equal((int)number(f, sql), 4 * 2 * 8 * (1 + N_LAYERS * N_Q));
    }
    assert_true(number(f, "SELECT min(mean) FROM quality_summary WHERE policy='h2o' AND budget=100 AND metric='mass'") == 1.0);
    assert_int_equal((int)number(f,
                                 "SELECT count(*) FROM measurement JOIN metric USING (metric_id) WHERE name LIKE 'budget_for%' "
                                 "AND status='skipped' AND reason LIKE '%no smallest budget'"),
                     3 * 2);
}

/* --- Definitions ----------------------------------------------------------------------------------------------------- */

/* One query head at one step of layer 3, in plain loops. */
typedef struct plain {
    size_t n;
    double p[N_TOKENS], out[D];      /* softmax and dense output */
    float y[D];                      /* transformed query */
} plain;

static float at(const uint16_t *rows, size_t row, int i) { return adm_f16_to_f32(rows[row * D + (size_t)i]); }

static void attend_plainly(const session *s, size_t step, int head, plain *a) {
    const size_t kv = (size_t)head / 2 * N_TOKENS;
    double total = 0;
    a->n = (size_t)s->positions[step] + 1;
    for (size_t t = 0; t < a->n; t++) {
        double dot = 0;
        for (int i = 0; i < D; i++) dot += (double)at(s->q[0], step * N_Q + (size_t)head, i) * at(s->k[0], kv + t, i);
        total += a->p[t] = exp(0.125 * dot);
    }
    for (int i = 0; i < D; i++) a->out[i] = 0;
    for (size_t t = 0; t < a->n; t++) {
        a->p[t] /= total;
        for (int i = 0; i < D; i++) a->out[i] += a->p[t] * at(s->v[0], kv + t, i);
    }
    adm_registry_find(ADM_STAGE_HADAMARD, "reference")
        ->fn.hadamard(ADM_F16, s->q[0] + (step * N_Q + (size_t)head) * D, 1, D, a->y);
}

static int code_of(float y) { return (y > -1) + (y > 0) + (y > 1); } /* fixed:-1,0,1 */

/* L1 between codes, a distance as a score: the nearer the higher; the newest above all. */
static void add_nearness(const session *s, int head, const plain *a, double *score) {
    for (size_t t = 0; t < a->n; t++) {
        float y[D];
        adm_registry_find(ADM_STAGE_HADAMARD, "reference")
            ->fn.hadamard(ADM_F16, s->k[0] + ((size_t)head / 2 * N_TOKENS + t) * D, 1, D, y);
        for (int i = 0; i < D; i++) score[t] -= abs(code_of(a->y[i]) - code_of(y[i]));
    }
    score[a->n - 1] = INFINITY;
}

/* Quest's bound of each token's page. */
static void add_bounds(const session *s, size_t step, int head, const plain *a, double *score) {
    for (size_t page = 0; page * 16 < a->n; page++) {
        double bound = 0;
        for (int i = 0; i < D; i++) {
            double most = -INFINITY, q = at(s->q[0], step * N_Q + (size_t)head, i);
            for (size_t t = page * 16; t < page * 16 + 16 && t < a->n; t++)
                most = fmax(most, q * at(s->k[0], (size_t)head / 2 * N_TOKENS + t, i));
            bound += most;
        }
        for (size_t t = page * 16; t < page * 16 + 16 && t < a->n; t++) score[t] += bound;
        if (page * 16 + 16 >= a->n)
            for (size_t t = page * 16; t < a->n; t++) score[t] = INFINITY;
    }
}

/* order: tokens by descending score, the most recent of equals first. */
static void order_plainly(const double *score, size_t n, uint32_t *order) {
    bool taken[N_TOKENS] = {false};
    for (size_t j = 0; j < n; j++) {
        size_t best = N_TOKENS;
        for (size_t t = 0; t < n; t++)
            if (!taken[t] && (best == N_TOKENS || score[t] >= score[best])) best = t;
        taken[best] = true;
        order[j] = (uint32_t)best;
    }
}

enum { ORACLE, ADAMAS, QUEST, N_PLAIN };

/* The order of a policy for a head, or for its group of two. */
static void order_of(const session *s, int policy, size_t step, int head, bool grouped, uint32_t *order) {
    double score[N_TOKENS] = {0};
    size_t n = 0;
    for (int h = grouped ? head / 2 * 2 : head; h <= (grouped ? head / 2 * 2 + 1 : head); h++) {
        plain a;
        attend_plainly(s, step, h, &a);
        n = a.n;
        if (policy == ORACLE)
            for (size_t t = 0; t < n; t++) score[t] += a.p[t];
        else if (policy == ADAMAS) add_nearness(s, h, &a, score);
        else add_bounds(s, step, h, &a, score);
    }
    order_plainly(score, n, order);
}

static double error_of(const session *s, int head, const plain *a, const uint32_t *order, size_t k) {
    double out[D] = {0}, mass = 0, difference = 0, norm = 0;
    for (size_t j = 0; j < k; j++) {
        mass += a->p[order[j]];
        for (int i = 0; i < D; i++) out[i] += a->p[order[j]] * at(s->v[0], (size_t)head / 2 * N_TOKENS + order[j], i);
    }
    for (int i = 0; i < D; i++) {
        difference += (out[i] / mass - a->out[i]) * (out[i] / mass - a->out[i]);
        norm += a->out[i] * a->out[i];
    }
    return sqrt(difference / norm);
}

/* Tokens that quest selects, by its definition: whole pages, of which the newest may be short; and the smallest budget for so
 * many of them. */
static size_t quest_tokens(size_t n, size_t budget) { return budget >= n ? n : (budget / 16 - 1) * 16 + (n - 1) % 16 + 1; }

static size_t quest_budget(size_t n, size_t needed) {
    size_t budget = 16;
    while (quest_tokens(n, budget) < needed) budget += 16;
    return budget < n ? budget : n;
}

static const char *const names[N_PLAIN] = {"oracle", "adamas", "quest"};

static double stored_mean(const fixture *f, int policy, bool grouped, int head, const char *metric, int budget) {
    char sql[640], by_budget[32] = "IS NULL";
    if (budget > 0) snprintf(by_budget, sizeof by_budget, "= %d", budget);
    snprintf(sql, sizeof sql,
             "SELECT m.mean FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
             "WHERE m.layer=3 AND m.head=%d AND c.seq_len=500 AND c.policy='%s' AND c.variant %sLIKE '%%per group' AND "
             "k.name='%s' AND c.budget %s",
             head, names[policy], grouped ? "" : "NOT ", metric, by_budget);
    return number(f, sql);
}

/* Replays oracle, adamas and quest with the codes above, per head and per group. */
static void replay_both_ways(fixture *f) {
    int64_t run_id;
    set_policies(f, "oracle:select=head+group,quest:select=head+group,adamas:thresholds=fixed:-1,0,1,select=head+group");
    if (replay(f, &run_id) != ADM_OK) fail_msg("%s", f->err.text);
}

/* Masses are sums of some hundred doubles of one sign: off by 1e-13 at most. An output also, and then by its rounding to
 * float32. */
static void selections_per_head_and_per_group_are_as_defined(void **state) {
    fixture *f = *state;
    replay_both_ways(f);
    for (int policy = 0; policy < N_PLAIN; policy++)
        for (int grouped = 0; grouped < 2; grouped++)
            for (int head = 0; head < N_Q; head += 3) {
                double mass[2] = {0}, error[2] = {0};
                static const int budget[2] = {16, 200};
                for (size_t step = 12; step < N_STEPS; step++) {
                    plain a;
                    uint32_t order[N_TOKENS];
                    attend_plainly(&f->s, step, head, &a);
                    order_of(&f->s, policy, step, head, grouped == 1, order);
                    for (int b = 0; b < 2; b++) {
                        size_t k = policy == QUEST ? quest_tokens(a.n, (size_t)budget[b]) : (size_t)budget[b];
                        for (size_t j = 0; j < k; j++) mass[b] += a.p[order[j]] / 12;
                        error[b] += error_of(&f->s, head, &a, order, k) / 12;
                    }
                }
                for (int b = 0; b < 2; b++) {
                    assert_true(fabs(stored_mean(f, policy, grouped, head, "mass", budget[b]) - mass[b]) < 1e-12);
                    assert_true(fabs(stored_mean(f, policy, grouped, head, "output_rel_l2", budget[b]) - error[b]) < 2e-7);
                }
            }
}

static void adaptive_budgets_are_the_smallest_that_reach(void **state) {
    fixture *f = *state;
    static const adm_target targets[] = {{ADM_TARGET_MASS, 0.75}, {ADM_TARGET_OUTPUT_REL_L2, 0.3}};
    f->options.targets = targets;
    f->options.n_targets = 2;
    replay_both_ways(f);
    for (int policy = 0; policy < N_PLAIN; policy++)
        for (int grouped = 0; grouped < 2; grouped++)
            for (int head = 0; head < N_Q; head += 3) {
                double sum[2] = {0};
                for (size_t step = 12; step < N_STEPS; step++) {
                    plain a;
                    uint32_t order[N_TOKENS];
                    size_t k = 0;
                    double mass = 0;
                    attend_plainly(&f->s, step, head, &a);
                    order_of(&f->s, policy, step, head, grouped == 1, order);
                    while (mass < 0.75) mass += a.p[order[k++]];
                    sum[0] += (double)(policy == QUEST ? quest_budget(a.n, k) : k);
                    for (k = 1; error_of(&f->s, head, &a, order, k) > 0.3;) k++;
                    sum[1] += (double)(policy == QUEST ? quest_budget(a.n, k) : k);
                }
                assert_true(fabs(stored_mean(f, policy, grouped, head, "budget_for_mass_0.75", 0) - sum[0] / 12) < 1e-9);
                assert_true(fabs(stored_mean(f, policy, grouped, head, "budget_for_output_rel_l2_0.3", 0) - sum[1] / 12) <
                            1e-9);
            }
    assert_int_equal((int)number(f, "SELECT count(*) FROM quality_summary WHERE metric LIKE 'budget_for_%' AND budget IS NULL "
                                    "AND n=96"),
                     2 * 2 * 6);
}

static void targets_are_read_and_named(void **state) {
    (void)state;
    adm_target target;
    adm_error err;
    char name[ADM_TARGET_NAME_BYTES];
    assert_int_equal(adm_target_parse("mass=0.990", &target, &err), ADM_OK);
    adm_target_name(&target, name);
    assert_string_equal(name, "budget_for_mass_0.99");
    assert_int_equal(adm_target_parse("output_rel_l2=1", &target, &err), ADM_OK);
    static const char *const wrong[] = {"",         "mass",      "mass=",      "mass=0",     "mass=1.5",
                                        "mass=nan", "mass=0.5x", "recall=0.5", "massive=0.5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(adm_target_parse(wrong[i], &target, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, "--target"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REPLAY_TEST(no_value_depends_on_threads_or_on_heads_held_at_once),
        REPLAY_TEST(h2o_has_values_where_every_query_is_there),
        REPLAY_TEST(selections_per_head_and_per_group_are_as_defined),
        REPLAY_TEST(adaptive_budgets_are_the_smallest_that_reach),
        cmocka_unit_test(targets_are_read_and_named),
    };
    return cmocka_run_group_tests_name("replay_sweep", tests, NULL, NULL);
}
