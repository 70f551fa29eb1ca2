/* test_gpu.c: every row of the GPU registry against the host reference (gpu_fixture.h).
 *
 * A row finds the results of earlier stages in place and its own outputs as before; afterwards every byte of every buffer
 * must be as the images say, so a stray write anywhere in a buffer or around it shows. Only the results of attention are
 * compared with a tolerance. A test that fails says how to run its row alone (stage_check.h). */
#include "kernels/gpu/registry.h"
#include "kernels/step/fused.h"
#include "kernels/step/grouped.h"
#include "kernels/topk/topk.h"

#include "tests/support/gpu_fixture.h"

/* ---- running a row ---- */

static bool covers(const adm_gpu_impl *row, adm_stage stage) { return stage < ADM_N_STAGES && row->covers >> stage & 1; }

/* A row that covers several stages need not write what only its own later stages read. */
static bool optional(const adm_gpu_impl *row, buffer_id id) {
    adm_stage stage = producer(id);
    if (!covers(row, stage) || row->stage == stage) return false;
    if (id == Y || id == CODE) return true;
    return row->stage == ADM_STAGE_STEP && (id == PACKED || id == DISTANCE || id == DISTANCE_XOR || id == DISTANCE_DOT);
}

/* What the row finds in a buffer: results of stages before its own, its own outputs not yet. */
static const unsigned char *found(const fixture *f, const adm_gpu_impl *row, buffer_id id) {
    bool later = row->stage != ADM_STAGE_DENSE && row->stage != ADM_STAGE_STEP && producer(id) > row->stage;
    bool absent = covers(row, producer(id)) || (later && producer(id) != ADM_N_STAGES);
    return absent ? f->buffer[id].before : f->buffer[id].after;
}

/* One NaN is as good as another: where both have one, take the expected bits. */
static void forgive_nan_payloads(unsigned char *got, const unsigned char *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float a, b;
        memcpy(&a, got + i * sizeof a, sizeof a);
        memcpy(&b, want + i * sizeof b, sizeof b);
        if (isnan(a) && isnan(b)) memcpy(got + i * sizeof a, &b, sizeof b);
    }
}

static void compare_exactly(fixture *f, const char *what, buffer_id id, const unsigned char *want) {
    const image *b = &f->buffer[id];
    for (size_t i = 0; i < b->bytes + 2 * (size_t)GUARD; i++)
        if (b->got[i] != want[i]) {
            fail_msg("%s: %s: byte %td of %zu is %02x, not %02x", what, buffer_names[id], (ptrdiff_t)i - GUARD, b->bytes,
                     b->got[i], want[i]);
        }
}

/* F16 keeps 3 more bits than BF16, for which the row's tolerance is made. */
static void compare_attention(fixture *f, const adm_gpu_impl *row) {
    image *b = &f->buffer[OUT];
    uint32_t d = f->shape.heads.head_dim, n_q = f->shape.heads.n_q_heads;
    double limit = f->shape.dtype == ADM_F16 ? row->tolerance / 4 : row->tolerance;
    for (uint32_t r = 0; r < f->shape.batch * n_q; r++) {
        float got[ADM_MAX_HEAD_DIM];
        adm_to_f32(f->shape.dtype, b->got + GUARD + (size_t)r * d * 2, d, got);
        double error = check_relative_l2(got, f->expected + (size_t)r * d, d);
        if (!(error <= limit))
            fail_msg("%s %s: head %u of sequence %u: relative error %g, limit %g (d=%u length=%u budget=%u)",
                     adm_stage_name(row->stage), row->name, r % n_q, r / n_q, error, limit, d, f->config->length[r / n_q],
                     f->config->rule.budget);
    }
    memcpy(b->got + GUARD, b->after + GUARD, b->bytes); /* compared; the guards are left */
}

static void run_row(fixture *f, const adm_gpu_impl *row) {
    adm_error err;
    const bool distance = row->stage == ADM_STAGE_DISTANCE;
    const bool alone = f->shape.metric != ADM_METRIC_L1; /* else by the others too */
    const buffer_id written = distance && !alone && strcmp(row->name, "xor") == 0   ? DISTANCE_XOR
                              : distance && !alone && strcmp(row->name, "dot") == 0 ? DISTANCE_DOT
                                                                                    : DISTANCE;
    for (buffer_id id = 0; id < N_BUFFERS; id++)
        check_ok(adm_gpu_write(f->buffer[id].device, found(f, row, id), f->buffer[id].bytes + 2 * GUARD, &err), &err);
    adm_gpu_buffers buffers = f->device;
    if (written == DISTANCE_XOR) buffers.distance = AT(DISTANCE_XOR);
    if (written == DISTANCE_DOT) buffers.distance = AT(DISTANCE_DOT);
    size_t workspace_bytes = row->workspace_bytes != NULL ? row->workspace_bytes(&f->shape) : 0;
    check_ok(adm_gpu_allocate(workspace_bytes + 16, 0, &buffers.workspace, &err), &err);
    adm_status status = row->launch(&f->shape, &buffers, adm_gpu_stream_of(gpu), &err);
    if (status == ADM_EUNSUPPORTED) {
        print_message("not run: %s %s: %s\n", adm_stage_name(row->stage), row->name, err.text);
        adm_gpu_release(&buffers.workspace);
        return;
    }
    check_ok(status, &err);
    char what[128];
    snprintf(what, sizeof what, "%s %s", adm_stage_name(row->stage), row->name);
    for (buffer_id id = 0; id < N_BUFFERS; id++) {
        image *b = &f->buffer[id];
        check_ok(adm_gpu_read(gpu, b->device, b->bytes + 2 * GUARD, b->got, &err), &err);
        const unsigned char *want = found(f, row, id);
        if (covers(row, producer(id)) || (id == OUT && row->stage == ADM_STAGE_DENSE)) want = b->after;
        if (producer(id) == ADM_STAGE_DISTANCE && id != written) want = found(f, row, id);
        if (optional(row, id)) memcpy(b->got + GUARD, want + GUARD, b->bytes);
        if (id == OUT && want == b->after && row->tolerance > 0) compare_attention(f, row);
        if (id == Y) forgive_nan_payloads(b->got + GUARD, want + GUARD, b->bytes / sizeof(float));
        compare_exactly(f, what, id, want);
    }
    adm_gpu_release(&buffers.workspace);
}

/* The newest token counts as part of the prompt here: K is as after the step, planes empty. */
static void run_prompt(fixture *f, const adm_gpu_impl *row) {
    adm_error err;
    image *planes = &f->buffer[PLANES];
    unsigned char *want = malloc(planes->bytes + 2 * GUARD);
    assert_non_null(want);
    memset(want, CHECK_CANARY, planes->bytes + 2 * GUARD);
    check_ok(adm_gpu_write(planes->device, want, planes->bytes + 2 * GUARD, &err), &err);
    for (buffer_id id = 0; id < N_BUFFERS; id++)
        if (id != PLANES)
            check_ok(adm_gpu_write(f->buffer[id].device, f->buffer[id].after, f->buffer[id].bytes + 2 * GUARD, &err), &err);
    adm_gpu_shape shape = f->shape;
    shape.selection = ADM_SELECT_HEAD; /* which a prompt has none of */
    check_ok(row->launch(&shape, &f->device, adm_gpu_stream_of(gpu), &err), &err);
    check_ok(adm_gpu_read(gpu, planes->device, planes->bytes + 2 * GUARD, planes->got, &err), &err);
    compare_exactly(f, "prompt", PLANES, planes->after);
    free(want);
}

/* ---- the tests ---- */

static void check_config_case(const gpu_config *c, adm_selection selection, adm_code_metric metric, const adm_gpu_impl *row) {
    check_row_begin(row->stage, row->name);
    check_case(
        "%s, d=%u, heads %u/%u, batch %u, length[0]=%u, capacity %u, page size %u, budget %u, sinks %u, recent %u, pattern %d, "
        "selection per %s, metric %d",
        adm_dtype_name(c->dtype), c->heads.head_dim, c->heads.n_q_heads, c->heads.n_kv_heads, c->batch, c->length[0],
        c->capacity, c->page_size, c->rule.budget, c->rule.n_sinks, c->rule.n_recent, (int)c->pattern,
        adm_selection_name(selection), (int)metric);
}

/* The codes of l1 are compared by xor and dot as well. */
static bool serves(const adm_gpu_impl *row, adm_code_metric metric) {
    const bool shares = row->stage == ADM_STAGE_DISTANCE && metric == ADM_METRIC_L1;
    return shares ? strcmp(row->name, "asym4") != 0 : adm_gpu_impl_serves(row, metric);
}

/* Dense rows attend to every token, so they are compared only where the budget selects every token. */
static void check_config(const gpu_config *c, adm_selection selection, adm_code_metric metric, adm_rng *rng) {
    fixture f;
    fixture_open(&f, c, selection, metric, rng);
    bool all_selected = true;
    for (uint32_t b = 0; b < c->batch; b++) all_selected &= c->rule.budget >= c->length[b];
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        if (!check_is_asked_for(row->stage, row->name)) continue;
        if (c->pattern == NONFINITE && row->tolerance > 0) continue; /* no tolerance is defined among NaNs */
        if (row->covers == ADM_GPU_COVERS_PROMPT) continue; /* run_prompt() below */
        check_config_case(c, selection, metric, row);
        if (!serves(row, metric)) {
            adm_error err = {0};
            const adm_status status = row->launch(&f.shape, &f.device, adm_gpu_stream_of(gpu), &err);
            if (row->stage == ADM_STAGE_STEP || metric == ADM_METRIC_ASYM4 || strcmp(row->name, "asym4") == 0)
                assert_int_equal(status, ADM_EUNSUPPORTED);
            continue;
        }
        if (row->stage != ADM_STAGE_DENSE || all_selected) run_row(&f, row);
    }
    const adm_gpu_impl *prompt = adm_gpu_registry_find(ADM_STAGE_APPEND, "prompt");
    assert_non_null(prompt);
    check_config_case(c, selection, metric, prompt);
    if (check_is_asked_for(prompt->stage, prompt->name)) run_prompt(&f, prompt);
    check_case_end();
    fixture_close(&f);
}

static void check_configs(const char *name, adm_selection selection, adm_code_metric metric, const gpu_config *configs,
                          size_t n) {
    needs_gpu();
    adm_rng rng = check_rng(name);
    for (size_t i = 0; i < n; i++) check_config(&configs[i], selection, metric, &rng);
}

#define CHECK_BY(selection, metric, configs) \
    check_configs(__func__, selection, metric, configs, sizeof(configs) / sizeof *(configs))
#define CHECK_SELECTING(selection, configs) CHECK_BY(selection, ADM_METRIC_L1, configs)
#define CHECK_CONFIGS(configs) CHECK_SELECTING(ADM_SELECT_HEAD, configs)

static void every_head_dim_and_dtype(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 4, 64}, ADM_F16, 1, {1000}, 1024, 0, {64, 0, 0}, SPREAD},
        {{4, 4, 64}, ADM_BF16, 1, {1024}, 1024, 0, {64, 0, 0}, OUTLIERS},
        {{4, 4, 128}, ADM_F16, 1, {3000}, 3008, 0, {256, 4, 16}, SPREAD},
        {{4, 4, 128}, ADM_BF16, 1, {999}, 1024, 0, {64, 4, 16}, OUTLIERS},
        {{4, 4, 256}, ADM_F16, 1, {1001}, 1024, 0, {64, 0, 0}, OUTLIERS},
        {{4, 4, 256}, ADM_BF16, 1, {1000}, 1024, 0, {64, 0, 0}, SPREAD},
        {{2, 2, 128}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, NONFINITE},
        {{2, 2, 64}, ADM_BF16, 1, {700}, 704, 0, {64, 0, 0}, NONFINITE},
    };
    CHECK_CONFIGS(configs);
}

static void grouped_heads(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{16, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, SPREAD},
        {{20, 2, 128}, ADM_F16, 2, {1500, 700}, 1504, 0, {100, 1, 7}, SPREAD}, /* more than one slice of 8 heads */
        {{32, 8, 128}, ADM_BF16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
    };
    CHECK_CONFIGS(configs);
}

static void groups_that_select_together(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 2, {2000, 65}, 2016, 0, {100, 1, 7}, ALL_EQUAL},
        {{16, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, OUTLIERS},
        {{4, 4, 128}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, SPREAD}, /* groups of one */
        {{32, 8, 128}, ADM_F16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
        {{8, 2, 128}, ADM_F16, 3, {777, 0, 40}, 800, 7, {64, 2, 9}, SPREAD},
    };
    CHECK_SELECTING(ADM_SELECT_GROUP, configs);
}

/* Every branch, in sizes that a slow checker gets through: tests/bench/gpu_session.sh runs these under compute-sanitizer. */
static void small_shapes(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 3, {300, 0, 1}, 320, 0, {40, 2, 5}, SPREAD},
        {{4, 2, 64}, ADM_BF16, 1, {257}, 288, 7, {32, 0, 0}, ALL_EQUAL},
        {{2, 1, 256}, ADM_F16, 1, {200}, 224, 16, {300, 0, 0}, OUTLIERS},
    };
    CHECK_SELECTING(ADM_SELECT_HEAD, configs);
    CHECK_SELECTING(ADM_SELECT_GROUP, configs);
}

static void queries_of_four_bits(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 4, 128}, ADM_F16, 1, {3000}, 3008, 0, {256, 4, 16}, SPREAD}, /* a query head per KV head */
        {{8, 2, 64}, ADM_BF16, 1, {1500}, 1504, 0, {64, 0, 0}, OUTLIERS},
        {{6, 2, 256}, ADM_F16, 1, {1001}, 1024, 0, {64, 0, 0}, OUTLIERS}, /* groups of 3, 5, 7 */
        {{10, 2, 64}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, SPREAD},
        {{28, 4, 128}, ADM_F16, 2, {1500, 700}, 1504, 0, {100, 1, 7}, SPREAD},
        {{32, 1, 128}, ADM_BF16, 1, {600}, 608, 0, {64, 0, 0}, SPREAD},
        {{64, 1, 256}, ADM_F16, 1, {300}, 320, 0, {64, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_BF16, 5, {0, 1, 4097, 33, 640}, 4128, 7, {64, 2, 9}, SPREAD},
        {{4, 2, 64}, ADM_F16, 1, {5000}, 5024, 0, {700, 0, 0}, ALL_EQUAL}, /* no scale: every token ties */
        {{4, 2, 128}, ADM_F16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
    };
    static const gpu_config together[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 2, {2000, 65}, 2016, 16, {100, 1, 7}, SPREAD},
        {{4, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, OUTLIERS},
        {{28, 4, 128}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, SPREAD}, /* 21,504 bins: the distance alone */
    };
    CHECK_BY(ADM_SELECT_HEAD, ADM_METRIC_ASYM4, configs);
    CHECK_BY(ADM_SELECT_GROUP, ADM_METRIC_ASYM4, together);
}

static adm_status launch_counted(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                 adm_error *err) {
    return adm_gpu_distance_asym4_tuned(shape, buffers, 2, 1, true, stream, err);
}

/* As on devices without products of bits. */
static void queries_of_four_bits_by_counts(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 4, 128}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, SPREAD},
        {{10, 2, 64}, ADM_BF16, 2, {300, 1}, 320, 0, {64, 0, 0}, OUTLIERS},
        {{6, 2, 256}, ADM_F16, 1, {333}, 352, 0, {64, 0, 0}, SPREAD},
    };
    needs_gpu();
    adm_rng rng = check_rng(__func__);
    adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_DISTANCE, "asym4");
    row.launch = launch_counted;
    for (size_t i = 0; i < 2 * (sizeof configs / sizeof *configs); i++) {
        fixture f;
        fixture_open(&f, &configs[i / 2], i % 2 ? ADM_SELECT_GROUP : ADM_SELECT_HEAD, ADM_METRIC_ASYM4, &rng);
        run_row(&f, &row);
        fixture_close(&f);
    }
}

/* The distances that compute capability 8.0 runs, where the emulator has them (configure.py). */
extern adm_gpu_launch_fn adm_gpu_distance_l1_80, adm_gpu_distance_dot_80, adm_gpu_distance_asym4_80;
#pragma weak adm_gpu_distance_l1_80
#pragma weak adm_gpu_distance_dot_80
#pragma weak adm_gpu_distance_asym4_80

static void distances_before_bulk_copies(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, SPREAD},
        {{10, 2, 64}, ADM_BF16, 2, {300, 1}, 320, 0, {64, 0, 0}, OUTLIERS},
        {{6, 2, 256}, ADM_F16, 1, {333}, 352, 0, {64, 0, 0}, SPREAD},
    };
    static const adm_code_metric metrics[] = {ADM_METRIC_L1, ADM_METRIC_DOT, ADM_METRIC_ASYM4};
    adm_gpu_launch_fn *const launch[] = {adm_gpu_distance_l1_80, adm_gpu_distance_dot_80, adm_gpu_distance_asym4_80};
    needs_gpu();
    if (launch[0] == NULL) {
        print_message("skipped: only the emulator has what compute capability 8.0 runs\n");
        skip();
    }
    adm_rng rng = check_rng(__func__);
    for (size_t m = 0; m < 3; m++)
        for (size_t i = 0; i < 2 * (sizeof configs / sizeof *configs); i++) {
            fixture f;
            adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_DISTANCE, m == 0 ? "l1" : m == 1 ? "dot" : "asym4");
            row.launch = launch[m];
            fixture_open(&f, &configs[i / 2], i % 2 ? ADM_SELECT_GROUP : ADM_SELECT_HEAD, metrics[m], &rng);
            run_row(&f, &row);
            fixture_close(&f);
        }
}

static void dot_products_of_codes(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 4, 128}, ADM_F16, 1, {3000}, 3008, 0, {256, 4, 16}, SPREAD},
        {{28, 4, 128}, ADM_BF16, 2, {1500, 0}, 1504, 0, {100, 1, 7}, OUTLIERS},
        {{6, 2, 64}, ADM_F16, 1, {700}, 704, 7, {64, 0, 0}, SPREAD},
        {{8, 2, 256}, ADM_F16, 1, {999}, 1024, 0, {64, 0, 0}, SPREAD},
    };
    CHECK_BY(ADM_SELECT_HEAD, ADM_METRIC_DOT, configs);
    CHECK_BY(ADM_SELECT_GROUP, ADM_METRIC_DOT, configs);
}

/* ADAMAS_TEST_CASE leaves only that one of a test's n cases, for slow checkers: tests/bench/gpu_session.sh. */
static bool is_left_in(size_t i, size_t n) {
    const char *only = getenv("ADAMAS_TEST_CASE");
    if (only == NULL || *only == '\0') return true;
    if (strtoull(only, NULL, 10) >= n) fail_msg("ADAMAS_TEST_CASE=%s: this test has %zu cases, from 0 on", only, n);
    return strtoull(only, NULL, 10) == i;
}

static adm_status launch_fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                               adm_error *err) {
    return adm_gpu_step_fused_tuned(shape, buffers, 0, stream, err);
}

/* The fused step, which leaves them to others unless told to. */
static void fused_steps_of_groups(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 2, {2000, 65}, 2016, 0, {100, 1, 7}, ALL_EQUAL},
        {{16, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, OUTLIERS},
        {{32, 8, 128}, ADM_F16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
        {{8, 2, 128}, ADM_F16, 3, {777, 0, 40}, 800, 7, {64, 2, 9}, SPREAD},
    };
    needs_gpu();
    adm_rng rng = check_rng(__func__);
    adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_STEP, "fused");
    row.launch = launch_fused;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        fixture f;
        fixture_open(&f, &configs[i], ADM_SELECT_GROUP, ADM_METRIC_L1, &rng);
        run_row(&f, &row);
        fixture_close(&f);
    }
}

static adm_gpu_grouped_tuning grouped_tuning;

static adm_status launch_grouped(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                 adm_error *err) {
    return adm_gpu_step_grouped_tuned(shape, buffers, &grouped_tuning, stream, err);
}

/* The grouped step, which takes such shapes only when told to: heads a block, blocks a cluster, pairs of tiles in flight,
 * distances kept or listed (2 a lane: too few for many a list). */
static void grouped_steps_cut_every_way(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {100, 1, 7}, SPREAD},
        {{8, 1, 128}, ADM_BF16, 3, {9000, 1, 333}, 9024, 0, {64, 0, 0}, OUTLIERS},
        {{6, 2, 64}, ADM_BF16, 2, {9000, 65}, 9024, 0, {100, 1, 7}, SPREAD},
        {{7, 1, 64}, ADM_F16, 1, {9000}, 9024, 0, {300, 4, 64}, OUTLIERS},
        {{5, 1, 256}, ADM_F16, 1, {5000}, 5024, 0, {100, 1, 7}, SPREAD},
        {{16, 2, 256}, ADM_BF16, 2, {4500, 2}, 4512, 16, {33, 0, 0}, OUTLIERS},
        {{4, 2, 128}, ADM_F16, 1, {9000}, 9024, 0, {700, 0, 0}, ALL_EQUAL},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {5001, 3, 3}, SPREAD},
        {{4, 2, 128}, ADM_BF16, 5, {0, 1, 4097, 33, 640}, 4128, 7, {64, 2, 9}, SPREAD},
    };
    static const adm_gpu_grouped_tuning tunings[] = {
        {0, 2, 1, 2, 0, 1},  {0, 2, 2, 0, 1, 0}, {2, 4, 2, 2, 2, 0},  {1, 8, 2, 0, 3, 0},  {0, 7, 2, 9, 2, 0},
        {4, 16, 4, 0, 2, 0}, {0, 3, 0, 0, 2, 0}, {4, 12, 0, 0, 1, 0}, {0, 10, 1, 3, 2, 1},
    };
    needs_gpu();
    adm_rng rng = check_rng(__func__);
    adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_STEP, "grouped");
    row.launch = launch_grouped;
    const size_t n_cases = 2 * (sizeof configs / sizeof *configs);
    for (size_t i = 0; i < n_cases; i++) {
        fixture f;
        if (!is_left_in(i, n_cases)) continue;
        fixture_open(&f, &configs[i / 2], ADM_SELECT_HEAD, i % 2 ? ADM_METRIC_ASYM4 : ADM_METRIC_L1, &rng);
        for (size_t t = 0; t < sizeof tunings / sizeof *tunings; t++) {
            grouped_tuning = tunings[t];
            run_row(&f, &row);
        }
        fixture_close(&f);
    }
}

/* The same where a block makes one selection: of a group, whose heads are added up, or of one head. */
static void grouped_steps_of_one_selection(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {100, 1, 7}, SPREAD},
        {{4, 4, 128}, ADM_BF16, 2, {9000, 333}, 9024, 0, {64, 0, 0}, OUTLIERS}, /* groups of one */
        {{6, 2, 64}, ADM_BF16, 2, {9000, 65}, 9024, 0, {100, 1, 7}, SPREAD},
        {{7, 1, 64}, ADM_F16, 1, {9000}, 9024, 0, {300, 4, 64}, OUTLIERS},
        {{5, 1, 256}, ADM_F16, 1, {5000}, 5024, 0, {100, 1, 7}, SPREAD},
        {{16, 2, 256}, ADM_BF16, 2, {4500, 2}, 4512, 16, {33, 0, 0}, OUTLIERS},
        {{64, 1, 128}, ADM_F16, 1, {3000}, 3008, 0, {64, 2, 9}, SPREAD}, /* more heads than warps, in four turns */
        {{19, 1, 64}, ADM_BF16, 2, {700, 0}, 704, 7, {64, 0, 0}, OUTLIERS},
        {{4, 2, 128}, ADM_F16, 1, {9000}, 9024, 0, {700, 0, 0}, ALL_EQUAL},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {5001, 3, 3}, SPREAD},
        {{4, 2, 128}, ADM_BF16, 5, {0, 1, 4097, 33, 640}, 4128, 7, {64, 2, 9}, SPREAD},
        {{12, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {100, 1, 7}, OUTLIERS}, /* six heads, and then eight: halved weights */
        {{24, 3, 64}, ADM_BF16, 1, {4100}, 4128, 0, {64, 0, 0}, SPREAD},
    };
    static const adm_gpu_grouped_tuning tunings[] = {
        {0, 2, 1, 0, 0, 0}, {0, 4, 2, 0, 1, 0}, {0, 8, 0, 0, 3, 0}, {0, 16, 4, 0, 2, 0}, {0, 3, 0, 0, 2, 0}, {0, 7, 1, 0, 2, 0},
    };
    needs_gpu();
    adm_rng rng = check_rng(__func__);
    adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_STEP, "grouped");
    row.launch = launch_grouped;
    const size_t n_cases = 4 * (sizeof configs / sizeof *configs);
    for (size_t i = 0; i < n_cases; i++) {
        fixture f;
        const bool heads = i % 4 >= 2; /* each for itself, one a block */
        if (!is_left_in(i, n_cases)) continue;
        fixture_open(&f, &configs[i / 4], heads ? ADM_SELECT_HEAD : ADM_SELECT_GROUP, i % 2 ? ADM_METRIC_ASYM4 : ADM_METRIC_L1,
                     &rng);
        for (size_t t = 0; t < sizeof tunings / sizeof *tunings; t++) {
            grouped_tuning = tunings[t];
            if (heads) grouped_tuning.heads = 1;
            run_row(&f, &row);
        }
        adm_error err = {0};
        grouped_tuning = (adm_gpu_grouped_tuning){.heads = heads ? 1 : 0, .list_entries = 2};
        assert_int_equal(launch_grouped(&f.shape, &f.device, NULL, &err), ADM_EUNSUPPORTED);
        fixture_close(&f);
    }
}

static uint32_t topk_split, topk_warps; /* 0 warps: by lists of candidates */

static adm_status launch_topk(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                              adm_error *err) {
    return topk_warps == 0 ? adm_gpu_topk_cluster_split(shape, buffers, topk_split, stream, err)
                           : adm_gpu_topk_held(shape, buffers, topk_split, topk_warps, stream, err);
}

/* The top-k of one launch: blocks per row, and warps of a block that holds its tokens, or lists. The budgets take the bound
 * from minima of more and fewer tokens, and from none. */
static void top_ks_cut_every_way(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 1, {8000}, 8000, 0, {100, 1, 7}, SPREAD},
        {{4, 2, 64}, ADM_BF16, 3, {4100, 1, 2048}, 4128, 0, {700, 4, 300}, OUTLIERS},
        {{2, 1, 128}, ADM_F16, 2, {8192, 0}, 8192, 0, {1500, 0, 0}, SPREAD},
        {{2, 1, 128}, ADM_F16, 1, {6001}, 6016, 0, {3000, 300, 600}, SPREAD},
        {{2, 1, 256}, ADM_F16, 1, {5000}, 5024, 0, {4500, 0, 0}, SPREAD},
        {{2, 1, 128}, ADM_F16, 1, {7999}, 8000, 0, {3000, 3, 3}, ALL_EQUAL},
        {{2, 1, 64}, ADM_BF16, 3, {65, 600, 64}, 608, 7, {64, 4, 60}, ALL_EQUAL},
        {{2, 2, 64}, ADM_F16, 1, {32000}, 32000, 0, {40, 2, 5}, SPREAD},
        {{2, 2, 64}, ADM_F16, 1, {31999}, 32000, 0, {2100, 2, 5}, ALL_EQUAL},
    };
    static const adm_code_metric metrics[] = {ADM_METRIC_L1, ADM_METRIC_DOT, ADM_METRIC_ASYM4};
    static const uint32_t ways[][2] = {{1, 16}, {1, 32}, {2, 16}, {2, 32}, {3, 16}, {4, 32},
                                       {7, 16}, {8, 16}, {1, 0},  {4, 0},  {8, 0}};
    needs_gpu();
    adm_rng rng = check_rng(__func__);
    adm_gpu_impl row = *adm_gpu_registry_find(ADM_STAGE_TOPK, "cluster");
    row.launch = launch_topk;
    for (size_t i = 0; i < 3 * (sizeof configs / sizeof *configs); i++) {
        fixture f;
        fixture_open(&f, &configs[i / 3], i % 2 ? ADM_SELECT_GROUP : ADM_SELECT_HEAD, metrics[i % 3], &rng);
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            topk_split = ways[w][0], topk_warps = ways[w][1];
            run_row(&f, &row);
        }
        fixture_close(&f);
    }
    adm_error err = {0};
    fixture f;
    fixture_open(&f, &configs[0], ADM_SELECT_HEAD, ADM_METRIC_L1, &rng);
    assert_int_equal(adm_gpu_topk_held(&f.shape, &f.device, 9, 16, NULL, &err), ADM_EINPUT);
    assert_int_equal(adm_gpu_topk_held(&f.shape, &f.device, 2, 8, NULL, &err), ADM_EINPUT);
    f.shape.capacity = 1 << 20;
    assert_int_equal(adm_gpu_topk_held(&f.shape, &f.device, 8, 32, NULL, &err), ADM_EUNSUPPORTED);
    f.shape.capacity = configs[0].capacity;
    fixture_close(&f);
}

static void edges(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 1, {1}, 32, 0, {16, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {0}, 32, 0, {16, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {31}, 32, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {64}, 64, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {65}, 96, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {1, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {2, 1, 1}, SPREAD},
        {{4, 2, 64}, ADM_F16, 1, {5000}, 5024, 0, {700, 0, 0}, ALL_EQUAL},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {5001, 3, 3}, ALL_EQUAL},
        {{4, 2, 128}, ADM_F16, 1, {40000}, 40000, 0, {64, 0, 0}, ALL_EQUAL}, /* more candidates than a list holds */
        {{8, 1, 64}, ADM_F16, 4, {9000, 300, 16384, 9000}, 16384, 0, {4000, 2, 9}, SPREAD}, /* and lists that hold as many */
        {{4, 2, 128}, ADM_BF16, 5, {0, 1, 4097, 33, 640}, 4128, 0, {64, 2, 9}, SPREAD},
        {{2, 1, 128}, ADM_F16, 1, {4100}, 4128, 0, {4096, 0, 0}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

static void pages(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 2, {777, 64}, 800, 1, {64, 2, 9}, SPREAD},
        {{4, 2, 64}, ADM_BF16, 2, {777, 0}, 800, 7, {64, 2, 9}, SPREAD},
        {{4, 2, 128}, ADM_F16, 3, {1600, 1, 1599}, 1600, 16, {64, 2, 9}, SPREAD},
        {{4, 4, 256}, ADM_F16, 2, {640, 65}, 672, 64, {1000, 2, 9}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

static void long_sequences(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{32, 32, 128}, ADM_F16, 1, {32768}, 32768, 0, {256, 0, 0}, SPREAD},
        {{8, 2, 128}, ADM_F16, 1, {131071}, 131072, 0, {1024, 4, 64}, SPREAD},
        {{2, 1, 64}, ADM_F16, 1, {1048576}, 1048576, 0, {4096, 4, 64}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

/* A refused shape is a sentence, not a launch failure. */
static void unsupported_shapes_say_why(void **state) {
    (void)state;
    needs_gpu();
    const adm_gpu_shape good = {.heads = {4, 4, 128}, .dtype = ADM_F16, .batch = 1, .capacity = 64, .rule = {16, 0, 0}};
    adm_gpu_shape bad[6] = {good, good, good, good, good, good};
    bad[0].dtype = ADM_F32;
    bad[1].capacity = 33;
    bad[2].batch = 65;
    bad[3].page_size = 65;
    bad[4].page_size = 16, bad[4].max_pages = 3;
    bad[5].heads.head_dim = 96;
    const adm_gpu_buffers none = {0};
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            adm_error err = {0};
            adm_status status = adm_gpu_registry_at(i)->launch(&bad[j], &none, NULL, &err);
            assert_int_equal(status, j == 5 ? ADM_EINPUT : ADM_EUNSUPPORTED);
            assert_true(strlen(err.text) > 10);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_shapes_say_why),
        cmocka_unit_test(every_head_dim_and_dtype),
        cmocka_unit_test(grouped_heads),
        cmocka_unit_test(groups_that_select_together),
        cmocka_unit_test(small_shapes),
        cmocka_unit_test(fused_steps_of_groups),
        cmocka_unit_test(grouped_steps_cut_every_way),
        cmocka_unit_test(grouped_steps_of_one_selection),
        cmocka_unit_test(top_ks_cut_every_way),
        cmocka_unit_test(queries_of_four_bits),
        cmocka_unit_test(queries_of_four_bits_by_counts),
        cmocka_unit_test(distances_before_bulk_copies),
        cmocka_unit_test(dot_products_of_codes),
        cmocka_unit_test(edges),
        cmocka_unit_test(pages),
        cmocka_unit_test(long_sequences),
    };
    return cmocka_run_group_tests_name("gpu", tests, open_gpu, close_gpu);
}
