/* cupti_load.h: finds CUPTI at run time, so that the program starts where there is none, and says what its errors mean.
 *
 * Looked for, in this order: the file named by ADAMAS_CUPTI, and nothing else if that is set; the loader's own paths;
 * the CUDA folder of this build tree; CUDA_HOME, CUDA_PATH and /usr/local/cuda; the NVIDIA packages of the Python in
 * VIRTUAL_ENV, on the PATH, and of the system. */
#ifndef ADM_PROBES_CUPTI_CUPTI_LOAD_H
#define ADM_PROBES_CUPTI_CUPTI_LOAD_H

#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads CUPTI once a process; it stays. ADM_EUNSUPPORTED with the cure: it is not found, or is older than 13. */
adm_status adm_cupti_load(adm_error *err);

/* The file that was loaded, or NULL. */
const char *adm_cupti_path(void);

/* The version as 1000 * major + ..., as cuptiGetVersion() gives it; 0: not loaded. */
unsigned adm_cupti_version(void);

/* A function of CUPTI, or NULL. */
void *adm_cupti_function(const char *name);

/* Looks up n functions. ADM_EUNSUPPORTED names the first that this CUPTI lacks. */
adm_status adm_cupti_functions(const char *const *names, void **functions, size_t n, adm_error *err);

/* Turns a CUptiResult into a sentence with the cure where there is one; `doing` completes "CUPTI ... failed".
 * ADM_EUNSUPPORTED: privileges, another profiler, vGPU, confidential computing, MIG and the like; else
 * ADM_EENVIRONMENT. */
adm_status adm_cupti_fail(adm_error *err, int result, const char *doing);

/* The current CUDA context (a CUcontext), through the driver; NULL: there is none. */
void *adm_cuda_context(void);

#ifdef __cplusplus
}
#endif

#endif
