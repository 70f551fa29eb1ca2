/* candidate.h: an implementation to be judged: a row of the registry, or somebody's own. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_CANDIDATE_H
#define ADM_KERNELS_TUNE_CANDIDATE_CANDIDATE_H

#include <limits.h>

#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

enum { ADM_CANDIDATE_NAME_BYTES = 128, ADM_TUNE_MAX_PARAMETERS = 8, ADM_TUNE_MAX_VALUES = 32 };

/* A parameter that tune may choose: the first value is the default. */
typedef struct adm_tune_parameter {
    char name[48];
    int64_t value[ADM_TUNE_MAX_VALUES];
    size_t n_values;
} adm_tune_parameter;

/* What an implementation takes. */
typedef struct adm_tune_limits {
    uint32_t head_dims;  /* a sum of 64, 128, 256 */
    uint32_t dtypes;     /* bits 1 << adm_dtype */
    uint32_t max_tokens; /* 0: no limit */
} adm_tune_limits;

/* Figures of a compiled GPU kernel, the largest over its kernels; -1: not known. */
typedef struct adm_tune_resources {
    int registers, static_shared_bytes, dynamic_shared_bytes;
    int spill_bytes; /* local memory per thread: spills, and arrays that are indexed at run time */
    int threads, blocks;         /* of a block, of the grid */
    int blocks_per_sm;           /* that fit at once */
    double occupancy;            /* share of an SM's warps */
    char limiter[48];            /* what keeps more blocks out: "registers", "shared memory", ... */
    int n_launches;              /* kernels per call */
} adm_tune_resources;

#define ADM_TUNE_NO_RESOURCES ((adm_tune_resources){-1, -1, -1, -1, -1, -1, -1, -1, "", -1})

typedef enum adm_candidate_kind {
    ADM_CANDIDATE_ROW,    /* of the host or GPU registry */
    ADM_CANDIDATE_SOURCE, /* a .c or .cu file */
    ADM_CANDIDATE_SHARED, /* an implementation of a shared object's table */
    ADM_CANDIDATE_MODULE  /* a manifest with a .cubin or .ptx */
} adm_candidate_kind;

typedef struct adm_candidate {
    adm_candidate_kind kind;
    adm_stage stage;
    bool on_gpu;
    char name[ADM_CANDIDATE_NAME_BYTES]; /* the `variant` in the database */
    char path[PATH_MAX];                 /* as the user named it */
    char library[PATH_MAX];              /* what is loaded: a shared object, or the manifest */
    char implementation[64];             /* in the table; "": the only one of the stage */
    const adm_host_impl *host_row;
    const adm_gpu_impl *gpu_row;
    adm_tune_parameter parameter[ADM_TUNE_MAX_PARAMETERS];
    size_t n_parameters;
    int64_t chosen[ADM_TUNE_MAX_PARAMETERS]; /* the values it is built or run with */
    adm_tune_limits limits;
    adm_tune_resources resources;
    char hash[33];                       /* of the source or file; "" for a row */
    double build_s;
    adm_status status;                   /* not ADM_OK: it cannot be judged, and */
    char reason[768];                    /* why */
} adm_candidate;

/* Whether it takes a head_dim and a dtype. */
static inline bool adm_tune_takes(const adm_tune_limits *limits, uint32_t head_dim, adm_dtype dtype) {
    return (limits->head_dims & head_dim) != 0 && (limits->dtypes >> dtype & 1) != 0;
}

enum { ADM_TUNE_ALL_HEAD_DIMS = 64 + 128 + 256, ADM_TUNE_ALL_DTYPES = 7 };

/* Refuses it: keeps the first reason. */
void adm_candidate_refuse(adm_candidate *c, adm_status status, const char *format, ...) ADM_PRINTF(3, 4);

#endif
