/* test_event_spool.c: every range comes back, in order, and ten million of them take no more memory than a hundred
 * thousand. */
#include "tests/support/stage_check.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/replay/event_spool.h"

typedef struct expectation {
    uint64_t next, stop_at;
} expectation;

static adm_range range_of(uint64_t i) {
    return (adm_range){.kind = ADM_RANGE_STAGE,
                       .stage = (adm_stage)(i % ADM_N_STAGES),
                       .variant = i % 2 ? "odd" : "even",
                       .config_id = (int64_t)i % 1000,
                       .step = (int32_t)(i / 8),
                       .layer = (int32_t)(i % 8)};
}

static adm_status check(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns, adm_error *err) {
    expectation *e = user;
    const adm_range want = range_of(e->next);
    if (e->next == e->stop_at) return adm_fail(err, ADM_EENVIRONMENT, "enough");
    if (start_ns != 10 * e->next || end_ns != 10 * e->next + 3 || range->kind != want.kind || range->stage != want.stage ||
        strcmp(range->variant, want.variant) != 0 || range->config_id != want.config_id || range->step != want.step ||
        range->layer != want.layer)
        fail_msg("range %llu is another one", (unsigned long long)e->next);
    e->next++;
    return ADM_OK;
}

static void append(adm_event_spool *spool, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        const adm_range range = range_of(i);
        adm_event_spool_append(spool, &range, 10 * i, 10 * i + 3);
        if (i % 5000 == 4999) assert_int_equal(adm_event_spool_settle(spool, NULL), ADM_OK);
    }
}

static void every_range_comes_back(void **state) {
    (void)state;
    adm_event_spool *spool = NULL;
    const uint64_t counts[] = {0, 1, 32768, 32769, 65536, 65537, 200000, 5};
    assert_int_equal(adm_event_spool_open(&spool, NULL), ADM_OK);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        expectation e = {.stop_at = UINT64_MAX};
        append(spool, counts[i]);
        assert_int_equal(adm_event_spool_each(spool, check, &e, NULL), ADM_OK);
        assert_int_equal(e.next, counts[i]);
    }
    /* A visitor that fails ends it, and the spool is empty all the same. */
    adm_error err = {0};
    expectation e = {.stop_at = 70000};
    append(spool, 100000);
    assert_int_equal(adm_event_spool_each(spool, check, &e, &err), ADM_EENVIRONMENT);
    assert_string_equal(err.text, "enough");
    e = (expectation){.stop_at = UINT64_MAX};
    assert_int_equal(adm_event_spool_each(spool, check, &e, NULL), ADM_OK);
    assert_int_equal(e.next, 0);
    adm_event_spool_close(&spool);
    adm_event_spool_close(&spool);
}

static uint64_t resident_bytes(void) {
    unsigned long pages = 0, unused;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &unused, &pages), 2);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Without settling at all: the caller that forgets pays in time, not in memory. */
static void ten_million_ranges_in_bounded_memory(void **state) {
    (void)state;
    const uint64_t n = 10000000;
    adm_event_spool *spool = NULL;
    expectation e = {.stop_at = UINT64_MAX};
    assert_int_equal(adm_event_spool_open(&spool, NULL), ADM_OK);
    append(spool, 100000);
    const uint64_t before = resident_bytes();
    assert_int_equal(adm_event_spool_each(spool, check, &e, NULL), ADM_OK);
    for (uint64_t i = 0; i < n; i++) {
        const adm_range range = range_of(i);
        adm_event_spool_append(spool, &range, 10 * i, 10 * i + 3);
    }
    const uint64_t after = resident_bytes();
    e.next = 0;
    assert_int_equal(adm_event_spool_each(spool, check, &e, NULL), ADM_OK);
    assert_int_equal(e.next, n);
    print_message("# %llu ranges: %.1f MiB more than 100,000\n", (unsigned long long)n,
                  ((double)after - (double)before) / 0x1p20);
    assert_true(after < before + (4 << 20));
    adm_event_spool_close(&spool);
}

/* A disk that takes nothing is a sentence, not a loss that nobody notices. */
static void a_full_disk_is_reported(void **state) {
    (void)state;
    adm_event_spool *spool = NULL;
    adm_error err = {0};
    struct rlimit old, none = {1 << 20, 1 << 20};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(adm_event_spool_open(&spool, NULL), ADM_OK);
    for (uint64_t i = 0; i < 200000; i++) {
        const adm_range range = range_of(i);
        adm_event_spool_append(spool, &range, i, i);
    }
    expectation e = {.stop_at = UINT64_MAX};
    adm_status status = adm_event_spool_each(spool, check, &e, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, ADM_EENVIRONMENT);
    assert_non_null(strstr(err.text, "temporary file"));
    adm_event_spool_close(&spool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_comes_back),
        cmocka_unit_test(ten_million_ranges_in_bounded_memory),
        cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests_name("event_spool", tests, NULL, NULL);
}
