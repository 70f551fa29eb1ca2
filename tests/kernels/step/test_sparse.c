/* test_sparse.c: one layer's attention under each policy, against the stages' references and the policies' definitions. */
#include "core/contract/adamas.h"

#include "kernels/attention/attention.h"
#include "kernels/encode/bucket.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"
#include "tests/support/stage_check.h"

enum { D = 64, N_Q = 6, N_KV = 2, GROUP = N_Q / N_KV, N_PROMPT = 200, N_STEPS = 21, CAPACITY = 230, BUDGET = 48, PAGE = 16 };

static const adm_shape shape = {N_Q, N_KV, D};
static float q[N_STEPS][N_Q][D], k[N_KV][CAPACITY][D], v[N_KV][CAPACITY][D];
static float out[N_STEPS][N_Q][D], again[N_STEPS][N_Q][D];
static uint32_t chosen[N_STEPS][N_Q][BUDGET], repeated[N_STEPS][N_Q][BUDGET];
static double drawn[N_Q][N_PROMPT + N_STEPS];
static const double scale = 0.125;

static const char *const policies[] = {"dense",
                                       "oracle",
                                       "adamas",
                                       "adamas:thresholds=fixed:-10,0,10",
                                       "quest",
                                       "quest:select=group",
                                       "streaming",
                                       "h2o",
                                       "h2o:select=group",
                                       "accumulated",
                                       "oracle:select=group",
                                       "random",
                                       "adamas:metric=asymmetric,bits=3,thresholds=channel,select=group",
                                       "adamas:metric=asym4",
                                       "adamas:metric=asym4,thresholds=scaled:0.7,select=group",
                                       "adamas:metric=dot,hadamard=off,thresholds=centred"};
enum { N_POLICIES = sizeof policies / sizeof policies[0] };

static void fill(adm_rng *rng) {
    for (size_t i = 0; i < N_STEPS * N_Q * D; i++) ((float *)q)[i] = 4 * (float)adm_rng_normal(rng);
    for (size_t i = 0; i < N_KV * CAPACITY * D; i++) {
        ((float *)k)[i] = (i % D == 3 ? 20 : 4) * (float)adm_rng_normal(rng);
        ((float *)v)[i] = (float)adm_rng_normal(rng);
    }
}

static adm_sparse *open_policy(const char *policy) {
    adm_sparse *s;
    adm_error err = {0};
    if (adm_sparse_open(policy, &shape, &k[0][0][0], N_PROMPT, CAPACITY, N_STEPS, 7, &s, &err) != ADM_OK)
        fail_msg("%s: %s", policy, err.text);
    return s;
}

static void attend(adm_sparse *s, uint32_t budget, float *to, uint32_t *index) {
    adm_error err = {0};
    memset(drawn, 0, sizeof drawn);
    drawn[1][5] = 100; /* h2o must keep it */
    if (adm_sparse_attend(s, budget, scale, &q[0][0][0], &k[0][0][0], &v[0][0][0], CAPACITY, N_STEPS, &drawn[0][0], to, index,
                          &err) != ADM_OK)
        fail_msg("%s", err.text);
}

static void a_budget_above_the_length_is_dense(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    for (int p = 0; p < N_POLICIES; p++) {
        adm_sparse *s = open_policy(policies[p]);
        attend(s, CAPACITY, &out[0][0][0], NULL);
        for (size_t i = 0; i < N_STEPS; i++)
            for (size_t h = 0; h < N_Q; h++) {
                float expected[D];
                double score[CAPACITY];
                check_case("policy=%s step=%zu head=%zu", policies[p], i, h);
                adm_attention_reference(ADM_F32, q[i][h], k[h / GROUP], v[h / GROUP], NULL, N_PROMPT + i + 1, D, scale, score,
                                        expected);
                assert_true(check_relative_l2(out[i][h], expected, D) < 1e-6);
            }
        adm_sparse_close(&s);
        assert_null(s);
    }
    check_case_end();
}

/* Ascending, the newest in, as many as asked for (quest: whole pages), and the output is attention over just those. */
static void selections_are_sound_and_repeatable(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    for (int p = 1; p < N_POLICIES; p++) {
        adm_sparse *s = open_policy(policies[p]);
        attend(s, BUDGET, &out[0][0][0], &chosen[0][0][0]);
        attend(s, 2 * BUDGET, &again[0][0][0], NULL);
        attend(s, BUDGET, &again[0][0][0], &repeated[0][0][0]);
        assert_memory_equal(chosen, repeated, sizeof chosen);
        assert_memory_equal(out, again, sizeof out);
        for (size_t i = 0; i < N_STEPS; i++)
            for (size_t h = 0; h < N_Q; h++) {
                const uint32_t *index = chosen[i][h];
                uint32_t n = 0;
                check_case("policy=%s budget=%d step=%zu head=%zu", policies[p], BUDGET, i, h);
                while (n < BUDGET && index[n] != UINT32_MAX) n++;
                size_t rest = (N_PROMPT + i + 1) % PAGE;
                bool quest = strncmp(policies[p], "quest", 5) == 0;
                assert_int_equal(n, quest && rest > 0 ? BUDGET - PAGE + rest : BUDGET);
                for (uint32_t j = 1; j < n; j++) assert_true(index[j - 1] < index[j]);
                if (strncmp(policies[p], "oracle", 6) != 0) assert_int_equal(index[n - 1], N_PROMPT + i);
                float expected[D];
                double score[CAPACITY];
                adm_attention_reference(ADM_F32, q[i][h], k[h / GROUP], v[h / GROUP], index, n, D, scale, score, expected);
                assert_true(check_relative_l2(out[i][h], expected, D) < 1e-6);
            }
        adm_sparse_close(&s);
    }
    check_case_end();
}

static void adamas_is_its_six_stages(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    static float y[CAPACITY * D];
    static uint8_t codes[CAPACITY * D], packed[CAPACITY * D / 4];
    uint16_t distance[CAPACITY];
    uint32_t histogram[3 * D + 1], index[BUDGET];
    const float t[3] = {-10, 0, 10};
    adm_sparse *s = open_policy("adamas:thresholds=fixed:-10,0,10");
    attend(s, BUDGET, &out[0][0][0], &chosen[0][0][0]);
    for (size_t h = 0; h < N_Q; h++) {
        adm_hadamard_reference(ADM_F32, k[h / GROUP], CAPACITY, D, y);
        adm_bucket_reference(y, CAPACITY * D, t, codes);
        adm_pack_reference(codes, CAPACITY, D, packed);
        for (size_t i = 0; i < N_STEPS; i++) {
            uint8_t query[D / 4];
            check_case("step=%zu head=%zu", i, h);
            adm_hadamard_reference(ADM_F32, q[i][h], 1, D, y);
            adm_bucket_reference(y, D, t, codes);
            adm_pack_reference(codes, 1, D, query);
            adm_distance_reference(query, packed, N_PROMPT + i + 1, D, distance);
            adm_topk_reference(distance, N_PROMPT + i + 1, 3 * D, &(adm_select_rule){.budget = BUDGET}, histogram, index, NULL);
            assert_memory_equal(index, chosen[i][h], sizeof index);
        }
    }
    adm_sparse_close(&s);
    check_case_end();
}

/* With a selection per group, heads share their tokens, and the tokens have the smallest sums of the heads' distances. */
static void a_group_selects_by_the_sum(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    adm_sparse *shared = open_policy("adamas:thresholds=fixed:-4,0,4,select=group");
    attend(shared, BUDGET, &out[0][0][0], &chosen[0][0][0]);
    static float y[CAPACITY * D], yq[D];
    static uint8_t codes[CAPACITY * D], query[D];
    const float t[3] = {-4, 0, 4};
    for (size_t g = 0; g < N_KV; g++) {
        adm_hadamard_reference(ADM_F32, k[g], CAPACITY, D, y);
        adm_bucket_reference(y, CAPACITY * D, t, codes);
        for (size_t i = 0; i < N_STEPS; i++) {
            const size_t n = N_PROMPT + i + 1;
            uint32_t sum[CAPACITY] = {0}, largest_in = 0, smallest_out = UINT32_MAX;
            bool in[CAPACITY] = {false};
            for (size_t h = g * GROUP; h < (g + 1) * GROUP; h++) {
                check_case("step=%zu head=%zu", i, h);
                assert_memory_equal(chosen[i][h], chosen[i][g * GROUP], sizeof chosen[i][h]);
                adm_hadamard_reference(ADM_F32, q[i][h], 1, D, yq);
                adm_bucket_reference(yq, D, t, query);
                for (size_t j = 0; j < n * D; j++) sum[j / D] += (uint32_t)abs(codes[j] - query[j % D]);
            }
            for (size_t j = 0; j < BUDGET; j++) in[chosen[i][g * GROUP][j]] = true;
            for (size_t j = 0; j + 1 < n; j++) /* the newest is in whatever its distance */
                if (in[j]) largest_in = sum[j] > largest_in ? sum[j] : largest_in;
                else smallest_out = sum[j] < smallest_out ? sum[j] : smallest_out;
            assert_true(largest_in <= smallest_out);
        }
    }
    adm_sparse_close(&shared);
    check_case_end();
}

static void the_oracle_takes_the_largest_products(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    adm_sparse *s = open_policy("oracle");
    attend(s, BUDGET, &out[0][0][0], &chosen[0][0][0]);
    for (size_t i = 0; i < N_STEPS; i++)
        for (size_t h = 0; h < N_Q; h++) {
            check_case("step=%zu head=%zu", i, h);
            double smallest_in = INFINITY, largest_out = -INFINITY;
            bool in[CAPACITY] = {false};
            for (size_t j = 0; j < BUDGET; j++) in[chosen[i][h][j]] = true;
            for (size_t t = 0; t < N_PROMPT + i + 1; t++) {
                double dot = 0;
                for (size_t e = 0; e < D; e++) dot += (double)q[i][h][e] * k[h / GROUP][t][e];
                if (in[t]) smallest_in = fmin(smallest_in, dot);
                else largest_out = fmax(largest_out, dot);
            }
            assert_true(smallest_in >= largest_out);
        }
    adm_sparse_close(&s);
    check_case_end();
}

/* Tokens and scores by definition, from what the prompt drew and what the steps pay for what they attend to. With evictions a
 * token that is out never comes back; without, each step keeps the recent half and of all others those that drew the most. */
static void check_accounts(const char *policy, bool evicts) {
    adm_sparse *s = open_policy(policy);
    attend(s, BUDGET, &out[0][0][0], &chosen[0][0][0]);
    for (size_t h = 0; h < N_Q; h++) {
        double account[N_PROMPT + N_STEPS] = {0};
        bool gone[N_PROMPT + N_STEPS] = {false};
        if (h == 1) account[5] = 100;
        for (size_t i = 0; i < N_STEPS; i++) {
            check_case("policy=%s step=%zu head=%zu", policy, i, h);
            const size_t n = N_PROMPT + i + 1, n_older = n - BUDGET / 2;
            double p[BUDGET], total = 0, min_in = INFINITY, max_out = -INFINITY, largest = -INFINITY;
            bool in[N_PROMPT + N_STEPS] = {false};
            for (size_t j = 0; j < BUDGET; j++) {
                const uint32_t token = chosen[i][h][j];
                double dot = 0;
                in[token] = true;
                for (size_t e = 0; e < D; e++) dot += (double)q[i][h][e] * k[h / GROUP][token][e];
                p[j] = dot * scale;
                largest = fmax(largest, p[j]);
            }
            for (size_t t = 0; t < n; t++) {
                if (t >= n_older) assert_true(in[t]);
                else if (in[t]) min_in = fmin(min_in, account[t]);
                else if (!gone[t]) max_out = fmax(max_out, account[t]);
                assert_false(in[t] && gone[t]);
                gone[t] = evicts && !in[t];
            }
            if (min_in < max_out) fail_msg("%s, head %zu, step %zu: %g in, %g out", policy, h, i, min_in, max_out);
            for (size_t j = 0; j < BUDGET; j++) total += p[j] = exp(p[j] - largest);
            for (size_t j = 0; j < BUDGET; j++) account[chosen[i][h][j]] += p[j] / total;
        }
        assert_int_equal(gone[5], evicts && h != 1); /* what drew much stays */
    }
    adm_sparse_close(&s);
    check_case_end();
}

static void accounts_are_kept(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    check_accounts("h2o", true);
    check_accounts("accumulated", false);
}

static void what_is_wrong_is_said(void **state) {
    (void)state;
    assert_true(adm_sparse_looks_back("h2o:select=group") && adm_sparse_looks_back("accumulated"));
    assert_false(adm_sparse_looks_back("quest") || adm_sparse_looks_back("snapkv") || adm_sparse_looks_back(""));
    adm_sparse *s;
    adm_error err = {0};
    const char *const bad[] = {"snapkv", "quest,oracle", "adamas:metric=l1+l2", "quest:select=head+group", "adamas:bits=9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(adm_sparse_open(bad[i], &shape, &k[0][0][0], 9, CAPACITY, 1, 1, &s, &err), ADM_EINPUT);
        assert_null(s);
    }
    assert_int_equal(adm_sparse_open("quest", &shape, &k[0][0][0], 0, CAPACITY, 1, 1, &s, &err), ADM_EINPUT);
    assert_int_equal(adm_sparse_open("quest", &shape, &k[0][0][0], 9, 10, 2, 1, &s, &err), ADM_EINPUT);
    s = open_policy("quest");
    assert_int_equal(
        adm_sparse_attend(s, 15, scale, &q[0][0][0], &k[0][0][0], &v[0][0][0], CAPACITY, 1, NULL, &out[0][0][0], NULL, &err),
        ADM_EINPUT);
    assert_int_equal(adm_sparse_attend(s, 16, scale, &q[0][0][0], &k[0][0][0], &v[0][0][0], CAPACITY, N_STEPS + 1, NULL,
                                       &out[0][0][0], NULL, &err),
                     ADM_EINPUT);
    adm_sparse_close(&s);
    s = open_policy("h2o");
    assert_int_equal(
        adm_sparse_attend(s, 16, scale, &q[0][0][0], &k[0][0][0], &v[0][0][0], CAPACITY, 1, NULL, &out[0][0][0], NULL, &err),
        ADM_EINPUT);
    adm_sparse_close(&s);
}

/* Every length of prompt around a page, and room for not a step more. */
static void prompts_of_every_length_around_a_page(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    fill(&rng);
    for (size_t n = 1; n <= 2 * PAGE + 1; n++)
        for (int p = 0; p < N_POLICIES; p++)
            for (size_t n_steps = 0; n_steps < 3; n_steps++) {
                check_case("policy=%s prompt=%zu steps=%zu", policies[p], n, n_steps);
                adm_sparse *s;
                assert_int_equal(adm_sparse_open(policies[p], &shape, &k[0][0][0], n, n + n_steps, n_steps, 1, &s, NULL),
                                 ADM_OK);
                memset(drawn, 0, sizeof drawn);
                assert_int_equal(adm_sparse_attend(s, 16, scale, &q[0][0][0], &k[0][0][0], &v[0][0][0], n + n_steps, n_steps,
                                                   &drawn[0][0], &out[0][0][0], NULL, NULL),
                                 ADM_OK);
                adm_sparse_close(&s);
            }
    check_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_budget_above_the_length_is_dense),
        cmocka_unit_test(selections_are_sound_and_repeatable),
        cmocka_unit_test(adamas_is_its_six_stages),
        cmocka_unit_test(a_group_selects_by_the_sum),
        cmocka_unit_test(the_oracle_takes_the_largest_products),
        cmocka_unit_test(accounts_are_kept),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(prompts_of_every_length_around_a_page),
    };
    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
