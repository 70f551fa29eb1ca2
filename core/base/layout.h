/* layout.h: several arrays in one block of memory. The same function takes them twice: with base NULL it finds out how many
 * bytes the block needs, and with the block it hands out the arrays.
 *
 *   base | array | pad | array | pad | ...      each on a cache line of its own */
#ifndef ADM_CORE_BASE_LAYOUT_H
#define ADM_CORE_BASE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

typedef struct adm_layout {
    unsigned char *base; /* aligned to ADM_ALIGN_BYTES, of as many bytes as a run with NULL took; NULL: count only */
    size_t bytes;        /* taken so far; SIZE_MAX: more than memory can hold, which adm_alloc() refuses */
} adm_layout;

/* The next array of count elements of `size` bytes; NULL while counting. */
static inline void *adm_layout_take(adm_layout *layout, size_t count, size_t size) {
    size_t bytes, end;
    if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, ADM_ALIGN_BYTES - 1, &bytes) ||
        __builtin_add_overflow(layout->bytes, bytes & ~(size_t)(ADM_ALIGN_BYTES - 1), &end)) {
        layout->bytes = SIZE_MAX;
        return NULL;
    }
    void *array = layout->base != NULL ? layout->base + layout->bytes : NULL;
    layout->bytes = end;
    return array;
}

#endif
