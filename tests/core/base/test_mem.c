/* test_mem.c: arrays that grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

static void test_growing_keeps_every_element(void **state) {
    (void)state;
    uint32_t *item = NULL;
    size_t capacity = 0;
    adm_error err;
    for (uint32_t n = 0; n < 1000; n++) {
        assert_int_equal(ADM_OK, adm_grow(&item, n, &capacity, sizeof *item, "numbers", &err));
        assert_true(capacity > n);
        assert_int_equal(0, (uintptr_t)item % ADM_ALIGN_BYTES);
        item[n] = 7 * n;
    }
    for (uint32_t n = 0; n < 1000; n++) assert_int_equal(7 * n, item[n]);
    assert_int_equal(1024, capacity); /* 64 doubled four times: an element is copied once on average, not once per element */
    adm_free(&item);
}

static void test_an_array_with_capacity_left_stays_where_it_is(void **state) {
    (void)state;
    uint32_t *item = NULL, *before;
    size_t capacity = 0;
    adm_error err;
    assert_int_equal(ADM_OK, adm_grow(&item, 0, &capacity, sizeof *item, "numbers", &err));
    before = item;
    assert_int_equal(ADM_OK, adm_grow(&item, capacity - 1, &capacity, sizeof *item, "numbers", &err));
    assert_ptr_equal(before, item);
    assert_int_equal(64, capacity);
    adm_free(&item);
}

static void test_what_cannot_grow_stays_as_it_was_and_is_named(void **state) {
    (void)state;
    uint32_t *item = NULL, *before;
    size_t capacity = 0;
    adm_error err;
    assert_int_equal(ADM_OK, adm_grow(&item, 0, &capacity, sizeof *item, "numbers", &err));
    item[0] = 41;
    before = item;
    assert_int_equal(ADM_EENVIRONMENT, adm_grow(&item, 64, &capacity, SIZE_MAX / 64, "numbers of a test", &err));
    assert_ptr_equal(before, item);
    assert_int_equal(41, item[0]);
    assert_int_equal(64, capacity);
    assert_non_null(strstr(err.text, "numbers of a test"));
    adm_free(&item);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing_keeps_every_element),
        cmocka_unit_test(test_an_array_with_capacity_left_stays_where_it_is),
        cmocka_unit_test(test_what_cannot_grow_stays_as_it_was_and_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
