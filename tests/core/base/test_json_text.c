/* test_json_text.c: a value as text, and every allocation on the way failing. */
#include "core/base/json_text.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

static long n_allocs, fail_at; /* of jansson's, counted from 1; 0: none fails */

static void *allocate(size_t n_bytes) { return ++n_allocs == fail_at ? NULL : malloc(n_bytes); }

/* Long enough that a buffer which doubles would grow at a key, at a text, between both and at a bracket. */
static json_t *nested(void) {
    json_t *root = json_object();
    for (int i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "tensor.%d", i);
        json_object_set_new(root, key, json_pack("{s:s, s:[i, i]}", "dtype", "F16\n\"", "shape", i, 128));
    }
    return root;
}

static void it_is_what_jansson_writes(void **state) {
    (void)state;
    const size_t flags[] = {JSON_COMPACT, JSON_INDENT(2) | JSON_ENSURE_ASCII, JSON_COMPACT | JSON_SORT_KEYS};
    json_t *value = nested();
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        char *text, *expected = json_dumps(value, flags[i]);
        adm_error err;
        assert_int_equal(adm_json_text(value, flags[i], "a test", &text, &err), ADM_OK);
        assert_string_equal(text, expected);
        adm_free(&text);
        free(expected);
    }
    json_decref(value);
}

static void it_is_whole_or_an_error_wherever_memory_runs_out(void **state) {
    (void)state;
    json_t *value = nested();
    char *expected = json_dumps(value, JSON_COMPACT), *text;
    adm_error err;
    json_set_alloc_funcs(allocate, free);
    long n_failed = 0;
    for (bool met = true; met; n_failed += met) {
        n_allocs = 0, fail_at = n_failed + 1;
        adm_status status = adm_json_text(value, JSON_COMPACT, "a test", &text, &err);
        met = n_allocs >= fail_at;
        if (status == ADM_OK) assert_string_equal(text, expected);
        else assert_int_equal(status, ADM_EENVIRONMENT);
        assert_true(status != ADM_OK || !met);
        adm_free(&text);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(n_failed > 0);
    json_decref(value);
    free(expected);
}

static void a_value_that_could_not_be_made_is_an_error(void **state) {
    (void)state;
    char *text = (char *)1;
    adm_error err;
    assert_int_equal(adm_json_text(NULL, JSON_COMPACT, "a test", &text, &err), ADM_EENVIRONMENT);
    assert_null(text);
    assert_string_equal(err.text, "out of memory while writing a test");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_what_jansson_writes),
        cmocka_unit_test(it_is_whole_or_an_error_wherever_memory_runs_out),
        cmocka_unit_test(a_value_that_could_not_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
