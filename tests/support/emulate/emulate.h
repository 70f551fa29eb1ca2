/* emulate.h: what a CUDA kernel finds when the host runs it. emulate.py puts this file in front of each kernel source;
 * emulate.cpp has the scheduler behind it, and the picture of it.
 *
 * Emulated are: threads, warps, blocks and clusters; the warp's shuffles, votes and sums; __syncthreads(); dynamic and static
 * shared memory, that of a cluster's other blocks included; and what kernels/gpu/common.cuh and attention_dev.cuh say in
 * machine instructions: clusters, asynchronous copies, barriers that count bytes, the tensor cores' products; those of
 * products.cuh and grouped.cuh likewise.
 *
 * So wrong arithmetic, wrong indices, and threads that wait for each other for ever show without a GPU. What cannot be seen
 * here:
 *
 *   races, memory order   a thread runs until it has to wait for others, so two never touch a word at once, and many a missing
 *                         meeting point goes unnoticed; a copy arrives at once or when waited for, a push at once; fences do
 *                         nothing; a kernel begins when the one before it has ended
 *   rounding              the device's exp2, division and tensor cores round their own way, and nvcc contracts a * b + c
 *   launching             registers, spills, occupancy, speed; alignment; memory that no test watches
 *
 * Only full warps are emulated, and only masks of a full warp. */
#ifndef ADM_TESTS_SUPPORT_EMULATE_EMULATE_H
#define ADM_TESTS_SUPPORT_EMULATE_EMULATE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

/* ---- the language ---- */

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#ifndef EMULATED_ARCH
#define EMULATED_ARCH 900
#endif
#define __CUDA_ARCH__ EMULATED_ARCH /* after CUDA's headers, which on the host are to stay on the host's side */

using std::isnan;
using std::max;
using std::min;

/* ---- who runs: see emulate.cpp ---- */

enum { EMU_WARP = 32, EMU_SLOT_BYTES = 16 * 1024, EMU_SLOTS = 6, EMU_UNREAD_BYTES = 512, EMU_COPIES = 64 };

struct emu_block;
struct emu_warp;

/* Copies that are on their way, in the order begun; what does not fit arrives early. `of`: a barrier, or a group's number. */
struct emu_copy {
    void *to;
    const void *from;
    size_t bytes;
    uint64_t of;
};
struct emu_copies {
    emu_copy *copy; /* [EMU_COPIES] */
    unsigned n;
};

struct emu_thread {
    void *stack_pointer; /* while it does not run */
    emu_thread *next;    /* in the one list that it is in */
    emu_block *block;
    emu_warp *warp;
    unsigned lane, cluster_turn;
    bool peers_readable; /* all threads of the cluster promised, at the barrier that this one passed last */
    unsigned n_groups;   /* of copies, committed */
    emu_copies copies;
    uint3 index;
    const char *waits_at; /* NULL: nowhere */
    bool done;
};

/* Lanes meet once per exchange: what they bring alternates between two buffers, and nobody can write to a buffer again before
 * all have left it by way of the other. */
struct emu_warp {
    emu_thread *lane; /* [32] */
    unsigned n_arrived, turn;
    struct {
        uint64_t brought[EMU_WARP];
        uint32_t result;
        uint32_t word[EMU_WARP][6]; /* of the tensor cores' operands: a0..a3, b0, b1 */
        float product[EMU_WARP][4];
        int32_t count[EMU_WARP][4];                     /* of a product of bits */
        const void *address[EMU_WARP];                  /* of rows to load */
    } buffer[2];
};

struct emu_block {
    emu_thread *thread;
    unsigned n_threads, n_arrived, n_done, rank;
    bool vote;         /* of __syncthreads_or() */
    unsigned poisoned; /* poisoned: bit s, slot s of the static memory is in use */
    uint3 index;
    bool backwards;    /* the last thread first, and copies arrive when waited for, not at once */
    emu_copies copies; /* of the whole block */
    char *shared;      /* static memory in EMU_SLOTS slots, then the dynamic */
    struct emu_cluster *cluster;
};

/* What an H100 would say of itself: launchers cut their grids for it. */
enum { EMU_N_SMS = 132, EMU_BLOCK_SHARED_BYTES = 227 * 1024, EMU_SM_SHARED_BYTES = 228 * 1024 };
enum { EMU_MAX_CLUSTER = 16, EMU_MAX_THREADS = 1024 };

/* What a kernel is called with, in place of its arguments; it reads those where the launch left them, as on the device: see
 * emulate.py. */
struct emu_unread {
    char bytes[EMU_UNREAD_BYTES];
};

/* One launch. */
struct emu_launch {
    void (*kernel)(emu_unread);
    void **args;
    dim3 grid;
    unsigned n_blocks, n_threads; /* blocks a cluster, threads a block */
    size_t shared_bytes;          /* dynamic */
    unsigned n_clusters, n_taken, number; /* number: of launches before */
};

void emu_run(emu_launch *); /* to its end */

extern thread_local emu_thread *emu_self;
extern thread_local uint3 blockDim, gridDim; /* no macros: a launch configuration has members of these names */

/* Waits for emu_wake_parked() by another of the cluster, after which the caller looks again at what it waits for. */
void emu_park(const char *where);
void emu_wake_parked(void);
void emu_meet_warp(void (*last)(emu_warp *)); /* `last`, or nothing, is done by the last lane to come */
void emu_meet_block(void);
void *emu_argument_at(unsigned i);
void *emu_peer(const void *shared, uint32_t rank); /* the same shared address in another block of the cluster */
void *emu_slot(unsigned slot, size_t bytes);

#define threadIdx (emu_self->index)
#define blockIdx (emu_self->block->index)

template <typename T> static inline T emu_argument(unsigned i) { return *(const T *)emu_argument_at(i); }

static inline char *emu_dynamic(void) { return emu_self->block->shared + EMU_SLOTS * EMU_SLOT_BYTES; }

template <typename T, unsigned SLOT> static inline T &emu_static(void) {
    static_assert(SLOT < EMU_SLOTS && sizeof(T) <= EMU_SLOT_BYTES, "more static shared memory than emulate.h has space for");
    return *(T *)emu_slot(SLOT, sizeof(T));
}

/* ---- the warp ---- */

static inline void emu_full(unsigned mask) {
    if (mask != ~0u) abort();
}

template <typename T> static inline T emu_exchange(unsigned mask, T mine, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    emu_full(mask);
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    memcpy(&buffer->brought[emu_self->lane], &mine, sizeof mine);
    emu_meet_warp(NULL);
    memcpy(&mine, &buffer->brought[from % EMU_WARP], sizeof mine);
    return mine;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T x, int from) {
    return emu_exchange(mask, x, (unsigned)from);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int bits) {
    return emu_exchange(mask, x, emu_self->lane ^ (unsigned)bits);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned n) {
    return emu_exchange(mask, x, emu_self->lane >= n ? emu_self->lane - n : emu_self->lane);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned n) {
    return emu_exchange(mask, x, emu_self->lane + n < EMU_WARP ? emu_self->lane + n : emu_self->lane);
}

static inline uint32_t emu_reduce(unsigned mask, uint32_t mine, void (*last)(emu_warp *)) {
    emu_full(mask);
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    buffer->brought[emu_self->lane] = mine;
    emu_meet_warp(last);
    return buffer->result;
}
void emu_last_or(emu_warp *), emu_last_add(emu_warp *), emu_last_min(emu_warp *), emu_last_max(emu_warp *);
static inline uint32_t __ballot_sync(unsigned mask, int x) {
    return emu_reduce(mask, (uint32_t)(x != 0) << emu_self->lane, emu_last_or);
}
static inline int __any_sync(unsigned mask, int x) { return __ballot_sync(mask, x) != 0; }
static inline uint32_t __reduce_add_sync(unsigned mask, uint32_t x) { return emu_reduce(mask, x, emu_last_add); }
static inline uint32_t __reduce_min_sync(unsigned mask, uint32_t x) { return emu_reduce(mask, x, emu_last_min); }
static inline uint32_t __reduce_max_sync(unsigned mask, uint32_t x) { return emu_reduce(mask, x, emu_last_max); }
static inline void __syncwarp(unsigned mask = ~0u) {
    emu_full(mask);
    emu_meet_warp(NULL);
}
static inline void __syncthreads(void) { emu_meet_block(); }
int emu_block_or(int x);
static inline int __syncthreads_or(int x) { return emu_block_or(x); }

/* ---- a thread's own instructions ---- */

static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
static inline int __popc(uint32_t x) { return __builtin_popcount(x); }
static inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x != 0 ? __builtin_clz((unsigned)x) : 32; }
static inline uint32_t __funnelshift_l(uint32_t low, uint32_t high, uint32_t n) {
    return (uint32_t)(((uint64_t)high << 32 | low) << n % 32 >> 32);
}
static inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    uint32_t picked = 0;
    for (int i = 0; i < 4; i++) picked |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return picked;
}
static inline uint32_t held_signs(uint32_t a, uint32_t b) {
    return (a >> 15 & 1) * 0xff | (a >> 31) * 0xff00 | (b >> 15 & 1) * 0xff0000 | (b >> 31) * 0xff000000u;
}
static inline uint32_t __vminu2(uint32_t a, uint32_t b) { return min(a & 0xffff, b & 0xffff) | min(a >> 16, b >> 16) << 16; }
static inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The device has one NaN for results; the host's has its sign set, or is the operand's. */
static inline float emu_result(float x) { return isnan(x) ? __uint_as_float(0x7fffffffu) : x; }
static inline float __fadd_rn(float a, float b) { return emu_result(a + b); }
static inline float __fsub_rn(float a, float b) { return emu_result(a - b); }
static inline float __fmul_rn(float a, float b) { return emu_result(a * b); }
static inline float __fdiv_rn(float a, float b) { return emu_result(a / b); }
static inline float __fdividef(float a, float b) { return emu_result(a / b); }
static inline float rsqrtf(float x) { return emu_result(1.0f / sqrtf(x)); }

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
static inline uint32_t atomicAdd(uint32_t *p, uint32_t x) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); }
static inline uint32_t atomicOr(uint32_t *p, uint32_t x) { return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST); }
static inline long long clock64(void) { return 1; }
static inline void __threadfence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* ---- in place of the functions of common.cuh that hold machine instructions ---- */

static inline size_t __cvta_generic_to_shared(const void *p) { return (size_t)p; }
static inline float adm_exp2(float x) {
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}
static inline void adm_start_dependents(void) {}
static inline void adm_wait_for_predecessors(void) {}
void emu_copy16(void *shared, const void *global);
void emu_copies_wait(unsigned most_groups);
static inline void adm_copy16(void *shared, const void *global) { emu_copy16(shared, global); }
static inline void adm_copy16_if(void *shared, const void *global, bool some) {
    if (some) emu_copy16(shared, global);
    else memset(shared, 0, 16);
}
static inline void adm_copy_commit(void) { emu_self->n_groups++; }
template <int N> static inline void adm_copy_wait(void) { emu_copies_wait(N); }

static inline uint32_t adm_cluster_rank(void) { return emu_self->block->rank; }
void *emu_readable_peer(const void *shared, uint32_t rank); /* ends the program where the barrier before did not order reads */
template <typename T> static inline T *adm_cluster_peer(T *shared, uint32_t rank) {
    return (T *)emu_readable_peer(shared, rank);
}
void emu_cluster_arrive(bool promises);
static inline void adm_cluster_arrive(void) { emu_cluster_arrive(true); }
static inline void adm_cluster_arrive_shared(void) { emu_cluster_arrive(true); } /* nothing else is read behind it */
void adm_cluster_wait(void);
static inline void adm_cluster_arrive_relaxed(void) { emu_cluster_arrive(false); }

static inline void adm_count(uint32_t *counts, uint32_t i) { atomicAdd(&counts[i], 1); }
static inline void adm_prefetch(const void *) {}
static inline uint32_t adm_lane(void) { return threadIdx.x % 32; }

void adm_barrier_init(uint64_t *barrier);
static inline void adm_barrier_fence(void) {}
void adm_barrier_expect(uint64_t *barrier, uint32_t bytes);
void adm_barrier_wait(uint64_t *barrier, uint32_t parity);
static inline void adm_barrier_wait_pushed(uint64_t *barrier, uint32_t parity) { adm_barrier_wait(barrier, parity); }
void adm_push(void *to, uint32_t value, uint32_t rank, uint64_t *barrier);
void adm_bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *barrier);
static inline uint64_t adm_copy_policy(bool) { return 0; }
void adm_bulk_copy_expected(void *shared, const void *global, uint32_t bytes, uint64_t *barrier, uint64_t policy);

/* ---- in place of those of attention_dev.cuh ---- */

static inline uint4 adm_load_stream(const char *p) { return *(const uint4 *)p; }
static inline uint32_t adm_load_word(const uint32_t *p) { return *p; }

void emu_last_product_f16(emu_warp *), emu_last_product_bf16(emu_warp *);
template <typename T>
static inline void adm_mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    const uint32_t word[6] = {a0, a1, a2, a3, b0, b1};
    memcpy(buffer->word[emu_self->lane], word, sizeof word);
    emu_meet_warp(std::is_same<T, __half>::value ? emu_last_product_f16 : emu_last_product_bf16);
    for (int i = 0; i < 4; i++) c[i] += buffer->product[emu_self->lane][i];
}

/* ---- in place of those of products.cuh ---- */

/* ldmatrix: lane i brings row i % 8 of matrix i / 8, 16 bytes, and takes of row i / 4 of each matrix word i % 4. */
static inline void adm_load_rows(uint32_t a[4], const uint32_t *row) {
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    if (((uintptr_t)row & 15) != 0) abort(); /* as the device would end */
    buffer->address[emu_self->lane] = row;
    emu_meet_warp(NULL);
    for (unsigned i = 0; i < 4; i++) a[i] = ((const uint32_t *)buffer->address[8 * i + emu_self->lane / 4])[emu_self->lane % 4];
}

/* movmatrix: of row and column lane / 4 the elements 2 (lane % 4) and the next. */
static inline uint32_t adm_transposed(uint32_t pair) {
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    buffer->brought[emu_self->lane] = pair;
    emu_meet_warp(NULL);
    const unsigned column = emu_self->lane / 4, row = emu_self->lane % 4 * 2;
    const auto at = [&](unsigned r) { return (uint32_t)(buffer->brought[r * 4 + column / 2] >> 16 * (column % 2)) & 0xffff; };
    return at(row) | at(row + 1) << 16;
}

void emu_last_bit_product(emu_warp *);
static inline void adm_bit_product(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    auto *buffer = &emu_self->warp->buffer[emu_self->warp->turn];
    const uint32_t word[6] = {a0, a1, a2, a3, b0, b1};
    memcpy(buffer->word[emu_self->lane], word, sizeof word);
    emu_meet_warp(emu_last_bit_product);
    for (int i = 0; i < 4; i++) c[i] += buffer->count[emu_self->lane][i];
}

#endif
