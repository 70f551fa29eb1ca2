/* cupti_load.h: chooses a CUPTI and loads it at run time, so that the program starts where there is none, and says what its
 * errors mean. Where it looks is in cupti_find.h; what it asks first, in a process of its own, in cupti_ask.h. The first
 * CUPTI that answers is taken: without a driver that is 13.0 or 13.1. */
#ifndef ADM_PROBES_CUPTI_CUPTI_LOAD_H
#define ADM_PROBES_CUPTI_CUPTI_LOAD_H

#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Loads CUPTI once a process; it stays. ADM_EUNSUPPORTED with the cure: it is not found, is older than 13.0, does not
 * answer, or would use the libnvperf_host.so of another release. */
adm_status adm_cupti_load(adm_error *err);

/* The file that was loaded, or NULL. */
const char *adm_cupti_path(void);

/* What was found first and left out, why, and what is used instead, as a sentence; NULL: nothing was left out. */
const char *adm_cupti_note(void);

/* The version as cuptiGetVersion() gives it, 130001 for 13.0 Update 1; 0: not loaded. */
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
