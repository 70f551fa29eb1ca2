/* test_tune_pipeline.c: the host rows of a replay are checked before they are used: the registry's own pass, a wrong one is
 * named and replaced by the reference; rows are chosen by name. */
#include "tests/support/stage_check.h"

#include "kernels/registry.h"
#include "kernels/topk/topk.h"
#include "kernels/tune/pipeline.h"

/* Ties go to the older token: a selection of the right size and distances. */
static uint32_t older_first(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                            uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    const uint32_t n = adm_topk_reference(distance, n_tokens, max_distance, rule, histogram, index, info);
    for (uint32_t i = 0; i + 1 < n; i++) { /* the first that can move to an older token at its distance */
        const uint32_t from = i > 0 ? index[i - 1] + 1 : 0;
        for (uint32_t t = from; i >= rule->n_sinks && t < index[i]; t++)
            if (distance[t] == distance[index[i]]) {
                index[i] = t;
                return n;
            }
    }
    return n;
}

static const adm_host_impl wrong_row = {
    .stage = ADM_STAGE_TOPK, .name = "older", .summary = "", .max_head_dim = 256, .fn.topk = older_first};

static void the_rows_of_the_default_pipeline_pass(void **state) {
    adm_pipeline_fault faults[ADM_PIPELINE_STAGES];
    adm_host_pipeline p, before;
    size_t n;
    adm_error err = {0};
    (void)state;
    adm_host_pipeline_default(&p);
    before = p;
    assert_int_equal(adm_pipeline_check(&p, 64 + 128 + 256, 7, 1, faults, &n, &err), ADM_OK);
    if (n > 0) print_message("%s\n", faults[0].reason);
    assert_int_equal(n, 0);
    assert_memory_equal(&p, &before, sizeof p);
}

static void a_wrong_row_is_named_and_replaced(void **state) {
    adm_pipeline_fault faults[ADM_PIPELINE_STAGES];
    adm_host_pipeline p;
    size_t n;
    (void)state;
    adm_host_pipeline_default(&p);
    p.topk = &wrong_row;
    assert_int_equal(adm_pipeline_check(&p, 128, 1 << ADM_F16, 1, faults, &n, NULL), ADM_OK);
    assert_int_equal(n, 1);
    assert_ptr_equal(faults[0].row, &wrong_row);
    assert_non_null(strstr(faults[0].reason, "topk 'older' is wrong: "));
    assert_non_null(strstr(faults[0].reason, "a tie given to the older token"));
    assert_ptr_equal(p.topk, adm_registry_find(ADM_STAGE_TOPK, "reference"));
}

static void rows_are_chosen_by_name(void **state) {
    adm_host_pipeline p;
    adm_error err;
    (void)state;
    adm_host_pipeline_default(&p);
    assert_int_equal(adm_pipeline_choose("reference", &p, &err), ADM_OK);
    assert_string_equal(p.topk->name, "reference");
    assert_string_equal(p.dense->name, "reference");
    adm_host_pipeline_default(&p);
    const adm_host_impl *topk = p.topk;
    assert_int_equal(adm_pipeline_choose("distance=l1,pack=reference", &p, &err), ADM_OK);
    assert_string_equal(p.distance->name, "l1");
    assert_string_equal(p.pack->name, "reference");
    assert_ptr_equal(p.topk, topk);
    assert_int_equal(adm_pipeline_choose("quick", &p, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "--implementation: 'quick' is not known; there are reference, "));
    assert_int_equal(adm_pipeline_choose("topk=l1", &p, &err), ADM_EINPUT);
    assert_int_equal(adm_pipeline_choose("distance=xor", &p, &err), ADM_EINPUT); /* not by the contract */
    assert_int_equal(adm_pipeline_choose("", &p, &err), ADM_EINPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rows_of_the_default_pipeline_pass),
        cmocka_unit_test(a_wrong_row_is_named_and_replaced),
        cmocka_unit_test(rows_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
