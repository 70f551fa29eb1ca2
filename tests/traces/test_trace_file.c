/* test_trace_file.c: the attention-trace format on top of safetensors. */
#include "tests/support/trace_fixture.h"

#include "traces/format/trace_file.h"

static void a_good_trace_is_read(void **state) {
    trace_file *f = *state;
    const adm_trace *trace = NULL;
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
    assert_string_equal(trace->kind, "synthetic");
    assert_string_equal(trace->model, "none");
    assert_int_equal(trace->shape.n_q_heads, FIXTURE_Q);
    assert_int_equal(trace->shape.n_kv_heads, FIXTURE_KV);
    assert_int_equal(trace->shape.head_dim, FIXTURE_D);
    assert_int_equal(trace->n_tokens, FIXTURE_TOKENS);
    assert_int_equal(trace->n_steps, FIXTURE_STEPS);
    assert_int_equal(trace->positions[2], 10);
    assert_int_equal(trace->layers[0].index, 3);
    assert_int_equal(trace->layers[0].k_dtype, ADM_F16);
    assert_null(trace->layers[0].o);
    assert_true(trace->softmax_scale == 0.125);
    assert_memory_equal(trace->layers[0].k, f->data, 4096);
    assert_int_equal(strlen(trace->xxh128), 32);
    assert_int_equal(adm_trace_check_finite(trace, NULL), ADM_OK);
    adm_trace_close(&trace);
    assert_null(trace);
}

/* What three lines of PyTorch write: no metadata, no positions. */
static void a_bare_file_is_enough(void **state) {
    trace_file *f = *state;
    const adm_trace *trace = NULL;
    replace(f, "\"__metadata__\":{\"format\":\"adamas-trace/1\",\"kind\":\"synthetic\",\"model\":\"none\"},", "");
    char *positions = strstr(f->header, ",\"positions\"");
    strcpy(positions, "}");
    f->n_data -= FIXTURE_STEPS * sizeof(int64_t);
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
    assert_string_equal(trace->kind, "unlabelled");
    for (int s = 0; s < FIXTURE_STEPS; s++) assert_int_equal(trace->positions[s], FIXTURE_TOKENS - FIXTURE_STEPS + s);
    adm_trace_close(&trace);
}

/* Three layers in the wrong order, each of another dtype, among tensors that are none of a trace. */
static void layers_come_sorted_and_in_any_dtype(void **state) {
    trace_file *f = *state;
    const adm_trace *trace = NULL;
    static const struct {
        int index;
        const char *dtype;
        size_t bytes;
    } layers[] = {
        {10, "F32", 4},
        {2, "BF16", 2},
        {9, "F16", 2},
    };
    f->n_data = 0;
    strcpy(f->header, "{\"__metadata__\":{\"format\":\"pt\",\"softmax_scale\":\"0.25\"}");
    for (size_t i = 0; i < 3; i++)
        for (const char *role = "kvq"; *role; role++) {
            char name[24];
            bool is_q = *role == 'q';
            snprintf(name, sizeof name, "layers.%d.%c", layers[i].index, *role);
            add_tensor(f, name, layers[i].dtype, is_q ? "[1,2,64]" : "[1,3,64]", (is_q ? 2u : 3u) * 64 * layers[i].bytes);
        }
    static const char *const others[] = {"layers.10.kv", "layers.02.k",         "layers.9.k.scale", "layers..k",
                                         "layers.-1.k",  "layers.4294967296.k", "model.layers.1.k"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) add_tensor(f, others[i], "I8", "[1]", 1);
    const int32_t position = 1;
    memcpy(f->data + f->n_data, &position, sizeof position);
    add_tensor(f, "positions", "I32", "[1]", sizeof position);
    add_tensor(f, "tokens", "I32", "[3]", 12);
    strcat(f->header, "}");
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
    assert_int_equal(trace->n_layers, 3);
    static const uint32_t index[] = {2, 9, 10};
    static const adm_dtype dtype[] = {ADM_BF16, ADM_F16, ADM_F32};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(trace->layers[i].index, index[i]);
        assert_int_equal(trace->layers[i].k_dtype, dtype[i]);
        assert_int_equal(trace->layers[i].q_dtype, dtype[i]);
    }
    assert_int_equal(trace->positions[0], 1);
    assert_true(trace->softmax_scale == 0.25);
    assert_string_equal(trace->kind, "unlabelled");
    assert_string_equal(trace->model, "");
    adm_trace_close(&trace);
}

/* The same tensors one byte off: rows are then unaligned, and must read the same. */
static void unaligned_data_reads_the_same(void **state) {
    trace_file *f = *state;
    const adm_trace *even = NULL, *odd = NULL;
    trace_file shifted = *f;
    strcat(shifted.path, "-odd");
    strcat(shifted.header, " ");
    write_honestly(f);
    write_honestly(&shifted);
    assert_int_equal(adm_trace_open(f->path, &even, NULL), ADM_OK);
    assert_int_equal(adm_trace_open(shifted.path, &odd, NULL), ADM_OK);
    assert_true(((uintptr_t)even->layers[0].k & 1) != ((uintptr_t)odd->layers[0].k & 1));
    float a[FIXTURE_D], b[FIXTURE_D];
    adm_to_f32(ADM_F16, even->layers[0].k, FIXTURE_D, a);
    adm_to_f32(ADM_F16, odd->layers[0].k, FIXTURE_D, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(odd->positions[3], 15);
    assert_string_not_equal(even->xxh128, odd->xxh128);
    adm_trace_close(&even);
    adm_trace_close(&odd);
    remove(shifted.path);
}

static void expect_refusal(const trace_file *f, const char *says) {
    const adm_trace *trace = NULL;
    adm_error err = {0};
    size_t before = open_descriptors();
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, &err), ADM_EINPUT);
    assert_null(trace);
    assert_int_equal(open_descriptors(), before);
    if (strstr(err.text, f->path) == NULL || strstr(err.text, says) == NULL)
        fail_msg("'%s' does not name the file and say '%s'", err.text, says);
}

/* Each row spoils one thing in the header of a fresh trace. */
static void broken_rules_are_named(void **state) {
    trace_file *f = *state;
    static const struct {
        const char *from, *to, *says;
    } rows[] = {
        {"adamas-trace/1", "adamas-trace/2", "adamas-trace/2"},
        {"\"synthetic\"", "\"imagined\"", "imagined"},
        {"\"model\":\"none\"", "\"softmax_scale\":\"-1\"", "softmax_scale"},
        {"\"model\":\"none\"", "\"softmax_scale\":\"fast\"", "fast"},
        {"layers.3.v", "layers.3.w", "'layers.3.v' is missing"},
        {"layers.3.k\":{\"dtype\":\"F16\"", "layers.3.k\":{\"dtype\":\"I16\"", "I16"},
        {"layers.3.k\":{\"dtype\":\"F16\",\"shape\":[2,16,64]", "layers.3.k\":{\"dtype\":\"F16\",\"shape\":[2,1024]",
         "layers.3.k"},
        {"[2,16,64],\"data_offsets\":[4096", "[2,8,128],\"data_offsets\":[4096", "layers.3.v"},
        {"[4,4,64]", "[8,2,64]", "positions"},
        {"[4,4,64]", "[1,16,64]", "positions"},
        {"\"I64\",\"shape\":[4]", "\"I64\",\"shape\":[2,2]", "positions"},
        {"\"I64\",\"shape\":[4]", "\"F64\",\"shape\":[4]", "F64"},
        {"\"adamas-trace/1\"", "\"onnx\"", "onnx"},
        {"\"model\":\"none\"", "\"softmax_scale\":\"nan\"", "nan"},
        {"\"model\":\"none\"", "\"softmax_scale\":\"0.125 \"", "softmax_scale"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        make_trace(f);
        replace(f, rows[i].from, rows[i].to);
        expect_refusal(f, rows[i].says);
    }
    make_trace(f);
    replace(f, "[2,16,64]", "[4,16,32]"); /* d = 32, for K and V alike */
    replace(f, "[2,16,64]", "[4,16,32]");
    replace(f, "[4,4,64]", "[4,8,32]");
    expect_refusal(f, "head dimension 32");
    make_trace(f);
    replace(f, "[4,4,64]", "[4,3,64]"); /* 3 query heads for 2 KV heads */
    replace(f, "[8192,10240]", "[8192,9728]");
    replace(f, "[10240,10272]", "[9728,9760]");
    memmove(f->data + 9728, f->data + 10240, 32);
    f->n_data -= 512;
    expect_refusal(f, "3 query heads cannot share 2 KV heads");
}

static void positions_must_make_sense(void **state) {
    trace_file *f = *state;
    static const struct {
        int64_t positions[FIXTURE_STEPS];
        const char *says;
    } rows[] = {
        {{5, 5, 10, 15}, "positions[1]"},
        {{5, 4, 10, 15}, "positions[1]"},
        {{-1, 4, 10, 15}, "positions[0]"},
        {{5, 6, 10, 16}, "positions[3]"},
        {{INT64_MIN, 4, 10, INT64_MAX}, "positions["},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(f->data + f->n_data - sizeof rows[i].positions, rows[i].positions, sizeof rows[i].positions);
        expect_refusal(f, rows[i].says);
    }
}

static void values_must_be_finite(void **state) {
    trace_file *f = *state;
    static const struct {
        size_t at;
        uint16_t bits;
        const char *says;
    } rows[] = {
        {2 * (FIXTURE_TOKENS * FIXTURE_D + 5 * FIXTURE_D + 7), 0x7c00, "'layers.3.k' holds inf"},
        {2 * (FIXTURE_TOKENS * FIXTURE_D + 5 * FIXTURE_D + 7), 0xfe00, "'layers.3.k' holds "},
        {4096 + 2, 0x7e00, "'layers.3.v' holds NaN"},
        {8192 + 2, 0xfc00, "'layers.3.q' holds -inf"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const adm_trace *trace = NULL;
        adm_error err = {0};
        make_trace(f);
        memcpy(f->data + rows[i].at, &rows[i].bits, 2);
        write_honestly(f);
        assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
        assert_int_equal(adm_trace_check_finite(trace, &err), ADM_EINPUT);
        if (strstr(err.text, rows[i].says) == NULL) fail_msg("'%s' does not say '%s'", err.text, rows[i].says);
        if (i == 0) assert_non_null(strstr(err.text, "element 7"));
        adm_trace_close(&trace);
    }
}

/* A captured output that is right is accepted, and one wrong element is found. */
static void outputs_are_recomputed(void **state) {
    trace_file *f = *state;
    const adm_trace *trace = NULL;
    adm_trace_report report;
    adm_error err = {0};
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
    assert_int_equal(adm_trace_verify(trace, 0, &report, &err), ADM_OK);
    assert_int_equal(report.n_checked, 0);

    float o[FIXTURE_STEPS][FIXTURE_Q][FIXTURE_D];
    for (size_t s = 0; s < FIXTURE_STEPS; s++)
        for (size_t h = 0; h < FIXTURE_Q; h++) {
            double score[FIXTURE_TOKENS];
            const char *k = (const char *)trace->layers[0].k + h / 2 * FIXTURE_TOKENS * FIXTURE_D * 2;
            const char *v = (const char *)trace->layers[0].v + h / 2 * FIXTURE_TOKENS * FIXTURE_D * 2;
            adm_registry_find(ADM_STAGE_DENSE, "reference")
                ->fn.attention(ADM_F16, (const char *)trace->layers[0].q + (s * FIXTURE_Q + h) * FIXTURE_D * 2, k, v, NULL,
                               (size_t)trace->positions[s] + 1, FIXTURE_D, trace->softmax_scale, score, o[s][h]);
        }
    adm_trace_close(&trace);
    char *end = strrchr(f->header, '}');
    *end = '\0';
    memcpy(f->data + f->n_data, o, sizeof o);
    add_tensor(f, "layers.3.o", "F32", "[4,4,64]", sizeof o);
    strcat(f->header, "}");
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, &err), ADM_OK);
    assert_int_equal(adm_trace_verify(trace, 0, &report, &err), ADM_OK);
    assert_int_equal(report.n_checked, FIXTURE_STEPS * FIXTURE_Q);
    assert_true(report.worst_of_limit < 1);
    adm_trace_close(&trace);

    o[2][1][9] += 1;
    memcpy(f->data + f->n_data - sizeof o, o, sizeof o);
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, &err), ADM_OK);
    assert_int_equal(adm_trace_verify(trace, 2, &report, &err), ADM_OK); /* steps 1 and 3 */
    assert_int_equal(report.n_checked, 2 * FIXTURE_Q);
    assert_int_equal(adm_trace_verify(trace, 3, &report, &err), ADM_OK); /* steps 0, 1 and 3 */
    assert_int_equal(adm_trace_verify(trace, 0, &report, &err), ADM_EINPUT);
    assert_int_equal(report.n_outside, 1);
    assert_int_equal(report.worst_step, 2);
    assert_int_equal(report.worst_head, 1);
    adm_trace_close(&trace);

    o[2][1][9] -= 1;
    o[3][0][0] += 1; /* one step is the last one */
    memcpy(f->data + f->n_data - sizeof o, o, sizeof o);
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, &err), ADM_OK);
    assert_int_equal(adm_trace_verify(trace, 1, &report, &err), ADM_EINPUT);
    assert_int_equal(report.n_checked, FIXTURE_Q);
    assert_int_equal(report.worst_step, 3);
    adm_trace_close(&trace);

    /* Not only gross faults: a softmax scale that is 5% off moves outputs but a little. */
    o[3][0][0] -= 1;
    memcpy(f->data + f->n_data - sizeof o, o, sizeof o);
    replace(f, "\"model\":\"none\"", "\"softmax_scale\":\"0.13125\"");
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, &err), ADM_OK);
    assert_int_equal(adm_trace_verify(trace, 0, &report, &err), ADM_EINPUT);
    assert_true(report.n_outside > FIXTURE_STEPS * FIXTURE_Q / 2);
    assert_true(report.worst_rel_l2 < 0.1);
    adm_trace_close(&trace);
}

/* With a thread beside, without one, and without anybody who waits for it. */
static void the_hash_may_come_later(void **state) {
    trace_file *f = *state;
    const adm_trace *whole = NULL, *early = NULL;
    adm_error err = {0};
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &whole, NULL), ADM_OK);
    for (int beside = 0; beside < 2; beside++) {
        assert_int_equal(adm_trace_open_early(f->path, beside == 1, &early, NULL), ADM_OK);
        assert_string_equal(early->xxh128, "");
        for (int i = 0; i < 2; i++) assert_int_equal(adm_trace_wait_for_hash(early, NULL), ADM_OK);
        assert_string_equal(early->xxh128, whole->xxh128);
        adm_trace_close(&early);
        assert_int_equal(adm_trace_open_early(f->path, beside == 1, &early, NULL), ADM_OK);
        adm_trace_close(&early);
    }
    adm_trace_close(&whole);
    assert_int_equal(adm_trace_open_early(f->path, true, &early, NULL), ADM_OK);
    assert_int_equal(truncate(f->path, 1 << 20), 0); /* longer: cmocka keeps SIGBUS to itself */
    assert_int_equal(adm_trace_wait_for_hash(early, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "was changed"));
    adm_trace_close(&early);
}

static void a_change_under_our_feet_is_seen(void **state) {
    trace_file *f = *state;
    const adm_trace *trace = NULL;
    adm_error err = {0};
    write_honestly(f);
    assert_int_equal(adm_trace_open(f->path, &trace, NULL), ADM_OK);
    assert_int_equal(adm_trace_check_unchanged(trace, NULL), ADM_OK);
    assert_int_equal(truncate(f->path, 100), 0);
    assert_int_equal(adm_trace_check_unchanged(trace, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "was changed"));
    assert_int_equal(adm_trace_check_finite(trace, &err), ADM_EINPUT); /* not a bus error */
    adm_trace_close(&trace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TRACE_TEST(a_good_trace_is_read),
        TRACE_TEST(a_bare_file_is_enough),
        TRACE_TEST(layers_come_sorted_and_in_any_dtype),
        TRACE_TEST(unaligned_data_reads_the_same),
        TRACE_TEST(broken_rules_are_named),
        TRACE_TEST(positions_must_make_sense),
        TRACE_TEST(values_must_be_finite),
        TRACE_TEST(outputs_are_recomputed),
        TRACE_TEST(a_change_under_our_feet_is_seen),
        TRACE_TEST(the_hash_may_come_later),
    };
    return cmocka_run_group_tests_name("trace_file", tests, NULL, NULL);
}
