/* stage_check.h: what the tests of the stages share: a seed that can be repeated, buffers that notice a stray access,
 * and inputs chosen to hurt.
 *
 * A guarded buffer ends where an inaccessible page begins, or `slack` bytes before it, to misalign it:
 *
 *     | canary ...... canary | data, n bytes | slack: canary | PROT_NONE page |
 *
 * Reading or writing past the page's edge kills the test; check_intact() looks at the canaries.
 *
 * A test that fails prints the case it was at (check_case()) and the command that runs it alone:
 *
 *     ADAMAS_TEST_SEED=N        the inputs of an earlier run
 *     ADAMAS_TEST_FILTER=NAME   this test alone (cmocka's patterns: * and ?)
 *     ADAMAS_TEST_ONLY=ROW      this row alone: "topk/avx2", or all rows of a stage: "topk" */
#ifndef ADM_TESTS_SUPPORT_STAGE_CHECK_H
#define ADM_TESTS_SUPPORT_STAGE_CHECK_H

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "core/stats/rng.h"
#include "core/contract/stage.h"
#include "kernels/registry.h"

static const uint32_t check_head_dims[] = {64, 128, 256};
static const adm_dtype check_dtypes[] = {ADM_F32, ADM_F16, ADM_BF16};

/* ---- the case at hand, printed if the test fails ---- */

static struct {
    const char *test;  /* NULL until a test draws inputs or visits a row */
    char row[64];      /* "topk/avx2"; "": none */
    char text[256];    /* "": none */
} check_now;

/* Says what the test is about to try: "n=%u slack=%zu". It stands until the next row, the next case, or check_case_end(). */
__attribute__((format(printf, 1, 2))) static inline void check_case(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check_now.text, sizeof check_now.text, format, arguments);
    va_end(arguments);
}

static inline void check_case_end(void) { check_now.text[0] = check_now.row[0] = '\0'; }

/* Whether ADAMAS_TEST_ONLY leaves this row in. */
static inline bool check_is_asked_for(adm_stage stage, const char *name) {
    const char *only = getenv("ADAMAS_TEST_ONLY");
    char row[sizeof check_now.row];
    snprintf(row, sizeof row, "%s/%s", adm_stage_name(stage), name);
    return only == NULL || *only == '\0' || strcmp(only, row) == 0 || strcmp(only, adm_stage_name(stage)) == 0;
}

static inline void check_row_begin(adm_stage stage, const char *name) {
    snprintf(check_now.row, sizeof check_now.row, "%s/%s", adm_stage_name(stage), name);
    check_now.text[0] = '\0';
}

/* ---- seed: printed once per program, taken back from the environment ---- */

static inline uint64_t check_seed(void) {
    static uint64_t seed;
    static int known;
    if (known) return seed;
    const char *text = getenv("ADAMAS_TEST_SEED");
    if (text != NULL && *text != '\0') {
        char *end;
        errno = 0;
        seed = strtoull(text, &end, 10);
        if (errno != 0 || *end != '\0') {
            fprintf(stderr, "ADAMAS_TEST_SEED=%s is not a decimal number of 64 bits\n", text);
            exit(2);
        }
    } else {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    }
    known = 1;
    fprintf(stderr, "seed: ADAMAS_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* Each test draws from a stream of its own, so that it repeats alone as well as among the others. */
static inline adm_rng check_rng(const char *test_name) {
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    check_now.test = test_name;
    for (; *test_name; test_name++) hash = (hash ^ (unsigned char)*test_name) * 1099511628211u;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed() ^ hash);
    return rng;
}

/* Before and after every test: cmocka runs the second also when the test failed or crashed, and only then a case is left. */
static inline int check_test_begin(void **state) {
    (void)state;
    memset(&check_now, 0, sizeof check_now);
    return 0;
}

static inline int check_test_end(void **state) {
    (void)state;
    if (check_now.text[0] == '\0' && check_now.row[0] == '\0') return 0;
    print_error("case: %s%s%s\nalone: ADAMAS_TEST_SEED=%" PRIu64, check_now.row, check_now.row[0] != '\0' ? ", " : "",
                check_now.text, check_seed());
    if (check_now.row[0] != '\0') print_error(" ADAMAS_TEST_ONLY=%s", check_now.row);
    if (check_now.test != NULL) print_error(" ADAMAS_TEST_FILTER=%s", check_now.test);
    print_error(" %s\n", program_invocation_name);
    check_case_end();
    return 0;
}

#undef cmocka_unit_test
#define cmocka_unit_test(f) {#f, f, check_test_begin, check_test_end, NULL}
#undef cmocka_run_group_tests_name
#define cmocka_run_group_tests_name(name, tests, setup, teardown) \
    (cmocka_set_test_filter(getenv("ADAMAS_TEST_FILTER")),        \
     _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests)[0], setup, teardown))

/* ---- guarded buffers ---- */

typedef struct check_buffer {
    unsigned char *pages; /* the mapping, of map_bytes */
    size_t map_bytes;
    unsigned char *data; /* what the stage gets */
    size_t bytes;
    size_t slack; /* bytes between the data and the inaccessible page */
} check_buffer;

enum { CHECK_CANARY = 0xa5 };

static inline check_buffer check_new(size_t bytes, size_t slack) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    check_buffer b = {.bytes = bytes, .slack = slack};
    size_t usable = (bytes + slack + 64 + page - 1) / page * page; /* at least 64 canaries in front */
    b.map_bytes = usable + page;
    b.pages = mmap(NULL, b.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b.pages != MAP_FAILED);
    assert_int_equal(mprotect(b.pages + usable, page, PROT_NONE), 0);
    memset(b.pages, CHECK_CANARY, usable);
    b.data = b.pages + usable - slack - bytes;
    return b;
}

/* A guarded copy of an input. */
static inline check_buffer check_copy(const void *from, size_t bytes, size_t slack) {
    check_buffer b = check_new(bytes, slack);
    if (bytes > 0) memcpy(b.data, from, bytes);
    return b;
}

static inline void check_intact(const check_buffer *b) {
    for (const unsigned char *p = b->pages; p < b->data; p++)
        if (*p != CHECK_CANARY) fail_msg("%td bytes in front of a buffer were overwritten", b->data - p);
    for (size_t i = 0; i < b->slack; i++)
        if (b->data[b->bytes + i] != CHECK_CANARY) fail_msg("byte %zu behind a buffer was overwritten", i);
}

/* Checks the canaries and unmaps. */
static inline void check_free(check_buffer *b) {
    check_intact(b);
    munmap(b->pages, b->map_bytes);
    b->pages = NULL;
}

/* ---- inputs ---- */

typedef enum check_kind {
    CHECK_NORMAL,    /* standard normal, scaled to Llama-like keys */
    CHECK_OUTLIERS,  /* a few channels a hundred times larger, as RoPE models have */
    CHECK_CONSTANT,  /* every element alike: the transform cancels exactly */
    CHECK_ZERO,      /* zeros of both signs */
    CHECK_SUBNORMAL, /* around the smallest numbers of the type */
    CHECK_HUGE,      /* around the largest finite number: sums overflow float32 */
    CHECK_NONFINITE, /* normal, with infinities and NaNs strewn in */
    CHECK_N_KINDS
} check_kind;

static inline const char *check_kind_name(check_kind kind) {
    static const char *const names[CHECK_N_KINDS] = {"normal",    "outliers", "constant", "zero",
                                                     "subnormal", "huge",     "nonfinite"};
    return names[kind];
}

static inline float check_largest(adm_dtype dtype) {
    switch (dtype) {
    case ADM_F32: return 0x1.fffffep127f;
    case ADM_F16: return 65504.0f;
    case ADM_BF16: return 0x1.fep127f;
    }
    return 0;
}

static inline float check_value(adm_rng *rng, check_kind kind, adm_dtype dtype, size_t channel) {
    float normal = (float)adm_rng_normal(rng);
    float sign = adm_rng_u64(rng) & 1 ? -1.0f : 1.0f;
    switch (kind) {
    case CHECK_NORMAL: return 10.0f * normal;
    case CHECK_OUTLIERS: return channel % 37 == 5 ? 300.0f * normal : normal;
    case CHECK_CONSTANT: return 3.25f;
    case CHECK_ZERO: return sign * 0.0f;
    case CHECK_SUBNORMAL: return normal * (dtype == ADM_F16 ? 0x1p-24f : 0x1p-133f);
    case CHECK_HUGE: return sign * check_largest(dtype) * (float)(adm_rng_below(rng, 4) == 0 ? 0.5 : 1.0);
    case CHECK_NONFINITE: {
        uint64_t which = adm_rng_below(rng, 40);
        return which == 0 ? sign * INFINITY : which == 1 ? NAN : normal;
    }
    case CHECK_N_KINDS: break;
    }
    return 0;
}

/* Guarded rows [n_rows, d] of dtype. A slack of 1 misaligns them. */
static inline check_buffer check_rows(adm_rng *rng, check_kind kind, adm_dtype dtype, size_t n_rows, uint32_t d, size_t slack) {
    check_buffer b = check_new(n_rows * d * adm_dtype_bytes(dtype), slack);
    for (size_t i = 0; i < n_rows * d; i++) {
        float value = check_value(rng, kind, dtype, i % d);
        adm_from_f32(dtype, &value, 1, b.data + i * adm_dtype_bytes(dtype));
    }
    return b;
}

static inline void check_random_bytes(adm_rng *rng, check_buffer *b) {
    for (size_t i = 0; i < b->bytes; i++) b->data[i] = (unsigned char)adm_rng_u64(rng);
}

/* ---- comparisons ---- */

/* The same float, bit for bit, except that one NaN is as good as another. */
static inline int check_same_float(float a, float b) {
    if (isnan(a) && isnan(b)) return 1;
    return memcmp(&a, &b, sizeof a) == 0;
}

/* ||a - b|| / ||b||, with 0/0 as 0. */
static inline double check_relative_l2(const float *a, const float *b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

/* `row` iterates over the registry's rows of one stage that this CPU can run and ADAMAS_TEST_ONLY leaves in; test_registry
 * skips for those that it cannot run. A stage without rows is an error of the test. */
static inline const adm_host_impl *check_next(adm_stage stage, const adm_host_impl *row, const char *test_name) {
    size_t i = 0;
    bool any = false;
    if (check_now.test == NULL) check_now.test = test_name;
    check_case_end();
    if (row != NULL) {
        while (adm_registry_at(i) != row) i++;
        i++;
    }
    for (; i < adm_registry_count(); i++) {
        const adm_host_impl *next = adm_registry_at(i);
        if (next->stage != stage || !adm_host_impl_available(next)) continue;
        any = true;
        if (!check_is_asked_for(stage, next->name)) continue;
        check_row_begin(stage, next->name);
        return next;
    }
    if (row == NULL && !any) fail_msg("the registry has no row of stage %s", adm_stage_name(stage));
    const char *only = getenv("ADAMAS_TEST_ONLY");
    const size_t length = strlen(adm_stage_name(stage));
    if (row == NULL && only != NULL && strncmp(only, adm_stage_name(stage), length) == 0 && only[length] == '/')
        fail_msg("ADAMAS_TEST_ONLY=%s: this machine runs no such row", only);
    return NULL;
}

#define CHECK_EACH_ROW(stage, row) \
    for (const adm_host_impl *row = check_next(stage, NULL, __func__); row != NULL; row = check_next(stage, row, __func__))

/* The same with the inputs of `rng` drawn anew for each row, so that a row has the same inputs alone. */
#define CHECK_EACH_ROW_WITH(stage, row, rng)                                                                     \
    for (const adm_host_impl *row = (rng = check_rng(__func__), check_next(stage, NULL, __func__)); row != NULL; \
         rng = check_rng(__func__), row = check_next(stage, row, __func__))

#endif
