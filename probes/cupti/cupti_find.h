/* cupti_find.h: where a CUPTI may lie on this machine; finds files and loads none of them.
 *
 * In this order: the file named by ADAMAS_CUPTI, and nothing else if that is set; the loader's own paths; the CUDA folders
 * of this build tree, 13.0 first; CUDA_HOME, CUDA_PATH and /usr/local/cuda; the NVIDIA packages of the Python in
 * VIRTUAL_ENV, on the PATH, and of the system. */
#ifndef ADM_PROBES_CUPTI_CUPTI_FIND_H
#define ADM_PROBES_CUPTI_CUPTI_FIND_H

#include <stdbool.h>

#define ADM_CUPTI_LIBRARY "libcupti.so.13"

/* Looks at one candidate: a path, or ADM_CUPTI_LIBRARY for the loader to find. True: it will do, and the search ends. */
typedef bool adm_cupti_visit(void *user, const char *library);

/* Visits the candidates that exist until one will do; returns whether one did. */
bool adm_cupti_find(adm_cupti_visit *visit, void *user);

#endif
