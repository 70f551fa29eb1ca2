/* test_perf_probe.c: the counting probe: its machinery on the kernel's software events, which need no hardware, and what
 * it makes of refusals and of readings that are made up. */
#include "tests/support/stage_check.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/system/clock.h"
#include "probes/perf_probe.h"

static const adm_perf_event software[] = {
    {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, {"page_faults", "1", "lower", "Page faults", NULL}},
    {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, {"task_clock", "ns", "lower", "Time on a CPU", NULL}},
};

typedef struct delivery {
    int n;
    adm_stage stage[8];
    double value[8][ADM_PERF_MAX_EVENTS];
} delivery;

static void deliver(void *user, const adm_range *range, const double *value) {
    delivery *d = user;
    assert_in_range(d->n, 0, 7);
    d->stage[d->n] = range->stage;
    memcpy(d->value[d->n++], value, 3 * sizeof *value);
}

static const adm_range layer = {.kind = ADM_RANGE_LAYER};
static const adm_range topk = {.kind = ADM_RANGE_STAGE, .stage = ADM_STAGE_TOPK};
static const adm_range dense = {.kind = ADM_RANGE_STAGE, .stage = ADM_STAGE_DENSE};

/* Touches n fresh pages: as many faults, with what the kernel maps at once switched off. */
static void touch_pages(size_t n) {
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    volatile char *pages = mmap(NULL, n * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    madvise((void *)pages, n * page_bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < n; i++) pages[i * page_bytes] = 1;
    munmap((void *)pages, n * page_bytes);
}

static int open_software_only(struct perf_event_attr *attributes, int group_fd) {
    if (attributes->type == PERF_TYPE_SOFTWARE) return (int)syscall(SYS_perf_event_open, attributes, 0, -1, group_fd, 0);
    errno = ENOENT;
    return -1;
}

static void counts_what_a_stage_does(void **state) {
    (void)state;
    static const adm_perf_event events[] = {
        {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, {"cycles", "cycles", "lower", "Cycles", NULL}},
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, {"page_faults", "1", "lower", "Page faults", NULL}},
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, {"task_clock", "ns", "lower", "Time on a CPU", NULL}},
    };
    delivery d = {0};
    adm_probes probes = {0};
    adm_error err = {0};
    adm_perf_probe perf;
    adm_perf_probe_open(&perf, events, 3, open_software_only);
    assert_non_null(perf.counter[0].reason);
    if (perf.counter[1].reason != NULL) {
        print_message("%s\n", perf.counter[1].reason);
        adm_perf_probe_close(&perf);
        skip();
    }
    adm_perf_probe_deliver_to(&perf, deliver, &d);
    adm_probes_attach(&probes, &perf.probe, NULL);
    assert_int_equal(adm_probes_start(&probes, &err), ADM_OK);
    uint64_t start_ns = adm_clock_ns();
    touch_pages(500);
    adm_probes_begin(&probes, &layer);
    for (int i = 0; i < 2; i++) {
        adm_probes_begin(&probes, i == 0 ? &topk : &dense);
        touch_pages(i == 0 ? 1000 : 10);
        adm_probes_end(&probes, i == 0 ? &topk : &dense);
        touch_pages(300);
    }
    adm_probes_end(&probes, &layer);
    double elapsed_ns = (double)(adm_clock_ns() - start_ns);
    assert_int_equal(adm_probes_stop(&probes, &err), ADM_OK);
    adm_perf_probe_close(&perf);

    assert_int_equal(d.n, 2); /* the layer is no stage */
    assert_int_equal(d.stage[0], ADM_STAGE_TOPK);
    assert_int_equal(d.stage[1], ADM_STAGE_DENSE);
    assert_true(isnan(d.value[0][0]) && isnan(d.value[1][0]));
    /* Some faults more are the library's, and AddressSanitizer's shadow, a page in eight; the 300 after are not in. */
    assert_true(d.value[0][1] >= 1000 && d.value[0][1] < 1000 + 1000 / 8 + 50);
    assert_true(d.value[1][1] >= 10 && d.value[1][1] < 60);
    assert_true(d.value[0][2] > d.value[1][2] && d.value[1][2] > 0);
    assert_true(d.value[0][2] + d.value[1][2] < elapsed_ns);
}

/* --- Refusals ----------------------------------------------------------------------------------------------------- */

static int refusal;
static int refuse(struct perf_event_attr *attributes, int group_fd) {
    assert_int_equal(attributes->exclude_kernel, 1);
    assert_int_equal(group_fd, -1);
    errno = refusal;
    return -1;
}

static void refusals_become_reasons(void **state) {
    (void)state;
    static const struct {
        int error;
        const char *says;
    } cases[] = {
        {ENOENT, "virtual machine"},    {EACCES, "kernel.perf_event_paranoid=1"}, {EPERM, "container"},
        {ENOSYS, "no perf_event_open"}, {EMFILE, "Too many open files"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        adm_perf_probe perf;
        adm_probes probes = {0};
        delivery d = {0};
        refusal = cases[i].error;
        adm_perf_probe_open(&perf, NULL, 0, refuse);
        assert_int_equal(perf.n_counters, 3);
        assert_string_equal(perf.counter[0].name, "cycles");
        assert_string_equal(perf.counter[1].name, "instructions");
        assert_string_equal(perf.counter[2].name, "cache_misses");
        for (size_t c = 0; c < 3; c++) {
            assert_non_null(strstr(perf.counter[c].reason, cases[i].says));
            assert_non_null(strstr(perf.counter[c].reason, perf.counter[c].name));
            assert_true(strlen(perf.counter[c].reason) + 1 < sizeof perf.reason[c]);
        }
        /* Attached all the same, it does nothing. */
        adm_perf_probe_deliver_to(&perf, deliver, &d);
        adm_probes_attach(&probes, &perf.probe, NULL);
        assert_int_equal(adm_probes_start(&probes, NULL), ADM_OK);
        adm_probes_begin(&probes, &topk);
        adm_probes_end(&probes, &topk);
        assert_int_equal(adm_probes_stop(&probes, NULL), ADM_OK);
        assert_int_equal(d.n, 0);
        adm_perf_probe_close(&perf);
    }
}

/* --- Readings that are made up ------------------------------------------------------------------------------------ */

static uint64_t made_up[64];
static size_t made_up_bytes;
static int open_made_up(struct perf_event_attr *attributes, int group_fd) {
    (void)attributes;
    int fd = memfd_create("readings", 0);
    if (group_fd == -1 && pwrite(fd, made_up, made_up_bytes, 0) != (ssize_t)made_up_bytes) return -1;
    return fd;
}

/* A range over two events whose readings follow one another in made_up. */
static adm_status one_range(delivery *d, adm_error *err) {
    adm_perf_probe perf;
    adm_perf_probe_open(&perf, software, 2, open_made_up);
    adm_perf_probe_deliver_to(&perf, deliver, d);
    perf.probe.begin(&perf.probe, &topk);
    perf.probe.end(&perf.probe, &topk);
    adm_status status = perf.probe.stop(&perf.probe, err);
    adm_perf_probe_close(&perf);
    return status;
}

static void values_are_differences(void **state) {
    (void)state;
    delivery d = {0};
    /* count of events, enabled, running, values */
    const uint64_t readings[] = {2, 100, 90, 7, 70, 2, 150, 140, 10, 1070};
    memcpy(made_up, readings, made_up_bytes = sizeof readings);
    assert_int_equal(one_range(&d, NULL), ADM_OK);
    assert_int_equal(d.n, 1);
    assert_true(d.value[0][0] == 3 && d.value[0][1] == 1000);
}

static void a_shared_counter_gives_no_value(void **state) {
    (void)state;
    delivery d = {0};
    const uint64_t readings[] = {2, 100, 90, 7, 70, 2, 150, 120, 10, 1070};
    memcpy(made_up, readings, made_up_bytes = sizeof readings);
    assert_int_equal(one_range(&d, NULL), ADM_OK);
    assert_int_equal(d.n, 1);
    assert_true(isnan(d.value[0][0]) && isnan(d.value[0][1]));
}

static void a_failed_read_is_reported(void **state) {
    (void)state;
    delivery d = {0};
    adm_error err = {0};
    const uint64_t readings[] = {2, 100, 90, 7, 70, 2, 150};
    memcpy(made_up, readings, made_up_bytes = sizeof readings);
    assert_int_equal(one_range(&d, &err), ADM_EENVIRONMENT);
    assert_non_null(strstr(err.text, "1 stages were not counted"));
    assert_int_equal(d.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_a_stage_does),  cmocka_unit_test(refusals_become_reasons),
        cmocka_unit_test(values_are_differences),    cmocka_unit_test(a_shared_counter_gives_no_value),
        cmocka_unit_test(a_failed_read_is_reported),
    };
    return cmocka_run_group_tests_name("perf_probe", tests, NULL, NULL);
}
