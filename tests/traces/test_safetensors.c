/* test_safetensors.c: the reader of a file that may have been made to do harm. */
#include "tests/support/trace_fixture.h"

#include <sys/stat.h>

#include "traces/format/safetensors.h"

static void a_good_file_is_read(void **state) {
    trace_file *f = *state;
    adm_safetensors *st = NULL;
    write_honestly(f);
    assert_int_equal(adm_safetensors_open(f->path, &st, NULL), ADM_OK);
    assert_int_equal(adm_safetensors_count(st), 4);
    const adm_st_tensor *v = adm_safetensors_find(st, "layers.3.v");
    assert_non_null(v);
    assert_int_equal(v->n_dims, 3);
    assert_int_equal(v->shape[1], FIXTURE_TOKENS);
    assert_int_equal(v->n_bytes, FIXTURE_KV * FIXTURE_TOKENS * FIXTURE_D * 2);
    assert_memory_equal(v->data, f->data + v->n_bytes, v->n_bytes);
    assert_null(adm_safetensors_find(st, "layers.3"));
    const adm_trace_meta *meta;
    assert_int_equal(adm_safetensors_metadata(st, &meta), 3);
    assert_string_equal(meta[0].key, "format");
    adm_safetensors_close(&st);
    assert_null(st);
    adm_safetensors_close(&st);
}

/* Opening fails as bad input, the sentence names the file and holds `says`, and nothing is left open. */
static void expect_refusal(const trace_file *f, const char *says) {
    adm_safetensors *st = (adm_safetensors *)f;
    adm_error err = {0};
    size_t before = open_descriptors();
    assert_int_equal(adm_safetensors_open(f->path, &st, &err), ADM_EINPUT);
    assert_null(st);
    assert_int_equal(open_descriptors(), before);
    if (strstr(err.text, f->path) == NULL) fail_msg("'%s' does not name the file", err.text);
    if (strstr(err.text, says) == NULL) fail_msg("'%s' does not say '%s'", err.text, says);
}

static void lies_about_the_header(void **state) {
    trace_file *f = *state;
    size_t n = strlen(f->header);
    write_file(f, n + f->n_data + 1, n);
    expect_refusal(f, "says that its header has");
    write_file(f, 100000001, n);
    expect_refusal(f, "the limit is 100000000");
    write_file(f, UINT64_MAX, n);
    expect_refusal(f, "the limit is 100000000");
    write_file(f, n - 1, n);
    expect_refusal(f, "not valid JSON");
    write_file(f, 0, n);
    expect_refusal(f, "");
    f->n_data = 0;
    write_file(f, n, n);
    expect_refusal(f, "");
}

static void write_bytes(const trace_file *f, const char *bytes, size_t n) {
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* Each is named for what it is, with the cure where there is one. */
static void files_of_another_kind(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:56193aa9\nsize 142376815\n", 79,
         "is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
        {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10, "is gzip-compressed"},
        {"\x28\xb5\x2f\xfd\x04\x00\x00\x00\x00\x00", 10, "is Zstandard-compressed"},
        {"\xfd"
         "7zXZ\x00\x00\x04\x00\x00",
         10, "is xz-compressed"},
        {"PK\x03\x04\x00\x00\x00\x00\x00\x00", 10, "is a ZIP archive"},
        {"GGUF\x03\x00\x00\x00\x00\x00", 10, "is a GGUF model"},
        {"SQLite format 3\x00", 16, "is an SQLite database"},
        {"# Attention traces\n\nOne file is one session.\n", 45, "is no safetensors file but text, which begins with '# Att"},
        {"<!DOCTYPE html>\n", 16, "is no safetensors file but text, which begins with '<!DOCTYPE html>'"},
        {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16, "No header begins after the first 8 bytes"},
    };
    trace_file *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_bytes(f, cases[i].bytes, cases[i].n);
        expect_refusal(f, cases[i].says);
    }
}

static void headers_that_are_no_headers(void **state) {
    trace_file *f = *state;
    static const struct {
        const char *header, *says;
    } bad[] = {
        {"", ""},
        {"null", ""},
        {"[1,2]", "array"},
        {"{\"a\":1}", "'a'"},
        {"{\"a\":{}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F17\",\"shape\":[1],\"data_offsets\":[0,2]}}", "F17"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[-1],\"data_offsets\":[0,2]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1.5],\"data_offsets\":[0,2]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,2]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,0]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,2]}}", "'a'"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
         "\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]}}",
         "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", "__metadata__"},
        {"{\"__metadata__\":3}", "__metadata__"},
        {"{\"a\xff\":1}", ""},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}", "JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        strcpy(f->header, bad[i].header);
        write_honestly(f);
        expect_refusal(f, bad[i].says);
    }
    memset(f->header, '[', 4000);
    f->header[4000] = '\0';
    write_honestly(f);
    expect_refusal(f, "JSON");
}

static void ranges_that_do_not_fit(void **state) {
    trace_file *f = *state;
    replace(f, "[4096,8192]", "[4094,8190]"); /* v over k */
    write_honestly(f);
    expect_refusal(f, "layers.3.");
    replace(f, "[4094,8190]", "[4098,8194]"); /* a hole before v */
    write_honestly(f);
    expect_refusal(f, "layers.3.");
    replace(f, "[4098,8194]", "[4096,8192]");
    f->n_data -= 8; /* the last tensor runs over the end */
    write_honestly(f);
    expect_refusal(f, "'positions'");
    f->n_data += 8 + 3; /* bytes that belong to nothing */
    write_honestly(f);
    expect_refusal(f, "3 bytes after the last tensor");

    /* Each with one fault that no other check would meet: the sizes agree and the data ends with the last tensor. */
    static const struct {
        const char *first, *second, *says;
        size_t n_data;
    } alone[] = {
        {"[0,2]", "[0,2]", "overlaps tensor", 2},
        {"[0,2]", "[1,3]", "begins at byte 1 of the data and overlaps tensor 'a', which ends at byte 2", 3},
        {"[0,2]", "[4,6]", "leaves 2 bytes before it that belong to no tensor", 6},
        {"[1,3]", "[3,5]", "leaves 1 bytes before it that belong to no tensor", 5},
        {"[0,2]", "[4,2]", "ends at byte 2 of the data, before its begin at 4", 4},
    };
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        snprintf(f->header, sizeof f->header,
                 "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":%s},"
                 "\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":%s}}",
                 alone[i].first, alone[i].second);
        f->n_data = alone[i].n_data;
        write_honestly(f);
        expect_refusal(f, alone[i].says);
    }
}

static void things_that_are_not_files(void **state) {
    trace_file *f = *state;
    trace_file other = *f;
    remove(f->path);
    expect_refusal(f, "No such file");
    assert_int_equal(mkdir(f->path, 0700), 0);
    expect_refusal(f, "directory");
    rmdir(f->path);
    assert_int_equal(mkfifo(f->path, 0600), 0); /* opening must not wait for a writer */
    expect_refusal(f, "not a regular file");
    remove(f->path);
    assert_int_equal(symlink("/dev/zero", f->path), 0);
    expect_refusal(f, "not a regular file");
    remove(f->path);
    FILE *file = fopen(other.path, "wb");
    assert_non_null(file);
    fwrite("1234567", 1, 7, file);
    fclose(file);
    expect_refusal(&other, "has 7 bytes");
}

/* Odd but valid: each of these the reference implementation, safetensors 0.8, reads as well. */
static void oddities_that_are_valid(void **state) {
    trace_file *f = *state;
    static const struct {
        const char *header;
        size_t n_data, n_tensors;
    } odd[] = {
        {"{}", 0, 0},
        {" {} \n", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,2],\"data_offsets\":[0,2],\"more\":[{}]}}", 2, 1},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, 1},
        {"{\"a\":{\"dtype\":\"F6_E3M2\",\"shape\":[2,2],\"data_offsets\":[0,3]}}", 3, 1},
        {"{\"b\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[2,10]},"
         "\"a\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[0,2]}}",
         10, 2},
        /* empty tensors at the place of another, and one whose other dimensions would overflow */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[0,3],\"data_offsets\":[0,0]},"
         "\"c\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904,0,8],\"data_offsets\":[2,2]}}",
         2, 3},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        adm_safetensors *st;
        adm_error err = {0};
        strcpy(f->header, odd[i].header);
        f->n_data = odd[i].n_data;
        write_honestly(f);
        if (adm_safetensors_open(f->path, &st, &err) != ADM_OK) fail_msg("%s: %s", odd[i].header, err.text);
        assert_int_equal(adm_safetensors_count(st), odd[i].n_tensors);
        adm_safetensors_close(&st);
    }
    strcpy(f->header, "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}");
    f->n_data = 1;
    write_honestly(f);
    expect_refusal(f, "12 bits");
}

/* A million values pass, one more does not: the limit is on what a small file can make the parser allocate. */
static void values_in_a_header_are_limited(void **state) {
    trace_file *f = *state;
    static const char begin[] = "{\"a\":[", end[] = "0]}";
    for (int excess = 0; excess <= 1; excess++) {
        size_t n_items = ADM_ST_MAX_VALUES - 3 + (size_t)excess; /* one each for the document, { and [ */
        uint64_t length = strlen(begin) + 2 * n_items + strlen(end);
        FILE *file = fopen(f->path, "wb");
        assert_non_null(file);
        fwrite(&length, sizeof length, 1, file);
        fputs(begin, file);
        for (size_t i = 0; i < n_items; i++) fputs("0,", file);
        fputs(end, file);
        assert_int_equal(fclose(file), 0);
        expect_refusal(f, excess ? "the limit is 1000000" : "'a' is not described by a JSON object");
    }
}

/* No name from the file reaches the terminal as more than text: no CSI in 7 or 8 bits, no reversed reading order. */
static void hostile_names_are_shown_as_text(void **state) {
    trace_file *f = *state;
    strcpy(f->header, "{\"\\u001b[2J\\u009b2J\\u202e\xc3\xa4\":3}");
    write_honestly(f);
    expect_refusal(f, "tensor '?[2J?2J?\xc3\xa4' is");
    memset(f->header, 'x', 3000);
    memcpy(f->header, "{\"", 2);
    strcpy(f->header + 3000, "\":3}");
    write_honestly(f);
    expect_refusal(f, "xxx...' is not described");
}

/* Random damage: the reader may accept or refuse, and must do neither harm nor leak. Seeds repeat by ADAMAS_TEST_SEED. */
static void random_damage_is_survived(void **state) {
    trace_file *f = *state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    size_t before = open_descriptors(), n_accepted = 0, n_header = strlen(f->header);
    enum { ROUNDS = 4000 };
    static const char marks[] = "[]{}\",:0-.e\\";
    for (int round = 0; round < ROUNDS; round++) {
        trace_file *damaged = malloc(sizeof *damaged);
        *damaged = *f;
        for (uint64_t hits = 1 + adm_rng_below(&rng, 3); hits > 0; hits--) {
            size_t at = adm_rng_below(&rng, n_header);
            if (adm_rng_below(&rng, 2) == 0) damaged->header[at] = (char)(1 + adm_rng_below(&rng, 255));
            else damaged->header[at] = marks[adm_rng_below(&rng, sizeof marks - 1)];
        }
        if (adm_rng_below(&rng, 8) == 0) damaged->n_data = adm_rng_below(&rng, f->n_data);
        uint64_t length = adm_rng_below(&rng, 16) == 0 ? adm_rng_below(&rng, 2 * n_header) : n_header;
        write_file(damaged, length, n_header);
        adm_safetensors *st;
        adm_error err = {0};
        adm_status status = adm_safetensors_open(f->path, &st, &err);
        if (status == ADM_OK) {
            n_accepted++;
            for (size_t i = 0; i < adm_safetensors_count(st); i++) {
                const adm_st_tensor *t = adm_safetensors_tensor(st, i);
                volatile unsigned char last = t->n_bytes > 0 ? ((const unsigned char *)t->data)[t->n_bytes - 1] : 0;
                (void)last;
            }
        } else {
            assert_int_equal(status, ADM_EINPUT);
            assert_true(strlen(err.text) > 10);
        }
        adm_safetensors_close(&st);
        free(damaged);
    }
    assert_int_equal(open_descriptors(), before);
    assert_true(n_accepted > 0 && n_accepted < ROUNDS); /* the damage is neither always fatal nor never */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TRACE_TEST(a_good_file_is_read),
        TRACE_TEST(lies_about_the_header),
        TRACE_TEST(files_of_another_kind),
        TRACE_TEST(headers_that_are_no_headers),
        TRACE_TEST(ranges_that_do_not_fit),
        TRACE_TEST(things_that_are_not_files),
        TRACE_TEST(oddities_that_are_valid),
        TRACE_TEST(values_in_a_header_are_limited),
        TRACE_TEST(hostile_names_are_shown_as_text),
        TRACE_TEST(random_damage_is_survived),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
