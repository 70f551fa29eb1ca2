/* test_probe.c: the probe interface and the clock probe. */
#include "tests/support/stage_check.h"

#include "core/system/clock.h"
#include "core/contract/probe.h"
#include "probes/clock_probe.h"

/* A probe that writes down what happens to it: "b1" begin of probe 1, "e1", "+1" start, "-1" stop,
 * "p1" a pass ended. */
typedef struct scribe {
    adm_probe probe;
    char number;
    adm_status start_result;
    int n_passes;             /* passes it wants; 0: it does not care */
} scribe;

static char written[256];

static void note(char what, const adm_probe *self) {
    size_t length = strlen(written);
    snprintf(written + length, sizeof written - length, "%c%c ", what, ((const scribe *)self)->number);
}

static adm_status on_start(adm_probe *self, adm_error *err) {
    note('+', self);
    adm_status result = ((scribe *)self)->start_result;
    return result == ADM_OK ? ADM_OK : adm_fail(err, result, "probe %c will not start", ((scribe *)self)->number);
}
static void on_begin(adm_probe *self, const adm_range *range) {
    (void)range;
    note('b', self);
}
static void on_end(adm_probe *self, const adm_range *range) {
    (void)range;
    note('e', self);
}
static adm_status on_stop(adm_probe *self, adm_error *err) {
    (void)err;
    note('-', self);
    return ADM_OK;
}

static adm_status on_pass(adm_probe *self, bool *again, adm_error *err) {
    (void)err;
    note('p', self);
    *again = --((scribe *)self)->n_passes > 0;
    return ADM_OK;
}

static scribe make_scribe(char number) {
    return (scribe){.probe = {.name = "scribe", .start = on_start, .begin = on_begin, .end = on_end, .stop = on_stop},
                    .number = number};
}

/* One that wants three passes, one that does not care: three, in which both see every range. */
static void passes_until_every_probe_has_enough(void **state) {
    (void)state;
    scribe one = make_scribe('1'), two = make_scribe('2');
    adm_probes probes = {0};
    adm_range range = {.kind = ADM_RANGE_STAGE};
    one.probe.pass = on_pass;
    one.n_passes = 3;
    written[0] = '\0';
    adm_probes_attach(&probes, &one.probe, NULL);
    adm_probes_attach(&probes, &two.probe, NULL);
    bool again = true;
    for (int i = 0; i < 3; i++) {
        assert_true(again);
        adm_probes_begin(&probes, &range);
        adm_probes_end(&probes, &range);
        assert_int_equal(adm_probes_pass(&probes, &again, NULL), ADM_OK);
    }
    assert_false(again);
    assert_string_equal(written, "b1 b2 e2 e1 p1 b1 b2 e2 e1 p1 b1 b2 e2 e1 p1 ");
}

static void probes_nest_like_brackets(void **state) {
    (void)state;
    scribe one = make_scribe('1'), two = make_scribe('2');
    adm_probes probes = {0};
    adm_range range = {.kind = ADM_RANGE_STAGE};
    written[0] = '\0';
    assert_int_equal(adm_probes_attach(&probes, &one.probe, NULL), ADM_OK);
    assert_int_equal(adm_probes_attach(&probes, &two.probe, NULL), ADM_OK);
    assert_int_equal(adm_probes_start(&probes, NULL), ADM_OK);
    adm_probes_begin(&probes, &range);
    adm_probes_end(&probes, &range);
    assert_int_equal(adm_probes_stop(&probes, NULL), ADM_OK);
    assert_string_equal(written, "+1 +2 b1 b2 e2 e1 -2 -1 ");
}

static void a_probe_that_will_not_start_stops_the_others(void **state) {
    (void)state;
    scribe one = make_scribe('1'), two = make_scribe('2'), three = make_scribe('3');
    two.start_result = ADM_EUNSUPPORTED;
    adm_probes probes = {0};
    adm_error err = {0};
    written[0] = '\0';
    adm_probes_attach(&probes, &one.probe, NULL);
    adm_probes_attach(&probes, &two.probe, NULL);
    adm_probes_attach(&probes, &three.probe, NULL);
    assert_int_equal(adm_probes_start(&probes, &err), ADM_EUNSUPPORTED);
    assert_string_equal(err.text, "probe 2 will not start");
    assert_string_equal(written, "+1 +2 -1 ");
}

static void only_so_many_probes(void **state) {
    (void)state;
    scribe one = make_scribe('1');
    adm_probes probes = {0};
    for (int i = 0; i < ADM_MAX_PROBES; i++) assert_int_equal(adm_probes_attach(&probes, &one.probe, NULL), ADM_OK);
    assert_int_equal(adm_probes_attach(&probes, &one.probe, NULL), ADM_EINTERNAL);
}

/* What the clock delivered, in the order of delivery. */
typedef struct delivery {
    int n;
    adm_stage stage[8];
    uint64_t start_ns[8], end_ns[8];
} delivery;

static void deliver(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    delivery *d = user;
    d->stage[d->n] = range->stage;
    d->start_ns[d->n] = start_ns;
    d->end_ns[d->n++] = end_ns;
}

static void the_clock_times_nested_ranges(void **state) {
    (void)state;
    delivery d = {0};
    adm_clock_probe clock;
    adm_probes probes = {0};
    adm_clock_probe_init(&clock, deliver, &d);
    adm_probes_attach(&probes, &clock.probe, NULL);
    assert_int_equal(adm_probes_start(&probes, NULL), ADM_OK);
    adm_range outer = {.stage = ADM_STAGE_STEP}, inner = {.stage = ADM_STAGE_TOPK};
    adm_probes_begin(&probes, &outer);
    adm_probes_begin(&probes, &inner);
    uint64_t wait_until = adm_clock_ns() + 2000000;
    while (adm_clock_ns() < wait_until) {}
    adm_probes_end(&probes, &inner);
    adm_probes_end(&probes, &outer);
    assert_int_equal(adm_probes_stop(&probes, NULL), ADM_OK);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.stage[0], ADM_STAGE_TOPK);
    assert_int_equal(d.stage[1], ADM_STAGE_STEP);
    assert_true(d.end_ns[0] - d.start_ns[0] >= 2000000);
    assert_true(d.start_ns[1] <= d.start_ns[0] && d.end_ns[0] <= d.end_ns[1]);
}

static void ranges_too_deep_are_reported_not_lost(void **state) {
    (void)state;
    delivery d = {0};
    adm_clock_probe clock;
    adm_probes probes = {0};
    adm_error err = {0};
    adm_clock_probe_init(&clock, deliver, &d);
    adm_probes_attach(&probes, &clock.probe, NULL);
    adm_probes_start(&probes, NULL);
    adm_range range = {.stage = ADM_STAGE_STEP};
    for (int i = 0; i < ADM_CLOCK_PROBE_DEPTH + 1; i++) adm_probes_begin(&probes, &range);
    adm_probes_end(&probes, &range);
    assert_int_equal(d.n, 0);
    adm_probes_end(&probes, &range);
    assert_int_equal(d.n, 1);
    assert_int_equal(adm_probes_stop(&probes, &err), ADM_EINTERNAL);
    assert_non_null(strstr(err.text, "1 ranges"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_nest_like_brackets),
        cmocka_unit_test(a_probe_that_will_not_start_stops_the_others),
        cmocka_unit_test(only_so_many_probes),
        cmocka_unit_test(the_clock_times_nested_ranges),
        cmocka_unit_test(ranges_too_deep_are_reported_not_lost),
        cmocka_unit_test(passes_until_every_probe_has_enough),
    };
    return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
