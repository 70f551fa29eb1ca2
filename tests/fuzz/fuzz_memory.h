/* fuzz_memory.h: SQLite's memory in a fuzzer, by blocks of powers of two that are used again. ASan's own allocator takes half
 * of the time that a database needs. ASan still sees what lies behind a block and what was given back: both are poisoned.
 *
 *     | size of the block (8 bytes) | the block, up to the next power of two; poisoned beyond what was asked for |
 */
#ifndef ADM_TESTS_FUZZ_FUZZ_MEMORY_H
#define ADM_TESTS_FUZZ_FUZZ_MEMORY_H

#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#endif

enum { FUZZ_SMALLEST = 6, FUZZ_LARGEST = 20, FUZZ_CHUNK_BYTES = 1 << 20, FUZZ_HEADER_BYTES = 16 };

typedef struct fuzz_block {
    uint64_t n_bytes; /* usable */
    struct fuzz_block *next; /* of those that are free */
} fuzz_block;

typedef struct fuzz_pool {
    fuzz_block *unused[FUZZ_LARGEST + 1]; /* [i]: blocks of 1 << i bytes with their header */
    char *chunk, *end;
    int64_t n_used_bytes;
} fuzz_pool;

static inline fuzz_pool *fuzz_the_pool(void) {
    static fuzz_pool pool;
    return &pool;
}

static inline int fuzz_class_of(size_t n) {
    int i = FUZZ_SMALLEST;
    while (i <= FUZZ_LARGEST && ((size_t)1 << i) < n + FUZZ_HEADER_BYTES) i++;
    return i;
}

static inline fuzz_block *fuzz_carve(fuzz_pool *pool, size_t whole) {
    if ((size_t)(pool->end - pool->chunk) < whole) {
        pool->chunk = malloc(FUZZ_CHUNK_BYTES);
        if (pool->chunk == NULL) abort();
        pool->end = pool->chunk + FUZZ_CHUNK_BYTES;
    }
    fuzz_block *block = (fuzz_block *)(void *)pool->chunk;
    pool->chunk += whole;
    return block;
}

static inline void *fuzz_pool_take(int n) {
    fuzz_pool *pool = fuzz_the_pool();
    const int i = fuzz_class_of((size_t)n);
    fuzz_block *block;
    if (i > FUZZ_LARGEST) {
        block = malloc((size_t)n + FUZZ_HEADER_BYTES);
        if (block == NULL) return NULL;
    } else if (pool->unused[i] != NULL) {
        block = pool->unused[i];
        pool->unused[i] = block->next;
    } else {
        block = fuzz_carve(pool, (size_t)1 << i);
    }
    block->n_bytes = (uint64_t)n;
    pool->n_used_bytes += n;
    char *memory = (char *)block + FUZZ_HEADER_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(memory, (size_t)n);
    if (i <= FUZZ_LARGEST) ASAN_POISON_MEMORY_REGION(memory + n, ((size_t)1 << i) - FUZZ_HEADER_BYTES - (size_t)n);
    return memory;
}

static inline int fuzz_pool_size(void *memory) {
    return memory == NULL ? 0 : (int)((fuzz_block *)(void *)((char *)memory - FUZZ_HEADER_BYTES))->n_bytes;
}

static inline void fuzz_pool_give(void *memory) {
    fuzz_pool *pool = fuzz_the_pool();
    fuzz_block *block = (fuzz_block *)(void *)((char *)memory - FUZZ_HEADER_BYTES);
    const int i = fuzz_class_of(block->n_bytes);
    pool->n_used_bytes -= (int64_t)block->n_bytes;
    if (i > FUZZ_LARGEST) {
        free(block);
        return;
    }
    ASAN_POISON_MEMORY_REGION(memory, ((size_t)1 << i) - FUZZ_HEADER_BYTES);
    block->next = pool->unused[i];
    pool->unused[i] = block;
}

static inline void *fuzz_pool_resize(void *memory, int n) {
    void *larger = fuzz_pool_take(n);
    if (larger == NULL) return NULL;
    const int had = fuzz_pool_size(memory);
    memcpy(larger, memory, (size_t)(had < n ? had : n));
    fuzz_pool_give(memory);
    return larger;
}

/* Multiples of 8, so that a size that SQLite rounds is one that it gets. */
static inline int fuzz_pool_round(int n) { return (n + 7) / 8 * 8; }
static inline int fuzz_pool_begin(void *user) { return user == NULL ? SQLITE_OK : SQLITE_ERROR; }
static inline void fuzz_pool_end(void *user) { (void)user; }

/* Before SQLite's first use; without effect after it. */
static inline void fuzz_use_pool(void) {
    static const sqlite3_mem_methods methods = {fuzz_pool_take,  fuzz_pool_give,  fuzz_pool_resize, fuzz_pool_size,
                                                fuzz_pool_round, fuzz_pool_begin, fuzz_pool_end,    NULL};
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK) return;
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

#endif
