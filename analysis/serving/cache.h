/* cache.h: the memory of a serving engine's K, V and codes, counted in pages: what running sequences hold, and blocks of
 * prompts that ended and may be used again, least recently used first to go.
 *
 *   pages   [ held by sequences | blocks in use, shared | blocks kept, in LRU order | free ]
 *
 * It counts; it stores nothing. A block is a number from the request trace: equal numbers are equal tokens behind equal
 * tokens. */
#ifndef ADM_ANALYSIS_SERVING_CACHE_H
#define ADM_ANALYSIS_SERVING_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* One block. */
typedef struct adm_cache_block {
    uint32_t n_users;    /* sequences that hold it */
    uint32_t next, prev; /* in the LRU list while nobody holds it; ADM_CACHE_NONE at its ends */
    bool resident;
} adm_cache_block;

enum { ADM_CACHE_NONE = 0xffffffff };

typedef struct adm_cache {
    uint64_t n_pages, n_free; /* of which nobody holds and no block keeps */
    uint64_t n_kept;          /* pages of blocks that nobody holds */
    uint64_t peak_used;       /* pages held by sequences and blocks in use, at most */
    uint32_t block_pages;     /* of one block */
    size_t n_blocks;
    adm_cache_block *block;   /* [n_blocks] */
    uint32_t oldest, newest;  /* ends of the LRU list */
    uint64_t n_evicted;       /* blocks */
} adm_cache;

/* n_blocks may be 0. Release with adm_cache_close(). */
adm_status adm_cache_open(uint64_t n_pages, size_t n_blocks, uint32_t block_pages, adm_cache *cache, adm_error *err);
void adm_cache_close(adm_cache *cache);

/* How many of the blocks, from the first on without a gap, are there. */
uint32_t adm_cache_match(const adm_cache *cache, const uint32_t *blocks, uint32_t n);

/* Takes pages, giving up kept blocks as needed; false, and nothing taken, if even all of them are too few. */
bool adm_cache_take(adm_cache *cache, uint64_t n_pages);
void adm_cache_give(adm_cache *cache, uint64_t n_pages);

/* Holds blocks that are there; lets go of blocks that are held: the last first, so that a prefix outlives what follows it. */
void adm_cache_hold(adm_cache *cache, const uint32_t *blocks, uint32_t n);
void adm_cache_release(adm_cache *cache, const uint32_t *blocks, uint32_t n);

/* Turns pages that a sequence holds into blocks that it holds. A block that is there already gives its pages back. */
void adm_cache_publish(adm_cache *cache, const uint32_t *blocks, uint32_t n);

#endif
