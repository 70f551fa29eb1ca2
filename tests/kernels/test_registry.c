/* test_registry.c: the table itself. That each row computes its stage is the business of that stage's test. */
#include "kernels/gpu/registry.h"
#include "kernels/gpu/ways.h"
#include "kernels/registry.h"

#include "core/policy/coding.h"
#include "kernels/attention/attention.h"
#include "core/system/cpu.h"
#include "kernels/distance/distance.h"
#include "tests/support/stage_check.h"

static void every_row_is_complete_and_found_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *row = adm_registry_at(i);
        assert_true(row->stage < ADM_N_STAGES && row->stage != ADM_STAGE_APPEND && row->stage != ADM_STAGE_STEP);
        assert_true(row->name[0] != '\0' && row->summary[0] != '\0');
        assert_true(row->max_head_dim >= 64 && row->max_head_dim <= ADM_MAX_HEAD_DIM);
        assert_true(row->tolerance >= 0 && row->tolerance < 0.1);
        assert_true((row->metric != NULL) == (row->stage == ADM_STAGE_DISTANCE));
        assert_true((row->bits != 0) == (row->stage == ADM_STAGE_DISTANCE));
        assert_non_null(row->fn.hadamard); /* whichever member it is */
        assert_ptr_equal(adm_registry_find(row->stage, row->name), row); /* so no two rows share stage and name */
    }
    assert_null(adm_registry_at(adm_registry_count()));
    assert_null(adm_registry_find(ADM_STAGE_DISTANCE, "no such metric"));
    assert_null(adm_registry_find(ADM_STAGE_APPEND, "reference"));
}

static void the_default_pipeline_is_the_contract(void **state) {
    (void)state;
    adm_host_pipeline p;
    memset(&p, CHECK_CANARY, sizeof p);
    adm_host_pipeline_default(&p);
    assert_int_equal(p.hadamard->stage, ADM_STAGE_HADAMARD);
    assert_int_equal(p.bucket->stage, ADM_STAGE_BUCKET);
    assert_int_equal(p.pack->stage, ADM_STAGE_PACK);
    assert_int_equal(p.distance->stage, ADM_STAGE_DISTANCE);
    assert_string_equal(p.distance->metric, "l1");
    assert_non_null(p.encode);
    assert_non_null(p.scan);
    assert_ptr_equal(p.code_distance[ADM_METRIC_L1][2], p.distance);
    for (adm_code_metric m = ADM_METRIC_L1; m < ADM_N_CODE_METRICS; m++)
        for (uint32_t bits = 0; bits <= ADM_MAX_CODE_BITS; bits++) {
            const adm_host_impl *row = p.code_distance[m][bits];
            bool direct = m == ADM_METRIC_ASYM4 ? bits == 2 : m != ADM_METRIC_ASYMMETRIC && (bits == 1 || bits == 2);
            assert_int_equal(row != NULL, direct);
            if (!direct) continue;
            assert_int_equal(row->bits, bits);
            assert_string_equal(row->metric, bits == 1 ? "hamming" : adm_code_metric_name(m));
        }
    assert_int_equal(p.topk->stage, ADM_STAGE_TOPK);
    assert_int_equal(p.attention->stage, ADM_STAGE_ATTENTION);
    assert_int_equal(p.dense->stage, ADM_STAGE_DENSE);
}

/* The stages' tests pass over such rows; here they count as a skip. */
static void every_row_runs_on_this_cpu(void **state) {
    (void)state;
    size_t n_missing = 0;
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *row = adm_registry_at(i);
        if (adm_host_impl_available(row)) continue;
        n_missing++;
        print_message("%s %s is not tested: this CPU lacks its instructions\n", adm_stage_name(row->stage), row->name);
    }
    if (n_missing > 0) skip();
}

/* Rows come slowest first: none that runs here and computes the same follows the one that is taken. */
static void the_default_pipeline_is_the_fastest_that_runs_here(void **state) {
    (void)state;
    adm_host_pipeline p;
    adm_host_pipeline_default(&p);
    const adm_host_impl *const taken[] = {p.hadamard, p.bucket, p.pack, p.distance, p.topk, p.attention, p.dense};
    for (size_t s = 0; s < sizeof taken / sizeof *taken; s++) {
        assert_true(adm_host_impl_available(taken[s]));
        const adm_host_impl *last = NULL;
        CHECK_EACH_ROW(taken[s]->stage, row)
        if (row->metric == NULL || strcmp(row->metric, "l1") == 0) last = row;
        assert_ptr_equal(taken[s], last);
    }
#if defined(__x86_64__)
    bool avx2 = adm_host_impl_available(adm_registry_find(ADM_STAGE_DISTANCE, "l1-avx2"));
    bool avx512 = adm_host_impl_available(adm_registry_find(ADM_STAGE_DISTANCE, "l1-avx512"));
    assert_int_equal(avx2, adm_cpu_has_avx2());
    assert_int_equal(avx512, adm_cpu_has_avx512());
    assert_string_equal(p.distance->name, avx512 ? "l1-avx512" : avx2 ? "l1-avx2" : "l1");
#endif
}

/* The floors of the design notes for a layer of 32 query and 32 KV heads, d = 128, fp16, 32K tokens: codes 33.6 MB,
 * K and V at budget 256 4.2 MB. And the paper's "14.2x by the bytes alone" at 256 needs dense / (codes + K and V). */
static void the_work_of_a_step(void **state) {
    (void)state;
    const adm_work_case c = {.shape = {32, 32, 128}, .dtype = ADM_F16, .n_tokens = 32768, .n_selected = 256, .n_distinct = 256};
    const double codes = 32.0 * 32768 * 32, kv = 32.0 * 256 * 512, dense = 32.0 * 32768 * 512;
    assert_true(fabs(codes - 33.6e6) < 0.1e6 && fabs(kv - 4.2e6) < 0.1e6);
    assert_true(fabs(dense / (codes + kv) - 14.2) < 0.05);

    adm_work distance = adm_stage_work(ADM_STAGE_DISTANCE, &c), attention = adm_stage_work(ADM_STAGE_ATTENTION, &c);
    assert_true(distance.bytes == codes + 32 * 32 + 32 * 32768.0 * 2);
    assert_true(attention.bytes == kv + 32 * (256 + 256 * 4 + 512));
    assert_true(adm_stage_work(ADM_STAGE_DENSE, &c).bytes == dense + 32 * (256 + 512));

    adm_work sum = {0, 0}, step = adm_stage_work(ADM_STAGE_STEP, &c);
    for (int s = 0; s < ADM_N_STAGES; s++) {
        adm_work work = adm_stage_work((adm_stage)s, &c);
        assert_true(work.bytes > 0 && (work.flops > 0 || s == ADM_STAGE_APPEND));
        if (s == ADM_STAGE_STEP || s == ADM_STAGE_DENSE) continue;
        sum.bytes += work.bytes;
        sum.flops += work.flops;
    }
    assert_true(fabs(step.bytes - sum.bytes) <= 1e-12 * sum.bytes && fabs(step.flops - sum.flops) <= 1e-12 * sum.flops);
}

/* In a build with CUDA; without, there are neither. */
static void launch_parameters_are_those_of_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < adm_gpu_n_ways; i++) {
        const adm_gpu_ways *ways = &adm_gpu_way_rows[i];
        const adm_gpu_impl *row = adm_gpu_registry_find(ways->stage, ways->row);
        assert_non_null(row);
        assert_ptr_equal(adm_gpu_ways_of(row), ways);
        assert_non_null(ways->parameter[0].name);
        for (size_t p = 0; p < ADM_GPU_WAY_PARAMETERS && ways->parameter[p].name != NULL; p++)
            assert_in_range(ways->parameter[p].n_values, 1, ADM_GPU_WAY_VALUES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete_and_found_by_name),
        cmocka_unit_test(the_default_pipeline_is_the_contract),
        cmocka_unit_test(every_row_runs_on_this_cpu),
        cmocka_unit_test(the_default_pipeline_is_the_fastest_that_runs_here),
        cmocka_unit_test(the_work_of_a_step),
        cmocka_unit_test(launch_parameters_are_those_of_rows),
    };
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
