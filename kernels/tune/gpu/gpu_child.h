/* gpu_child.h: the process in which one GPU candidate is checked and timed.
 *
 *   OPEN      opens the device; loads a module
 *   CHECK i   small shape i: against the host, against the registry's row over every head, and every other byte unchanged
 *   TIME      the configuration asked for: checked, timed, then its graph replayed on poisoned outputs and checked again
 *   SCREEN i  candidate i of several, for a search: compared with the registry's row at the configuration asked for, then timed
 *             with a few samples. The buffers are made once; what is screened is judged like any other before a time is kept */
#ifndef ADM_KERNELS_TUNE_GPU_GPU_CHILD_H
#define ADM_KERNELS_TUNE_GPU_GPU_CHILD_H

#include "kernels/tune/candidate/child.h"
#include "kernels/tune/host/host_session.h"

enum { ADM_GPU_OPEN, ADM_GPU_CHECK, ADM_GPU_TIME, ADM_GPU_SCREEN };

typedef struct adm_gpu_request {
    uint32_t what, which;
    uint64_t seed;
} adm_gpu_request;

enum { ADM_GPU_MAX_SAMPLES = 2000 };

typedef struct adm_gpu_reply {
    adm_status status;
    char text[768];
    size_t n_samples;
    double sample_ns[ADM_GPU_MAX_SAMPLES];
    double read_limit, bytes; /* of the floor */
    adm_tune_resources resources;
    adm_tune_counted counted;
} adm_gpu_reply;

typedef struct adm_gpu_defendant {
    const adm_candidate *c; /* one, or several that are screened */
    const adm_tune_options *options;
    int device;
    bool screens;
} adm_gpu_defendant;

/* Serves one candidate, an adm_gpu_defendant. Its first reply, without a request, says whether it could be loaded. */
adm_child_serve adm_gpu_child_serve;

/* How many small shapes there are for a stage. */
uint32_t adm_gpu_n_checks(void);

#endif
