/* model.h: the shape of a whole transformer, as one GPU sees it: what its weights and its cache take, and what a token costs.
 *
 * A decoder layer is RMSNorm, QKV and output projections, and a gated MLP of three matrices. Where a model is spread over
 * n_ranks GPUs, heads, MLP and vocabulary are divided and one rank's share is described; hidden stays whole. */
#ifndef ADM_CORE_CONTRACT_MODEL_H
#define ADM_CORE_CONTRACT_MODEL_H

#include <stdbool.h>

#include "core/contract/stage.h"

enum { ADM_MODEL_NAME_BYTES = 64 };

typedef struct adm_model {
    char name[ADM_MODEL_NAME_BYTES];
    adm_shape shape;       /* heads of one rank */
    uint32_t n_layers, hidden, intermediate, vocab; /* intermediate and vocab of the whole model */
    uint32_t n_ranks;      /* GPUs that share a layer, 1 or more */
    uint32_t weight_bytes; /* of one weight: 2 */
    uint32_t cache_bytes;  /* of one element of K or V: 2 */
    bool tied;             /* the output matrix is the embedding */
} adm_model;

/* The i-th known model, from 0; NULL if there are fewer. Sources: the models' config.json. */
const adm_model *adm_model_at(size_t i);

/* By name; NULL if it is not known. */
const adm_model *adm_model_find(const char *name);

/* ADM_EINPUT unless every number is at least 1 and sane, the heads are those of adm_shape_check(), and ranks divide what they
 * share. */
adm_status adm_model_check(const adm_model *model, adm_error *err);

/* Weights of one rank: of one layer's matrices, and of the output matrix. */
double adm_model_layer_weights(const adm_model *model);
double adm_model_head_weights(const adm_model *model);

/* Bytes of one rank: all weights with the embedding, K and V of one token over all layers, and the 2-bit codes of one token
 * over n_sparse layers. */
double adm_model_weight_bytes(const adm_model *model);
double adm_model_kv_bytes(const adm_model *model);
double adm_model_code_bytes(const adm_model *model, uint32_t n_sparse);

#endif
