/* dense.c: the byte and flop model of dense attention. */
#include "kernels/attention/dense.h"

#include "kernels/attention/attention.h"

double adm_dense_bytes(const adm_shape *shape, adm_dtype dtype, double n_tokens) {
    return adm_attention_bytes(shape, dtype, 0, n_tokens);
}

double adm_dense_flops(const adm_shape *shape, double n_tokens) { return adm_attention_flops(shape, n_tokens); }
