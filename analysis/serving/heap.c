/* heap.c: a binary heap in an array. */
#include "analysis/serving/heap.h"

static bool before(const adm_heap_item *a, const adm_heap_item *b) {
    return a->key != b->key ? a->key < b->key : a->request < b->request;
}

void adm_heap_push(adm_heap *heap, uint64_t key, uint32_t request) {
    const adm_heap_item item = {key, request};
    size_t i = heap->n++;
    for (; i > 0 && before(&item, &heap->item[(i - 1) / 2]); i = (i - 1) / 2) heap->item[i] = heap->item[(i - 1) / 2];
    heap->item[i] = item;
}

adm_heap_item adm_heap_pop(adm_heap *heap) {
    const adm_heap_item top = heap->item[0], last = heap->item[--heap->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < heap->n; i = child) {
        if (child + 1 < heap->n && before(&heap->item[child + 1], &heap->item[child])) child++;
        if (!before(&heap->item[child], &last)) break;
        heap->item[i] = heap->item[child];
    }
    heap->item[i] = last;
    return top;
}
