/* emulate.cpp: runs CUDA kernels on the host, for tests: the scheduler behind emulate.h. emulate_device.cpp has what needs no
 * knowledge of it, emulate_runtime.cpp what launchers and tests call.
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

#include "tests/support/emulate/emulate.h"

enum { MAX_WORKERS = 8, STACK_BYTES = 32 * 1024, POISON = 0xCD };

enum { BLOCK_BYTES = EMU_SLOTS * EMU_SLOT_BYTES + EMU_BLOCK_SHARED_BYTES + 1024 }; /* shared memory, a multiple of 1 KiB */

/* A cluster on its host thread. */
struct emu_cluster {
    emu_launch *launch;
    emu_block block[EMU_MAX_CLUSTER];
    unsigned n_left, n_arrived, turn; /* threads not done; at the cluster's barrier, and how often that was passed */
    bool all_promise[2]; /* of those that arrived, by the turn's lowest bit */
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
    emu_copy (*copy)[EMU_COPIES]; /* of each thread, then of each block */
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
        emu_thread *t = &thread[c->block->backwards ? n - 1 - i : i];
        if (t != emu_self && !t->done) make_ready(c, t);
    }
}

[[noreturn]] static void stuck(const emu_cluster *c) {
    fprintf(stderr, "emulated threads wait for each other for ever; of the cluster with block (%u, %u, %u):\n",
            c->block->index.x, c->block->index.y, c->block->index.z);
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

/* Waits until emu_wake_parked(); for conditions that the caller then looks at again. */
void emu_park(const char *where) {
    emu_cluster *c = emu_self->block->cluster;
    emu_self->waits_at = where;
    emu_self->next = c->parked;
    c->parked = emu_self;
    leave(c);
}

void emu_wake_parked(void) {
    emu_cluster *c = emu_self->block->cluster;
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

int emu_block_or(int x) {
    emu_block *b = emu_self->block;
    if (x != 0) b->vote = true;
    emu_meet_block();
    const bool any = b->vote;
    emu_meet_block();
    b->vote = false;
    emu_meet_block();
    return any;
}

void emu_cluster_arrive(bool promises) {
    emu_cluster *c = emu_self->block->cluster;
    emu_self->cluster_turn = c->turn;
    if (c->n_arrived == 0) c->all_promise[c->turn % 2] = true;
    if (!promises) c->all_promise[c->turn % 2] = false;
    if (++c->n_arrived < c->launch->n_blocks * c->launch->n_threads) return;
    c->n_arrived = 0;
    c->turn++;
    emu_wake_parked();
}

void adm_cluster_wait(void) {
    emu_cluster *c = emu_self->block->cluster;
    while (c->turn == emu_self->cluster_turn) emu_park("the cluster's barrier");
    emu_self->peers_readable = c->all_promise[emu_self->cluster_turn % 2];
}

/* ---- where a thread finds itself ---- */

void *emu_argument_at(unsigned i) { return emu_self->block->cluster->launch->args[i]; }

void *emu_peer(const void *shared, uint32_t rank) {
    const emu_cluster *c = emu_self->block->cluster;
    if (rank >= c->launch->n_blocks) abort();
    if (c->block[rank].n_done == c->launch->n_threads) {
        fprintf(stderr, "block %u of a cluster reaches into the shared memory of block %u, which has ended\n",
                emu_self->block->rank, rank);
        abort();
    }
    return c->block[rank].shared + ((const char *)shared - emu_self->block->shared);
}

void *emu_readable_peer(const void *shared, uint32_t rank) {
    if (rank != emu_self->block->rank && !emu_self->peers_readable) {
        fprintf(stderr, "block %u of a cluster reads what block %u wrote, but arrived at their barrier without a promise\n",
                emu_self->block->rank, rank);
        abort();
    }
    return emu_peer(shared, rank);
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

static void block_begin(worker *w, unsigned rank, uint3 index, bool backwards) {
    const emu_launch *l = w->launch;
    emu_block *b = &w->cluster.block[rank];
    b->thread = w->thread + rank * l->n_threads;
    b->n_threads = l->n_threads;
    b->n_arrived = b->n_done = b->poisoned = 0;
    b->copies = {w->copy[EMU_MAX_CLUSTER * EMU_MAX_THREADS + rank], 0};
    b->rank = rank;
    b->vote = false;
    b->index = index;
    b->backwards = backwards;
    b->shared = w->shared[rank];
    b->cluster = &w->cluster;
    memset(b->shared + EMU_SLOTS * EMU_SLOT_BYTES, POISON, l->shared_bytes);
    for (unsigned i = 0; i < l->n_threads; i++) {
        const unsigned at = rank * l->n_threads + i;
        emu_warp *warp = &w->warp[at / EMU_WARP];
        if (i % EMU_WARP == 0) warp->lane = &w->thread[at], warp->n_arrived = warp->turn = 0;
        w->thread[at] = emu_thread{NULL,           NULL, b,    warp, i % EMU_WARP, 0, false, 0, {w->copy[at], 0},
                                   uint3{i, 0, 0}, NULL, false};
        /* Not all stacks in the same sets of the cache. */
        thread_begin(&w->thread[at], w->stack[at + 1] - at % 16 * 256);
    }
}

static void run_cluster(worker *w, unsigned i) {
    emu_launch *l = w->launch;
    emu_cluster *c = &w->cluster;
    c->launch = l;
    c->n_left = l->n_blocks * l->n_threads;
    c->n_arrived = c->turn = 0;
    c->parked = c->ready = NULL;
    c->ready_end = &c->ready;
    const unsigned first = i * l->n_blocks;
    for (unsigned r = 0; r < l->n_blocks; r++)
        block_begin(w, r, uint3{first % l->grid.x + r, first / l->grid.x % l->grid.y, first / l->grid.x / l->grid.y},
                    (i + l->number) % 2 == 1);
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

void emu_run(emu_launch *l) {
    static unsigned n_launches;
    l->number = n_launches++;
    unsigned n = (unsigned)min((long)MAX_WORKERS, sysconf(_SC_NPROCESSORS_ONLN)), n_started = 1;
    n = max(1u, min(n, l->n_clusters));
    for (unsigned i = 0; i < n; i++) {
        worker *w = &workers[i];
        w->launch = l;
        if (w->stack != NULL) continue;
        w->stack = (char(*)[STACK_BYTES])memory((size_t)EMU_MAX_CLUSTER * EMU_MAX_THREADS * STACK_BYTES);
        w->shared = (char(*)[BLOCK_BYTES])memory((size_t)EMU_MAX_CLUSTER * BLOCK_BYTES);
        w->thread = (emu_thread *)memory(EMU_MAX_CLUSTER * EMU_MAX_THREADS * sizeof *w->thread);
        w->copy = (emu_copy(*)[EMU_COPIES])memory(EMU_MAX_CLUSTER * (EMU_MAX_THREADS + 1) * sizeof *w->copy);
        w->warp = (emu_warp *)memory(EMU_MAX_CLUSTER * EMU_MAX_THREADS / EMU_WARP * sizeof *w->warp);
    }
    while (n_started < n && pthread_create(&workers[n_started].id, NULL, work, &workers[n_started]) == 0) n_started++;
    work(&workers[0]);
    for (unsigned i = 1; i < n_started; i++) pthread_join(workers[i].id, NULL);
}
