/* test_sweep.c: the list of policies and variants on the command line. */
#include "core/policy/sweep.h"

#include "core/policy/adamas.h"
#include "tests/support/stage_check.h"

/* The values that options give. */
typedef struct option_values {
    adm_sweep_default list[4];
    size_t n;
} option_values;

static const option_values none = {.n = 0};

/* "policy name | policy name | ...": adamas without its own name. */
static void check_sweep(const char *text, const option_values *options, const char *variants) {
    adm_sweep sweep;
    adm_error err = {0};
    char joined[4096] = "", name[ADM_VARIANT_NAME_BYTES];
    if (adm_sweep_parse(text, options->list, options->n, &sweep, &err) != ADM_OK) fail_msg("%s: %s", text, err.text);
    for (size_t i = 0; i < sweep.n_variants; i++) {
        const adm_coding *coding = adm_adamas_coding(&sweep.variant[i]);
        adm_variant_name(&sweep.variant[i], name);
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s%s%s", i > 0 ? " | " : "",
                 coding == NULL ? sweep.variant[i].policy->name : "", coding == NULL ? " " : "", name);
        if (coding != NULL) assert_int_equal(coding->thresholds.n_values, (1u << coding->bits) - 1);
    }
    if (strcmp(joined, variants) != 0) fail_msg("%s: '%s' is not '%s'", text, joined, variants);
    adm_sweep_clear(&sweep);
    assert_null(sweep.variant);
}

static void every_row_is_complete(void **state) {
    (void)state;
    const adm_policy *policy;
    char names[256];
    adm_sweep_policies(names, sizeof names);
    for (size_t i = 0; (policy = adm_policy_at(i)) != NULL; i++) {
        assert_ptr_equal(adm_policy_find(policy->name), policy); /* so no two rows share a name */
        assert_true(policy->help[0] != '\0' && policy->describe != NULL && policy->select != NULL);
        assert_true(policy->attends_to_all || (policy->order != NULL) != (policy->order_reason != NULL));
        assert_true(policy->min_budget == NULL || policy->min_budget_reason != NULL);
        assert_int_equal(policy->observes != ADM_OBSERVES_NOTHING, policy->observe != NULL);
        assert_true(!policy->needs_prompt || policy->observe_prompt != NULL);
        assert_non_null(strstr(names, policy->name));
        for (const adm_setting *s = policy->settings; s != NULL && s->name != NULL; s++) {
            assert_true(s->values[0] != '\0' && s->unset[0] != '\0' && s->read != NULL);
        }
    }
    assert_null(adm_policy_find("snapkv"));
    assert_string_equal(names, "dense, oracle, adamas, quest, streaming, h2o, accumulated, random");
}

static void plain_names_are_as_ever(void **state) {
    (void)state;
    check_sweep("dense,oracle,adamas", &none, "dense exact | oracle exact | l1 calibrated | l1 fixed:-10,0,10");
    check_sweep("quest", &none, "quest pages of 16");
    check_sweep("random,oracle,streaming,h2o", &none,
                "oracle exact | streaming 4 sinks | h2o half recent, evicting | random seed 1");
}

static void settings_follow_their_policy(void **state) {
    (void)state;
    check_sweep("adamas:metric=dot,quest,adamas:bits=3,hadamard=off,select=group,streaming", &none,
                "dot calibrated | l1 calibrated, 3 bits, no Hadamard, per group | quest pages of 16 | streaming 4 sinks");
    check_sweep("adamas:thresholds=fixed:-1,0,1,metric=l2,oracle", &none, "oracle exact | l2 fixed:-1,0,1");
    check_sweep("adamas:metric=l2,thresholds=quantile:0.1,0.5,0.9", &none, "l2 quantile:0.1,0.5,0.9");
    check_sweep("adamas:bits=1,thresholds=fixed:0,adamas:bits=3,thresholds=fixed:-3,-2,-1,0,1,2,3,random", &none,
                "l1 fixed:0, 1 bit | l1 fixed:-3,-2,-1,0,1,2,3, 3 bits | random seed 1");
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
    check_sweep("quest:select=head+group,random:seed=3+4", &none,
                "quest pages of 16 | quest pages of 16, per group | random seed 3 | random seed 4");
    check_sweep("quest:rule=kernel+evaluation", &none, "quest pages of 16 | quest pages of 16, evaluation's rule");
}

static void defaults_are_of_those_that_do_not_say(void **state) {
    (void)state;
    const char *const two[] = {"channel", "centred"}, *const group[] = {"group"};
    const option_values both = {{{"thresholds", "--thresholds", two, 2}, {"select", "--select", group, 1}}, 2};
    check_sweep("adamas,adamas:metric=dot,thresholds=calibrated,select=head", &both,
                "l1 channel, per group | l1 centred, per group | dot calibrated");
    check_sweep(
        "quest,oracle:select=head+group,h2o:select=head,dense,random", &both,
        "dense exact | oracle exact | oracle exact, per group | quest pages of 16, per group | h2o half recent, evicting | "
        "random seed 1");
    const char *const sinks[] = {"0", "4"}, *const recent[] = {"0", "1", "64"}, *const seed[] = {"9"};
    const option_values forced = {
        {{"sinks", "--sinks", sinks, 2}, {"recent", "--recent", recent, 3}, {"seed", "--seed", seed, 1}}, 3};
    check_sweep("adamas:metric=l1,adamas:metric=dot,sinks=1,recent=1,quest,random", &forced, /* 0 recent tokens are 1 */
                "l1 calibrated | l1 calibrated, 64 recent | l1 calibrated, 4 sinks | l1 calibrated, 4 sinks, 64 recent | "
                "dot calibrated, 1 sink | quest pages of 16 | random seed 9");
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
        {"adamas:metric=l3", "'l3' is no value of metric: use l1, xor"},
        {"adamas:metric=", "'' is no value of metric"},
        {"adamas:metric=l1+", "'' is no value of metric"},
        {"adamas:metric=l1,oracle,3", "'3' is not known"},
        {"adamas:bits=4", "'4' is no value of bits: use 1, 2 or 3"},
        {"adamas:bits=2,bits=3", "sets bits twice"},
        {"adamas:hadamard=no", "'no' is no value of hadamard"},
        {"adamas:select=all", "'all' is no value of select"},
        {"adamas:budget=3", "no setting 'budget'; it has metric, bits, hadamard, thresholds, sinks, recent and select"},
        {"quest:metric=l1", "'quest' has no setting 'metric'; it has rule and select"},
        {"quest:selct=head", "it has rule and select; did you mean 'select'?"},
        {"adamas:hadamard=of", "use on or off; did you mean 'off'?"},
        {"quest:sinks=4", "'quest' has no setting 'sinks'"},
        {"adamas:sinks=", "'' is no value of sinks"},
        {"adamas:sinks=-1", "'-1' is no value of sinks: use a whole number"},
        {"adamas:recent=1+x", "'x' is no value of recent"},
        {"adamas:recent=16777217", "from 0 to 16777216"},
        {"adamas:recent=99999999999999999999", "from 0 to 16777216"},
        {"dense:select=head", "'dense' has no setting 'select'; it has none"},
        {"random:seed=-1", "'-1' is no value of seed"},
        {"metric=l1", "'metric=l1' is not known"},
        {"adamas:thresholds=magic", "'magic'"},
        {"adamas:thresholds=fixed:-1111111111111111111111111111,0,1111111111111111111111111111111111111", "longer than"},
        {"adamas:bits=1,thresholds=fixed:-10,0,10", "3 given, but codes of 1 bit have 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        adm_sweep sweep;
        adm_error err = {0};
        assert_int_equal(adm_sweep_parse(bad[i].text, NULL, 0, &sweep, &err), ADM_EINPUT);
        if (strstr(err.text, bad[i].says) == NULL) fail_msg("%s: %s", bad[i].text, err.text);
        assert_null(sweep.variant);
    }
    static const char *const far[] = {"adamas:bits=4", "adamas:sinks=x", "adamas:metric=o", "quest:an=1"}; /* from every name */
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
        adm_sweep sweep;
        adm_error err = {0};
        assert_int_equal(adm_sweep_parse(far[i], NULL, 0, &sweep, &err), ADM_EINPUT);
        if (strstr(err.text, "did you mean") != NULL) fail_msg("%s: %s", far[i], err.text);
    }
}

/* Also where no item takes them. */
static void options_that_are_wrong_are_named(void **state) {
    (void)state;
    static const char *const many[17] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                         "9", "10", "11", "12", "13", "14", "15", "16"};
    static const char *const same[] = {"channel", "channel"}, *const wrong[] = {"magic"}, *const layer[] = {"layer"};
    static const struct {
        adm_sweep_default given;
        const char *says;
    } bad[] = {
        {{"thresholds", "--thresholds", same, 2}, "--thresholds: 'channel' is given twice"},
        {{"sinks", "--sinks", many, 17}, "--sinks: 17 values"},
        {{"thresholds", "--thresholds", wrong, 1}, "'magic'"},
        {{"select", "--select", layer, 1}, "--select: 'layer' is no value of select: use head or group"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        adm_sweep sweep;
        adm_error err = {0};
        assert_int_equal(adm_sweep_parse("dense", &bad[i].given, 1, &sweep, &err), ADM_EINPUT);
        if (strstr(err.text, bad[i].says) == NULL) fail_msg("%s: %s", bad[i].says, err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(plain_names_are_as_ever),
        cmocka_unit_test(settings_follow_their_policy),
        cmocka_unit_test(a_plus_gives_every_combination),
        cmocka_unit_test(defaults_are_of_those_that_do_not_say),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(options_that_are_wrong_are_named),
    };
    return cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
}
