/* test_sweep.c: the list of policies and variants on the command line. */
#include "core/policy/sweep.h"

#include "tests/support/stage_check.h"

/* The names of the codings, joined by " | ". */
static void check_sweep(const char *text, const adm_sweep_defaults *defaults, const char *codings) {
    adm_sweep sweep;
    adm_error err = {0};
    char joined[4096] = "", name[ADM_CODING_NAME_BYTES];
    if (adm_sweep_parse(text, defaults, &sweep, &err) != ADM_OK) fail_msg("%s: %s", text, err.text);
    for (size_t i = 0; i < sweep.n_codings; i++) {
        adm_coding_name(&sweep.codings[i], name);
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i > 0 ? " | " : "", name);
        assert_int_equal(sweep.codings[i].thresholds.n_values, (1u << sweep.codings[i].bits) - 1);
    }
    assert_string_equal(joined, codings);
    adm_sweep_clear(&sweep);
    assert_null(sweep.codings);
}

static const adm_sweep_defaults none = {.n_thresholds = 0};

static void plain_names_are_as_ever(void **state) {
    (void)state;
    adm_sweep sweep;
    check_sweep("dense,oracle,adamas", &none, "l1 calibrated | l1 fixed:-10,0,10");
    check_sweep("quest", &none, "");
    assert_int_equal(adm_sweep_parse("oracle,random", &none, &sweep, NULL), ADM_OK);
    for (int p = 0; p < ADM_N_POLICIES; p++) {
        assert_int_equal(sweep.policy[p], p == ADM_POLICY_ORACLE || p == ADM_POLICY_RANDOM);
        assert_int_equal(sweep.select_head[p], sweep.policy[p]);
        assert_false(sweep.select_group[p]);
    }
    adm_sweep_clear(&sweep);
}

static void settings_follow_their_policy(void **state) {
    (void)state;
    check_sweep("adamas:metric=dot,quest,adamas:bits=3,hadamard=off,select=group,streaming", &none,
                "dot calibrated | l1 calibrated, 3 bits, no Hadamard, per group");
    check_sweep("adamas:thresholds=fixed:-1,0,1,metric=l2,oracle", &none, "l2 fixed:-1,0,1");
    check_sweep("adamas:metric=l2,thresholds=quantile:0.1,0.5,0.9", &none, "l2 quantile:0.1,0.5,0.9");
    check_sweep("adamas:bits=1,thresholds=fixed:0,adamas:bits=3,thresholds=fixed:-3,-2,-1,0,1,2,3,random", &none,
                "l1 fixed:0, 1 bit | l1 fixed:-3,-2,-1,0,1,2,3, 3 bits");
    check_sweep("adamas:thresholds=fixed:1e+1,2e+1,3e+1", &none, "l1 fixed:1e+1,2e+1,3e+1");
}

static void a_plus_gives_every_combination(void **state) {
    (void)state;
    check_sweep("adamas:metric=l1+dot,hadamard=on+off,thresholds=centred+channel", &none,
                "l1 centred | l1 channel | l1 centred, no Hadamard | l1 channel, no Hadamard | dot centred | dot channel | "
                "dot centred, no Hadamard | dot channel, no Hadamard");
    check_sweep("adamas:bits=1+2+3,select=head+group", &none,
                "l1 calibrated, 1 bit | l1 calibrated, 1 bit, per group | l1 calibrated | l1 calibrated, per group | "
                "l1 calibrated, 3 bits | l1 calibrated, 3 bits, per group");
    check_sweep("adamas:sinks=0+4+0,recent=1+8,select=group", &none,
                "l1 calibrated, per group | l1 calibrated, 8 recent, per group | l1 calibrated, 4 sinks, per group | "
                "l1 calibrated, 4 sinks, 8 recent, per group");
    check_sweep("adamas,adamas:metric=l1+xor", &none, "l1 calibrated | l1 fixed:-10,0,10 | xor calibrated");
}

static void defaults_are_of_those_that_do_not_say(void **state) {
    (void)state;
    const char *const two[] = {"channel", "centred"};
    const adm_sweep_defaults both = {.thresholds = two, .n_thresholds = 2, .select = "group"};
    check_sweep("adamas,adamas:metric=dot,thresholds=calibrated,select=head", &both,
                "l1 channel, per group | l1 centred, per group | dot calibrated");
    const uint32_t sinks[] = {0, 4}, recent[] = {0, 1, 64};
    const adm_sweep_defaults forced = {.sinks = sinks, .n_sinks = 2, .recent = recent, .n_recent = 3};
    check_sweep("adamas:metric=l1,adamas:metric=dot,sinks=1,recent=1,quest", &forced, /* 0 recent tokens are 1 */
                "l1 calibrated | l1 calibrated, 64 recent | l1 calibrated, 4 sinks | l1 calibrated, 4 sinks, 64 recent | "
                "dot calibrated, 1 sink");
    adm_sweep sweep;
    assert_int_equal(adm_sweep_parse("quest,oracle:select=head+group,h2o:select=head,dense", &both, &sweep, NULL), ADM_OK);
    assert_true(sweep.select_group[ADM_POLICY_QUEST] && !sweep.select_head[ADM_POLICY_QUEST]);
    assert_true(sweep.select_group[ADM_POLICY_ORACLE] && sweep.select_head[ADM_POLICY_ORACLE]);
    assert_true(!sweep.select_group[ADM_POLICY_H2O] && sweep.select_head[ADM_POLICY_H2O]);
    assert_true(!sweep.select_group[ADM_POLICY_DENSE] && sweep.select_head[ADM_POLICY_DENSE]);
    adm_sweep_clear(&sweep);
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "'' is not known"},
        {"snapkv", "'snapkv' is not known; there are dense, oracle, adamas"},
        {"dense,", "'' is not known"},
        {"dense,,oracle", "'' is not known"},
        {"adamas:", "'' of 'adamas' is no setting"},
        {"adamas:l2", "'l2' of 'adamas' is no setting"},
        {"adamas:metric=l3", "'l3' is no value of metric"},
        {"adamas:metric=", "'' is no value of metric"},
        {"adamas:metric=l1+", "'' is no value of metric"},
        {"adamas:metric=l1,oracle,3", "'3' is not known"},
        {"adamas:bits=4", "'4' is no value of bits: use 1, 2 or 3"},
        {"adamas:bits=2,bits=3", "sets bits twice"},
        {"adamas:hadamard=no", "'no' is no value of hadamard"},
        {"adamas:select=all", "'all' is no value of select"},
        {"adamas:budget=3", "no setting 'budget'"},
        {"quest:metric=l1", "'quest' has no setting 'metric'"},
        {"quest:sinks=4", "'quest' has no setting 'sinks'"},
        {"adamas:sinks=", "'' is no value of sinks"},
        {"adamas:sinks=-1", "'-1' is no value of sinks: use a whole number"},
        {"adamas:recent=1+x", "'x' is no value of recent"},
        {"adamas:recent=16777217", "from 0 to 16777216"},
        {"adamas:recent=99999999999999999999", "from 0 to 16777216"},
        {"dense:select=head", "'dense' has no setting 'select'"},
        {"metric=l1", "'metric=l1' is not known"},
        {"adamas:thresholds=magic", "'magic'"},
        {"adamas:bits=1,thresholds=fixed:-10,0,10", "3 given, but codes of 1 bit have 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        adm_sweep sweep;
        adm_error err = {0};
        assert_int_equal(adm_sweep_parse(bad[i].text, &none, &sweep, &err), ADM_EINPUT);
        if (strstr(err.text, bad[i].says) == NULL) fail_msg("%s: %s", bad[i].text, err.text);
        assert_null(sweep.codings);
    }
    static const uint32_t many[17] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    const char *const same[] = {"channel", "channel"}, *const wrong[] = {"magic"};
    adm_sweep sweep;
    adm_error err = {0};
    assert_int_equal(adm_sweep_parse("adamas", &(adm_sweep_defaults){.thresholds = same, .n_thresholds = 2}, &sweep, &err),
                     ADM_EINPUT);
    assert_non_null(strstr(err.text, "given twice"));
    assert_int_equal(adm_sweep_parse("adamas", &(adm_sweep_defaults){.sinks = many, .n_sinks = 17}, &sweep, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "--sinks: 17 values"));
    assert_int_equal(adm_sweep_parse("dense", &(adm_sweep_defaults){.thresholds = wrong, .n_thresholds = 1}, &sweep, &err),
                     ADM_EINPUT);
    assert_int_equal(adm_sweep_parse("quest", &(adm_sweep_defaults){.select = "layer"}, &sweep, &err), ADM_EINPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_names_are_as_ever),        cmocka_unit_test(settings_follow_their_policy),
        cmocka_unit_test(a_plus_gives_every_combination), cmocka_unit_test(defaults_are_of_those_that_do_not_say),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
}
