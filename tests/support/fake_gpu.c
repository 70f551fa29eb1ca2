/* fake_gpu.c: the room kernels/gpu and the table of GPU implementations on host memory, so that the whole of `adamas profile`
 * can be tried on a machine without a GPU: the plan, the inputs, the checks, the faults, the rows. It is slow, its times are
 * made up, and no program but the test's links it.
 *
 * ADAMAS_FAKE_GPU, words separated by spaces:
 *   memory=BYTES     the device's memory (default 1 GiB)
 *   devices=N        how many there are (default 1)
 *   timings=N        samples of each unit (default 20)
 *   wrong=STAGE      that stage's implementations spoil a byte of what they write
 *   error=STAGE      their launches fail, and the context survives
 *   lost=STAGE       their launches fail, and the context does not
 *   memory-rate=N    the memory's own rate, bytes per second (default: not known)
 *   h200             the device says that it is an NVIDIA H200
 *   slow-dense       dense attention takes a millisecond
 *   idle-prompt      the encoding of a prompt does nothing
 *   no-bandwidth     the read limit cannot be measured
 *   honest           times are what the calls took on the host, and the read limit is above that of any host */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu/input.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"
#include "tests/support/fake_gpu.h"

struct adm_gpu {
    adm_device_info info;
    bool alive;
};

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;
    adm_gpu_plan plan;
    char *copies, *sets, *shared;
    int32_t *pages;
    adm_gpu_buffers *buffers;
    float (*threshold)[3];
};

static adm_gpu the_gpu; /* launches have no other way to it */
static adm_gpu others[15]; /* where there are several devices */

bool adm_fake_gpu_is_alive(void) { return the_gpu.alive; }
void adm_fake_gpu_lose(void) { the_gpu.alive = false; }

bool adm_fake_gpu_faulty(const char *fault, adm_stage stage) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    char word[64];
    snprintf(word, sizeof word, "%s=%s", fault, adm_stage_name(stage));
    const char *at = asked != NULL ? strstr(asked, word) : NULL;
    return at != NULL && (at[strlen(word)] == '\0' || at[strlen(word)] == ' ');
}

uint64_t adm_fake_gpu_bytes(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "memory=") : NULL;
    return at != NULL ? strtoull(at + strlen("memory="), NULL, 10) : 1u << 30;
}

static double memory_rate(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "memory-rate=") : NULL;
    return at != NULL ? strtod(at + strlen("memory-rate="), NULL) : 0;
}

static bool is_h200(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    return asked != NULL && strstr(asked, "h200") != NULL;
}

static size_t n_timings(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "timings=") : NULL;
    return at != NULL ? (size_t)strtoul(at + strlen("timings="), NULL, 10) : 20;
}

static bool is_honest(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    return asked != NULL && strstr(asked, "honest") != NULL;
}

/* --- The device --------------------------------------------------------------------------------------------------- */

/* devices=N; CUDA_VISIBLE_DEVICES=K leaves that one. */
static int n_devices(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "devices=") : NULL;
    const int n = at != NULL ? (int)strtol(at + strlen("devices="), NULL, 10) : 1;
    return getenv("CUDA_VISIBLE_DEVICES") != NULL ? 1 : n;
}

static int first_device(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL && strrchr(visible, '-') != NULL) visible = strrchr(visible, '-') + 1; /* a UUID */
    return visible != NULL ? (int)strtol(visible, NULL, 10) : 0;
}

adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err) {
    (void)err;
    *n = n_devices();
    for (int i = 0; i < *n && i < capacity; i++) {
        out[i] = (adm_device_info){.name = "fake GPU of the tests",
                                   .compute_major = 9,
                                   .n_sms = 1,
                                   .l2_bytes = 1 << 14,
                                   .memory_bytes = adm_fake_gpu_bytes(),
                                   .memory_bytes_per_s = memory_rate(),
                                   .driver_version = 13000,
                                   .runtime_version = 13000};
        snprintf(out[i].uuid, sizeof out[i].uuid, "GPU-00000000-0000-0000-0000-%012d", first_device() + i);
        if (is_h200()) snprintf(out[i].name, sizeof out[i].name, "NVIDIA H200");
    }
    return ADM_OK;
}

adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    adm_device_info list[16];
    int n;
    *out = NULL;
    adm_device_list(list, 16, &n, err);
    if (device < 0 || device >= n) return adm_fail(err, ADM_EINPUT, "device %d: there are devices 0 to %d", device, n - 1);
    adm_gpu *gpu = device == 0 ? &the_gpu : &others[device - 1];
    *gpu = (adm_gpu){.info = list[device], .alive = true};
    *out = gpu;
    return ADM_OK;
}

void adm_gpu_close(adm_gpu **gpu) { *gpu = NULL; }
const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu) {
    (void)gpu;
    return NULL;
}
bool adm_gpu_alive(const adm_gpu *gpu) { return gpu->alive; }

adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err) {
    (void)buffer_bytes;
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    const bool fails = asked != NULL && strstr(asked, "no-bandwidth") != NULL;
    *bytes_per_s = fails ? 0 : is_honest() ? 1e12 : 1e9;
    return fails ? adm_fail(err, ADM_EENVIRONMENT, "this bandwidth was not to be had") : ADM_OK;
}

adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    if (!gpu->alive) return adm_fail(err, ADM_EENVIRONMENT, "the context is gone");
    memcpy(host, device, bytes);
    return ADM_OK;
}

/* --- Cases -------------------------------------------------------------------------------------------------------- */

/* One row of what set `set` is filled with; head counts query heads for Q. */
static void fill_row(const adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t set, adm_input_tensor tensor, uint32_t b,
                     uint32_t head, uint32_t t, void *out) {
    const uint32_t d = c->shape.heads.head_dim, kv_head = tensor == ADM_INPUT_Q ? adm_kv_head(&c->shape.heads, head) : head;
    const adm_gpu_session *s = in->session;
    if (s != NULL) {
        const size_t row_bytes = d * adm_dtype_bytes(c->shape.dtype);
        const uint32_t layer = adm_gpu_session_layer(s, set), step = adm_gpu_session_step(s, set);
        const char *from = tensor == ADM_INPUT_Q ? s->q[layer] : tensor == ADM_INPUT_K ? s->k[layer] : s->v[layer];
        const size_t row = tensor == ADM_INPUT_Q ? (size_t)step * c->shape.heads.n_q_heads + head
                                                 : (size_t)head * s->n_tokens + t;
        memcpy(out, from + row * row_bytes, row_bytes);
        return;
    }
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < d; i++)
        row[i] = adm_input_value(in->seed, tensor, b, kv_head, head, tensor == ADM_INPUT_Q ? set : t, i, d);
    adm_from_f32(c->shape.dtype, row, d, out);
}

static void fill_copy(adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t copy) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, copy), *s = &shape;
    adm_gpu_buffers p = c->buffers[copy];
    uint32_t longest[64];
    const size_t n = (size_t)s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * s->heads.head_dim;
    if (p.channels != NULL)
        memcpy((float *)(uintptr_t)p.channels, in->channels + copy % c->plan.n_layers * n, n * sizeof *in->channels);
    for (uint32_t b = 0; b < s->batch; b++) {
        longest[b] = adm_gpu_inputs_length(in, b);
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++)
            for (uint32_t t = 0; t < longest[b]; t++) {
                fill_row(c, in, copy, ADM_INPUT_K, b, h, t, (char *)p.k + adm_fake_gpu_kv_at(s, &p, b, h, t));
                fill_row(c, in, copy, ADM_INPUT_V, b, h, t, (char *)p.v + adm_fake_gpu_kv_at(s, &p, b, h, t));
            }
    }
    p.length = longest;
    adm_fake_gpu_encode_prompt(s, &p);
}

static void fill_set(adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t set) {
    const adm_gpu_shape *s = &c->shape;
    const adm_gpu_buffers *p = &c->buffers[set];
    const size_t row_bytes = s->heads.head_dim * adm_dtype_bytes(s->dtype);
    for (uint32_t b = 0; b < s->batch; b++) {
        const uint32_t n = in->session != NULL ? in->session->length[adm_gpu_session_step(in->session, set)] : in->length[b];
        memcpy((uint32_t *)p->length + b, &n, sizeof n);
        for (uint32_t h = 0; h < s->heads.n_q_heads; h++)
            fill_row(c, in, set, ADM_INPUT_Q, b, h, 0, (char *)p->q + (b * s->heads.n_q_heads + h) * row_bytes);
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++) {
            const size_t at = (b * s->heads.n_kv_heads + h) * row_bytes;
            fill_row(c, in, set, ADM_INPUT_K, b, h, n > 0 ? n - 1 : 0, (char *)p->k_new + at);
            fill_row(c, in, set, ADM_INPUT_V, b, h, n > 0 ? n - 1 : 0, (char *)p->v_new + at);
        }
    }
}

adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold,
                               adm_gpu_case **out, adm_error *err) {
    adm_gpu_case *c = adm_fake_gpu_memory(sizeof *c);
    *out = NULL;
    c->gpu = gpu;
    c->shape = *shape;
    adm_gpu_plan_make(shape, inputs, cold, gpu->info.l2_bytes, gpu->info.memory_bytes / 10 * 6, &c->plan);
    if (c->plan.bytes > gpu->info.memory_bytes) {
        adm_fail(err, ADM_EENVIRONMENT, "%s: out of device memory: %zu bytes needed, %llu free", gpu->info.name, c->plan.bytes,
                 (unsigned long long)gpu->info.memory_bytes);
        adm_fake_gpu_release(c);
        return ADM_EENVIRONMENT;
    }
    c->copies = adm_fake_gpu_memory(c->plan.n_kv * c->plan.copy_bytes);
    c->sets = adm_fake_gpu_memory(c->plan.n_sets * c->plan.set_bytes);
    c->shared = adm_fake_gpu_memory(c->plan.shared_bytes);
    c->pages = adm_fake_gpu_memory(c->plan.page_table_bytes + 1);
    c->buffers = adm_fake_gpu_memory(c->plan.n_sets * sizeof *c->buffers);
    c->threshold = adm_fake_gpu_memory(c->plan.n_layers * sizeof *c->threshold);
    adm_gpu_plan_pages(shape, c->pages);
    for (uint32_t i = 0; i < c->plan.n_layers; i++)
        memcpy(c->threshold[i], inputs->session != NULL ? inputs->session->threshold[i] : shape->threshold,
               sizeof *c->threshold);
    for (uint32_t i = 0; i < c->plan.n_sets; i++) {
        c->buffers[i] = adm_gpu_plan_buffers(&c->plan, i, c->copies, c->sets, c->shared, c->pages);
        fill_set(c, inputs, i);
        if (i < c->plan.n_kv) fill_copy(c, inputs, i);
    }
    *out = c;
    return ADM_OK;
}

void adm_gpu_case_free(adm_gpu_case **gpu_case) {
    adm_gpu_case *c = *gpu_case;
    *gpu_case = NULL;
    if (c == NULL) return;
    void *const owned[] = {c->copies, c->sets, c->shared, c->pages, c->buffers, c->threshold, c};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) adm_fake_gpu_release(owned[i]);
}

const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *c) { return &c->plan; }
const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *c, uint32_t set) { return &c->buffers[set]; }
const int32_t *adm_gpu_case_pages(const adm_gpu_case *c) { return c->pages; }
void adm_gpu_case_set_rule(adm_gpu_case *c, const adm_select_rule *rule) { c->shape.rule = *rule; }

adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *c, uint32_t set) {
    adm_gpu_shape shape = c->shape;
    memcpy(shape.threshold, c->threshold[set % c->plan.n_layers], sizeof shape.threshold);
    return shape;
}

adm_status adm_gpu_case_poison(adm_gpu_case *c, uint32_t set, uint32_t covers, adm_error *err) {
    (void)err;
    const adm_gpu_plan *p = &c->plan;
    char *own = c->sets + set * p->set_bytes;
    if (covers & BIT(HADAMARD)) memset(own + p->y, 0xff, p->code - p->y);
    if (covers & BIT(BUCKET)) memset(own + p->code, 0xff, p->packed - p->code);
    if (covers & BIT(PACK)) memset(own + p->packed, 0xff, p->index - p->packed);
    if (covers & BIT(TOPK)) memset(own + p->index, 0xff, p->out - p->index);
    if (covers & BIT(DISTANCE)) memset(c->shared + p->distance, 0xff, p->workspace - p->distance);
    if ((covers & ADM_GPU_COVERS_PROMPT) && !p->similar_queries) memset(c->buffers[set].planes, 0xff, p->planes_bytes);
    if (covers & (BIT(ATTENTION) | BIT(DENSE))) memset(own + p->out, 0xff, p->set_bytes - p->out);
    return ADM_OK;
}

adm_status adm_gpu_case_run(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set, adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, set);
    for (size_t i = 0; i < n_impls; i++) {
        adm_status status = impls[i]->launch(&shape, &c->buffers[set], NULL, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

adm_status adm_gpu_case_run_first(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_sets,
                                  adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = n_sets; status == ADM_OK && i > 0; i--) status = adm_gpu_case_run(c, impls, n_impls, i - 1, err);
    return status;
}

adm_status adm_gpu_case_run_all(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err) {
    return adm_gpu_case_run_first(c, impls, n_impls, c->plan.n_sets, err);
}

/* Times made up from what the unit is: 1 us an implementation, and some for the variety of samples. */
adm_status adm_gpu_time(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err) {
    uint32_t covers = 0;
    (void)target, (void)cap_ns;
    for (size_t i = 0; i < n_impls; i++) covers |= impls[i]->covers;
    *timing = (adm_gpu_timing){
        .n_samples = n_timings(), .median_ci_ratio = 0.004, .n_sets = adm_gpu_plan_rotation(&c->plan, &c->shape, covers)};
    timing->n_calls = timing->n_sets;
    for (uint32_t i = 0; i < timing->n_sets; i++) {
        adm_status status = adm_gpu_case_run(c, impls, n_impls, i, err);
        if (status != ADM_OK) return status;
    }
    adm_status status = adm_alloc(&timing->sample_ns, timing->n_samples, sizeof(double), "samples", err);
    timing->start_ns = adm_clock_ns();
    if (status == ADM_OK) status = adm_alloc(&timing->end_ns, timing->n_samples, sizeof *timing->end_ns, "samples", err);
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples; i++) timing->end_ns[i] = adm_clock_ns();
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    const double longer = covers == BIT(DENSE) && asked != NULL && strstr(asked, "slow-dense") != NULL ? 1e6 : 0;
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples && is_honest(); i++) {
        const uint64_t start = adm_clock_ns();
        status = adm_gpu_case_run(c, impls, n_impls, (uint32_t)i % timing->n_sets, err);
        timing->sample_ns[i] = (double)(adm_clock_ns() - start);
    }
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples && !is_honest(); i++)
        timing->sample_ns[i] = longer + 1000.0 * (double)n_impls * (mode == ADM_LAUNCH_STREAM ? 3 : 1) + (double)(i * 7 % 20);
    return status;
}
