/* heap.h: a heap of (key, request), the least key first, equal keys by the request's number: arrivals to come, and sequences by
 * the step in which they end. */
#ifndef ADM_ANALYSIS_SERVING_HEAP_H
#define ADM_ANALYSIS_SERVING_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct adm_heap_item {
    uint64_t key;
    uint32_t request;
} adm_heap_item;

typedef struct adm_heap {
    adm_heap_item *item; /* the caller's, with room for all that it pushes */
    size_t n;
} adm_heap;

void adm_heap_push(adm_heap *heap, uint64_t key, uint32_t request);

/* The heap is not empty. */
adm_heap_item adm_heap_pop(adm_heap *heap);

#endif
