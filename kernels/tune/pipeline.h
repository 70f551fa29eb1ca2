/* pipeline.h: the host rows of a replay: chosen by name, and checked before they are used. */
#ifndef ADM_KERNELS_TUNE_PIPELINE_H
#define ADM_KERNELS_TUNE_PIPELINE_H

#include "core/contract/stage.h"

enum { ADM_PIPELINE_STAGES = 7 };

/* "avx2": every stage that has a row of that name uses it; "topk=reference,distance=l1": these. ADM_EINPUT: no stage has it, or
 * this processor cannot run it; the names that there are. */
adm_status adm_pipeline_choose(const char *names, adm_host_pipeline *pipeline, adm_error *err);

/* Where a pipeline keeps a stage's row; NULL: it has none. */
const adm_host_impl **adm_pipeline_slot(adm_host_pipeline *pipeline, adm_stage stage);

/* A row that was wrong, and why. */
typedef struct adm_pipeline_fault {
    const adm_host_impl *row;
    char reason[768];
} adm_pipeline_fault;

/* Checks the rows of a pipeline (host_case.h has the calls), each against the reference, in this process. A wrong one is
 * replaced by the reference and named in faults [ADM_PIPELINE_STAGES], so that it is recorded as failed and never timed.
 * head_dims: a sum of 64, 128, 256; dtypes: bits 1 << adm_dtype. */
adm_status adm_pipeline_check(adm_host_pipeline *pipeline, uint32_t head_dims, uint32_t dtypes, uint64_t seed,
                              adm_pipeline_fault faults[ADM_PIPELINE_STAGES], size_t *n_faults, adm_error *err);

#endif
