/* nccl.h: the part of NCCL that an all-reduce needs, found at run time: no header or library of NCCL is needed to build.
 *
 * The names, types and numbers are those of NCCL 2's public interface (docs.nvidia.com/deeplearning/nccl, "Types" and
 * "Collective Communication Functions"), which has kept them since 2.0. */
#ifndef ADM_KERNELS_STEP_SHARDED_NCCL_H
#define ADM_KERNELS_STEP_SHARDED_NCCL_H

#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_nccl_id {
    char bytes[128]; /* NCCL_UNIQUE_ID_BYTES */
} adm_nccl_id;

typedef void *adm_nccl_comm;

enum { ADM_NCCL_FLOAT16 = 6, ADM_NCCL_SUM = 0 };

typedef struct adm_nccl {
    void *library;
    int version; /* 22703 for 2.27.3 */
    int (*get_version)(int *version);
    int (*get_unique_id)(adm_nccl_id *id);
    int (*comm_init_rank)(adm_nccl_comm *comm, int n_ranks, adm_nccl_id id, int rank);
    int (*comm_destroy)(adm_nccl_comm comm);
    int (*all_reduce)(const void *send, void *receive, size_t count, int type, int op, adm_nccl_comm comm, void *stream);
    const char *(*get_error_string)(int result);
} adm_nccl;

/* Loads libnccl.so.2, or what ADAMAS_NCCL names. ADM_EUNSUPPORTED: it is not there, with the cure. */
adm_status adm_nccl_open(adm_nccl *nccl, adm_error *err);
void adm_nccl_close(adm_nccl *nccl);

/* 0 is success; anything else a failure with NCCL's own words. */
adm_status adm_nccl_status(const adm_nccl *nccl, int result, const char *doing, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
