/* test_profile_state.c: which samples of a timing were taken while the device was throttled. The rest of the observer runs in
 * tests/probes/test_gpu_probes.py. */
#include "tests/support/stage_check.h"

#include <math.h>

#include "core/base/mem.h"
#include "kernels/profile/observe/state.h"

static adm_device_state at(uint64_t ns, int32_t throttle) { return (adm_device_state){ns, 1.98e9, 3.2e9, 100, 40, throttle}; }

static void a_sample_has_what_was_seen_around_it(void **state) {
    (void)state;
    adm_profile_observer o = {0};
    /*               before   during                                          after */
    const adm_device_state states[] = {at(90, 0), at(120, 1), at(140, 4), at(160, 0), at(200, 0), at(210, 8)};
    const uint64_t ends[] = {110, 130, 150, 170, 190, 205};
    int32_t mark[6];
    adm_profile_state_sink(&o, NULL, states, 6, NULL);
    adm_profile_throttle_marks(&o, 100, ends, 6, mark);
    /* 100..110 lies between the readings at 90 and 120; ...; 190..205 between 160, 200 and 210. */
    const int32_t want[] = {1, 1 | 4, 1 | 4, 4 | 0, 0, 0 | 8};
    for (int i = 0; i < 6; i++)
        if (mark[i] != want[i]) fail_msg("sample %d is marked %d, not %d", i, mark[i], want[i]);
    adm_free(&o.state);
}

static void nothing_seen_is_no_mark(void **state) {
    (void)state;
    const uint64_t ends[] = {10, 20};
    const adm_device_state silent[] = {at(1, -1), at(30, -1)};
    int32_t mark[2] = {7, 7};
    adm_profile_throttle_marks(NULL, 0, ends, 2, mark);
    assert_true(mark[0] == -1 && mark[1] == -1);
    adm_profile_observer o = {0};
    mark[0] = mark[1] = 7;
    adm_profile_throttle_marks(&o, 0, ends, 2, mark);
    assert_true(mark[0] == -1 && mark[1] == -1);
    adm_profile_state_sink(&o, NULL, silent, 2, NULL); /* watched, but the device does not tell */
    adm_profile_throttle_marks(&o, 0, ends, 2, mark);
    assert_true(mark[0] == -1 && mark[1] == -1);
    adm_profile_state_sink(&o, NULL, NULL, 0, "no NVML");
    assert_int_equal(o.n_states, 0);
    assert_string_equal(o.no_state, "no NVML");
    adm_free(&o.state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_has_what_was_seen_around_it),
        cmocka_unit_test(nothing_seen_is_no_mark),
    };
    return cmocka_run_group_tests_name("profile_state", tests, NULL, NULL);
}
