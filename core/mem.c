/* mem.c: allocation whose size cannot overflow. */
#include "core/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

adm_status adm_alloc(void *out, size_t count, size_t size, const char *what, adm_error *err) {
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory);
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ADM_ALIGN_BYTES)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: %zu elements of %zu bytes do not fit an address space", what, count,
                        size);
    bytes = (bytes + ADM_ALIGN_BYTES) / ADM_ALIGN_BYTES * ADM_ALIGN_BYTES;
    memory = aligned_alloc(ADM_ALIGN_BYTES, bytes);
    if (memory == NULL)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory, %zu bytes were needed", what, bytes);
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
