/* test_device.c: the list of CUDA devices, whatever this machine has: devices that make sense, or a reason with its
 * cure. */
#include "kernels/gpu/device.h"

#include "tests/support/stage_check.h"

enum { CAPACITY = 8 };

static void devices_or_a_reason(void **state) {
    (void)state;
    adm_device_info devices[CAPACITY];
    adm_error err = {0};
    int n = -1;
    memset(devices, 0, sizeof devices);
    adm_status status = adm_device_list(devices, CAPACITY, &n, &err);
    if (status != ADM_OK) {
        print_message("no device: %s\n", err.text);
        assert_int_equal(status, ADM_EUNSUPPORTED);
        assert_int_equal(err.status, ADM_EUNSUPPORTED);
        assert_int_equal(n, 0);
        assert_non_null(strchr(err.text, ':')); /* reason: cure */
        skip();
    }
    assert_true(n >= 1);
    for (int i = 0; i < n && i < CAPACITY; i++) {
        const adm_device_info *d = &devices[i];
        fprintf(stderr, "%s %s: %d.%d, %d SMs, %" PRIu64 " bytes of L2, %" PRIu64 " bytes, driver %d, runtime %d\n", d->name,
                d->uuid, d->compute_major, d->compute_minor, d->n_sms, d->l2_bytes, d->memory_bytes, d->driver_version,
                d->runtime_version);
        assert_true(d->name[0] != '\0');
        assert_int_equal(strlen(d->uuid), 40);
        assert_true(d->compute_major >= 5 && d->n_sms > 0 && d->l2_bytes > 0 && d->memory_bytes > d->l2_bytes);
        assert_true(d->driver_version >= d->runtime_version / 1000 * 1000 && d->runtime_version >= 13000);
    }
}

/* Counting needs no array, and a short array is not overrun. */
static void a_short_array_is_enough_to_count(void **state) {
    (void)state;
    int all = 0, n = 0;
    check_buffer one = check_new(sizeof(adm_device_info), 0);
    adm_status status = adm_device_list((adm_device_info *)(void *)one.data, 1, &all, NULL);
    assert_int_equal(adm_device_list(NULL, 0, &n, NULL), status);
    assert_int_equal(n, all);
    check_free(&one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_or_a_reason),
        cmocka_unit_test(a_short_array_is_enough_to_count),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
