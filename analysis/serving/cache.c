/* cache.c: counts pages and keeps blocks. */
#include "analysis/serving/cache.h"

#include "core/base/mem.h"

adm_status adm_cache_open(uint64_t n_pages, size_t n_blocks, uint32_t block_pages, adm_cache *cache, adm_error *err) {
    *cache = (adm_cache){.n_pages = n_pages,
                         .n_free = n_pages,
                         .block_pages = block_pages,
                         .n_blocks = n_blocks,
                         .oldest = ADM_CACHE_NONE,
                         .newest = ADM_CACHE_NONE};
    return adm_alloc(&cache->block, n_blocks, sizeof *cache->block, "blocks of a prefix cache", err);
}

void adm_cache_close(adm_cache *cache) { adm_free(&cache->block); }

/* --- The LRU list --------------------------------------------------------------------------------------------------- */

static void unlink_block(adm_cache *c, uint32_t b) {
    adm_cache_block *block = &c->block[b];
    if (block->prev != ADM_CACHE_NONE) c->block[block->prev].next = block->next;
    else c->oldest = block->next;
    if (block->next != ADM_CACHE_NONE) c->block[block->next].prev = block->prev;
    else c->newest = block->prev;
    c->n_kept -= c->block_pages;
}

static void link_newest(adm_cache *c, uint32_t b) {
    adm_cache_block *block = &c->block[b];
    block->prev = c->newest;
    block->next = ADM_CACHE_NONE;
    if (c->newest != ADM_CACHE_NONE) c->block[c->newest].next = b;
    else c->oldest = b;
    c->newest = b;
    c->n_kept += c->block_pages;
}

/* --- Pages ---------------------------------------------------------------------------------------------------------- */

static void note_peak(adm_cache *c) {
    const uint64_t used = c->n_pages - c->n_free - c->n_kept;
    if (used > c->peak_used) c->peak_used = used;
}

bool adm_cache_take(adm_cache *c, uint64_t n_pages) {
    if (n_pages > c->n_free + c->n_kept) return false;
    while (c->n_free < n_pages) {
        const uint32_t b = c->oldest;
        unlink_block(c, b);
        c->block[b].resident = false;
        c->n_free += c->block_pages;
        c->n_evicted++;
    }
    c->n_free -= n_pages;
    note_peak(c);
    return true;
}

void adm_cache_give(adm_cache *c, uint64_t n_pages) { c->n_free += n_pages; }

/* --- Blocks --------------------------------------------------------------------------------------------------------- */

uint32_t adm_cache_match(const adm_cache *c, const uint32_t *blocks, uint32_t n) {
    uint32_t i = 0;
    while (i < n && c->block[blocks[i]].resident) i++;
    return i;
}

void adm_cache_hold(adm_cache *c, const uint32_t *blocks, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (c->block[blocks[i]].n_users++ == 0) unlink_block(c, blocks[i]);
    note_peak(c);
}

void adm_cache_release(adm_cache *c, const uint32_t *blocks, uint32_t n) {
    for (uint32_t i = n; i-- > 0;)
        if (--c->block[blocks[i]].n_users == 0) link_newest(c, blocks[i]);
}

void adm_cache_publish(adm_cache *c, const uint32_t *blocks, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        adm_cache_block *block = &c->block[blocks[i]];
        if (block->resident) {
            c->n_free += c->block_pages;
            if (block->n_users++ == 0) unlink_block(c, blocks[i]);
        } else {
            block->resident = true;
            block->n_users = 1;
        }
    }
}
