/* gpu_run.cu: cases and timing on a device; see gpu_run.h.
 *
 * A case's memory is one allocation for the copies of the cache and one for the sets:
 *
 *   kv_block   [n_kv]   | K | V | planes |
 *   set_block  [n_sets] | q | k_new | v_new | y | code | packed | distance | index | n_selected | out | workspace |
 *
 * with every part on a 256-byte boundary. All copies of the cache hold the same values: only the addresses differ. */
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

/* Byte offsets of a set's parts inside its block. */
struct set_layout {
    size_t q, k_new, v_new, y, code, packed, distance, index, n_selected, out, workspace, bytes;
};

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;
    uint32_t most_budget;      /* index rows are laid out for this many */
    uint32_t n_sets, n_kv;
    size_t kv_bytes;           /* of K, and of V, in one copy */
    size_t planes_bytes;
    size_t workspace_bytes;
    set_layout layout;
    char *kv_block, *set_block;
    uint32_t *d_length;
    int32_t *d_pages, *h_pages;
    adm_gpu_buffers *buffers;  /* [n_sets] */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static size_t most(size_t a, size_t b) { return a > b ? a : b; }

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

/* out: K or V of one copy, [batch][n_kv][capacity][d] or paged. One block a (token, KV head, sequence), d threads. */
__global__ static void fill_cache(void *out, adm_gpu_shape shape, const uint32_t *length, const int32_t *pages,
                                  adm_input_tensor tensor, uint64_t seed) {
    uint32_t h = blockIdx.y, b = blockIdx.z, d = shape.heads.head_dim, i = threadIdx.x;
    for (uint32_t t = blockIdx.x; t < length[b]; t += gridDim.x) {
        size_t row = ((size_t)b * shape.heads.n_kv_heads + h) * shape.capacity + t;
        if (shape.page_size > 0) {
            size_t page = (size_t)pages[(size_t)b * shape.max_pages + t / shape.page_size];
            row = (page * shape.heads.n_kv_heads + h) * shape.page_size + t % shape.page_size;
        }
        store_value(out, row * d + i, shape.dtype, adm_input_value(seed, tensor, b, h, h, t, i, d));
    }
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

static cudaError_t fill_case(adm_gpu_case *c, uint64_t seed) {
    const adm_gpu_shape *s = &c->shape;
    cudaStream_t stream = c->gpu->stream;
    dim3 cache_grid(least(s->capacity, 4096), s->heads.n_kv_heads, s->batch);
    for (uint32_t i = 0; i < c->n_kv; i++) {
        const adm_gpu_buffers *b = &c->buffers[i];
        fill_cache<<<cache_grid, s->heads.head_dim, 0, stream>>>(b->k, *s, c->d_length, c->d_pages, ADM_INPUT_K, seed);
        fill_cache<<<cache_grid, s->heads.head_dim, 0, stream>>>(b->v, *s, c->d_length, c->d_pages, ADM_INPUT_V, seed);
    }
    for (uint32_t i = 0; i < c->n_sets; i++) {
        const adm_gpu_buffers *b = &c->buffers[i];
        dim3 q_grid(s->heads.n_q_heads, s->batch), kv_grid(s->heads.n_kv_heads, s->batch);
        uint32_t d = s->heads.head_dim;
        fill_rows<<<q_grid, d, 0, stream>>>((void *)b->q, *s, c->d_length, ADM_INPUT_Q, s->heads.n_q_heads, i, seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->k_new, *s, c->d_length, ADM_INPUT_K, s->heads.n_kv_heads, 0, seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->v_new, *s, c->d_length, ADM_INPUT_V, s->heads.n_kv_heads, 0, seed);
    }
    return cudaGetLastError();
}

/* --- Cases -------------------------------------------------------------------------------------------------------- */

static size_t part(size_t *at, size_t bytes) {
    size_t here = *at;
    *at += (bytes + 255) / 256 * 256;
    return here;
}

static set_layout lay_out_set(const adm_gpu_shape *s, size_t workspace_bytes) {
    size_t q_rows = (size_t)s->batch * s->heads.n_q_heads, kv_rows = (size_t)s->batch * s->heads.n_kv_heads;
    size_t d = s->heads.head_dim, element = adm_dtype_bytes(s->dtype);
    set_layout l;
    size_t at = 0;
    l.q = part(&at, q_rows * d * element);
    l.k_new = part(&at, kv_rows * d * element);
    l.v_new = part(&at, kv_rows * d * element);
    l.y = part(&at, (q_rows + kv_rows) * d * sizeof(float));
    l.code = part(&at, (q_rows + kv_rows) * d);
    l.packed = part(&at, (q_rows + kv_rows) * d / 4);
    l.distance = part(&at, q_rows * s->capacity * sizeof(uint16_t));
    l.index = part(&at, q_rows * s->rule.budget * sizeof(uint32_t));
    l.n_selected = part(&at, q_rows * sizeof(uint32_t));
    l.out = part(&at, q_rows * d * element);
    l.workspace = part(&at, workspace_bytes);
    l.bytes = at;
    return l;
}

static size_t largest_workspace(const adm_gpu_shape *shape) {
    size_t largest = 0;
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *impl = adm_gpu_registry_at(i);
        if (impl->workspace_bytes != NULL) largest = most(largest, impl->workspace_bytes(shape));
    }
    return largest;
}

/* How many copies and sets make the cache cold, within 60% of the memory that is free. */
static void choose_counts(adm_gpu_case *c, bool cold, size_t free_bytes) {
    const adm_gpu_shape *s = &c->shape;
    c->n_kv = c->n_sets = 1;
    if (!cold) return;
    size_t wanted = 4 * (size_t)c->gpu->info.l2_bytes, copy = 2 * c->kv_bytes + c->planes_bytes;
    size_t selected = (size_t)s->batch * s->heads.n_q_heads * least(s->rule.budget, s->capacity) * 2 *
                      s->heads.head_dim * adm_dtype_bytes(s->dtype);
    size_t room = free_bytes / 10 * 6;
    c->n_kv = (uint32_t)least((wanted + c->planes_bytes - 1) / c->planes_bytes, most(1, room / copy));
    c->n_kv = most(1, least(c->n_kv, 64));
    c->n_sets = (uint32_t)least((wanted + selected - 1) / selected, 128);
    c->n_sets = most(c->n_sets, c->n_kv);
    size_t left = room > c->n_kv * copy ? room - c->n_kv * copy : 0;
    c->n_sets = (uint32_t)least(c->n_sets, most(1, left / c->layout.bytes));
    c->n_sets = most(c->n_sets / c->n_kv * c->n_kv, c->n_kv); /* every copy as often as every other */
}

static void point_buffers(adm_gpu_case *c) {
    size_t copy = 2 * c->kv_bytes + c->planes_bytes;
    for (uint32_t i = 0; i < c->n_sets; i++) {
        char *kv = c->kv_block + (i % c->n_kv) * copy, *set = c->set_block + i * c->layout.bytes;
        const set_layout *l = &c->layout;
        adm_gpu_buffers b = {};
        b.k = kv;
        b.v = kv + c->kv_bytes;
        b.planes = (uint32_t *)(kv + 2 * c->kv_bytes);
        b.page_table = c->d_pages;
        b.length = c->d_length;
        b.q = set + l->q;
        b.k_new = set + l->k_new;
        b.v_new = set + l->v_new;
        b.y = (float *)(set + l->y);
        b.code = (uint8_t *)(set + l->code);
        b.packed = (uint8_t *)(set + l->packed);
        b.distance = (uint16_t *)(set + l->distance);
        b.index = (uint32_t *)(set + l->index);
        b.n_selected = (uint32_t *)(set + l->n_selected);
        b.out = set + l->out;
        b.workspace = set + l->workspace;
        c->buffers[i] = b;
    }
}

/* Pages in a scattered order, as a serving system's allocator leaves them: a fixed odd stride through the pool. */
static adm_status make_pages(adm_gpu_case *c, adm_error *err) {
    const adm_gpu_shape *s = &c->shape;
    if (s->page_size == 0) return ADM_OK;
    size_t n = (size_t)s->batch * s->max_pages;
    adm_status status = adm_alloc(&c->h_pages, n, sizeof *c->h_pages, "page table", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < n; i++) c->h_pages[i] = (int32_t)i;
    uint64_t state = 1;
    for (size_t i = n; i > 1; i--) {
        state = adm_input_mix(state + 0x9e3779b97f4a7c15u);
        int32_t page = c->h_pages[i - 1];
        c->h_pages[i - 1] = c->h_pages[state % i];
        c->h_pages[state % i] = page;
    }
    cudaError_t result = cudaMalloc((void **)&c->d_pages, n * sizeof *c->d_pages);
    if (result == cudaSuccess)
        result = cudaMemcpy(c->d_pages, c->h_pages, n * sizeof *c->d_pages, cudaMemcpyHostToDevice);
    return cuda_status(c->gpu, result, "placing the page table", err);
}

static adm_status allocate(adm_gpu_case *c, bool cold, const uint32_t *length, adm_error *err) {
    size_t free_bytes = 0, all_bytes = 0;
    cudaError_t result = cudaMemGetInfo(&free_bytes, &all_bytes);
    if (result != cudaSuccess) return cuda_status(c->gpu, result, "asking for free memory", err);
    choose_counts(c, cold, free_bytes);
    size_t kv = c->n_kv * (2 * c->kv_bytes + c->planes_bytes), sets = c->n_sets * c->layout.bytes;
    if (kv + sets > free_bytes)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of device memory: %.2f GiB needed, %.2f GiB free", c->gpu->info.name,
                        (double)(kv + sets) / 0x1p30, (double)free_bytes / 0x1p30);
    result = cudaMalloc((void **)&c->kv_block, kv);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->set_block, sets);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->d_length, c->shape.batch * sizeof *c->d_length);
    if (result == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of device memory: %.2f GiB needed in two pieces, %.2f GiB free",
                        c->gpu->info.name, (double)(kv + sets) / 0x1p30, (double)free_bytes / 0x1p30);
    }
    if (result == cudaSuccess) result = cudaMemsetAsync(c->set_block, 0, sets, c->gpu->stream);
    if (result == cudaSuccess) result = cudaMemsetAsync(c->kv_block, 0, kv, c->gpu->stream);
    if (result == cudaSuccess)
        result = cudaMemcpyAsync(c->d_length, length, c->shape.batch * sizeof *length, cudaMemcpyHostToDevice,
                                 c->gpu->stream);
    return cuda_status(c->gpu, result, "preparing memory", err);
}

extern "C" adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const uint32_t *length,
                                          uint64_t seed, bool cold, adm_gpu_case **out, adm_error *err) {
    adm_gpu_case *c = NULL;
    *out = NULL;
    adm_status status = adm_shape_check(&shape->heads, err);
    if (status == ADM_OK) status = adm_alloc(&c, 1, sizeof *c, "GPU case", err);
    if (status != ADM_OK) return status;
    const size_t d = shape->heads.head_dim, tokens = (size_t)shape->batch * shape->heads.n_kv_heads * shape->capacity;
    const size_t pool = shape->page_size == 0 ? tokens
                        : (size_t)shape->batch * shape->max_pages * shape->heads.n_kv_heads * shape->page_size;
    c->gpu = gpu;
    c->shape = *shape;
    c->most_budget = shape->rule.budget;
    c->kv_bytes = (pool * d * adm_dtype_bytes(shape->dtype) + 255) / 256 * 256;
    c->planes_bytes = (tokens * d / 4 + 255) / 256 * 256;
    c->workspace_bytes = largest_workspace(shape);
    c->layout = lay_out_set(shape, c->workspace_bytes);
    status = make_pages(c, err);
    if (status == ADM_OK) status = allocate(c, cold, length, err);
    if (status == ADM_OK) status = adm_alloc(&c->buffers, c->n_sets, sizeof *c->buffers, "GPU buffers", err);
    if (status == ADM_OK) {
        point_buffers(c);
        status = cuda_status(gpu, fill_case(c, seed), "making inputs", err);
    }
    for (uint32_t i = 0; status == ADM_OK && i < c->n_kv; i++)
        status = adm_gpu_encode_prompt(&c->shape, &c->buffers[i], gpu->stream, err);
    if (status == ADM_OK) status = cuda_status(gpu, cudaStreamSynchronize(gpu->stream), "making inputs", err);
    if (status != ADM_OK) {
        adm_gpu_case_free(&c);
        return status;
    }
    *out = c;
    return ADM_OK;
}

extern "C" void adm_gpu_case_free(adm_gpu_case **gpu_case) {
    adm_gpu_case *c = *gpu_case;
    if (c == NULL) return;
    cudaFree(c->kv_block);
    cudaFree(c->set_block);
    cudaFree(c->d_length);
    cudaFree(c->d_pages);
    adm_free(&c->h_pages);
    adm_free(&c->buffers);
    adm_free(gpu_case);
}

extern "C" uint32_t adm_gpu_case_n_sets(const adm_gpu_case *c) { return c->n_sets; }
extern "C" uint32_t adm_gpu_case_n_kv(const adm_gpu_case *c) { return c->n_kv; }
extern "C" const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *c, uint32_t set) { return &c->buffers[set]; }
extern "C" const int32_t *adm_gpu_case_pages(const adm_gpu_case *c) { return c->h_pages; }

extern "C" void adm_gpu_case_set_rule(adm_gpu_case *c, const adm_select_rule *rule) {
    c->shape.rule = *rule;
    c->shape.rule.budget = least(rule->budget, c->most_budget);
}

extern "C" adm_status adm_gpu_case_poison(adm_gpu_case *c, uint32_t set, uint32_t covers, adm_error *err) {
    /* Parts of a set follow one another: what a stage writes ends where the next part begins. */
    const set_layout *l = &c->layout;
    const struct { adm_stage stage; size_t from, to; } written[] = {
        {ADM_STAGE_HADAMARD, l->y, l->code},         {ADM_STAGE_BUCKET, l->code, l->packed},
        {ADM_STAGE_PACK, l->packed, l->distance},    {ADM_STAGE_DISTANCE, l->distance, l->index},
        {ADM_STAGE_TOPK, l->index, l->out},          {ADM_STAGE_ATTENTION, l->out, l->workspace},
        {ADM_STAGE_DENSE, l->out, l->workspace},
    };
    char *block = c->set_block + set * l->bytes;
    cudaError_t result = cudaSuccess;
    for (size_t i = 0; i < sizeof written / sizeof written[0] && result == cudaSuccess; i++)
        if (covers >> written[i].stage & 1)
            result = cudaMemsetAsync(block + written[i].from, 0xff, written[i].to - written[i].from, c->gpu->stream);
    return cuda_status(c->gpu, result, "poisoning outputs", err);
}

/* A set's workspace serves one implementation after another, and each may rely on the zeros of gpu.h. */
static adm_status clear_workspaces(adm_gpu_case *c, adm_error *err) {
    if (c->workspace_bytes == 0) return ADM_OK;
    cudaError_t result = cudaMemset2DAsync(c->set_block + c->layout.workspace, c->layout.bytes, 0, c->workspace_bytes,
                                           c->n_sets, c->gpu->stream);
    return cuda_status(c->gpu, result, "clearing workspaces", err);
}

static adm_status enqueue(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                          adm_error *err) {
    for (size_t i = 0; i < n_impls; i++) {
        adm_status status = impls[i]->launch(&c->shape, &c->buffers[set], c->gpu->stream, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

extern "C" adm_status adm_gpu_case_run(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                       adm_error *err) {
    adm_status status = clear_workspaces(c, err);
    if (status == ADM_OK) status = enqueue(c, impls, n_impls, set, err);
    cudaError_t result = cudaStreamSynchronize(c->gpu->stream);
    return status != ADM_OK ? status : cuda_status(c->gpu, result, impls[0]->name, err);
}

/* --- Timing ------------------------------------------------------------------------------------------------------- */

/* n_calls calls over the sets in turn. */
static adm_status enqueue_calls(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_calls,
                                adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < n_calls; i++) status = enqueue(c, impls, n_impls, i % c->n_sets, err);
    return status;
}

static adm_status capture(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_calls,
                          cudaGraphExec_t *exec, adm_error *err) {
    cudaGraph_t graph = NULL;
    cudaStream_t stream = c->gpu->stream;
    cudaError_t result = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) return cuda_status(c->gpu, result, "starting a graph capture", err);
    adm_status status = enqueue_calls(c, impls, n_impls, n_calls, err);
    result = cudaStreamEndCapture(stream, &graph);
    if (status == ADM_OK) status = cuda_status(c->gpu, result, "capturing a graph", err);
    if (status == ADM_OK) status = cuda_status(c->gpu, cudaGraphInstantiate(exec, graph, 0), "making a graph", err);
    if (graph != NULL) cudaGraphDestroy(graph);
    return status;
}

/* One sample: nanoseconds a call. */
static adm_status take_sample(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_calls,
                              cudaGraphExec_t exec, double *ns, adm_error *err) {
    adm_gpu *gpu = c->gpu;
    float milliseconds = 0;
    adm_status status = cuda_status(gpu, cudaEventRecord(gpu->before, gpu->stream), "recording an event", err);
    if (status == ADM_OK)
        status = exec != NULL ? cuda_status(gpu, cudaGraphLaunch(exec, gpu->stream), "launching a graph", err)
                              : enqueue_calls(c, impls, n_impls, n_calls, err);
    if (status != ADM_OK) return status;
    cudaError_t result = cudaEventRecord(gpu->after, gpu->stream);
    if (result == cudaSuccess) result = cudaEventSynchronize(gpu->after);
    if (result == cudaSuccess) result = cudaEventElapsedTime(&milliseconds, gpu->before, gpu->after);
    *ns = (double)milliseconds * 1e6 / n_calls;
    return cuda_status(gpu, result, impls[0]->name, err);
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

static adm_status sample_until_sure(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls,
                                    cudaGraphExec_t exec, double target, uint64_t cap_ns, adm_gpu_timing *timing,
                                    adm_error *err) {
    double *scratch = NULL, warm_up;
    adm_status status = adm_alloc(&timing->sample_ns, MAX_SAMPLES, sizeof(double), "samples", err);
    if (status == ADM_OK) status = adm_alloc(&scratch, MAX_SAMPLES, sizeof(double), "samples", err);
    for (int i = 0; status == ADM_OK && i < 3; i++)
        status = take_sample(c, impls, n_impls, timing->n_calls, exec, &warm_up, err);
    uint64_t start = adm_clock_ns();
    while (status == ADM_OK && timing->n_samples < MAX_SAMPLES) {
        status = take_sample(c, impls, n_impls, timing->n_calls, exec, &timing->sample_ns[timing->n_samples], err);
        if (status == ADM_OK) timing->n_samples++;
        if (timing->n_samples < MIN_SAMPLES) continue;
        timing->converged = median_uncertainty(timing->sample_ns, timing->n_samples, scratch) <= target;
        if (timing->converged || adm_clock_ns() - start > cap_ns) break;
    }
    adm_free(&scratch);
    return status;
}

extern "C" adm_status adm_gpu_time(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls,
                                   adm_gpu_launch_mode mode, double target, uint64_t cap_ns, adm_gpu_timing *timing,
                                   adm_error *err) {
    cudaGraphExec_t exec = NULL;
    memset(timing, 0, sizeof *timing);
    /* A first guess at the duration of a call decides how many make a sample. */
    uint32_t rounds = (32 + c->n_sets - 1) / c->n_sets;
    timing->n_calls = rounds * c->n_sets;
    double ns = 0;
    adm_status status = clear_workspaces(c, err);
    if (status == ADM_OK) status = take_sample(c, impls, n_impls, timing->n_calls, NULL, &ns, err);
    if (status == ADM_OK) status = take_sample(c, impls, n_impls, timing->n_calls, NULL, &ns, err);
    if (status == ADM_OK) {
        double most_calls = (double)MAX_NODES / (double)n_impls;
        double calls = fmin(fmax(sample_ns_wanted / ns, 1), most_calls);
        timing->n_calls = (uint32_t)fmax(1, ceil(calls / c->n_sets)) * c->n_sets;
    }
    if (status == ADM_OK && mode == ADM_LAUNCH_GRAPH) status = capture(c, impls, n_impls, timing->n_calls, &exec, err);
    if (status == ADM_OK) status = sample_until_sure(c, impls, n_impls, exec, target, cap_ns, timing, err);
    if (exec != NULL) cudaGraphExecDestroy(exec);
    if (status != ADM_OK) adm_free(&timing->sample_ns);
    return status;
}
