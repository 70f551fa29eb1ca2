/* mem.c: allocation whose size cannot overflow. */
#include "core/base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of a block of several huge pages (2 MiB on x86-64, and on most of arm64) each is one page fault and one entry of the TLB
 * where 4 KiB pages are 512. */
enum { HUGE_PAGE_BYTES = 2 << 20, LARGE_BYTES = 2 * HUGE_PAGE_BYTES };

static atomic_bool ran_out;

bool adm_memory_ran_out(void) { return atomic_load_explicit(&ran_out, memory_order_relaxed); }

adm_status adm_alloc(void *out, size_t count, size_t size, const char *what, adm_error *err) {
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory);
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ADM_ALIGN_BYTES)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: %zu elements of %zu bytes do not fit an address space", what, count, size);
    bytes = (bytes + ADM_ALIGN_BYTES) / ADM_ALIGN_BYTES * ADM_ALIGN_BYTES;
    const bool large = bytes >= LARGE_BYTES && bytes <= SIZE_MAX - HUGE_PAGE_BYTES;
    if (large) bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    memory = aligned_alloc(large ? HUGE_PAGE_BYTES : ADM_ALIGN_BYTES, bytes);
    if (memory == NULL) {
        atomic_store_explicit(&ran_out, true, memory_order_relaxed);
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory, %zu bytes were needed", what, bytes);
    }
    if (large) madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: without it everything works as well, with smaller pages */
    memset(memory, 0, bytes);
    memcpy(out, &memory, sizeof memory);
    return ADM_OK;
}

void adm_free(void *pointer_address) {
    void *memory;
    memcpy(&memory, pointer_address, sizeof memory);
    free(memory);
    memory = NULL;
    memcpy(pointer_address, &memory, sizeof memory);
}

adm_status adm_grow(void *array_address, size_t n, size_t *capacity, size_t size, const char *what, adm_error *err) {
    void *old, *larger;
    if (n < *capacity) return ADM_OK;
    const size_t more = *capacity > 0 ? 2 * *capacity : 64;
    adm_status status = adm_alloc(&larger, more, size, what, err);
    if (status != ADM_OK) return status;
    memcpy(&old, array_address, sizeof old);
    adm_copy(larger, old, n * size);
    adm_free(&old);
    memcpy(array_address, &larger, sizeof larger);
    *capacity = more;
    return ADM_OK;
}
