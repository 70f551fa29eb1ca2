/* gpu_run.cu: cases and timing on a device; see gpu_run.h, and gpu_plan.h for how a case's memory is cut. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "core/clock.h"
#include "core/mem.h"
#include "kernels/gpu_input.h"
#include "kernels/gpu_launch.h"
#include "kernels/gpu_run.h"

struct adm_gpu {
    adm_device_info info;
    cudaStream_t stream;
    cudaEvent_t before, after;
    bool alive;
};

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;       /* with the present budget */
    adm_gpu_shape most;        /* with the largest, for which everything is laid out */
    adm_gpu_plan plan;
    char *copies, *sets, *shared;
    int32_t *d_pages, *h_pages;
    adm_gpu_buffers *buffers;  /* [n_sets] */
    float (*threshold)[3];     /* [n_layers] */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Turns a CUDA result into a status; remembers a context that is gone. */
static adm_status cuda_status(adm_gpu *gpu, cudaError_t result, const char *doing, adm_error *err) {
    if (result == cudaSuccess) return ADM_OK;
    if (cudaStreamQuery(gpu->stream) == result && result != cudaErrorNotReady) gpu->alive = false;
    cudaGetLastError();
    return adm_fail(err, ADM_EENVIRONMENT, "%s: %s failed: %s", gpu->info.name, doing, cudaGetErrorString(result));
}

/* --- Device ------------------------------------------------------------------------------------------------------- */

extern "C" adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    adm_device_info list[16];
    int n = 0;
    *out = NULL;
    adm_status status = adm_device_list(list, 16, &n, err);
    if (status != ADM_OK) return status;
    if (n > 16) n = 16;
    if (device < 0 || device >= n)
        return adm_fail(err, ADM_EINPUT, "device %d: there are devices 0 to %d", device, n - 1);
    adm_gpu *gpu = NULL;
    status = adm_alloc(&gpu, 1, sizeof *gpu, "GPU", err);
    if (status != ADM_OK) return status;
    gpu->info = list[device];
    gpu->alive = true;
    cudaError_t result = cudaSetDevice(device);
    if (result == cudaSuccess) result = cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking);
    if (result == cudaSuccess) result = cudaEventCreate(&gpu->before);
    if (result == cudaSuccess) result = cudaEventCreate(&gpu->after);
    if (result != cudaSuccess) {
        status = cuda_status(gpu, result, "opening the device", err);
        adm_gpu_close(&gpu);
        return status;
    }
    *out = gpu;
    return ADM_OK;
}

extern "C" void adm_gpu_close(adm_gpu **gpu) {
    if (*gpu == NULL) return;
    if ((*gpu)->before != NULL) cudaEventDestroy((*gpu)->before);
    if ((*gpu)->after != NULL) cudaEventDestroy((*gpu)->after);
    if ((*gpu)->stream != NULL) cudaStreamDestroy((*gpu)->stream);
    adm_free(gpu);
}

extern "C" const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
extern "C" adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu) { return gpu->stream; }
extern "C" bool adm_gpu_alive(const adm_gpu *gpu) { return gpu->alive; }

extern "C" adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    cudaError_t result = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gpu->stream);
    if (result == cudaSuccess) result = cudaStreamSynchronize(gpu->stream);
    return cuda_status(gpu, result, "reading results", err);
}

/* --- Inputs ------------------------------------------------------------------------------------------------------- */

__device__ static void store_value(void *out, size_t at, adm_dtype dtype, float value) {
    if (dtype == ADM_F16) ((__half *)out)[at] = __float2half_rn(value);
    else ((__nv_bfloat16 *)out)[at] = __float2bfloat16_rn(value);
}

/* Where token t's row of K or V lies, in rows. */
__device__ static size_t cache_row(const adm_gpu_shape &shape, const int32_t *pages, uint32_t b, uint32_t h,
                                   uint32_t t) {
    if (shape.page_size == 0) return ((size_t)b * shape.heads.n_kv_heads + h) * shape.capacity + t;
    size_t page = (size_t)pages[(size_t)b * shape.max_pages + t / shape.page_size];
    return (page * shape.heads.n_kv_heads + h) * shape.page_size + t % shape.page_size;
}

/* out: K or V of one copy, [batch][n_kv][capacity][d] or paged. One block a (token, KV head, sequence), d threads. */
__global__ static void fill_cache(void *out, adm_gpu_shape shape, const uint32_t *length, const int32_t *pages,
                                  adm_input_tensor tensor, uint64_t seed) {
    uint32_t h = blockIdx.y, b = blockIdx.z, d = shape.heads.head_dim, i = threadIdx.x;
    for (uint32_t t = blockIdx.x; t < length[b]; t += gridDim.x)
        store_value(out, cache_row(shape, pages, b, h, t) * d + i, shape.dtype,
                    adm_input_value(seed, tensor, b, h, h, t, i, d));
}

/* A set's queries [batch][n_q][d], or its new keys or values [batch][n_kv][d], which are those of the newest token. */
__global__ static void fill_rows(void *out, adm_gpu_shape shape, const uint32_t *length, adm_input_tensor tensor,
                                 uint32_t n_heads, uint32_t draw, uint64_t seed) {
    uint32_t h = blockIdx.x, b = blockIdx.y, d = shape.heads.head_dim, i = threadIdx.x;
    uint32_t kv_head = tensor == ADM_INPUT_Q ? h / (shape.heads.n_q_heads / shape.heads.n_kv_heads) : h;
    uint32_t token = tensor == ADM_INPUT_Q ? draw : length[b] > 0 ? length[b] - 1 : 0;
    store_value(out, ((size_t)b * n_heads + h) * d + i, shape.dtype,
                adm_input_value(seed, tensor, b, kv_head, h, token, i, d));
}

/* rows: K or V of one sequence on the device, [n_kv][n_tokens][d], of which the first n_placed tokens go to the cache of
 * sequence blockIdx.z. */
__global__ static void place_rows(const uint16_t *rows, uint32_t n_tokens, uint32_t n_placed, void *out,
                                  adm_gpu_shape shape, const int32_t *pages) {
    uint32_t h = blockIdx.y, b = blockIdx.z, d = shape.heads.head_dim, i = threadIdx.x;
    for (uint32_t t = blockIdx.x; t < n_placed; t += gridDim.x)
        ((uint16_t *)out)[cache_row(shape, pages, b, h, t) * d + i] = rows[((size_t)h * n_tokens + t) * d + i];
}

static cudaError_t fill_random(adm_gpu_case *c, const adm_gpu_inputs *in) {
    const adm_gpu_shape *s = &c->shape;
    cudaStream_t stream = c->gpu->stream;
    const uint32_t d = s->heads.head_dim;
    const dim3 cache_grid(least(s->capacity, 4096), s->heads.n_kv_heads, s->batch);
    const dim3 q_grid(s->heads.n_q_heads, s->batch), kv_grid(s->heads.n_kv_heads, s->batch);
    cudaError_t result = cudaSuccess;
    for (uint32_t i = 0; i < c->plan.n_sets && result == cudaSuccess; i++) {
        const adm_gpu_buffers *b = &c->buffers[i];
        result = cudaMemcpyAsync((void *)b->length, in->length, s->batch * sizeof *in->length, cudaMemcpyHostToDevice,
                                 stream);
        if (result != cudaSuccess) break;
        fill_rows<<<q_grid, d, 0, stream>>>((void *)b->q, *s, b->length, ADM_INPUT_Q, s->heads.n_q_heads, i, in->seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->k_new, *s, b->length, ADM_INPUT_K, s->heads.n_kv_heads, 0,
                                             in->seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->v_new, *s, b->length, ADM_INPUT_V, s->heads.n_kv_heads, 0,
                                             in->seed);
        if (i >= c->plan.n_kv) continue;
        fill_cache<<<cache_grid, d, 0, stream>>>(b->k, *s, b->length, c->d_pages, ADM_INPUT_K, in->seed);
        fill_cache<<<cache_grid, d, 0, stream>>>(b->v, *s, b->length, c->d_pages, ADM_INPUT_V, in->seed);
    }
    return result == cudaSuccess ? cudaGetLastError() : result;
}

/* Every copy of one layer's K or V, through a copy of it on the device. */
static cudaError_t fill_layer(adm_gpu_case *c, const adm_gpu_session *session, uint32_t layer, bool is_v,
                              char *staging) {
    const adm_gpu_shape *s = &c->shape;
    const size_t bytes = (size_t)s->heads.n_kv_heads * session->n_tokens * s->heads.head_dim * adm_dtype_bytes(s->dtype);
    const uint32_t n_placed = session->length[session->n_steps - 1];
    const dim3 grid(least(n_placed, 4096), s->heads.n_kv_heads, s->batch);
    cudaError_t result = cudaMemcpyAsync(staging, is_v ? session->v[layer] : session->k[layer], bytes,
                                         cudaMemcpyHostToDevice, c->gpu->stream);
    for (uint32_t i = layer; i < c->plan.n_kv && result == cudaSuccess; i += session->n_layers) {
        void *to = is_v ? c->buffers[i].v : c->buffers[i].k;
        place_rows<<<grid, s->heads.head_dim, 0, c->gpu->stream>>>((const uint16_t *)staging, session->n_tokens,
                                                                   n_placed, to, *s, c->d_pages);
        result = cudaGetLastError();
    }
    return result;
}

/* A set's own query, new token and length. */
static cudaError_t fill_step(adm_gpu_case *c, const adm_gpu_session *session, uint32_t set) {
    const adm_gpu_shape *s = &c->shape;
    const adm_gpu_buffers *to = &c->buffers[set];
    const uint32_t layer = adm_gpu_session_layer(session, set), step = adm_gpu_session_step(session, set);
    const size_t row = s->heads.head_dim * adm_dtype_bytes(s->dtype), q_bytes = s->heads.n_q_heads * row;
    cudaError_t result = cudaSuccess;
    for (uint32_t b = 0; b < s->batch && result == cudaSuccess; b++) {
        const size_t at = (size_t)(session->length[step] - 1) * row, stride = session->n_tokens * row;
        const size_t new_row = b * s->heads.n_kv_heads * row;
        result = cudaMemcpyAsync((void *)(to->length + b), &session->length[step], sizeof *session->length,
                                 cudaMemcpyHostToDevice, c->gpu->stream);
        if (result == cudaSuccess)
            result = cudaMemcpyAsync((char *)to->q + b * q_bytes, (const char *)session->q[layer] + step * q_bytes,
                                     q_bytes, cudaMemcpyHostToDevice, c->gpu->stream);
        if (result == cudaSuccess)
            result = cudaMemcpy2DAsync((char *)to->k_new + new_row, row, (const char *)session->k[layer] + at, stride,
                                       row, s->heads.n_kv_heads, cudaMemcpyHostToDevice, c->gpu->stream);
        if (result == cudaSuccess)
            result = cudaMemcpy2DAsync((char *)to->v_new + new_row, row, (const char *)session->v[layer] + at, stride,
                                       row, s->heads.n_kv_heads, cudaMemcpyHostToDevice, c->gpu->stream);
    }
    return result;
}

static cudaError_t fill_session(adm_gpu_case *c, const adm_gpu_session *session) {
    const adm_gpu_shape *s = &c->shape;
    char *staging = NULL;
    cudaError_t result = cudaMalloc((void **)&staging, (size_t)s->heads.n_kv_heads * session->n_tokens *
                                                           s->heads.head_dim * adm_dtype_bytes(s->dtype));
    for (uint32_t layer = 0; layer < session->n_layers && result == cudaSuccess; layer++) {
        result = fill_layer(c, session, layer, false, staging);
        if (result == cudaSuccess) result = fill_layer(c, session, layer, true, staging);
    }
    for (uint32_t i = 0; i < c->plan.n_sets && result == cudaSuccess; i++) result = fill_step(c, session, i);
    cudaError_t done = cudaStreamSynchronize(c->gpu->stream);
    cudaFree(staging);
    return result == cudaSuccess ? done : result;
}

/* The codes of every copy, of the longest step's tokens. */
static adm_status encode_copies(adm_gpu_case *c, const adm_gpu_inputs *in, adm_error *err) {
    uint32_t *length = NULL;
    adm_status status = ADM_OK;
    cudaError_t result = cudaMalloc((void **)&length, c->shape.batch * sizeof *length);
    for (uint32_t b = 0; b < c->shape.batch && result == cudaSuccess; b++) {
        const uint32_t longest = adm_gpu_inputs_length(in, b);
        result = cudaMemcpyAsync(length + b, &longest, sizeof longest, cudaMemcpyHostToDevice, c->gpu->stream);
    }
    for (uint32_t i = 0; result == cudaSuccess && status == ADM_OK && i < c->plan.n_kv; i++) {
        adm_gpu_buffers buffers = c->buffers[i];
        adm_gpu_shape shape = adm_gpu_case_shape(c, i);
        shape.selection = ADM_SELECT_HEAD; /* a prompt selects nothing */
        buffers.length = length;
        status = adm_gpu_encode_prompt(&shape, &buffers, c->gpu->stream, err);
    }
    cudaError_t done = cudaStreamSynchronize(c->gpu->stream);
    cudaFree(length);
    if (status != ADM_OK) return status;
    return cuda_status(c->gpu, result == cudaSuccess ? done : result, "encoding the prompt", err);
}

/* --- Cases -------------------------------------------------------------------------------------------------------- */

static adm_status make_pages(adm_gpu_case *c, adm_error *err) {
    const adm_gpu_shape *s = &c->shape;
    if (s->page_size == 0) return ADM_OK;
    size_t n = (size_t)s->batch * s->max_pages;
    adm_status status = adm_alloc(&c->h_pages, n, sizeof *c->h_pages, "page table", err);
    if (status != ADM_OK) return status;
    adm_gpu_plan_pages(s, c->h_pages);
    cudaError_t result = cudaMemcpyAsync(c->d_pages, c->h_pages, n * sizeof *c->d_pages, cudaMemcpyHostToDevice,
                                         c->gpu->stream);
    return cuda_status(c->gpu, result, "placing the page table", err);
}

static adm_status out_of_memory(const adm_gpu_case *c, size_t free_bytes, adm_error *err) {
    const adm_gpu_plan *p = &c->plan;
    return adm_fail(err, ADM_EENVIRONMENT,
                    "%s: out of device memory: %.2f GiB needed (%u copies of K, V and codes of %.2f GiB, the rest %.2f GiB), "
                    "%.2f GiB free", c->gpu->info.name, (double)p->bytes / 0x1p30, p->n_kv, (double)p->copy_bytes / 0x1p30,
                    (double)(p->bytes - p->n_kv * p->copy_bytes) / 0x1p30, (double)free_bytes / 0x1p30);
}

static adm_status allocate(adm_gpu_case *c, const adm_gpu_inputs *in, bool cold, adm_error *err) {
    size_t free_bytes = 0, all_bytes = 0;
    cudaError_t result = cudaMemGetInfo(&free_bytes, &all_bytes);
    if (result != cudaSuccess) return cuda_status(c->gpu, result, "asking for free memory", err);
    adm_gpu_plan *p = &c->plan;
    adm_gpu_plan_make(&c->shape, in, cold, c->gpu->info.l2_bytes, free_bytes / 10 * 6, p);
    if (p->bytes > free_bytes) return out_of_memory(c, free_bytes, err);
    result = cudaMalloc((void **)&c->copies, p->n_kv * p->copy_bytes);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->sets, p->n_sets * p->set_bytes);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->shared, p->shared_bytes);
    if (result == cudaSuccess && p->page_table_bytes > 0) result = cudaMalloc((void **)&c->d_pages, p->page_table_bytes);
    if (result == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* the runtime would report it again to the next caller */
        return out_of_memory(c, free_bytes, err);
    }
    if (result == cudaSuccess) result = cudaMemsetAsync(c->sets, 0, p->n_sets * p->set_bytes, c->gpu->stream);
    if (result == cudaSuccess) result = cudaMemsetAsync(c->copies, 0, p->n_kv * p->copy_bytes, c->gpu->stream);
    if (result == cudaSuccess) result = cudaMemsetAsync(c->shared, 0, p->shared_bytes, c->gpu->stream);
    return cuda_status(c->gpu, result, "preparing memory", err);
}

static adm_status keep_thresholds(adm_gpu_case *c, const adm_gpu_inputs *in, adm_error *err) {
    adm_status status = adm_alloc(&c->threshold, c->plan.n_layers, sizeof *c->threshold, "thresholds", err);
    for (uint32_t l = 0; status == ADM_OK && l < c->plan.n_layers; l++)
        memcpy(c->threshold[l], in->session != NULL ? in->session->threshold[l] : c->shape.threshold,
               sizeof *c->threshold);
    return status;
}

extern "C" adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs,
                                          bool cold, adm_gpu_case **out, adm_error *err) {
    adm_gpu_case *c = NULL;
    *out = NULL;
    adm_status status = adm_shape_check(&shape->heads, err);
    if (status == ADM_OK) status = adm_alloc(&c, 1, sizeof *c, "GPU case", err);
    if (status != ADM_OK) return status;
    c->gpu = gpu;
    c->shape = *shape;
    c->most = *shape;
    status = allocate(c, inputs, cold, err);
    if (status == ADM_OK) status = make_pages(c, err);
    if (status == ADM_OK) status = keep_thresholds(c, inputs, err);
    if (status == ADM_OK) status = adm_alloc(&c->buffers, c->plan.n_sets, sizeof *c->buffers, "GPU buffers", err);
    for (uint32_t i = 0; status == ADM_OK && i < c->plan.n_sets; i++)
        c->buffers[i] = adm_gpu_plan_buffers(&c->plan, i, c->copies, c->sets, c->shared, c->d_pages);
    if (status == ADM_OK)
        status = cuda_status(gpu, inputs->session != NULL ? fill_session(c, inputs->session) : fill_random(c, inputs),
                             "making inputs", err);
    if (status == ADM_OK) status = encode_copies(c, inputs, err);
    if (status != ADM_OK) adm_gpu_case_free(&c);
    *out = c;
    return status;
}

extern "C" void adm_gpu_case_free(adm_gpu_case **gpu_case) {
    adm_gpu_case *c = *gpu_case;
    if (c == NULL) return;
    cudaFree(c->copies);
    cudaFree(c->sets);
    cudaFree(c->shared);
    cudaFree(c->d_pages);
    adm_free(&c->h_pages);
    adm_free(&c->buffers);
    adm_free(&c->threshold);
    adm_free(gpu_case);
}

extern "C" const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *c) { return &c->plan; }
extern "C" const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *c, uint32_t set) { return &c->buffers[set]; }
extern "C" const int32_t *adm_gpu_case_pages(const adm_gpu_case *c) { return c->h_pages; }

extern "C" adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *c, uint32_t set) {
    adm_gpu_shape shape = c->shape;
    memcpy(shape.threshold, c->threshold[set % c->plan.n_layers], sizeof shape.threshold);
    return shape;
}

extern "C" void adm_gpu_case_set_rule(adm_gpu_case *c, const adm_select_rule *rule) {
    c->shape.rule = *rule;
    c->shape.rule.budget = least(rule->budget, c->most.rule.budget);
}

extern "C" adm_status adm_gpu_case_poison(adm_gpu_case *c, uint32_t set, uint32_t covers, adm_error *err) {
    /* Parts follow one another: what a stage writes ends where the next part begins. */
    const adm_gpu_plan *p = &c->plan;
    char *own = c->sets + set * p->set_bytes;
    const struct { adm_stage stage; char *from, *to; } written[] = {
        {ADM_STAGE_HADAMARD, own + p->y, own + p->code},       {ADM_STAGE_BUCKET, own + p->code, own + p->packed},
        {ADM_STAGE_PACK, own + p->packed, own + p->index},     {ADM_STAGE_TOPK, own + p->index, own + p->out},
        {ADM_STAGE_DISTANCE, c->shared + p->distance, c->shared + p->workspace},
        {ADM_STAGE_ATTENTION, own + p->out, own + p->set_bytes}, {ADM_STAGE_DENSE, own + p->out, own + p->set_bytes},
    };
    cudaError_t result = cudaSuccess;
    for (size_t i = 0; i < sizeof written / sizeof written[0] && result == cudaSuccess; i++)
        if (covers >> written[i].stage & 1)
            result = cudaMemsetAsync(written[i].from, 0xff, (size_t)(written[i].to - written[i].from), c->gpu->stream);
    return cuda_status(c->gpu, result, "poisoning outputs", err);
}

/* A launch that failed may have left a workspace without the zeros of gpu.h. */
static adm_status clear_workspaces(adm_gpu_case *c, adm_error *err) {
    const size_t bytes = c->plan.shared_bytes - c->plan.workspace;
    if (bytes == 0) return ADM_OK;
    cudaError_t result = cudaMemsetAsync(c->shared + c->plan.workspace, 0, bytes, c->gpu->stream);
    return cuda_status(c->gpu, result, "clearing workspaces", err);
}

static adm_status enqueue(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                          adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, set);
    for (size_t i = 0; i < n_impls; i++) {
        adm_gpu_buffers buffers = c->buffers[set];
        buffers.workspace = (char *)buffers.workspace + adm_gpu_plan_workspace(&c->most, impls[i]);
        adm_status status = impls[i]->launch(&shape, &buffers, c->gpu->stream, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static adm_status run_sets(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t first, uint32_t n,
                           adm_error *err) {
    adm_status status = clear_workspaces(c, err);
    for (uint32_t i = n; status == ADM_OK && i > 0; i--) status = enqueue(c, impls, n_impls, first + i - 1, err);
    cudaError_t result = cudaStreamSynchronize(c->gpu->stream);
    return status != ADM_OK ? status : cuda_status(c->gpu, result, impls[0]->name, err);
}

extern "C" adm_status adm_gpu_case_run(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                       adm_error *err) {
    return run_sets(c, impls, n_impls, set, 1, err);
}

extern "C" adm_status adm_gpu_case_run_all(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls,
                                           adm_error *err) {
    return run_sets(c, impls, n_impls, 0, c->plan.n_sets, err);
}

extern "C" adm_status adm_gpu_case_clear(adm_gpu_case *c, adm_error *err) { return clear_workspaces(c, err); }

extern "C" adm_status adm_gpu_case_launch(adm_gpu_case *c, const adm_gpu_impl *impl, uint32_t set, adm_error *err) {
    return enqueue(c, &impl, 1, set, err);
}

/* --- Timing ------------------------------------------------------------------------------------------------------- */

/* What is timed as one, and over what. */
struct timed_unit {
    adm_gpu_case *c;
    const adm_gpu_impl *const *impls;
    size_t n_impls;
    uint32_t n_sets, n_calls; /* n_calls calls over the first n_sets sets in turn */
};

static adm_status enqueue_calls(const timed_unit *u, adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < u->n_calls; i++)
        status = enqueue(u->c, u->impls, u->n_impls, i % u->n_sets, err);
    return status;
}

static adm_status capture(const timed_unit *u, cudaGraphExec_t *exec, adm_error *err) {
    adm_gpu *gpu = u->c->gpu;
    cudaGraph_t graph = NULL;
    cudaError_t result = cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) return cuda_status(gpu, result, "starting a graph capture", err);
    adm_status status = enqueue_calls(u, err);
    result = cudaStreamEndCapture(gpu->stream, &graph);
    if (status == ADM_OK) status = cuda_status(gpu, result, "capturing a graph", err);
    if (status == ADM_OK) status = cuda_status(gpu, cudaGraphInstantiate(exec, graph, 0), "making a graph", err);
    if (graph != NULL) cudaGraphDestroy(graph);
    cudaGetLastError(); /* what a refused launch left in the runtime is not the next caller's */
    return status;
}

/* One sample: nanoseconds a call. */
static adm_status take_sample(const timed_unit *u, cudaGraphExec_t exec, double *ns, adm_error *err) {
    adm_gpu *gpu = u->c->gpu;
    float milliseconds = 0;
    adm_status status = cuda_status(gpu, cudaEventRecord(gpu->before, gpu->stream), "recording an event", err);
    if (status == ADM_OK)
        status = exec != NULL ? cuda_status(gpu, cudaGraphLaunch(exec, gpu->stream), "launching a graph", err)
                              : enqueue_calls(u, err);
    if (status != ADM_OK) return status;
    cudaError_t result = cudaEventRecord(gpu->after, gpu->stream);
    if (result == cudaSuccess) result = cudaEventSynchronize(gpu->after);
    if (result == cudaSuccess) result = cudaEventElapsedTime(&milliseconds, gpu->before, gpu->after);
    *ns = (double)milliseconds * 1e6 / u->n_calls;
    return cuda_status(gpu, result, u->impls[0]->name, err);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Half the width of the 95% confidence interval of the median, relative to it: order statistics n/2 +- 0.98 sqrt(n). */
static double median_uncertainty(const double *samples, size_t n, double *scratch) {
    memcpy(scratch, samples, n * sizeof *scratch);
    qsort(scratch, n, sizeof *scratch, ascending);
    double half = 0.98 * sqrt((double)n);
    size_t low = (size_t)fmax(0, floor((double)n / 2 - half)), high = least(n - 1, (size_t)ceil((double)n / 2 + half));
    return (scratch[high] - scratch[low]) / 2 / scratch[n / 2];
}

enum { MIN_SAMPLES = 20, MAX_SAMPLES = 2000, MAX_NODES = 4000 };
static const double sample_ns_wanted = 1e6; /* a sample of 1 ms makes the microseconds of a graph launch invisible */

static adm_status sample_until_sure(const timed_unit *u, cudaGraphExec_t exec, double target, uint64_t cap_ns,
                                    adm_gpu_timing *timing, adm_error *err) {
    double *scratch = NULL, warm_up;
    adm_status status = adm_alloc(&timing->sample_ns, MAX_SAMPLES, sizeof(double), "samples", err);
    if (status == ADM_OK) status = adm_alloc(&timing->end_ns, MAX_SAMPLES, sizeof *timing->end_ns, "samples", err);
    if (status == ADM_OK) status = adm_alloc(&scratch, MAX_SAMPLES, sizeof(double), "samples", err);
    for (int i = 0; status == ADM_OK && i < 3; i++) status = take_sample(u, exec, &warm_up, err);
    const uint64_t start = timing->start_ns = adm_clock_ns();
    while (status == ADM_OK && timing->n_samples < MAX_SAMPLES) {
        status = take_sample(u, exec, &timing->sample_ns[timing->n_samples], err);
        if (status == ADM_OK) timing->end_ns[timing->n_samples++] = adm_clock_ns();
        if (timing->n_samples < MIN_SAMPLES) continue;
        timing->median_ci_ratio = median_uncertainty(timing->sample_ns, timing->n_samples, scratch);
        if (timing->median_ci_ratio <= target || adm_clock_ns() - start > cap_ns) break;
    }
    adm_free(&scratch);
    return status;
}

extern "C" adm_status adm_gpu_time(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls,
                                   adm_gpu_launch_mode mode, double target, uint64_t cap_ns, adm_gpu_timing *timing,
                                   adm_error *err) {
    cudaGraphExec_t exec = NULL;
    uint32_t covers = 0;
    memset(timing, 0, sizeof *timing);
    for (size_t i = 0; i < n_impls; i++) covers |= impls[i]->covers;
    timed_unit u = {c, impls, n_impls, adm_gpu_plan_rotation(&c->plan, &c->shape, covers), 0};
    /* A first guess at the duration of a call decides how many make a sample. */
    u.n_calls = (32 + u.n_sets - 1) / u.n_sets * u.n_sets;
    double ns = 0;
    adm_status status = clear_workspaces(c, err);
    if (status == ADM_OK) status = take_sample(&u, NULL, &ns, err);
    if (status == ADM_OK) status = take_sample(&u, NULL, &ns, err);
    if (status == ADM_OK) {
        double most_calls = (double)MAX_NODES / (double)n_impls;
        double calls = fmin(fmax(sample_ns_wanted / ns, 1), most_calls);
        u.n_calls = (uint32_t)fmax(1, ceil(calls / u.n_sets)) * u.n_sets;
    }
    if (status == ADM_OK && mode == ADM_LAUNCH_GRAPH) status = capture(&u, &exec, err);
    if (status == ADM_OK) status = sample_until_sure(&u, exec, target, cap_ns, timing, err);
    if (exec != NULL) cudaGraphExecDestroy(exec);
    timing->n_calls = u.n_calls;
    timing->n_sets = u.n_sets;
    if (status != ADM_OK) {
        adm_free(&timing->sample_ns);
        adm_free(&timing->end_ns);
    }
    return status;
}
