/* test_hostinfo.c: what Linux says of its processors, from folders laid out like its own. */
#include "core/system/hostinfo.h"

#include "tests/support/store_fixture.h"

/* A folder laid out like /sys/devices/system/cpu. */
static void put(const char *folder, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void cpu_settings_are_read_and_warned_about(void **state) {
    fixture *f = *state;
    adm_host_info host;
    char warning[256];
    adm_host_cpu_settings(f->folder, &host);
    assert_string_equal(host.cpu_governor, "");
    assert_string_equal(host.cpu_turbo, "");
    assert_string_equal(host.cpu_smt, "");
    assert_false(adm_host_warning(&host, warning, sizeof warning)); /* what is not known is nothing to warn of */
    put(f->folder, "cpu0/cpufreq/scaling_governor", "performance\n");
    put(f->folder, "cpu1/cpufreq/scaling_governor", "performance\n");
    put(f->folder, "intel_pstate/no_turbo", "1\n");
    put(f->folder, "smt/active", "0\n");
    adm_host_cpu_settings(f->folder, &host);
    assert_string_equal(host.cpu_governor, "performance");
    assert_string_equal(host.cpu_turbo, "off");
    assert_string_equal(host.cpu_smt, "off");
    assert_false(adm_host_warning(&host, warning, sizeof warning));
    put(f->folder, "cpu1/cpufreq/scaling_governor", "powersave\n");
    put(f->folder, "intel_pstate/no_turbo", "0\n");
    put(f->folder, "smt/active", "1\n");
    adm_host_cpu_settings(f->folder, &host);
    assert_string_equal(host.cpu_governor, "mixed");
    assert_true(adm_host_warning(&host, warning, sizeof warning));
    assert_non_null(strstr(warning, "the CPU governor is mixed, turbo is on, two threads share a core"));
}

int main(void) {
    const struct CMUnitTest tests[] = {STORE_TEST(cpu_settings_are_read_and_warned_about)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
