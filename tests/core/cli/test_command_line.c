/* test_command_line.c: numbers, near words and options of a command line. */
#include <argp.h>
#include <math.h>

#include "core/base/mem.h"
#include "core/cli/command.h"
#include "core/cli/number.h"
#include "core/cli/options.h"
#include "core/base/suggest.h"

#include "tests/support/stage_check.h"

static void numbers_as_people_type_them(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"8192", 8192},
                {"007", 7},
                {"8K", 8192},
                {"8k", 8192},
                {"1M", 1048576},
                {"2G", 2147483648},
                {"1.5K", 1536},
                {"0.5M", 524288},
                {"1e3", 1000},
                {"1E6", 1000000},
                {"1.5e3", 1500},
                {"0e99", 0},
                {"2e0", 2},
                {"18446744073709551615", UINT64_MAX},
                {"1.0", 1},
                {"16.000000000000K", 16384}};
    static const char *const bad[] = {
        "",     "-1",  "+1",   " 1",  "1 ",  "x",           "1x",   "1KB",  "K",  "1e",
        "1e-3", "1.5", "1.3K", ".5K", "1.K", "0x10",        "1e99", "99G0", "1,", "18446744073709551616",
        "nan",  "inf", "1e3K", "1KK", "1_0", "17179869184G"};
    adm_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t value = 12345;
        check_case("'%s'", good[i].text);
        assert_int_equal(adm_parse_u64("--n", good[i].text, 0, UINT64_MAX, &value, &err), ADM_OK);
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t value = 12345;
        check_case("'%s'", bad[i]);
        assert_int_equal(adm_parse_u64("--n", bad[i], 0, UINT64_MAX, &value, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, "--n"));
        assert_true(value == 12345);
    }
    uint64_t value;
    assert_int_equal(adm_parse_u64("--n", "8K", 1, 8191, &value, &err), ADM_EINPUT);
    assert_string_equal(err.text, "--n: 8K is outside 1 to 8191");
    check_case_end();
}

static void options_that_need_not_be_there(void **state) {
    (void)state;
    adm_error err;
    uint64_t wide;
    uint32_t number;
    double real;
    assert_int_equal(adm_option_u64("--n", NULL, 1, 8, 99, &wide, &err), ADM_OK);
    assert_int_equal(wide, 99); /* a fallback need not be in range: 0 may stand for "all" */
    assert_int_equal(adm_option_u32("--n", "4K", 0, 1 << 20, 7, &number, &err), ADM_OK);
    assert_int_equal(number, 4096);
    assert_int_equal(adm_option_u32("--n", "9", 1, 8, 7, &number, &err), ADM_EINPUT);
    assert_string_equal(err.text, "--n: 9 is outside 1 to 8");
    assert_int_equal(adm_option_real("--x", NULL, "a number", 0, 1, 0.5, &real, &err), ADM_OK);
    assert_true(real == 0.5);
    assert_int_equal(adm_option_real("--x", "1e-3", "a number", 0, INFINITY, 0.5, &real, &err), ADM_OK);
    assert_true(real == 1e-3);
    static const char *const bad[] = {"", "x", "1x", "1 ", "nan", "inf", "-0.1", "1e999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("'%s'", bad[i]);
        assert_int_equal(adm_option_real("--x", bad[i], "a number", 0, INFINITY, 0.5, &real, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, "is not a number of at least 0"));
    }
    assert_int_equal(adm_option_real("--x", "101", "a percentage", 0.01, 100, 5, &real, &err), ADM_EINPUT);
    assert_string_equal(err.text, "--x: '101' is not a percentage from 0.01 to 100");
    check_case_end();
}

static void lists_and_ranges(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t n, value[8];
    } good[] = {{"7", 1, {7}},
                {"64,16,64", 2, {16, 64}},
                {"2-5", 4, {2, 3, 4, 5}},
                {"64-1K:x2", 5, {64, 128, 256, 512, 1024}},
                {"64-1000:x2", 4, {64, 128, 256, 512}},
                {"256-1K:+256", 4, {256, 512, 768, 1024}},
                {"1-1:x2", 1, {1}},
                {"5-8:+3,1e3,0", 4, {0, 5, 8, 1000}},
                {"1G-4194303K:x2", 2, {1073741824, 2147483648}}};
    static const char *const bad[] = {"",     ",",       "1,",         "1,,2",     "1-",     "-1",     "5-2",
                                      "1-4:", "1-4:2",   "1-4:x1",     "1-4:x",    "0-4:x2", "1-4:+0", "1-2-3",
                                      "1-4 ", "0-65536", "4294967296", "1-4:x2K5", "1-4:*2", "1;2"};
    adm_error err;
    uint32_t *list;
    size_t n;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        check_case("'%s'", good[i].text);
        assert_int_equal(adm_parse_u32_list("--n", good[i].text, 0, UINT32_MAX, &list, &n, &err), ADM_OK);
        assert_int_equal(n, good[i].n);
        assert_memory_equal(list, good[i].value, n * sizeof *list);
        adm_free(&list);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("'%s'", bad[i]);
        assert_int_equal(adm_parse_u32_list("--n", bad[i], 0, UINT32_MAX, &list, &n, &err), ADM_EINPUT);
        assert_null(list);
        assert_non_null(strstr(err.text, "--n"));
    }
    assert_int_equal(adm_parse_u32_list("--n", "0-65535", 0, UINT32_MAX, &list, &n, &err), ADM_OK);
    assert_int_equal(n, ADM_MAX_LIST);
    adm_free(&list);
    check_case_end();
}

static void the_nearest_word(void **state) {
    (void)state;
    static const char *const known[] = {"budgets", "db", NULL, "seq-lens", "select", "sinks", "json"};
    const size_t n = sizeof known / sizeof *known;
    assert_string_equal(adm_nearest("bugdets", known, n), "budgets");
    assert_string_equal(adm_nearest("budget", known, n), "budgets");
    assert_string_equal(adm_nearest("seqlens", known, n), "seq-lens");
    assert_string_equal(adm_nearest("sleect", known, n), "select");
    assert_string_equal(adm_nearest("bd", known, n), "db");
    assert_string_equal(adm_nearest("jsno", known, n), "json");
    assert_null(adm_nearest("frobnicate", known, n));
    assert_null(adm_nearest("", known, n));
    assert_null(adm_nearest("xyz", known, n));
    char longest[200];
    memset(longest, 'b', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(adm_nearest(longest, known, n));
}

static void the_nearest_of_names_with_versions(void **state) {
    (void)state;
    static const char *const known[] = {"llama-2-7b", "llama-3.1-8b", "llama-3-70b-tp4", "qwen-2.5-7b"};
    const size_t n = sizeof known / sizeof *known;
    char text[ADM_DID_YOU_MEAN_BYTES];
    assert_string_equal(adm_nearest("llama-3-8b", known, n),
                        "llama-3.1-8b"); /* as far from the first, but begins less like it */
    assert_string_equal(adm_nearest("llama-3", known, n), "llama-3.1-8b");    /* a beginning */
    assert_string_equal(adm_nearest("qwen", known, n), "qwen-2.5-7b");
    assert_null(adm_nearest("qw", known, n));
    assert_string_equal(adm_did_you_mean("qwen", known, n, text), "; did you mean 'qwen-2.5-7b'?");
    assert_string_equal(adm_did_you_mean("x", known, n, text), "");
    assert_string_equal(adm_did_you_mean_with("--", "qwen", known, n, text), "; did you mean '--qwen-2.5-7b'?");
    adm_error err;
    assert_int_equal(adm_refuse_word("--model", "qwen\n", known + 2, 2, &err), ADM_EINPUT);
    assert_string_equal(err.text, "--model: 'qwen?' is not known; there are llama-3-70b-tp4, qwen-2.5-7b");
    adm_refuse_word("--model", "qwen", known + 2, 2, &err);
    assert_string_equal(err.text,
                        "--model: 'qwen' is not known; did you mean 'qwen-2.5-7b'? There are llama-3-70b-tp4, qwen-2.5-7b");
}

static void an_option_without_effect(void **state) {
    (void)state;
    adm_error err = {0};
    const adm_idle_option list[] = {{false, "--a", "without --b"}, {true, "--c", "with --d"}, {true, "--e", "with --f"}};
    assert_int_equal(adm_refuse_idle(list, 1, &err), ADM_OK);
    assert_int_equal(adm_refuse_idle(list, 3, &err), ADM_EINPUT);
    assert_string_equal(err.text, "--c does nothing with --d: leave it out");
}

static const struct argp_option child_options[] = {{"db", 1, "FILE", 0, "A file", 0}, {0}};
static const struct argp child = {.options = child_options};
static const struct argp_option options[] = {{"budgets", 'b', "LIST", 0, "Numbers", 0},
                                             {"all", 'a', NULL, 0, "Everything", 0},
                                             {"allow", 2, "WHO", OPTION_ARG_OPTIONAL, "", 0},
                                             {0}};
static const struct argp_child children[] = {{&child, 0, NULL, 0}, {0}};
static const struct argp argp = {.options = options, .children = children, .args_doc = "FILE", .doc = "Does\tit.\vIt\nends."};

/* The words, up to NULL, as a command line; err->text is "" if it passes. */
static void check_words(const char *const *words, adm_error *err) {
    static char copy[8][32];
    char *argv[8] = {0};
    int argc = 0;
    for (; words[argc] != NULL; argc++) {
        snprintf(copy[argc], sizeof copy[argc], "%s", words[argc]);
        argv[argc] = copy[argc];
    }
    err->text[0] = '\0';
    const adm_status status = adm_options_check(&argp, argc, argv, err);
    assert_int_equal(status, err->text[0] != '\0' ? ADM_EINPUT : ADM_OK);
    for (int i = 0; i < argc; i++)
        if (status == ADM_OK && strcmp(words[i], "-h") == 0) assert_string_equal(argv[i], "-?");
}

static void options_are_read_as_argp_reads_them(void **state) {
    (void)state;
    adm_error err;
    static const char *const good[][8] = {{"cmd"},
                                          {"cmd", "file", "--budgets", "--not-an-option", "--db=x"},
                                          {"cmd", "--bud=3", "--db", "x", "--db", "y"},
                                          {"cmd", "-ab", "--x", "-a"},
                                          {"cmd", "-ab3", "-"},
                                          {"cmd", "--all", "--all", "-a"},
                                          {"cmd", "--", "--nothing", "-z"},
                                          {"cmd", "--al", "x"}, /* two begin so: argp's to refuse */
                                          {"cmd", "--allow", "--help", "-h"},
                                          {"cmd", "--version"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        check_case("command line %zu", i);
        check_words(good[i], &err);
        assert_string_equal(err.text, "");
    }
    static const struct {
        const char *words[8], *says;
    } bad[] = {{{"cmd", "--bugdets=3"}, "'--bugdets' is not an option of `cmd`; did you mean '--budgets'? --help lists them"},
               {{"cmd", "--frobnicate"}, "'--frobnicate' is not an option of `cmd`; --help lists them"},
               {{"cmd", "--allow", "--dbb"}, "'--dbb' is not an option of `cmd`; did you mean '--db'? --help lists them"},
               {{"cmd", "-ax"}, "'-x' is not an option of `cmd`; --help lists them"},
               {{"cmd", "-a\t"}, "'-?' is not an option of `cmd`; --help lists them"},
               {{"cmd", "-b", "1", "x", "--budgets", "2"}, "--budgets is given twice: give one list, separated by commas"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("bad command line %zu", i);
        check_words(bad[i].words, &err);
        assert_string_equal(err.text, bad[i].says);
    }
    check_case_end();
}

static void a_table_lists_its_options(void **state) {
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    adm_options_print(&argp, to);
    fclose(to);
    assert_string_equal(text,
                        "usage\tFILE\ndoc\tDoes it.\nafter\tIt\\nends.\n"
                        "option\t--budgets\t-b\tLIST\tNumbers\noption\t--all\t-a\t\tEverything\noption\t--allow\t\tWHO\t\n"
                        "option\t--db\t\tFILE\tA file\noption\t--help\t-?\t\tGive this help list\n"
                        "option\t--usage\t\t\tGive a short usage message\noption\t--version\t-V\t\tPrint program version\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_as_people_type_them),
        cmocka_unit_test(options_that_need_not_be_there),
        cmocka_unit_test(lists_and_ranges),
        cmocka_unit_test(the_nearest_word),
        cmocka_unit_test(the_nearest_of_names_with_versions),
        cmocka_unit_test(an_option_without_effect),
        cmocka_unit_test(options_are_read_as_argp_reads_them),
        cmocka_unit_test(a_table_lists_its_options),
    };
    return cmocka_run_group_tests_name("command line", tests, NULL, NULL);
}
