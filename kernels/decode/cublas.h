/* cublas.h: NVIDIA's cuBLAS, looked for at run time and never linked: a program built elsewhere runs where there is none, and
 * says what it lacks.
 *
 * Looked for, in this order: the file that ADAMAS_CUBLAS names; what the loader finds; toolkits in /usr/local and CUDA_HOME;
 * the wheel nvidia-cublas in the virtual environment (VIRTUAL_ENV) and in this user's and the system's Python folders. */
#ifndef ADM_KERNELS_DECODE_CUBLAS_H
#define ADM_KERNELS_DECODE_CUBLAS_H

#include "kernels/decode/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_cublas adm_cublas;

enum { ADM_CUBLAS_WORKSPACE_BYTES = 32 << 20 }; /* what cuBLAS recommends for Hopper */

/* Loads it and makes a handle on the current device. workspace: device memory of ADM_CUBLAS_WORKSPACE_BYTES, which it uses from
 * then on, so that products can be captured. ADM_EUNSUPPORTED where there is none, with the cure. */
adm_status adm_cublas_open(void *workspace, adm_gpu_stream stream, adm_cublas **out, adm_error *err);

/* Nulls the pointer; NULL is fine. */
void adm_cublas_close(adm_cublas **cublas);

/* "13.0.2" and where it was found; lives as long as the adm_cublas. */
const char *adm_cublas_version(const adm_cublas *cublas);

/* Enqueues a product on the stream of the handle. */
adm_status adm_cublas_product(adm_cublas *cublas, const adm_decode_product *product, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
