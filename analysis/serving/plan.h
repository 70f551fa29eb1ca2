/* plan.h: how a simulated model attends: which layers are dense and which budget the others have. */
#ifndef ADM_ANALYSIS_SERVING_PLAN_H
#define ADM_ANALYSIS_SERVING_PLAN_H

#include "core/contract/model.h"

enum { ADM_PLAN_MAX_GROUPS = 16, ADM_PLAN_TEXT_BYTES = 256 };

/* Layers that share a budget. */
typedef struct adm_plan_group {
    uint32_t budget; /* 0: dense */
    uint32_t n_layers;
} adm_plan_group;

typedef struct adm_plan {
    adm_plan_group group[ADM_PLAN_MAX_GROUPS];
    size_t n_groups;
    uint32_t n_sparse;              /* layers that keep codes */
    uint32_t budget;                /* of every sparse layer; 0: none is sparse, or they differ */
    char layers[ADM_PLAN_TEXT_BYTES]; /* where budgets differ by layer: as the user wrote it; else "" */
} adm_plan;

/* One budget everywhere but in the first n_dense layers; budget 0: all dense. */
void adm_plan_uniform(const adm_model *model, uint32_t budget, uint32_t n_dense, adm_plan *plan);

/* "0-1:dense,2-15:1024,16-31:256": every layer once. ADM_EINPUT says which is missing, double or unknown. */
adm_status adm_plan_parse(const adm_model *model, const char *text, adm_plan *plan, adm_error *err);

#endif
