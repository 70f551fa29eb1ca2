/* gpu_compare.h: what a stage writes, as regions of device memory, and two ways to compare it: with what another implementation
 * wrote, over every head; and everything else with what it was before. */
#ifndef ADM_KERNELS_TUNE_GPU_GPU_COMPARE_H
#define ADM_KERNELS_TUNE_GPU_GPU_COMPARE_H

#include "kernels/gpu/case.h"

enum { ADM_MAX_OUTPUTS = 4 };

/* Rows of a buffer. Row r of valid_bytes(r) bytes starts at r * stride. */
typedef struct adm_gpu_output {
    const char *name; /* of the buffer */
    char *device;
    size_t n_rows, stride;
    uint32_t rows_per_sequence;
    enum { ADM_VALID_ALL, ADM_VALID_LENGTH, ADM_VALID_SELECTED } valid; /* how much of a row counts */
    size_t element; /* bytes of one */
    bool is_float; /* compared by relative L2 per row */
} adm_gpu_output;

/* The outputs of a stage alone, or of a whole step. length: [batch]. */
size_t adm_gpu_outputs(adm_stage stage, const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                       adm_gpu_output out[ADM_MAX_OUTPUTS]);

/* Copies of a set's outputs on the host. */
typedef struct adm_gpu_copy {
    char *bytes[ADM_MAX_OUTPUTS];
} adm_gpu_copy;

adm_status adm_gpu_copy_outputs(adm_gpu *gpu, const adm_gpu_output *outputs, size_t n, adm_gpu_copy *copy, adm_error *err);
void adm_gpu_copy_free(adm_gpu_copy *copy);

/* ADM_EINTERNAL: the first row that differs. tolerance: of float rows. */
adm_status adm_gpu_compare_copies(const adm_gpu_output *outputs, size_t n, const adm_gpu_shape *shape, const uint32_t *length,
                                  const adm_gpu_copy *found, const adm_gpu_copy *expected, double tolerance, adm_error *err);

/* All of a small case's memory on the host: copies, sets, shared. */
typedef struct adm_gpu_snapshot {
    char *bytes[3];
    size_t n[3];
    char *device[3];
} adm_gpu_snapshot;

adm_status adm_gpu_snapshot_take(adm_gpu *gpu, const adm_gpu_case *gpu_case, adm_gpu_snapshot *out, adm_error *err);
void adm_gpu_snapshot_free(adm_gpu_snapshot *snapshot);

/* ADM_EINTERNAL where a byte outside the outputs has changed: which buffer's. append: the new token's rows of K, V and planes
 * may change too. */
adm_status adm_gpu_snapshot_compare(const adm_gpu_snapshot *before, const adm_gpu_snapshot *after, const adm_gpu_case *gpu_case,
                                    const adm_gpu_output *outputs, size_t n, bool append, adm_error *err);

#endif
