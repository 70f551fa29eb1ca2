/* fill.cu: the inputs of a GPU case. Random ones (input.h) are made on the device, a session's come from the host. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/base/minmax.h"
#include "kernels/gpu/fill.cuh"
#include "kernels/gpu/input.h"
#include "kernels/gpu/registry.h"

__device__ static void store_value(void *out, size_t at, adm_dtype dtype, float value) {
    if (dtype == ADM_F16) ((__half *)out)[at] = __float2half_rn(value);
    else ((__nv_bfloat16 *)out)[at] = __float2bfloat16_rn(value);
}

/* Where token t's row of K or V lies, in rows. */
__device__ static size_t cache_row(const adm_gpu_shape &shape, const int32_t *pages, uint32_t b, uint32_t h, uint32_t t) {
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
    store_value(out, ((size_t)b * n_heads + h) * d + i, shape.dtype, adm_input_value(seed, tensor, b, kv_head, h, token, i, d));
}

/* rows: K or V of one sequence on the device, [n_kv][n_tokens][d], of which the first n_placed tokens go to the cache of
 * sequence blockIdx.z. */
__global__ static void place_rows(const uint16_t *rows, uint32_t n_tokens, uint32_t n_placed, void *out, adm_gpu_shape shape,
                                  const int32_t *pages) {
    uint32_t h = blockIdx.y, b = blockIdx.z, d = shape.heads.head_dim, i = threadIdx.x;
    for (uint32_t t = blockIdx.x; t < n_placed; t += gridDim.x)
        ((uint16_t *)out)[cache_row(shape, pages, b, h, t) * d + i] = rows[((size_t)h * n_tokens + t) * d + i];
}

static cudaError_t fill_random(adm_gpu_case *c, const adm_gpu_inputs *in) {
    const adm_gpu_shape *s = &c->shape;
    cudaStream_t stream = c->gpu->stream;
    const uint32_t d = s->heads.head_dim;
    const dim3 cache_grid(adm_min(s->capacity, 4096), s->heads.n_kv_heads, s->batch);
    const dim3 q_grid(s->heads.n_q_heads, s->batch), kv_grid(s->heads.n_kv_heads, s->batch);
    cudaError_t result = cudaSuccess;
    for (uint32_t i = 0; i < c->plan.n_sets && result == cudaSuccess; i++) {
        const adm_gpu_buffers *b = &c->buffers[i];
        result = cudaMemcpyAsync((void *)b->length, in->length, s->batch * sizeof *in->length, cudaMemcpyHostToDevice, stream);
        if (result != cudaSuccess) break;
        fill_rows<<<q_grid, d, 0, stream>>>((void *)b->q, *s, b->length, ADM_INPUT_Q, s->heads.n_q_heads, i, in->seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->k_new, *s, b->length, ADM_INPUT_K, s->heads.n_kv_heads, 0, in->seed);
        fill_rows<<<kv_grid, d, 0, stream>>>((void *)b->v_new, *s, b->length, ADM_INPUT_V, s->heads.n_kv_heads, 0, in->seed);
        if (i >= c->plan.n_kv) continue;
        fill_cache<<<cache_grid, d, 0, stream>>>(b->k, *s, b->length, c->d_pages, ADM_INPUT_K, in->seed);
        fill_cache<<<cache_grid, d, 0, stream>>>(b->v, *s, b->length, c->d_pages, ADM_INPUT_V, in->seed);
    }
    return result == cudaSuccess ? cudaGetLastError() : result;
}

/* Every copy of one layer's K or V, through a copy of it on the device. */
static cudaError_t fill_layer(adm_gpu_case *c, const adm_gpu_session *session, uint32_t layer, bool is_v, char *staging) {
    const adm_gpu_shape *s = &c->shape;
    const size_t bytes = (size_t)s->heads.n_kv_heads * session->n_tokens * s->heads.head_dim * adm_dtype_bytes(s->dtype);
    const uint32_t n_placed = session->length[session->n_steps - 1];
    const dim3 grid(adm_min(n_placed, 4096), s->heads.n_kv_heads, s->batch);
    cudaError_t result = cudaMemcpyAsync(staging, is_v ? session->v[layer] : session->k[layer], bytes, cudaMemcpyHostToDevice,
                                         c->gpu->stream);
    for (uint32_t i = layer; i < c->plan.n_kv && result == cudaSuccess; i += session->n_layers) {
        void *to = is_v ? c->buffers[i].v : c->buffers[i].k;
        place_rows<<<grid, s->heads.head_dim, 0, c->gpu->stream>>>((const uint16_t *)staging, session->n_tokens, n_placed, to,
                                                                   *s, c->d_pages);
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
            result = cudaMemcpyAsync((char *)to->q + b * q_bytes, (const char *)session->q[layer] + step * q_bytes, q_bytes,
                                     cudaMemcpyHostToDevice, c->gpu->stream);
        if (result == cudaSuccess)
            result = cudaMemcpy2DAsync((char *)to->k_new + new_row, row, (const char *)session->k[layer] + at, stride, row,
                                       s->heads.n_kv_heads, cudaMemcpyHostToDevice, c->gpu->stream);
        if (result == cudaSuccess)
            result = cudaMemcpy2DAsync((char *)to->v_new + new_row, row, (const char *)session->v[layer] + at, stride, row,
                                       s->heads.n_kv_heads, cudaMemcpyHostToDevice, c->gpu->stream);
    }
    return result;
}

static cudaError_t fill_session(adm_gpu_case *c, const adm_gpu_session *session) {
    const adm_gpu_shape *s = &c->shape;
    char *staging = NULL;
    cudaError_t result = cudaMalloc((void **)&staging, (size_t)s->heads.n_kv_heads * session->n_tokens * s->heads.head_dim *
                                                           adm_dtype_bytes(s->dtype));
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
    const adm_gpu_impl *prompt = adm_gpu_registry_find(ADM_STAGE_APPEND, "prompt");
    if (prompt == NULL) return adm_fail(err, ADM_EINTERNAL, "the GPU registry cannot encode a prompt");
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
        status = prompt->launch(&shape, &buffers, c->gpu->stream, err);
    }
    cudaError_t done = cudaStreamSynchronize(c->gpu->stream);
    cudaFree(length);
    if (status != ADM_OK) return status;
    return adm_gpu_status(c->gpu, result == cudaSuccess ? done : result, "encoding the prompt", err);
}

/* Every copy's channels, those of its layer. */
static cudaError_t fill_channels(adm_gpu_case *c, const float *channels) {
    const size_t n = (size_t)c->shape.heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * c->shape.heads.head_dim;
    cudaError_t result = cudaSuccess;
    for (uint32_t i = 0; i < c->plan.n_kv && result == cudaSuccess; i++)
        result = cudaMemcpyAsync((void *)c->buffers[i].channels, channels + i % c->plan.n_layers * n, n * sizeof *channels,
                                 cudaMemcpyHostToDevice, c->gpu->stream);
    return result;
}

adm_status adm_gpu_case_fill(adm_gpu_case *c, const adm_gpu_inputs *in, adm_error *err) {
    if (c->plan.channels_bytes > 0 && in->channels == NULL)
        return adm_fail(err, ADM_EINTERNAL, "a case of asym4 without channels");
    cudaError_t result = in->session != NULL ? fill_session(c, in->session) : fill_random(c, in);
    if (result == cudaSuccess && c->plan.channels_bytes > 0) result = fill_channels(c, in->channels);
    adm_status status = adm_gpu_status(c->gpu, result, "making inputs", err);
    return status == ADM_OK ? encode_copies(c, in, err) : status;
}
