/* gpu_bench.cu: the kernel engineer's bench: one table of every stage at the sizes that the goals name.
 *
 *   gpu_bench [32 | 128 ...]     thousands of tokens; default both
 *
 * A figure is the median over replays of a CUDA graph of many back-to-back calls, divided by the calls. The calls rotate
 * over enough copies of K, V and codes that the level-2 cache is cold for them. "limit" is the bandwidth of a plain read
 * in the same run. `adamas profile` is what records; this is for the tuning session. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/attention_gpu.h"
#include "kernels/gpu_common.cuh"

#define MUST(call) \
    do { \
        cudaError_t e = (call); \
        if (e != cudaSuccess) { \
            printf("%s: %s\n", #call, cudaGetErrorString(e)); \
            exit(1); \
        } \
    } while (0)

static cudaStream_t stream;

/* 16 bytes a load, four in flight a thread. */
static __global__ void read_all(const uint4 *from, size_t n, uint32_t *sink) {
    uint32_t x = 0;
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = i + j * step < n ? __ldcs(from + i + j * step) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < 4; j++) x ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (x == 0x12345678) *sink = x;
}

static __global__ void nothing() {}

static __global__ void fill(uint16_t *to, size_t n, uint32_t seed) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint64_t z = i * 0x9e3779b97f4a7c15u + seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        int sum = (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) + (int)(z >> 48) - 131070;
        to[i] = __half_as_ushort(__float2half(sum * 2.6e-4f)); /* standard deviation 10 */
    }
}

template <typename F> static float time_us(F enqueue, int n_calls) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t a, b;
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < n_calls; i++) enqueue(i);
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&exec, graph, 0));
    MUST(cudaEventCreate(&a));
    MUST(cudaEventCreate(&b));
    std::vector<float> samples;
    for (int r = 0; r < 14; r++) {
        float ms;
        MUST(cudaEventRecord(a, stream));
        MUST(cudaGraphLaunch(exec, stream));
        MUST(cudaEventRecord(b, stream));
        MUST(cudaEventSynchronize(b));
        MUST(cudaEventElapsedTime(&ms, a, b));
        if (r >= 3) samples.push_back(1000 * ms / (float)n_calls);
    }
    MUST(cudaGraphExecDestroy(exec));
    MUST(cudaGraphDestroy(graph));
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

static double limit_bytes_per_us;

static void row(const char *what, float us, double bytes) {
    if (bytes > 0)
        printf("%-44s %8.2f us %8.0f GB/s %6.1f%%\n", what, us, bytes / us / 1000, 100 * bytes / us / limit_bytes_per_us);
    else printf("%-44s %8.2f us\n", what, us);
    fflush(stdout);
}

static void *device_alloc(size_t bytes) {
    void *p;
    MUST(cudaMalloc(&p, bytes));
    return p;
}

static void ok(adm_status status, const adm_error *err) {
    if (status != ADM_OK) {
        printf("failed: %s\n", err->text);
        exit(1);
    }
}

struct bench {
    adm_gpu_shape shape;
    std::vector<adm_gpu_buffers> sets;
};

static bench make(uint32_t n_q, uint32_t n_kv, uint32_t batch, uint32_t tokens, uint32_t budget, int n_sets) {
    bench c;
    c.shape = adm_gpu_shape{{n_q, n_kv, 128}, ADM_F16, batch, tokens, 0, 0, {budget, 4, 16}, {-10, 0, 10}, 1e-3f};
    const size_t q = (size_t)batch * n_q * 128, kv = (size_t)batch * n_kv * 128, rows = q + kv;
    uint32_t *length = (uint32_t *)device_alloc(4 * batch);
    std::vector<uint32_t> lengths(batch, tokens);
    MUST(cudaMemcpy(length, lengths.data(), 4 * batch, cudaMemcpyHostToDevice));
    for (int i = 0; i < n_sets; i++) {
        adm_gpu_buffers b = {};
        uint16_t *small = (uint16_t *)device_alloc(2 * (q + 2 * kv));
        b.q = small, b.k_new = small + q, b.v_new = small + q + kv;
        b.k = device_alloc(2 * kv * tokens), b.v = device_alloc(2 * kv * tokens);
        b.planes = (uint32_t *)device_alloc(kv * tokens / 4);
        b.length = length;
        b.y = (float *)device_alloc(4 * rows), b.code = (uint8_t *)device_alloc(rows);
        b.packed = (uint8_t *)device_alloc(rows / 4);
        b.distance = (uint16_t *)device_alloc(2 * (size_t)batch * n_q * tokens);
        b.index = (uint32_t *)device_alloc(4 * (size_t)batch * n_q * budget);
        b.n_selected = (uint32_t *)device_alloc(4 * (size_t)batch * n_q);
        b.out = device_alloc(2 * q);
        const size_t workspace = std::max(adm_gpu_topk_two_workspace_bytes(&c.shape), adm_gpu_dense_workspace_bytes(&c.shape));
        b.workspace = device_alloc(workspace + 16);
        MUST(cudaMemset(b.workspace, 0, workspace + 16));
        fill<<<1024, 256, 0, stream>>>(small, q + 2 * kv, 3 * i);
        fill<<<1024, 256, 0, stream>>>((uint16_t *)b.k, kv * tokens, 3 * i + 1);
        fill<<<1024, 256, 0, stream>>>((uint16_t *)b.v, kv * tokens, 3 * i + 2);
        adm_error err;
        ok(adm_gpu_encode_prompt(&c.shape, &b, stream, &err), &err);
        ok(adm_gpu_encode_step(&c.shape, &b, stream, &err), &err);
        c.sets.push_back(b);
    }
    MUST(cudaStreamSynchronize(stream));
    return c;
}

static void release(bench *c) {
    MUST(cudaFree((void *)c->sets[0].length));
    for (adm_gpu_buffers &b : c->sets) {
        void *all[] = {(void *)b.q, b.k, b.v, b.planes, b.y, b.code, b.packed, b.distance, b.index, b.n_selected, b.out,
                       b.workspace};
        for (void *p : all) MUST(cudaFree(p));
    }
}

static float time_row(const bench &c, adm_gpu_launch_fn *launch, int n_calls) {
    return time_us(
        [&](int i) {
            adm_error err;
            ok(launch(&c.shape, &c.sets[i % c.sets.size()], stream, &err), &err);
        },
        n_calls);
}

static void step_rows(uint32_t n_kv, uint32_t batch, uint32_t tokens, uint32_t budget, bool sweep) {
    const double codes = (double)batch * n_kv * tokens * 32;
    const int n_sets = (int)std::max(2.0, std::min(12.0, 300e6 / codes));
    bench c = make(32, n_kv, batch, tokens, budget, n_sets);
    const int calls = tokens * n_kv * batch > 8000000 ? 24 : 120;
    printf("-- %u tokens, 32/%u heads, batch %u, budget %u, %d sets\n", tokens, n_kv, batch, budget, n_sets);
    const double distances = (double)batch * 32 * tokens * 2, selected = (double)batch * 32 * budget * (2 * 256);
    row("distance l1", time_row(c, adm_gpu_distance_l1, calls), codes + distances);
    row("top-k cluster", time_row(c, adm_gpu_topk_cluster, calls), 0);
    row("top-k two", time_row(c, adm_gpu_topk_two, calls), 0);
    row("attention", time_row(c, adm_gpu_attention_launch, calls), selected);
    row("hadamard", time_row(c, adm_gpu_hadamard, calls), 0);
    row("bucket", time_row(c, adm_gpu_bucket, calls), 0);
    row("pack", time_row(c, adm_gpu_pack, calls), 0);
    row("append", time_row(c, adm_gpu_append, calls), 0);
    row("encode one step, fused", time_row(c, adm_gpu_encode_step, calls), 0);
    if (batch == 1) row("encode a prompt", time_row(c, adm_gpu_encode_prompt, 10), codes * 9);
    const float fused = time_row(c, adm_gpu_step_fused, calls);
    row("step, fused", fused, codes + selected);
    const float six = time_us(
        [&](int i) {
            adm_error err;
            const adm_gpu_buffers *b = &c.sets[i % c.sets.size()];
            adm_gpu_launch_fn *const seven[] = {adm_gpu_hadamard, adm_gpu_bucket, adm_gpu_pack, adm_gpu_append,
                                                adm_gpu_distance_l1, adm_gpu_topk_cluster, adm_gpu_attention_launch};
            for (adm_gpu_launch_fn *launch : seven) ok(launch(&c.shape, b, stream, &err), &err);
        },
        calls);
    row("step, six stages", six, codes + selected);
    const float dense = time_row(c, adm_gpu_dense_launch, batch * tokens * n_kv > 8000000 ? 8 : 24);
    row("dense", dense, codes * 16);
    printf("%-44s %8.2f x fused, %.2f x six\n", "dense / step", dense / fused, dense / six);
    if (sweep)
        for (uint32_t split = 1; split <= 16; split *= 2)
            for (uint32_t stages = 2; stages <= 6; stages += 2) {
                adm_error err;
                char what[64];
                if (adm_gpu_step_fused_split(&c.shape, &c.sets[0], split, stages, stream, &err) != ADM_OK) {
                    printf("split %u stages %u: %s\n", split, stages, err.text);
                    continue;
                }
                const float us = time_us(
                    [&](int i) {
                        ok(adm_gpu_step_fused_split(&c.shape, &c.sets[i % c.sets.size()], split, stages, stream, &err),
                           &err);
                    },
                    calls);
                snprintf(what, sizeof what, "step, fused, split %u, stages %u", split, stages);
                row(what, us, 0);
            }
    release(&c);
}

int main(int argc, char **argv) {
    cudaDeviceProp device;
    MUST(cudaGetDeviceProperties(&device, 0));
    MUST(cudaStreamCreate(&stream));
    const size_t bytes = (size_t)2 << 30;
    uint4 *big = (uint4 *)device_alloc(2 * bytes);
    MUST(cudaMemset(big, 1, 2 * bytes));
    float best = 1e9f;
    for (int blocks = 2; blocks <= 16; blocks *= 2)
        best = std::min(best, time_us([&](int i) {
                            read_all<<<blocks * device.multiProcessorCount, 512, 0, stream>>>(
                                big + (size_t)(i % 2) * (bytes / 16), bytes / 16, (uint32_t *)big);
                        }, 4));
    limit_bytes_per_us = (double)bytes / best;
    printf("%s, %d processors; a plain read of 2 GiB: %.0f GB/s\n", device.name, device.multiProcessorCount,
           limit_bytes_per_us / 1000);
    row("a plain read of 33.6 MB", time_us([&](int i) {
            read_all<<<4 * device.multiProcessorCount, 512, 0, stream>>>(big + (size_t)(i % 16) * (33554432 / 16), 33554432 / 16,
                                                                       (uint32_t *)big);
        }, 64), 33554432);
    row("an empty kernel", time_us([&](int) { nothing<<<1, 32, 0, stream>>>(); }, 200), 0);
    MUST(cudaFree(big));
    const bool sweep = getenv("SWEEP") != NULL;
    for (int i = 1; i < std::max(argc, 2); i++) {
        const uint32_t k = argc > 1 ? (uint32_t)atoi(argv[i]) : 32;
        step_rows(32, 1, k * 1024, 256, sweep);
        step_rows(8, 1, k * 1024, 256, sweep);
        if (k == 32) step_rows(32, 1, k * 1024, 1024, false);
        if (k == 32) step_rows(32, 8, k * 1024, 256, sweep);
    }
    return 0;
}
