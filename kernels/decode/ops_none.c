/* ops_none.c: the kernels of ops.h in a build without CUDA, where no model can be opened. */
#include "kernels/decode/ops.h"

static adm_status none(adm_error *err) {
    return adm_fail(err, ADM_EINTERNAL, "a GPU kernel was called in a build without CUDA");
}

adm_status adm_gpu_decode_embed(const adm_decode_sizes *sizes, const int32_t *token, const void *table, float *residual,
                                adm_gpu_stream stream, adm_error *err) {
    (void)sizes, (void)token, (void)table, (void)residual, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_norm(const adm_decode_sizes *sizes, float *residual, const void *y, const float *gain, float eps,
                               void *x, adm_gpu_stream stream, adm_error *err) {
    (void)sizes, (void)residual, (void)y, (void)gain, (void)eps, (void)x, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_rope(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const void *qkv, const float *bias,
                               const float *frequency, bool appends, adm_gpu_stream stream, adm_error *err) {
    (void)shape, (void)buffers, (void)qkv, (void)bias, (void)frequency, (void)appends, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_gate(const adm_decode_sizes *sizes, const void *gate_up, void *inner, adm_gpu_stream stream,
                               adm_error *err) {
    (void)sizes, (void)gate_up, (void)inner, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_argmax(const adm_decode_sizes *sizes, const float *logits, int32_t *token, adm_gpu_stream stream,
                                 adm_error *err) {
    (void)sizes, (void)logits, (void)token, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_product(const adm_decode_product *product, adm_gpu_stream stream, adm_error *err) {
    (void)product, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_fill(void *matrix, size_t n, uint64_t seed, float scale, adm_gpu_stream stream, adm_error *err) {
    (void)matrix, (void)n, (void)seed, (void)scale, (void)stream;
    return none(err);
}
adm_status adm_gpu_decode_fill_cache(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint64_t seed,
                                     adm_gpu_stream stream, adm_error *err) {
    (void)shape, (void)buffers, (void)seed, (void)stream;
    return none(err);
}
