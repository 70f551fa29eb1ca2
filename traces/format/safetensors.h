/* safetensors.h: reads a .safetensors file that may have been made to do harm.
 *
 *   0        8                8+n                                   end of file
 *   | n: u64 | n bytes of JSON | tensor data, no holes, no overlaps  |
 *
 *   {"__metadata__": {"key": "text", ...},
 *    "name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, ...}      offsets count from 8+n
 *
 * Everything is little-endian and row-major. A file is accepted or rejected as the reference implementation does
 * (github.com/huggingface/safetensors, 0.8), but for this: a name may not occur twice or hold U+0000, a number may not
 * exceed 2^63-1, the header may not hold more than a million JSON values, and -0 counts as 0.
 *
 * This knows nothing of attention traces; trace_file.h does. */
#ifndef ADM_TRACES_FORMAT_SAFETENSORS_H
#define ADM_TRACES_FORMAT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/trace.h"
#include "traces/format/input_file.h"

enum {
    ADM_ST_MAX_HEADER_BYTES = 100000000, /* the reference implementation's own limit */
    ADM_ST_MAX_VALUES = 1000000,         /* some 100,000 tensors; the parser needs up to 250 bytes a value */
    ADM_ST_DIMS_KEPT = 4,
};

typedef struct adm_safetensors adm_safetensors;

/* All pointers are borrowed from the open file. */
typedef struct adm_st_tensor {
    const char *name;                 /* UTF-8 */
    const char *dtype;                /* "F16", "I64", ... one of the format's 22 */
    size_t n_dims;                    /* 0 for a scalar */
    uint64_t shape[ADM_ST_DIMS_KEPT]; /* the first ADM_ST_DIMS_KEPT of n_dims, 0 beyond n_dims */
    const void *data;                 /* n_bytes bytes, at any alignment */
    size_t n_bytes;                   /* as shape and dtype say */
} adm_st_tensor;

/* Opens, checks and maps the file; *out is closed with adm_safetensors_close(), or NULL on failure. ADM_EINPUT: not
 * there, not readable, not a regular file, or not a valid safetensors file; ADM_EENVIRONMENT: no memory, descriptors
 * or address space, or a failing disk. Never waits for a pipe or a device. The header is read, not mapped, so it cannot
 * change between check and use; tensor data is mapped, see adm_input_map(). */
adm_status adm_safetensors_open(const char *path, adm_safetensors **out, adm_error *err);

/* Unmaps, closes and nulls; NULL is fine. */
void adm_safetensors_close(adm_safetensors **st);

/* The file below: its label, size and hash, and whether it is still unchanged. */
const adm_input_file *adm_safetensors_file(const adm_safetensors *st);

/* Tensors in ascending order of name (by byte). i < adm_safetensors_count(). */
size_t adm_safetensors_count(const adm_safetensors *st);
const adm_st_tensor *adm_safetensors_tensor(const adm_safetensors *st, size_t i);

/* NULL if there is none of that name. */
const adm_st_tensor *adm_safetensors_find(const adm_safetensors *st, const char *name);

/* The pairs of __metadata__ in the file's order; the array lives as long as the open file. */
size_t adm_safetensors_metadata(const adm_safetensors *st, const adm_trace_meta **pairs);

#endif
