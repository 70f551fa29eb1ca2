/* bucket.h: from a transformed row to 2-bit codes, by three thresholds. */
#ifndef ADM_KERNELS_ENCODE_BUCKET_H
#define ADM_KERNELS_ENCODE_BUCKET_H

#include "core/contract/stage.h"

/* As core/contract/stage.h says: a value equal to a threshold counts as below it. */
ADM_API adm_bucket_fn adm_bucket_reference;

#if defined(__x86_64__)
ADM_API adm_bucket_fn adm_bucket_avx2; /* needs adm_cpu_has_avx2() */
#endif

/* Compulsory traffic of n_rows rows: y read, one byte an element written. Rows as in hadamard.h. Ignored: the three
 * thresholds, and that a fused kernel needs neither. */
double adm_bucket_bytes(double n_rows, uint32_t head_dim);

/* Three comparisons and two additions an element. */
double adm_bucket_flops(double n_rows, uint32_t head_dim);

#endif
