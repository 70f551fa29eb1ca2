/* test_fuzz.c: the fuzzers without libFuzzer: every file of the corpus, then seeded mutations of them.
 *
 * ADAMAS_FUZZ_N is the number of mutations of each (default 5000; of databases and recorded runs a tenth), ADAMAS_TEST_SEED the
 * seed. The input that ends the process is left in $TMPDIR, or /tmp, as adamas-fuzz-NAME; one that was a fault belongs in
 * tests/fuzz/corpus/ with its cure.
 */
#include "tests/support/stage_check.h"

#include <dirent.h>
#include <signal.h>

#include "tests/fuzz/fuzz_arguments.h"
#include "tests/fuzz/fuzz_calibration.h"
#include "tests/fuzz/fuzz_candidate.h"
#include "tests/fuzz/fuzz_database.h"
#include "tests/fuzz/fuzz_manifest.h"
#include "tests/fuzz/fuzz_metrics.h"
#include "tests/fuzz/fuzz_model.h"
#include "tests/fuzz/fuzz_recorded.h"
#include "tests/fuzz/fuzz_requests.h"
#include "tests/fuzz/fuzz_safetensors.h"

enum { MAX_FILES = 64, MAX_BYTES = 1 << 15 };

typedef struct corpus {
    const char *name;
    int (*fuzz)(const uint8_t *data, size_t size);
    size_t n_files;
    struct {
        uint8_t data[MAX_BYTES];
        size_t size;
    } file[MAX_FILES];
} corpus;

/* What the process was busy with, for the handler that keeps it when the process ends. */
static const char *busy_name;
static const uint8_t *busy_data;
static size_t busy_size;

static void keep_input(int signal_number) {
    char path[256];
    const char *folder = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    snprintf(path, sizeof path, "%s/adamas-fuzz-%s", folder, busy_name);
    FILE *file = fopen(path, "wb");
    if (file != NULL) {
        fwrite(busy_data, 1, busy_size, file);
        fclose(file);
        fprintf(stderr, "the input is in %s\n", path);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void try(const corpus *c, const uint8_t *data, size_t size) {
    busy_name = c->name;
    busy_data = data;
    busy_size = size;
    c->fuzz(data, size);
}

static void read_corpus(corpus *c) {
    char folder[64], path[512];
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", c->name);
    DIR *dir = opendir(folder);
    assert_non_null(dir); /* run from the top level */
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        assert_true(c->n_files < MAX_FILES);
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        c->file[c->n_files].size = fread(c->file[c->n_files].data, 1, MAX_BYTES, file);
        assert_true(feof(file));
        c->n_files++;
        fclose(file);
    }
    closedir(dir);
    assert_true(c->n_files > 0);
}

static size_t at(adm_rng *rng, size_t size) { return (size_t)adm_rng_below(rng, size); }

/* One change: a bit, a byte, a hostile number, a cut, a copy, or a piece of another file. Returns the new size. */
static size_t mutate(adm_rng *rng, const corpus *c, uint8_t *data, size_t size) {
    static const char *const hostile[] = {"-1",
                                          "0",
                                          "18446744073709551615",
                                          "9223372036854775808",
                                          "nan",
                                          "1e999",
                                          "0.5",
                                          "\"",
                                          "[",
                                          "{",
                                          ",",
                                          "\n",
                                          "\r",
                                          "\xff",
                                          "\\u0000",
                                          "null"};
    if (size == 0) return 0;
    size_t i = at(rng, size), n;
    switch (adm_rng_below(rng, 6)) {
    case 0: data[i] ^= (uint8_t)(1u << adm_rng_below(rng, 8)); return size;
    case 1: data[i] = (uint8_t)adm_rng_u64(rng); return size;
    case 2: {
        const char *text = hostile[adm_rng_below(rng, sizeof hostile / sizeof hostile[0])];
        n = strlen(text);
        if (size + n > MAX_BYTES) return size;
        memmove(data + i + n, data + i, size - i);
        memcpy(data + i, text, n);
        return size + n;
    }
    case 3:
        n = 1 + at(rng, size - i);
        memmove(data + i, data + i + n, size - i - n);
        return size - n;
    case 4:
        n = at(rng, size - i) % 64;
        memmove(data + at(rng, size - n), data + i, n);
        return size;
    default: {
        size_t other = at(rng, c->n_files), room = MAX_BYTES - i;
        if (c->file[other].size == 0) return size;
        size_t from = at(rng, c->file[other].size);
        n = c->file[other].size - from;
        if (n > room) n = room;
        memcpy(data + i, c->file[other].data + from, n);
        return i + n > size ? i + n : size;
    }
    }
}

static void fuzz_all(const char *name, int (*fuzz)(const uint8_t *data, size_t size), long share) {
    static corpus c;
    static uint8_t data[MAX_BYTES];
    c = (corpus){.name = name, .fuzz = fuzz};
    read_corpus(&c);
    for (size_t i = 0; i < c.n_files; i++) try(&c, c.file[i].data, c.file[i].size);
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    const char *text = getenv("ADAMAS_FUZZ_N");
    long n = (text != NULL ? strtol(text, NULL, 10) : 5000) / share;
    for (long i = 0; i < n; i++) {
        size_t file = at(&rng, c.n_files), size = c.file[file].size;
        memcpy(data, c.file[file].data, size);
        for (uint64_t changes = 1 + adm_rng_below(&rng, 4); changes > 0; changes--) size = mutate(&rng, &c, data, size);
        try(&c, data, size);
    }
}

static void attention_traces(void **state) {
    (void)state;
    fuzz_all("safetensors", fuzz_safetensors, 1);
}

static void request_traces(void **state) {
    (void)state;
    fuzz_all("requests", fuzz_requests, 1);
}

static void recorded_runs(void **state) {
    (void)state;
    fuzz_all("recorded", fuzz_recorded, 10);
    fuzz_store_remove(fuzz_store_path("recorded"));
}

static void metric_sets_and_formulas(void **state) {
    (void)state;
    fuzz_all("metrics", fuzz_metrics, 1);
}

static void arguments_of_the_command_line(void **state) {
    (void)state;
    fuzz_all("arguments", fuzz_arguments, 1);
}

static void sources_of_candidates(void **state) {
    (void)state;
    fuzz_all("candidate", fuzz_candidate, 1);
}

static void manifests_of_candidates(void **state) {
    (void)state;
    fuzz_all("manifest", fuzz_manifest, 1);
}

static void calibration_files(void **state) {
    (void)state;
    fuzz_all("calibration", fuzz_calibration, 1);
}

static void files_of_models(void **state) {
    (void)state;
    fuzz_all("model", fuzz_model, 1);
}

static void databases(void **state) {
    (void)state;
    fuzz_all("database", fuzz_database, 10);
}

/* The corpus means something only if its good files are read, each as its own format. */
static void good_files_of_the_corpus_are_read(void **state) {
    (void)state;
    static const struct {
        const char *path;
        const char *format;
        size_t n;
    } good[] = {{"tests/fuzz/corpus/requests/azure.csv", "azure", 3},
                {"tests/fuzz/corpus/requests/azure2024.csv", "azure", 2},
                {"tests/fuzz/corpus/requests/burstgpt.csv", "burstgpt", 2},
                {"tests/fuzz/corpus/requests/mooncake.jsonl", "mooncake", 2},
                {"tests/fuzz/corpus/requests/vidur.csv", "vidur", 2},
                {"tests/fuzz/corpus/requests/bailian.jsonl", "bailian", 2},
                {"tests/fuzz/corpus/requests/aiperf.jsonl", "aiperf", 2},
                {"tests/fuzz/corpus/requests/llmservingsim.jsonl", "llmservingsim", 2},
                {"tests/fuzz/corpus/requests/copilot.jsonl", "copilot", 3},
                {"tests/fuzz/corpus/requests/copilot.jsonl.gz", "copilot", 3},
                {"tests/fuzz/corpus/requests/stored.csv.gz", "azure", 1},
                {"tests/fuzz/corpus/requests/fixed.csv.gz", "azure", 1},
                {"tests/fuzz/corpus/requests/clients.jsonl", "clients", 48}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        adm_requests *requests;
        adm_requests_source source;
        assert_int_equal(adm_requests_read(good[i].path, 1, &requests, &source, NULL), ADM_OK);
        assert_string_equal(source.format, good[i].format);
        assert_int_equal(requests->n, good[i].n);
        adm_requests_free(&requests);
        assert_null(requests);
    }
    static corpus c;
    c = (corpus){.name = "model"};
    read_corpus(&c);
    size_t n_shapes = 0, n_weights = 0;
    for (size_t i = 0; i < c.n_files; i++) {
        bool (*read)(const uint8_t *, size_t) = c.file[i].data[0] == 0 ? fuzz_config : fuzz_weights;
        *(c.file[i].data[0] == 0 ? &n_shapes : &n_weights) += read(c.file[i].data + 1, c.file[i].size - 1);
    }
    assert_true(n_shapes >= 2 && n_weights >= 1);
    const char *const traces[] = {"tests/fuzz/corpus/safetensors/trace", "tests/fuzz/corpus/safetensors/pt"};
    for (size_t i = 0; i < 2; i++) {
        const adm_trace *trace;
        assert_int_equal(adm_trace_open(traces[i], &trace, NULL), ADM_OK);
        adm_trace_close(&trace);
    }
}

int main(void) {
    signal(SIGABRT, keep_input);
    signal(SIGSEGV, keep_input);
    signal(SIGBUS, keep_input);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_of_the_corpus_are_read),
        cmocka_unit_test(attention_traces),
        cmocka_unit_test(request_traces),
        cmocka_unit_test(recorded_runs),
        cmocka_unit_test(metric_sets_and_formulas),
        cmocka_unit_test(arguments_of_the_command_line),
        cmocka_unit_test(sources_of_candidates),
        cmocka_unit_test(manifests_of_candidates),
        cmocka_unit_test(calibration_files),
        cmocka_unit_test(files_of_models),
        cmocka_unit_test(databases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
