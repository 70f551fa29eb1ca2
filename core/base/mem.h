/* mem.h: allocation whose size cannot overflow and whose failure is a status. */
#ifndef ADM_CORE_BASE_MEM_H
#define ADM_CORE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"

/* Cache-line alignment: enough for every SIMD load and keeps two threads' buffers apart. */
#define ADM_ALIGN_BYTES 64

#ifdef __cplusplus
extern "C" {
#endif

/* Allocates count * size zeroed bytes, aligned to ADM_ALIGN_BYTES, into *out (a pointer to the caller's pointer).
 * `what` names the thing for the message ("distances of 131072 tokens"). A count of 0 gives a valid pointer.
 * On failure *out is NULL and the status ADM_EENVIRONMENT with the size asked for. Release with adm_free(). */
adm_status adm_alloc(void *out, size_t count, size_t size, const char *what, adm_error *err);

/* Whether an allocation of this process, or of the one it was forked from, has failed for want of memory. For who must tell
 * that from other failures of the environment. */
bool adm_memory_ran_out(void);

/* Makes an array of adm_alloc(), whose pointer's address is given, large enough for an element beyond its n: 64 at first, then
 * twice as many each time. On failure array and capacity stay as they are. */
adm_status adm_grow(void *array_address, size_t n, size_t *capacity, size_t size, const char *what, adm_error *err);

/* Frees what adm_alloc() gave and nulls the caller's pointer; NULL is fine. Takes the address of the pointer. */
void adm_free(void *pointer_address);

/* memcpy(), qsort() and bsearch() for n elements that may be none: then the array may be NULL, which is undefined behaviour
 * in the C functions. */
static inline void adm_copy(void *to, const void *from, size_t bytes) {
    if (bytes > 0) memcpy(to, from, bytes);
}

static inline void adm_sort(void *array, size_t n, size_t size, int (*order)(const void *, const void *)) {
    if (n > 1) qsort(array, n, size, order);
}

static inline void *adm_search(const void *key, const void *array, size_t n, size_t size,
                               int (*order)(const void *, const void *)) {
    return n > 0 ? bsearch(key, array, n, size, order) : NULL;
}

#ifdef __cplusplus
}
#endif

#endif
