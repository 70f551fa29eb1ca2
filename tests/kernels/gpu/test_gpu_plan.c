/* test_gpu_plan.c: how a GPU case's memory is cut, and how many copies and sets make a cache cold. */
#include "kernels/gpu/input.h"
#include "kernels/gpu/plan.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"

#include "tests/support/stage_check.h"

enum { L2 = 1 << 20, N_TRIES = 300 };

static uint32_t pick(adm_rng *rng, const uint32_t *from, size_t n) { return from[adm_rng_below(rng, n)]; }

static adm_gpu_shape random_shape(adm_rng *rng) {
    static const uint32_t dims[] = {64, 128, 256}, groups[] = {1, 2, 8}, pages[] = {0, 0, 1, 7, 64};
    const uint32_t n_kv = 1 + (uint32_t)adm_rng_below(rng, 8), group = pick(rng, groups, 3);
    adm_gpu_shape s = {.heads = {n_kv * group, n_kv, pick(rng, dims, 3)},
                       .dtype = ADM_F16,
                       .batch = 1 + (uint32_t)adm_rng_below(rng, 64),
                       .capacity = 32 * (1 + (uint32_t)adm_rng_below(rng, 100)),
                       .page_size = pick(rng, pages, 5),
                       .rule = {1 + (uint32_t)adm_rng_below(rng, 4096), 0, 0}};
    if (s.page_size > 0) s.max_pages = (s.capacity + s.page_size - 1) / s.page_size;
    return s;
}

static void random_lengths(adm_rng *rng, const adm_gpu_shape *s, uint32_t length[64]) {
    for (uint32_t b = 0; b < s->batch; b++) length[b] = (uint32_t)adm_rng_below(rng, s->capacity + 1);
}

/* What each region must hold, spelled out again. */
typedef struct extent {
    size_t from, bytes;
} extent;

static void assert_disjoint(const extent *regions, size_t n, size_t all) {
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(regions[i].from % 256, 0);
        assert_true(regions[i].from + regions[i].bytes <= all);
        if (i + 1 < n) assert_true(regions[i].from + regions[i].bytes <= regions[i + 1].from);
    }
}

static void parts_hold_what_they_must_and_do_not_overlap(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int i = 0; i < N_TRIES; i++) {
        const adm_gpu_shape s = random_shape(&rng);
        uint32_t length[64];
        random_lengths(&rng, &s, length);
        adm_gpu_plan p;
        adm_gpu_plan_make(&s, &(adm_gpu_inputs){.length = length, .min_budget = 1}, true, L2, 1u << 26, &p);
        const size_t q = (size_t)s.batch * s.heads.n_q_heads, kv = (size_t)s.batch * s.heads.n_kv_heads, d = s.heads.head_dim;
        const size_t tokens = s.page_size == 0 ? s.capacity : (size_t)s.max_pages * s.page_size;
        const extent own[] = {{p.length, 4 * (size_t)s.batch}, {p.q, q * d * 2},
                              {p.k_new, kv * d * 2},           {p.v_new, kv * d * 2},
                              {p.y, (q + kv) * d * 4},         {p.code, (q + kv) * d},
                              {p.packed, (q + kv) * d / 4},    {p.index, q * s.rule.budget * 4},
                              {p.n_selected, q * 4},           {p.out, q * d * 2}};
        assert_disjoint(own, sizeof own / sizeof *own, p.set_bytes);
        const extent copy[] = {
            {0, kv * tokens * d * 2}, {p.kv_bytes, kv * tokens * d * 2}, {2 * p.kv_bytes, kv * s.capacity * d / 4}};
        assert_disjoint(copy, 3, p.copy_bytes);
        const extent shared[] = {{p.distance, q * s.capacity * 2}, {p.workspace, adm_gpu_plan_workspace(&s, NULL)}};
        assert_disjoint(shared, 2, p.shared_bytes);
        assert_int_equal(p.bytes, p.n_kv * p.copy_bytes + p.n_sets * p.set_bytes + p.shared_bytes + p.page_table_bytes);
    }
}

/* Every row of the registry has memory of its own, wherever there are rows. */
static void workspaces_do_not_overlap(void **state) {
    (void)state;
    const adm_gpu_shape s = {.heads = {32, 8, 128}, .dtype = ADM_F16, .batch = 4, .capacity = 8192, .rule = {256, 0, 0}};
    size_t end = 0;
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        const size_t at = adm_gpu_plan_workspace(&s, row);
        assert_true(at >= end);
        end = at + (row->workspace_bytes != NULL ? row->workspace_bytes(&s) : 0);
    }
    assert_true(adm_gpu_plan_workspace(&s, NULL) >= end);
}

static void sets_point_into_their_own_parts(void **state) {
    (void)state;
    static char copies[1], sets[1], shared[1]; /* addresses only */
    const adm_gpu_shape s = {.heads = {4, 2, 64}, .dtype = ADM_F16, .batch = 2, .capacity = 64, .rule = {16, 0, 0}};
    const uint32_t length[2] = {64, 3};
    adm_gpu_plan p;
    adm_gpu_plan_make(&s, &(adm_gpu_inputs){.length = length, .min_budget = 16}, true, L2, UINT64_MAX, &p);
    assert_true(p.n_kv > 1 && p.n_sets >= p.n_kv);
    for (uint32_t i = 0; i < p.n_sets; i++) {
        const adm_gpu_buffers b = adm_gpu_plan_buffers(&p, i, copies, sets, shared, NULL);
        assert_int_equal((const char *)b.k - copies, (i % p.n_kv) * p.copy_bytes);
        assert_int_equal((const char *)b.length - sets, i * p.set_bytes + p.length);
        assert_int_equal((const char *)b.out - sets, i * p.set_bytes + p.out);
        assert_int_equal((const char *)b.distance - shared, p.distance);
    }
}

static void with_enough_memory_every_stage_finds_a_cold_cache(void **state) {
    (void)state;
    static const adm_stage stages[] = {ADM_STAGE_DISTANCE, ADM_STAGE_ATTENTION, ADM_STAGE_DENSE};
    adm_rng rng = check_rng(__func__);
    for (int i = 0; i < N_TRIES; i++) {
        adm_gpu_shape s = random_shape(&rng);
        uint32_t length[64];
        for (uint32_t b = 0; b < s.batch; b++) length[b] = s.capacity;
        const uint32_t min_budget = 1 + (uint32_t)adm_rng_below(&rng, s.rule.budget);
        adm_gpu_plan p;
        adm_gpu_plan_make(&s, &(adm_gpu_inputs){.length = length, .min_budget = min_budget}, true, L2, UINT64_MAX, &p);
        for (s.rule.budget = min_budget; s.rule.budget <= 4096; s.rule.budget *= 2)
            for (int j = 0; j < 3; j++) {
                const uint32_t n = adm_gpu_plan_rotation(&p, &s, 1u << stages[j]);
                assert_true(n >= 1 && n <= p.n_sets && n % p.n_kv == 0);
                if (n < ADM_MAX_SETS) assert_true(adm_gpu_plan_coldness(&p, &s, 1u << stages[j]) >= ADM_COLD_L2);
            }
    }
}

/* However little there is, a layer has a copy and a set; what is there beyond that is used, and no more. */
static void available_memory_is_kept(void **state) {
    (void)state;
    const adm_gpu_shape s = {.heads = {8, 2, 64}, .dtype = ADM_F16, .batch = 1, .capacity = 1024, .rule = {64, 0, 0}};
    const uint32_t length[1] = {1000}, steps[2] = {900, 1000};
    const adm_gpu_session session = {.n_layers = 3, .n_tokens = 1000, .n_steps = 2, .length = steps};
    for (uint64_t available = 0; available < 1u << 30; available = 2 * available + 1000) {
        adm_gpu_plan p;
        adm_gpu_plan_make(&s, &(adm_gpu_inputs){.length = length, .min_budget = 16}, true, 1 << 26, available, &p);
        assert_true(p.n_kv >= 1 && p.n_sets % p.n_kv == 0);
        assert_true((p.n_kv == 1 && p.n_sets == 1) || p.n_kv * p.copy_bytes + p.n_sets * p.set_bytes <= available);
        adm_gpu_plan_make(&s, &(adm_gpu_inputs){.session = &session, .min_budget = 16}, true, 1 << 26, available, &p);
        assert_true(p.n_kv >= 3 && p.n_kv % 3 == 0 && p.n_sets % p.n_kv == 0);
        assert_int_equal(p.n_tokens, 1000);
        adm_gpu_plan_make(&s, &(adm_gpu_inputs){.session = &session, .min_budget = 16}, false, 1 << 26, available, &p);
        assert_int_equal(p.n_kv, 3);
        assert_int_equal(p.n_sets, 3);
    }
}

/* A sample is whole rounds over the sets, lasts 1 ms where it may, and has no more launches than it must. */
static void a_sample_goes_through_whole_rounds(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int i = 0; i < N_TRIES; i++) {
        const uint32_t n_sets = 1 + (uint32_t)adm_rng_below(&rng, ADM_MAX_SETS), n_impls = 1 + (uint32_t)adm_rng_below(&rng, 6);
        const double call_ns = 500 + (double)adm_rng_below(&rng, 2000000);
        const uint32_t n = adm_gpu_timing_calls(call_ns, n_impls, n_sets), first = adm_gpu_timing_first_calls(n_sets);
        assert_true(n >= n_sets && n % n_sets == 0);
        assert_true(n * call_ns >= 1e6 || n * n_impls >= ADM_TIMING_MAX_NODES);
        assert_true(n == n_sets || ((n - n_sets) * call_ns < 1e6 && (n - n_sets) * n_impls < ADM_TIMING_MAX_NODES));
        assert_true(first >= 32 && first % n_sets == 0 && first < 32 + n_sets);
    }
    assert_int_equal(adm_gpu_timing_calls(10000, 1, 1), 100);
    assert_int_equal(adm_gpu_timing_calls(25000, 6, 915), 915);
    assert_int_equal(adm_gpu_timing_calls(5e6, 1, 1), 1);
}

static void a_row_of_inputs_is_its_values(void **state) {
    (void)state;
    static const adm_input_tensor tensors[] = {ADM_INPUT_K, ADM_INPUT_V, ADM_INPUT_Q};
    adm_rng rng = check_rng(__func__);
    float row[ADM_MAX_HEAD_DIM];
    for (int i = 0; i < 50 * N_TRIES; i++) {
        const uint32_t d = 64u << adm_rng_below(&rng, 3), sequence = (uint32_t)adm_rng_below(&rng, 64),
                       kv_head = (uint32_t)adm_rng_below(&rng, 32), head = (uint32_t)adm_rng_below(&rng, 64),
                       token = (uint32_t)adm_rng_below(&rng, 40);
        const uint64_t seed = adm_rng_below(&rng, 1000);
        const adm_input_tensor tensor = tensors[i % 3];
        adm_input_fill_row(seed, tensor, sequence, kv_head, head, token, d, row);
        for (uint32_t k = 0; k < d; k++)
            assert_true(row[k] == adm_input_value(seed, tensor, sequence, kv_head, head, token, k, d));
    }
}

static void pages_are_a_permutation(void **state) {
    (void)state;
    const adm_gpu_shape s = {.batch = 3, .max_pages = 21};
    int32_t pages[63];
    bool seen[63] = {false}, moved = false;
    adm_gpu_plan_pages(&s, pages);
    for (int i = 0; i < 63; i++) {
        assert_true(pages[i] >= 0 && pages[i] < 63 && !seen[pages[i]]);
        seen[pages[i]] = true;
        moved |= pages[i] != i;
    }
    assert_true(moved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_hold_what_they_must_and_do_not_overlap),
        cmocka_unit_test(workspaces_do_not_overlap),
        cmocka_unit_test(sets_point_into_their_own_parts),
        cmocka_unit_test(with_enough_memory_every_stage_finds_a_cold_cache),
        cmocka_unit_test(available_memory_is_kept),
        cmocka_unit_test(a_sample_goes_through_whole_rounds),
        cmocka_unit_test(a_row_of_inputs_is_its_values),
        cmocka_unit_test(pages_are_a_permutation),
    };
    return cmocka_run_group_tests_name("gpu_plan", tests, NULL, NULL);
}
