/* registry.h: every host implementation of every stage, by name; and the byte and flop model of each stage. */
#ifndef ADM_KERNELS_REGISTRY_H
#define ADM_KERNELS_REGISTRY_H

#include "core/contract/stage.h"

/* The rows, in the order of the stages. A row is constant and lives as long as the program. */
size_t adm_registry_count(void);

/* Row i < adm_registry_count(), else NULL. */
const adm_host_impl *adm_registry_at(size_t i);

/* The row of that stage and name ("reference", "avx2", ...), or NULL. It may not be available. */
const adm_host_impl *adm_registry_find(adm_stage stage, const char *name);

/* Whether this CPU can run it. Calling it where this is false ends in an illegal instruction. */
bool adm_host_impl_available(const adm_host_impl *impl);

/* The pipeline of core/contract/stage.h: the fastest available implementation of each stage. */
void adm_host_pipeline_default(adm_host_pipeline *pipeline);

/* One layer of one decode step, as the byte and flop models see it. */
typedef struct adm_work_case {
    adm_shape shape;
    adm_dtype dtype;    /* of q, K and V */
    double n_tokens;    /* in the cache, the new one included */
    double n_selected;  /* tokens that a query head attends to, <= n_tokens */
    double n_distinct;  /* different tokens that the query heads of a group attend to, see attention.h */
} adm_work_case;

/* Bytes of compulsory traffic, and arithmetic operations of which a comparison or an integer operation is one. */
typedef struct adm_work {
    double bytes;
    double flops;
} adm_work;

/* The model of one stage for one layer of one decode step of one sequence, from x_bytes() and x_flops() of its header.
 * `step` is the sum of the seven stages as separate kernels; a fused step moves less. */
adm_work adm_stage_work(adm_stage stage, const adm_work_case *c);

#endif
