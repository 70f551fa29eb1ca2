/* common.cuh: what the CUDA files share: launching with a checked status, where a row of K or V lies, 16-byte
 * copies, clusters of blocks, and the dependent launch. Nothing here knows a stage.
 *
 * Dependent launch: every kernel is launched with the programmatic attribute. Its blocks may be resident while the kernel
 * before it still drains, and what they do before adm_wait_for_predecessors() overlaps with that kernel. The rules:
 *
 *   before the wait   nothing is written, and nothing read but lengths, page tables, and K, V and codes of the tokens
 *                     0 .. length - 3: the newest is this step's, and the one before it may be of the kernel before
 *   who writes those  (append, encode_step, the fused step: token length - 1) lets its dependents start only after its own
 *                     wait, so that at most one such kernel is unfinished under a reader; encode_prompt, which writes them all,
 *                     never does. No kernel here writes lengths or page tables.
 *   all others        let their dependents start at once
 *
 * Behind kernels that are not ours, adm_gpu_launch_apart() takes the attribute away. */
#ifndef ADM_KERNELS_GPU_COMMON_CUH
#define ADM_KERNELS_GPU_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/gpu/gpu.h"

#define ADM_FULL_WARP 0xffffffffu

/* ---- host: launching ---- */

/* ADM_OK, or ADM_EENVIRONMENT with CUDA's own words; clears the runtime's sticky copy. */
static inline adm_status adm_cuda_status(cudaError_t error, const char *what, adm_error *err) {
    if (error == cudaSuccess) return ADM_OK;
    cudaGetLastError();
    return adm_fail(err, ADM_EENVIRONMENT, "%s: CUDA says %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

/* What a launcher asks of the current device. */
typedef struct adm_gpu_limits {
    int compute_major;
    int n_sms;
    int block_shared_bytes; /* the largest dynamic shared memory of a block */
    int sm_shared_bytes;    /* of an SM, for all its blocks; each costs 1 KiB more */
} adm_gpu_limits;

static inline adm_status adm_gpu_limits_get(adm_gpu_limits *limits, adm_error *err) {
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limits->compute_major, cudaDevAttrComputeCapabilityMajor, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limits->n_sms, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&limits->block_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&limits->sm_shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
    return adm_cuda_status(error, "asking for the device's limits", err);
}

typedef struct adm_gpu_grid {
    dim3 blocks;
    unsigned threads;
    size_t shared_bytes; /* dynamic */
    unsigned cluster;    /* blocks per cluster along x, up to the 8 that every chip holds, or 16; 0: no clusters */
    bool dependent;      /* the kernel keeps the rules of the dependent launch; ignored before compute capability 9.0 */
    bool most_shared; /* all of the SM's memory that can be is shared, none L1: else the driver may set aside too little for
                            a second block */
} adm_gpu_grid;

/* Fills in a launch configuration; attributes [3]. */
static inline adm_status adm_gpu_configure(const void *kernel, adm_gpu_grid grid, cudaLaunchAttribute *attributes,
                                           cudaLaunchConfig_t *config, adm_error *err) {
    cudaError_t error = cudaSuccess;
    if (grid.shared_bytes > 32 * 1024) /* with the static memory more than 48 KiB may not come unasked */
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)grid.shared_bytes);
    if (error == cudaSuccess && grid.most_shared)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    if (error == cudaSuccess && grid.cluster > 8)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    config->gridDim = grid.blocks;
    config->blockDim = dim3(grid.threads);
    config->dynamicSmemBytes = grid.shared_bytes;
    config->attrs = attributes;
    if (grid.cluster > 0) {
        attributes[config->numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config->numAttrs].val.clusterDim.x = grid.cluster;
        attributes[config->numAttrs].val.clusterDim.y = 1;
        attributes[config->numAttrs++].val.clusterDim.z = 1;
        /* By default the blocks of a cluster share as few SMs as can hold them: half of the device idle. */
        attributes[config->numAttrs].id = cudaLaunchAttributeClusterSchedulingPolicyPreference;
        attributes[config->numAttrs++].val.clusterSchedulingPolicyPreference = cudaClusterSchedulingPolicyLoadBalancing;
    }
    return adm_cuda_status(error, "preparing a kernel", err);
}

/* Enqueues kernel(args...) and returns its status. `what` names it in the sentence. */
static inline adm_status adm_gpu_launch(const char *what, const void *kernel, adm_gpu_grid grid, void **args,
                                        adm_gpu_stream stream, adm_error *err) {
    cudaLaunchAttribute attributes[3];
    cudaLaunchConfig_t config = {};
    adm_gpu_limits limits;
    adm_status status = adm_gpu_configure(kernel, grid, attributes, &config, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    config.stream = (cudaStream_t)stream;
    if (grid.dependent && limits.compute_major >= 9 && !adm_gpu_launches_apart()) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    return adm_cuda_status(cudaLaunchKernelExC(&config, kernel, args), what, err);
}

/* 0, 1, 2 for a head_dim of 64, 128, 256; and 0, 1 for F16, BF16: the indices of the launchers' tables of kernels. */
static inline int adm_dim_index(uint32_t head_dim) { return head_dim == 64 ? 0 : head_dim == 128 ? 1 : 2; }
static inline int adm_dtype_index(adm_dtype dtype) { return dtype == ADM_F16 ? 0 : 1; }

/* ---- device: elements and rows ---- */

static __device__ __forceinline__ float adm_widen(__half x) { return __half2float(x); }
static __device__ __forceinline__ float adm_widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T adm_narrow(float x);
template <> __device__ __forceinline__ __half adm_narrow<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 adm_narrow<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

/* Two neighbouring elements of a 16-byte load, widened. */
template <typename T> __device__ __forceinline__ float2 adm_widen2(uint32_t pair);
template <> __device__ __forceinline__ float2 adm_widen2<__half>(uint32_t pair) {
    return __half22float2(*reinterpret_cast<__half2 *>(&pair));
}
template <> __device__ __forceinline__ float2 adm_widen2<__nv_bfloat16>(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/* The index of the first element of token t's row in K or V: see the layouts in gpu.h. */
static __device__ __forceinline__ size_t adm_kv_offset(const adm_gpu_shape &s, const int32_t *page_table, uint32_t b,
                                                       uint32_t kv_head, uint32_t t) {
    if (s.page_size == 0) return ((size_t)(b * s.heads.n_kv_heads + kv_head) * s.capacity + t) * s.heads.head_dim;
    size_t page = (size_t)page_table[(size_t)b * s.max_pages + t / s.page_size];
    return ((page * s.heads.n_kv_heads + kv_head) * s.page_size + t % s.page_size) * s.heads.head_dim;
}

/* 2^x, to about 2^-22 of it; below 2^-126 zero. */
static __device__ __forceinline__ float adm_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- device: the dependent launch ---- */

/* Lets the next kernel's blocks become resident once every block of this one has called it. */
static __device__ __forceinline__ void adm_start_dependents(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Whether the tokens below `end` of a sequence may be read before the wait. */
static __device__ __forceinline__ bool adm_settled(uint32_t end, uint32_t length) { return end + 2 <= length; }

/* Returns when every earlier kernel of the stream is complete and its writes are visible. */
static __device__ __forceinline__ void adm_wait_for_predecessors(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* ---- device: asynchronous copies into shared memory ---- */

static __device__ __forceinline__ uint32_t adm_shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes, both addresses aligned to 16. */
static __device__ __forceinline__ void adm_copy16(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(adm_shared_address(shared)), "l"(global) : "memory");
}
/* The same, or zeros, for which nothing is read. */
static __device__ __forceinline__ void adm_copy16_if(void *shared, const void *global, bool some) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(adm_shared_address(shared)), "l"(global),
                 "r"(some ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void adm_copy_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Returns when at most `N` committed groups are still on their way. */
template <int N> __device__ __forceinline__ void adm_copy_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#if __CUDA_ARCH__ >= 900

/* ---- device: clusters of blocks ---- */

static __device__ __forceinline__ uint32_t adm_cluster_rank(void) {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* The same shared variable in the block of that rank. */
template <typename T> __device__ __forceinline__ T *adm_cluster_peer(T *shared, uint32_t rank) {
    uint64_t address;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(shared), "r"(rank));
    return reinterpret_cast<T *>(address);
}

/* Arrive promises that this thread's earlier accesses are done; wait returns when every thread of the cluster arrived. The
 * promise is a fence of the whole device: 600 to 1,200 cycles on an H100; on an H200 366 to 660 where the barrier alone takes
 * 106. */
static __device__ __forceinline__ void adm_cluster_arrive(void) {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
static __device__ __forceinline__ void adm_cluster_wait(void) { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

/* Promises it of accesses to this block's own shared memory alone. An H200 then waits for nothing outside the SM: 0.1 to 0.2 us
 * less than adm_cluster_arrive() costs a step (kernels/LOG.md). */
static __device__ __forceinline__ void adm_cluster_arrive_shared(void) {
    asm volatile("fence.release.sync_restrict::shared::cta.cluster;\nbarrier.cluster.arrive.relaxed;" ::: "memory");
}

/* Arrives without any promise. This is enough for barriers behind adm_barrier_fence(), and for what this thread has read. It
 * is not enough for what others are to read, be it in this block's own shared memory: __syncthreads() orders accesses for this
 * block alone, and a read from another SM may overtake an atomic that is still on its way. Writes to other blocks' memory go
 * through adm_push(). */
static __device__ __forceinline__ void adm_cluster_arrive_relaxed(void) {
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}

/* The blocks of a cluster meet, and so do each one's threads: each may then read what the others had written into their own
 * shared memory. */
static __device__ __forceinline__ void adm_cluster_meet(void) {
    adm_cluster_arrive_shared();
    adm_cluster_wait();
}

/* threadIdx.x % 32 of blocks that have no y, read anew wherever it is called: no register has it in between, nor does a word
 * in memory, which a kernel with no register to spare would otherwise read on its way. */
static __device__ __forceinline__ uint32_t adm_lane(void) {
    uint32_t lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

/* Adds 1 to counts[i], in shared memory. One instruction for the address, where an array's would be two. */
static __device__ __forceinline__ void adm_count(uint32_t *counts, uint32_t i) {
    asm volatile("red.shared.add.u32 [%0], 1;" ::"r"(adm_shared_address(counts) + 4 * i) : "memory");
}

/* Has the line of 128 bytes that holds `address` brought to L2, if there is nothing better to do: some requests are lost. */
static __device__ __forceinline__ void adm_prefetch(const void *address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/* ---- device: bulk copies, completing on a barrier in shared memory ---- */

static __device__ __forceinline__ void adm_barrier_init(uint64_t *barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(adm_shared_address(barrier)) : "memory");
}

/* Makes initialised barriers visible to the copy engine. */
static __device__ __forceinline__ void adm_barrier_fence(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* One arrival, and so many bytes that are to come. */
static __device__ __forceinline__ void adm_barrier_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(adm_shared_address(barrier)), "r"(bytes)
                 : "memory");
}

/* Writes 4 bytes to the address that `to` has in the block of that rank, and counts them on its barrier. */
static __device__ __forceinline__ void adm_push(void *to, uint32_t value, uint32_t rank, uint64_t *barrier) {
    uint32_t address, counter;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(adm_shared_address(to)), "r"(rank));
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(counter) : "r"(adm_shared_address(barrier)), "r"(rank));
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address), "r"(value),
                 "r"(counter)
                 : "memory");
}

/* bytes: a multiple of 16, addresses likewise. */
static __device__ __forceinline__ void adm_bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *barrier) {
    uint32_t b = adm_shared_address(barrier);
    adm_barrier_expect(barrier, bytes);
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     adm_shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(b)
                 : "memory");
}

/* How the L2 treats what a copy brings: it is the first to go where it is read once, as all else is otherwise. */
static __device__ __forceinline__ uint64_t adm_copy_policy(bool read_once) {
    uint64_t policy;
    if (read_once) asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    else asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

/* A bulk copy that the barrier is to expect, with adm_barrier_expect(). */
static __device__ __forceinline__ void adm_bulk_copy_expected(void *shared, const void *global, uint32_t bytes,
                                                              uint64_t *barrier, uint64_t policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            adm_shared_address(shared)),
        "l"(global), "r"(bytes), "r"(adm_shared_address(barrier)), "l"(policy)
        : "memory");
}

static __device__ __forceinline__ void adm_barrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
            adm_shared_address(barrier)),
        "r"(parity)
        : "memory");
}

/* For what blocks of the cluster pushed. */
static __device__ __forceinline__ void adm_barrier_wait_pushed(uint64_t *barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(adm_shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

#endif /* __CUDA_ARCH__ >= 900 */

#endif
