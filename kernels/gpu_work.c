/* gpu_work.c: the byte and flop model of a unit of GPU work, from what flows between the stages. */
#include "kernels/gpu_work.h"

#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/encode/bucket.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"

#define BIT(stage) (1u << ADM_STAGE_##stage)

/* Something in memory: the stages that write it and those that read it. Nobody: it is an input or a result of the step. */
typedef struct flow {
    double bytes;
    uint32_t writers, readers;
} flow;

/* Bytes read and written, or those written alone. */
static double bytes_of(const adm_gpu_shape *s, uint32_t covers, const adm_gpu_load *load, bool writes_alone) {
    const double q = (double)s->batch * s->heads.n_q_heads, kv = (double)s->batch * s->heads.n_kv_heads;
    const double d = s->heads.head_dim, row = d * (double)adm_dtype_bytes(s->dtype), selections = adm_gpu_select_heads(s);
    const double channels = s->metric == ADM_METRIC_ASYM4 ? s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * d * sizeof(float) : 0;
    const flow flows[] = {
        {q * row, 0, BIT(HADAMARD) | BIT(ATTENTION) | BIT(DENSE)},                      /* queries */
        {kv * row, 0, BIT(HADAMARD) | BIT(APPEND)},                                     /* new keys */
        {kv * row, 0, BIT(APPEND)},                                                     /* new values */
        {(q + kv) * d * sizeof(float), BIT(HADAMARD), BIT(BUCKET)},                     /* y */
        {channels, 0, BIT(BUCKET) | ADM_GPU_COVERS_PROMPT},                             /* thresholds and scales */
        {(q + kv) * d, BIT(BUCKET), BIT(PACK)},                                         /* code */
        {q * adm_gpu_packed_bytes(s), BIT(PACK), BIT(DISTANCE)},                        /* packed queries */
        {kv * d / 4, BIT(PACK), BIT(APPEND)},                                           /* packed new keys */
        {kv * (2 * row + d / 4), BIT(APPEND), 0},                                       /* the new token in the caches */
        {load->n_tokens * s->heads.n_kv_heads * d / 4, 0, BIT(DISTANCE)},               /* code cache */
        {load->n_tokens * selections * sizeof(uint16_t), BIT(DISTANCE), BIT(TOPK)},     /* distances */
        {load->n_selected * selections * sizeof(uint32_t), BIT(TOPK), BIT(ATTENTION)},  /* indices */
        {load->n_distinct * s->heads.n_kv_heads * 2 * row, 0, BIT(ATTENTION)},          /* selected K and V */
        {load->n_tokens * s->heads.n_kv_heads * 2 * row, 0, BIT(DENSE)},                /* all K and V */
        {load->n_tokens * s->heads.n_kv_heads * row, 0, ADM_GPU_COVERS_PROMPT},         /* all K */
        {load->n_tokens * s->heads.n_kv_heads * d / 4, ADM_GPU_COVERS_PROMPT, 0},       /* all codes */
        {q * row, BIT(ATTENTION) | BIT(DENSE), 0},                                      /* out */
    };
    double sum = 0;
    for (size_t i = 0; i < sizeof flows / sizeof flows[0]; i++) {
        const bool written = flows[i].writers & covers, read = flows[i].readers & covers;
        if (written != read && (written || !writes_alone)) sum += flows[i].bytes;
    }
    return sum;
}

double adm_gpu_cache_bytes(const adm_gpu_shape *s, uint32_t covers, const adm_gpu_load *load) {
    const double d = s->heads.head_dim, row = d * (double)adm_dtype_bytes(s->dtype);
    double sum = 0;
    if (covers & BIT(DISTANCE)) sum += load->n_tokens * d / 4;
    if (covers & BIT(ATTENTION)) sum += load->n_selected * 2 * row;
    if (covers & BIT(DENSE)) sum += load->n_tokens * 2 * row;
    if (covers & ADM_GPU_COVERS_PROMPT) sum += load->n_tokens * row;
    return sum * s->heads.n_kv_heads;
}

static double flops_of(const adm_gpu_shape *s, uint32_t covers, const adm_gpu_load *load) {
    const double rows = (double)s->batch * (s->heads.n_q_heads + s->heads.n_kv_heads);
    const double keys = load->n_tokens * s->heads.n_kv_heads;
    const uint32_t d = s->heads.head_dim;
    const adm_shape selections = {adm_gpu_select_heads(s), s->heads.n_kv_heads, d};
    double sum = 0;
    if (covers & BIT(HADAMARD)) sum += adm_hadamard_flops(rows, d);
    if (covers & BIT(BUCKET)) sum += adm_bucket_flops(rows, d);
    if (covers & BIT(PACK)) sum += adm_pack_flops(rows, d);
    if (covers & ADM_GPU_COVERS_PROMPT)
        sum += adm_hadamard_flops(keys, d) + adm_bucket_flops(keys, d) + adm_pack_flops(keys, d);
    if (covers & BIT(DISTANCE)) sum += adm_distance_flops(&s->heads, load->n_tokens);
    if (covers & BIT(TOPK)) sum += adm_topk_flops(&selections, load->n_tokens);
    if (covers & BIT(ATTENTION)) sum += adm_attention_flops(&s->heads, load->n_selected);
    if (covers & BIT(DENSE)) sum += adm_dense_flops(&s->heads, load->n_tokens);
    return sum;
}

adm_work adm_gpu_work(const adm_gpu_shape *shape, uint32_t covers, const adm_gpu_load *load) {
    return (adm_work){bytes_of(shape, covers, load, false), flops_of(shape, covers, load)};
}

double adm_gpu_write_bytes(const adm_gpu_shape *shape, uint32_t covers, const adm_gpu_load *load) {
    return bytes_of(shape, covers, load, true);
}
