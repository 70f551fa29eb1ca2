/* test_formula.c: formulas of metric sets, and the values that come out of a set. */
#include "tests/support/stage_check.h"

#include <math.h>
#include <string.h>

#include "probes/cupti/counter_plan.h"
#include "probes/metrics/formula.h"

static adm_status look_up(void *user, const char *text, size_t length, double *value, adm_error *err) {
    (void)user;
    if (length == 1 && text[0] == 'a') *value = 6;
    else if (length == 3 && memcmp(text, "b.x", 3) == 0) *value = 4;
    else if (length == 4 && memcmp(text, "zero", 4) == 0) *value = 0;
    else if (length == 4 && memcmp(text, "none", 4) == 0) return adm_fail(err, ADM_EUNSUPPORTED, "nobody counted it");
    else return adm_fail(err, ADM_EINPUT, "no %.*s", (int)length, text);
    return ADM_OK;
}

static void arithmetic(void **state) {
    (void)state;
    const struct {
        const char *formula;
        double value;
    } cases[] = {{"1", 1},          {" 2.5 ", 2.5},       {"a", 6},          {"b.x", 4},       {"a+b.x*2", 14},
                 {"(a+b.x)*2", 20}, {"a-b.x-1", 1},       {"a/b.x/2", 0.75}, {"-a", -6},       {"--a", 6},
                 {"a*-b.x", -24},   {"2*(a-(b.x-1))", 6}, {"a - - 1", 7},    {"((((a))))", 6}, {"zero/a", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double value = NAN;
        adm_error err = {0};
        if (adm_formula_evaluate(cases[i].formula, look_up, NULL, &value, &err) != ADM_OK)
            fail_msg("%s: %s", cases[i].formula, err.text);
        if (fabs(value - cases[i].value) > 1e-12) fail_msg("%s is %g", cases[i].formula, value);
    }
}

static void what_is_no_formula(void **state) {
    (void)state;
    const struct {
        const char *formula;
        adm_status status;
        const char *says;
    } cases[] = {
        {"", ADM_EINPUT, "its end"},
        {"a+", ADM_EINPUT, "character 3"},
        {"(a", ADM_EINPUT, "')'"},
        {"a)", ADM_EINPUT, "an operator or the end"},
        {"a b.x", ADM_EINPUT, "character 3"},
        {"1.2.3", ADM_EINPUT, "decimal"},
        {"1e5", ADM_EINPUT, "decimal"},
        {"0x10", ADM_EINPUT, "decimal"},
        {"a % 2", ADM_EINPUT, "'% 2'"},
        {"c", ADM_EINPUT, "no c"},
        {"*", ADM_EINPUT, "a number, a name"},
        {".5", ADM_EINPUT, "a number, a name"},
        {"a/zero", ADM_EUNSUPPORTED, "divides by zero, which is 0"},
        {"a/(b.x-4)", ADM_EUNSUPPORTED, "(b.x-4)"},
        {"none*2", ADM_EUNSUPPORTED, "nobody counted it"},
        {"999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
         "*999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
         "*999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
         ADM_EUNSUPPORTED, "no finite number"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double value = 0;
        adm_error err = {0};
        adm_status status = adm_formula_evaluate(cases[i].formula, look_up, NULL, &value, &err);
        if (status != cases[i].status || strstr(err.text, cases[i].says) == NULL)
            fail_msg("'%s': status %d, '%s' lacks '%s'", cases[i].formula, status, err.text, cases[i].says);
    }
}

/* --- Values of a set ---------------------------------------------------------------------------------------------- */

static double read_zero_dram(void *user, const char *metric) {
    (void)user;
    return strstr(metric, "dram") != NULL ? 0.0 : strstr(metric, "conflicts") != NULL ? (double)NAN : 7.0;
}

static void reasons_travel_through_formulas(void **state) {
    (void)state;
    adm_metric_set *set = NULL;
    assert_int_equal(adm_metric_set_open("memory", &set, NULL), ADM_OK);
    char(*lacking)[ADM_REASON_BYTES] = calloc(set->n, sizeof *lacking),
    (*reason)[ADM_REASON_BYTES] = calloc(set->n, sizeof *reason);
    double *value = calloc(set->n, sizeof *value);
    const char **names = calloc(set->n, sizeof *names);
    for (size_t i = 0; i < set->n; i++) names[i] = set->metric[i].formula == NULL ? set->metric[i].name : NULL;
    const adm_set_metric *hits = adm_metric_set_find(set, "lts__t_sectors_op_read_lookup_hit.sum", 37);
    assert_non_null(hits);
    strcpy(lacking[hits - set->metric], "OLD100 has no metric lts__t_sectors_op_read_lookup_hit.sum");
    const struct {
        const char *name;
        double value;
        const char *says;
    } untimed[] = {{"gpu__time_duration.sum", 7, NULL},
                   {"dram__bytes_read.sum", 0, NULL},
                   {"dram_read_model_ratio", 0, NULL},
                   {"dram_bytes_per_s", NAN, "not timed"},
                   {"l2_read_bytes", 224, NULL},
                   {"l2_read_hit_ratio", NAN, "OLD100"},
                   {"shared_conflict_ratio", NAN, "gave no value for l1tex__data_bank_conflicts"},
                   {"l2_read_model_ratio", 224.0 / 60, NULL}};
    const adm_range range = {.kind = ADM_RANGE_STAGE, .model_bytes = 100, .model_write_bytes = 40, .model_flops = 1};
    adm_counter_values(set, &range, names, (const char(*)[ADM_REASON_BYTES])lacking, read_zero_dram, NULL, value, reason);
    for (size_t i = 0; i < sizeof untimed / sizeof untimed[0]; i++) {
        const adm_set_metric *m = adm_metric_set_find(set, untimed[i].name, strlen(untimed[i].name));
        size_t at = (size_t)(m - set->metric);
        if (untimed[i].says == NULL) {
            if (reason[at][0] != '\0' || fabs(value[at] - untimed[i].value) > 1e-9)
                fail_msg("%s is %g, '%s'", m->name, value[at], reason[at]);
        } else if (!isnan(value[at]) || strstr(reason[at], untimed[i].says) == NULL) {
            fail_msg("%s is %g, '%s'", m->name, value[at], reason[at]);
        }
    }
    /* Without a model, and with nothing to read: reasons, not zeros. */
    const adm_range bare = {.kind = ADM_RANGE_STAGE};
    adm_counter_values(set, &bare, names, (const char(*)[ADM_REASON_BYTES])lacking, read_zero_dram, NULL, value, reason);
    const adm_set_metric *m = adm_metric_set_find(set, "dram_read_model_ratio", 21);
    assert_non_null(strstr(reason[m - set->metric], "without a model"));
    const adm_range all_writes = {.kind = ADM_RANGE_STAGE, .model_bytes = 40, .model_write_bytes = 40};
    adm_counter_values(set, &all_writes, names, (const char(*)[ADM_REASON_BYTES])lacking, read_zero_dram, NULL, value, reason);
    assert_non_null(strstr(reason[m - set->metric], "divides by (model.bytes - model.write_bytes)"));
    free(lacking);
    free(reason);
    free(value);
    free(names);
    adm_metric_set_close(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic),
        cmocka_unit_test(what_is_no_formula),
        cmocka_unit_test(reasons_travel_through_formulas),
    };
    return cmocka_run_group_tests_name("formula", tests, NULL, NULL);
}
