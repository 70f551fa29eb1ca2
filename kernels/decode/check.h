/* check.h: whether a model's decode step is right: against the host's references, on a model small enough for them, and against
 * tokens that another program predicts. */
#ifndef ADM_KERNELS_DECODE_CHECK_H
#define ADM_KERNELS_DECODE_CHECK_H

#include "kernels/decode/decode.h"

/* Largest relative L2 errors. Each layer's input is the host's own, its attention's result the device's: so a selection that
 * differs for a rounding of q does not hide a fault, nor make one. */
typedef struct adm_decode_errors {
    double rows; /* of q, k and v of any layer */
    double attention; /* of any layer's, computed from the device's own q, K and V */
    double logits;
    uint32_t n_selections; /* that were compared, token by token */
} adm_decode_errors;

/* A model with the setup's heads, batch (at most 3), pages, variant and products, and little else: what adm_decode_check()
 * takes. */
adm_decode_setup adm_decode_small(const adm_decode_setup *setup);

/* Runs one step and compares. ADM_EINTERNAL, with what differs, if an error is above its tolerance. */
adm_status adm_decode_check(adm_decode *decode, uint32_t length, uint32_t budget, adm_decode_errors *errors, adm_error *err);

/* Decodes tokens [n] one after another from the first on, each step as a CUDA graph, and counts how often the token it samples
 * is expected[i]. first_wrong: the first that is not, or n. Batch 1. */
typedef struct adm_decode_followed {
    uint32_t n, n_same, first_wrong;
} adm_decode_followed;

adm_status adm_decode_follow(adm_decode *decode, const int32_t *token, const int32_t *expected, uint32_t n, uint32_t budget,
                             adm_decode_followed *followed, adm_error *err);

#endif
