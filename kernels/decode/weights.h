/* weights.h: a model's weights, and tokens to follow, from a file that traces/model/export_weights.py writes: safetensors with
 *
 *   embedding [vocab][hidden], head unless tied; layers.{i}.qkv, .output, .gate_up (gate and up in turn), .down    F16
 *   norm, layers.{i}.norm1, .norm2 [hidden], optionally layers.{i}.bias of qkv                                     F32
 *   optionally tokens [n], expected [n]: what the forward pass predicts after each                                 I32
 *   metadata: format = adamas-weights/1, model, eps, rope_base */
#ifndef ADM_KERNELS_DECODE_WEIGHTS_H
#define ADM_KERNELS_DECODE_WEIGHTS_H

#include "kernels/decode/decode.h"

typedef struct adm_weights adm_weights;

/* Opens the file and checks that it has every tensor of the plan's shapes. Sets eps and rope_base of the setup. ADM_EINPUT
 * names the tensor. */
adm_status adm_weights_open(const char *path, adm_decode_setup *setup, adm_weights **out, adm_error *err);
void adm_weights_close(adm_weights **weights);

/* Lives as long as the file is open. */
const adm_decode_source *adm_weights_source(const adm_weights *weights);

/* Tokens to follow; n 0: the file has none. */
uint32_t adm_weights_tokens(const adm_weights *weights, const int32_t **token, const int32_t **expected);

#endif
