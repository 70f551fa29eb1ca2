/* trace_fixture.h: files for the tests of the trace readers: a small valid trace, and the means to spoil it.
 *
 *   | length: u64 | header: JSON text | data |
 */
#ifndef ADM_TESTS_SUPPORT_TRACE_FIXTURE_H
#define ADM_TESTS_SUPPORT_TRACE_FIXTURE_H

#include <dirent.h>
#include <stdbool.h>

#include "tests/support/stage_check.h"

typedef struct trace_file {
    char path[96];
    char header[4096];
    unsigned char data[1 << 16];
    size_t n_data;
} trace_file;

enum { FIXTURE_TOKENS = 16, FIXTURE_STEPS = 4, FIXTURE_Q = 4, FIXTURE_KV = 2, FIXTURE_D = 64 };

/* Writes length, header and data; `length` may lie. */
static inline void write_file(const trace_file *f, uint64_t length, size_t n_header) {
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    fwrite(&length, 1, sizeof length, file);
    fwrite(f->header, 1, n_header, file);
    fwrite(f->data, 1, f->n_data, file);
    assert_int_equal(fclose(file), 0);
}

static inline void write_honestly(const trace_file *f) { write_file(f, strlen(f->header), strlen(f->header)); }

/* Appends a tensor's header entry, and its float16 values or whatever the caller puts there. */
static inline void add_tensor(trace_file *f, const char *name, const char *dtype, const char *shape, size_t n_bytes) {
    char entry[256];
    snprintf(entry, sizeof entry, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", name, dtype, shape,
             f->n_data, f->n_data + n_bytes);
    assert_true(f->n_data + n_bytes <= sizeof f->data);
    assert_true(strlen(f->header) + strlen(entry) + 2 < sizeof f->header);
    strcat(f->header, entry);
    f->n_data += n_bytes;
}

/* One layer, number 3, of normal float16 values; positions 5, 6, 10, 15. Not yet written. */
static inline void make_trace(trace_file *f) {
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    f->n_data = 0;
    strcpy(f->header, "{\"__metadata__\":{\"format\":\"adamas-trace/1\",\"kind\":\"synthetic\",\"model\":\"none\"}");
    add_tensor(f, "layers.3.k", "F16", "[2,16,64]", FIXTURE_KV * FIXTURE_TOKENS * FIXTURE_D * 2);
    add_tensor(f, "layers.3.v", "F16", "[2,16,64]", FIXTURE_KV * FIXTURE_TOKENS * FIXTURE_D * 2);
    add_tensor(f, "layers.3.q", "F16", "[4,4,64]", FIXTURE_STEPS * FIXTURE_Q * FIXTURE_D * 2);
    for (size_t i = 0; i < f->n_data; i += 2) {
        uint16_t bits = adm_f32_to_f16((float)adm_rng_normal(&rng));
        memcpy(f->data + i, &bits, sizeof bits);
    }
    const int64_t positions[FIXTURE_STEPS] = {5, 6, 10, 15};
    memcpy(f->data + f->n_data, positions, sizeof positions);
    add_tensor(f, "positions", "I64", "[4]", sizeof positions);
    strcat(f->header, "}");
}

static inline int make_trace_file(void **state) {
    trace_file *f = calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "/tmp/adamas-trace-XXXXXX");
    int fd = mkstemp(f->path);
    if (f == NULL || fd < 0) return -1;
    close(fd);
    make_trace(f);
    *state = f;
    return 0;
}

static inline int drop_trace_file(void **state) {
    remove(((trace_file *)*state)->path);
    free(*state);
    return 0;
}

#define TRACE_TEST(function) cmocka_unit_test_setup_teardown(function, make_trace_file, drop_trace_file)

/* Replaces the first `from` in the header; both are part of a test's own text. */
static inline void replace(trace_file *f, const char *from, const char *to) {
    char *at = strstr(f->header, from);
    assert_non_null(at);
    assert_true(strlen(f->header) - strlen(from) + strlen(to) < sizeof f->header);
    memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
    memcpy(at, to, strlen(to));
}

static inline size_t open_descriptors(void) {
    DIR *dir = opendir("/proc/self/fd");
    size_t n = 0;
    assert_non_null(dir);
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n;
}

#endif
