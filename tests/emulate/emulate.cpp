/* emulate.cpp: runs CUDA kernels on the host, for tests: the scheduler behind emulate.h, and of the CUDA runtime and of
 * gpu_run.h and gpu_memory.h the few functions that the launchers and the tests of kernels call.
 *
 *     on the device                        here
 *     grid of clusters                     a queue, from which a few threads of the host take one cluster after another
 *     cluster (or a block without one)     all of it on one such thread
 *     thread of a block                    a stack of its own and a stack pointer; runs until it must wait for others
 *     shared memory                        a piece of the heap a block: [slots of static memory | dynamic], poisoned before
 *
 *     ready:  t7 -> t8 -> t9 ...           a thread that waits leaves for the first that is ready; whoever comes last to a
 *     parked: t0 -> t1 ...                 meeting point makes all others ready and goes on. Nobody ready and somebody not
 *                                          done: they wait for each other for ever, which is said, with where, and the end.
 *
 * So a cluster's threads run in an order that is the same each time: in every other cluster, and launch, the last thread first,
 * since a meeting point that is missing shows in one of the two orders. Only x86-64: emu_switch() is in assembly. */
#include <cstdio>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/gpu_memory.h"
#include "kernels/gpu_run.h"
#include "tests/emulate/emulate.h"

enum { MAX_CLUSTER = 8, MAX_THREADS = 1024, MAX_WORKERS = 8, STACK_BYTES = 32 * 1024, POISON = 0xCD };

/* What an H100 would say of itself: launchers cut their grids for it. */
enum { N_SMS = 132, BLOCK_SHARED_BYTES = 227 * 1024, SM_SHARED_BYTES = 228 * 1024 };

enum { BLOCK_BYTES = EMU_SLOTS * EMU_SLOT_BYTES + BLOCK_SHARED_BYTES + 1024 }; /* shared memory, a multiple of 1 KiB */

/* One launch. */
struct emu_launch {
    void (*kernel)(emu_unread);
    void **args;
    dim3 grid;
    unsigned n_blocks, n_threads; /* blocks a cluster, threads a block */
    size_t shared_bytes;          /* dynamic */
    unsigned n_clusters, n_taken, number;
};

/* A cluster on its host thread. */
struct emu_cluster {
    emu_launch *launch;
    emu_block block[MAX_CLUSTER];
    bool backwards;                   /* the last thread first */
    unsigned n_left, n_arrived, turn; /* threads not done; at the cluster's barrier, and how often that was passed */
    emu_thread *ready, **ready_end, *parked;
    void *host; /* stack pointer of what started it */
};

/* A thread of the host, and memory for the largest cluster, of which only what is touched costs anything. */
struct worker {
    pthread_t id;
    emu_launch *launch;
    emu_cluster cluster;
    char (*stack)[STACK_BYTES];
    char (*shared)[BLOCK_BYTES];
    emu_thread *thread;
    emu_warp *warp;
};

thread_local emu_thread *emu_self;
thread_local uint3 blockDim, gridDim;
static worker workers[MAX_WORKERS]; /* [0] is the thread that launches */

/* ---- switching ---- */

/* Saves what a call must preserve, and the stack pointer in *from; goes on where `to` left off. */
extern "C" void emu_switch(void **from, void *to);
asm(R"(
    .text
    .globl emu_switch
emu_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");

static void make_ready(emu_cluster *c, emu_thread *t) {
    t->waits_at = NULL;
    t->next = NULL;
    *c->ready_end = t;
    c->ready_end = &t->next;
}

/* Taken from the list; NULL: nobody. */
static emu_thread *next_ready(emu_cluster *c) {
    emu_thread *t = c->ready;
    if (t == NULL) return NULL;
    c->ready = t->next;
    if (c->ready == NULL) c->ready_end = &c->ready;
    return t;
}

/* All of n but the one that runs, and those that are done. */
static void make_all_ready(emu_cluster *c, emu_thread *thread, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        emu_thread *t = &thread[c->backwards ? n - 1 - i : i];
        if (t != emu_self && !t->done) make_ready(c, t);
    }
}

[[noreturn]] static void stuck(const emu_cluster *c) {
    fprintf(stderr, "emulated threads wait for each other for ever; of the cluster with block (%u, %u, %u):\n", c->block->index.x,
            c->block->index.y, c->block->index.z);
    for (unsigned r = 0; r < c->launch->n_blocks; r++)
        for (unsigned i = 0; i < c->launch->n_threads; i += EMU_WARP) {
            const emu_thread *t = &c->block[r].thread[i];
            fprintf(stderr, "  block %u, warp %u: lane 0 %s%s\n", r, i / EMU_WARP, t->done ? "is done" : "waits at ",
                    t->done ? "" : t->waits_at);
        }
    abort();
}

/* Runs the next thread; returns when somebody made this one ready and its turn came. */
static void leave(emu_cluster *c) {
    emu_thread *me = emu_self;
    if (c->ready == NULL && c->n_left > 0) stuck(c);
    emu_self = next_ready(c);
    emu_switch(&me->stack_pointer, emu_self != NULL ? emu_self->stack_pointer : c->host);
}

/* Waits until wake_parked(); for conditions that the caller then looks at again. */
static void park(emu_cluster *c, const char *where) {
    emu_self->waits_at = where;
    emu_self->next = c->parked;
    c->parked = emu_self;
    leave(c);
}

static void wake_parked(emu_cluster *c) {
    while (c->parked != NULL) {
        emu_thread *t = c->parked;
        c->parked = t->next;
        make_ready(c, t);
    }
}

/* ---- meeting points ---- */

void emu_meet_warp(void (*last)(emu_warp *)) {
    emu_warp *w = emu_self->warp;
    emu_cluster *c = emu_self->block->cluster;
    if (++w->n_arrived < EMU_WARP) {
        emu_self->waits_at = "an instruction of the whole warp";
        leave(c);
        return;
    }
    if (last != NULL) last(w);
    w->n_arrived = 0;
    w->turn ^= 1;
    make_all_ready(c, w->lane, EMU_WARP);
}

/* Threads that are done count as arrived. */
static bool open_block(emu_block *b) {
    if (b->n_arrived == 0 || b->n_arrived + b->n_done < b->n_threads) return false;
    b->n_arrived = 0;
    make_all_ready(b->cluster, b->thread, b->n_threads);
    return true;
}

void emu_meet_block(void) {
    emu_block *b = emu_self->block;
    b->n_arrived++;
    if (open_block(b)) return;
    emu_self->waits_at = "__syncthreads()";
    leave(b->cluster);
}

void adm_cluster_arrive(void) {
    emu_cluster *c = emu_self->block->cluster;
    emu_self->cluster_turn = c->turn;
    if (++c->n_arrived < c->launch->n_blocks * c->launch->n_threads) return;
    c->n_arrived = 0;
    c->turn++;
    wake_parked(c);
}

void adm_cluster_wait(void) {
    emu_cluster *c = emu_self->block->cluster;
    while (c->turn == emu_self->cluster_turn) park(c, "the cluster's barrier");
}

/* ---- barriers that count bytes ---- */

/* In the 8 bytes of the device's: one arrival a phase, and the bytes that are announced and not yet there. */
struct byte_barrier {
    int32_t n_bytes;
    uint16_t n_missing, phase;
};

static void barrier_count(void *at, uint16_t arrivals, int32_t bytes) {
    byte_barrier *b = (byte_barrier *)at;
    b->n_bytes += bytes;
    b->n_missing = (uint16_t)(b->n_missing - arrivals);
    if (b->n_missing != 0 || b->n_bytes != 0) return;
    b->n_missing = 1;
    b->phase ^= 1;
    wake_parked(emu_self->block->cluster);
}

void adm_barrier_init(uint64_t *barrier) {
    const byte_barrier fresh = {0, 1, 0};
    memcpy(barrier, &fresh, sizeof fresh);
}

void adm_barrier_expect(uint64_t *barrier, uint32_t bytes) { barrier_count(barrier, 1, (int32_t)bytes); }

void adm_barrier_wait(uint64_t *barrier, uint32_t parity) {
    const volatile byte_barrier *b = (const byte_barrier *)barrier;
    while (b->phase == parity) park(emu_self->block->cluster, "a barrier that counts bytes");
}

void adm_push(void *to, uint32_t value, uint32_t rank, uint64_t *barrier) {
    memcpy(emu_peer(to, rank), &value, sizeof value);
    barrier_count(emu_peer(barrier, rank), 0, -(int32_t)sizeof value);
}

void adm_bulk_copy(void *shared, const void *global, uint32_t bytes, uint64_t *barrier) {
    if (bytes % 16 != 0 || (((uintptr_t)shared | (uintptr_t)global) & 15) != 0) abort(); /* as the device would end */
    adm_barrier_expect(barrier, bytes);
    memcpy(shared, global, bytes);
    barrier_count(barrier, 0, -(int32_t)bytes);
}

/* ---- what the last lane of a warp does for all ---- */

void emu_last_or(emu_warp *w) {
    w->room[w->turn].result = 0;
    for (uint64_t x : w->room[w->turn].brought) w->room[w->turn].result |= (uint32_t)x;
}
void emu_last_add(emu_warp *w) {
    w->room[w->turn].result = 0;
    for (uint64_t x : w->room[w->turn].brought) w->room[w->turn].result += (uint32_t)x;
}
void emu_last_min(emu_warp *w) {
    w->room[w->turn].result = UINT32_MAX;
    for (uint64_t x : w->room[w->turn].brought) w->room[w->turn].result = min(w->room[w->turn].result, (uint32_t)x);
}

/* Exact: the bits moved to float32's places, and the exponent's bias corrected by a product. */
static inline float widened_f16(uint32_t x) {
    const uint32_t all_ones = (x & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return __uint_as_float(__float_as_uint(__uint_as_float((x & 0x7fff) << 13) * 0x1p112f) | all_ones | (x & 0x8000) << 16);
}
static inline float widened_bf16(uint32_t x) { return __uint_as_float(x << 16); }

/* C = A [16][16] B [16][8], operands and result spread over the lanes as PTX has it (mma.m16n8k16): lane 4g + t brings of A
 * the rows g and g + 8, of B the column g, the elements 2t, 2t + 1, 2t + 8, 2t + 9 of each, and takes of C the rows g
 * and g + 8, columns 2t and 2t + 1. */
template <float (*WIDENED)(uint32_t)> static void product(emu_warp *w) {
    auto *room = &w->room[w->turn];
    float a[16][16], b[16][8], c[16][8] = {};
    for (unsigned lane = 0; lane < EMU_WARP; lane++)
        for (unsigned i = 0; i < 12; i++) {
            const unsigned g = lane / 4, word = i / 2, k = lane % 4 * 2 + i % 2;
            const float x = WIDENED(room->word[lane][word] >> 16 * (i % 2) & 0xffff);
            if (word < 4) a[g + word % 2 * 8][k + word / 2 * 8] = x;
            else b[k + (word - 4) * 8][g] = x;
        }
    for (unsigned row = 0; row < 16; row++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (unsigned lane = 0; lane < EMU_WARP; lane++)
        for (unsigned i = 0; i < 4; i++) room->product[lane][i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}
void emu_last_product_f16(emu_warp *w) { product<widened_f16>(w); }
void emu_last_product_bf16(emu_warp *w) { product<widened_bf16>(w); }

/* ---- where a thread finds itself ---- */

void *emu_argument_at(unsigned i) { return emu_self->block->cluster->launch->args[i]; }

void *emu_peer(const void *shared, uint32_t rank) {
    const emu_cluster *c = emu_self->block->cluster;
    if (rank >= c->launch->n_blocks) abort();
    if (c->block[rank].n_done == c->launch->n_threads) {
        fprintf(stderr, "block %u of a cluster reaches into the shared memory of block %u, which has ended\n", emu_self->block->rank, rank);
        abort();
    }
    return c->block[rank].shared + ((const char *)shared - emu_self->block->shared);
}

void *emu_slot(unsigned slot, size_t bytes) {
    emu_block *b = emu_self->block;
    char *at = b->shared + slot * EMU_SLOT_BYTES;
    if ((b->poisoned >> slot & 1) == 0) memset(at, POISON, bytes);
    b->poisoned |= 1u << slot;
    return at;
}

/* ---- a cluster from its first thread to its last ---- */

static void thread_main(void) {
    emu_block *b = emu_self->block;
    b->cluster->launch->kernel(emu_unread{});
    emu_self->done = true;
    b->n_done++;
    b->cluster->n_left--;
    open_block(b);
    leave(b->cluster);
}

static void thread_begin(emu_thread *t, char *stack_end) {
    void **top = (void **)stack_end;
    *--top = NULL; /* the return address of thread_main(), which does not return */
    *--top = (void *)thread_main;
    for (int i = 0; i < 6; i++) *--top = NULL;
    t->stack_pointer = top;
}

static void block_begin(worker *w, unsigned rank, uint3 index) {
    const emu_launch *l = w->launch;
    emu_block *b = &w->cluster.block[rank];
    *b = emu_block{w->thread + rank * l->n_threads, l->n_threads, 0, 0, rank, 0, index, w->shared[rank], &w->cluster};
    memset(b->shared + EMU_SLOTS * EMU_SLOT_BYTES, POISON, l->shared_bytes);
    for (unsigned i = 0; i < l->n_threads; i++) {
        const unsigned at = rank * l->n_threads + i;
        emu_warp *warp = &w->warp[at / EMU_WARP];
        if (i % EMU_WARP == 0) warp->lane = &w->thread[at], warp->n_arrived = warp->turn = 0;
        w->thread[at] = emu_thread{NULL, NULL, b, warp, i % EMU_WARP, 0, uint3{i, 0, 0}, NULL, false};
        /* Not all stacks in the same sets of the cache. */
        thread_begin(&w->thread[at], w->stack[at + 1] - at % 16 * 256);
    }
}

static void run_cluster(worker *w, unsigned i) {
    emu_launch *l = w->launch;
    emu_cluster *c = &w->cluster;
    c->launch = l;
    c->backwards = (i + l->number) % 2 == 1;
    c->n_left = l->n_blocks * l->n_threads;
    c->n_arrived = c->turn = 0;
    c->parked = c->ready = NULL;
    c->ready_end = &c->ready;
    const unsigned first = i * l->n_blocks;
    for (unsigned r = 0; r < l->n_blocks; r++)
        block_begin(w, r, uint3{first % l->grid.x + r, first / l->grid.x % l->grid.y, first / l->grid.x / l->grid.y});
    emu_self = NULL;
    make_all_ready(c, w->thread, c->n_left);
    emu_self = next_ready(c);
    emu_switch(&c->host, emu_self->stack_pointer);
}

static void *work(void *argument) {
    worker *w = (worker *)argument;
    blockDim = uint3{w->launch->n_threads, 1, 1};
    gridDim = w->launch->grid;
    for (unsigned i; (i = __atomic_fetch_add(&w->launch->n_taken, 1, __ATOMIC_RELAXED)) < w->launch->n_clusters;)
        run_cluster(w, i);
    return NULL;
}

static void *memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    perror("mmap");
    abort();
}

/* Runs a launch to its end. */
static void run(emu_launch *l) {
    static unsigned n_launches;
    l->number = n_launches++;
    unsigned n = (unsigned)min((long)MAX_WORKERS, sysconf(_SC_NPROCESSORS_ONLN)), n_started = 1;
    n = max(1u, min(n, l->n_clusters));
    for (unsigned i = 0; i < n; i++) {
        worker *w = &workers[i];
        w->launch = l;
        if (w->stack != NULL) continue;
        w->stack = (char (*)[STACK_BYTES])memory((size_t)MAX_CLUSTER * MAX_THREADS * STACK_BYTES);
        w->shared = (char (*)[BLOCK_BYTES])memory((size_t)MAX_CLUSTER * BLOCK_BYTES);
        w->thread = (emu_thread *)memory(MAX_CLUSTER * MAX_THREADS * sizeof *w->thread);
        w->warp = (emu_warp *)memory(MAX_CLUSTER * MAX_THREADS / EMU_WARP * sizeof *w->warp);
    }
    while (n_started < n && pthread_create(&workers[n_started].id, NULL, work, &workers[n_started]) == 0) n_started++;
    work(&workers[0]);
    for (unsigned i = 1; i < n_started; i++) pthread_join(workers[i].id, NULL);
}

/* ---- of the CUDA runtime, what gpu_common.cuh calls ---- */

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **args) {
    emu_launch l = {(void (*)(emu_unread))kernel, args, config->gridDim, 1, config->blockDim.x, config->dynamicSmemBytes, 0, 0, 0};
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) l.n_blocks = config->attrs[i].val.clusterDim.x;
    if (l.n_blocks < 1 || l.n_blocks > MAX_CLUSTER || l.grid.x % l.n_blocks != 0 || l.n_threads > MAX_THREADS ||
        l.n_threads == 0 || l.n_threads % EMU_WARP != 0 || l.shared_bytes > BLOCK_SHARED_BYTES)
        return cudaErrorInvalidConfiguration;
    l.n_clusters = l.grid.x / l.n_blocks * l.grid.y * l.grid.z;
    if (l.n_clusters == 0) return cudaErrorInvalidConfiguration;
    run(&l);
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor             ? 9
             : attribute == cudaDevAttrMultiProcessorCount              ? N_SMS
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin     ? BLOCK_SHARED_BYTES
             : attribute == cudaDevAttrMaxSharedMemoryPerMultiprocessor ? SM_SHARED_BYTES
                                                                        : -1;
    return *value >= 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "the emulation does not take this launch"; }
const char *cudaGetErrorName(cudaError_t error) { return error == cudaErrorInvalidConfiguration ? "configuration" : "value"; }

/* ---- of gpu_run.h and gpu_memory.h, what tests of kernels call: device memory is the host's ---- */

struct adm_gpu {
    adm_device_info info;
};

adm_status adm_gpu_open(int, adm_gpu **out, adm_error *) {
    static adm_gpu the_gpu;
    strcpy(the_gpu.info.name, "emulated");
    the_gpu.info.compute_major = 9;
    the_gpu.info.n_sms = N_SMS;
    *out = &the_gpu;
    return ADM_OK;
}
void adm_gpu_close(adm_gpu **gpu) { *gpu = NULL; }
const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *) { return NULL; }

adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*out == NULL) return adm_fail(err, ADM_EENVIRONMENT, "no memory for %zu bytes", bytes);
    memset(*out, fill, bytes);
    return ADM_OK;
}
void adm_gpu_release(void *pointer_address) {
    void *p;
    memcpy(&p, pointer_address, sizeof p);
    free(p);
    memset(pointer_address, 0, sizeof p);
}
adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *) {
    memcpy(device, host, bytes);
    return ADM_OK;
}
adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *) {
    memset(device, value, bytes);
    return ADM_OK;
}
adm_status adm_gpu_read(adm_gpu *, const void *device, size_t bytes, void *host, adm_error *) {
    memcpy(host, device, bytes);
    return ADM_OK;
}
}
