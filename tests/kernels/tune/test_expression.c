/* test_expression.c: the whole-number formulas of a manifest: values, precedence, and what is refused, with the reason. */
#include "tests/support/stage_check.h"

#include "kernels/tune/candidate/expression.h"

static const adm_name_value names[] = {{"batch", 8}, {"capacity", 32768}, {"BLOCK", 128}, {"zero", 0}, {"min", 5}};
enum { N_NAMES = sizeof names / sizeof *names };

static void formulas_have_the_values_of_arithmetic(void **state) {
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {{"7", 7},
                 {" 1 + 2 * 3 ", 7},
                 {"(1 + 2) * 3", 9},
                 {"10 - 3 - 2", 5},
                 {"100 / 7 * 7 + 100 % 7", 100},
                 {"-3 + 5", 2},
                 {"- -3", 3},
                 {"0x10", 16},
                 {"batch * capacity / BLOCK", 2048},
                 {"cdiv(capacity + 1, BLOCK)", 257},
                 {"cdiv(capacity, BLOCK)", 256},
                 {"min(batch, 3) + max(batch, 3)", 11},
                 {"min + 1", 6}, /* a name, where no parenthesis follows */
                 {"max(min(1, 2), cdiv(5, 2))", 3}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adm_error err = {0};
        int64_t value = -1;
        if (adm_expression_evaluate(cases[i].text, names, N_NAMES, &value, &err) != ADM_OK || value != cases[i].value)
            fail_msg("'%s' is %lld, not %lld: %s", cases[i].text, (long long)value, (long long)cases[i].value, err.text);
    }
}

static void what_is_no_formula_is_refused(void **state) {
    static const char *const cases[][2] = {{"", "is missing"},
                                           {"1 +", "is missing"},
                                           {"1 2", "follows its end"},
                                           {"nothing", "not known"},
                                           {"1 / zero", "divides by 0"},
                                           {"1 % 0", "divides by 0"},
                                           {"cdiv(1, 0)", "divides by 0"},
                                           {"(1", "not closed"},
                                           {"min(1)", "two numbers"},
                                           {"pow(2, 3)", "min, max and cdiv"},
                                           {"9223372036854775807 + 1", "does not fit"},
                                           {"9223372036854775807 * 2", "does not fit"},
                                           {"(0 - 9223372036854775807 - 1) / -1", "does not fit"},
                                           {"1; rm", "follows its end"}};
    char deep[200];
    adm_error err;
    int64_t value;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(adm_expression_evaluate(cases[i][0], names, N_NAMES, &value, &err), ADM_EINPUT);
        if (strstr(err.text, cases[i][1]) == NULL) fail_msg("'%s': %s", cases[i][0], err.text);
    }
    memset(deep, '(', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(adm_expression_evaluate(deep, names, N_NAMES, &value, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "nested too deeply"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formulas_have_the_values_of_arithmetic),
        cmocka_unit_test(what_is_no_formula_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
