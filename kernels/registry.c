/* registry.c: the table of host implementations. */
#include "kernels/registry.h"

#include <string.h>

#include "core/policy/coding.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "core/base/cpu.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"

#define ROW(row_stage, row_name, row_summary, ...) \
    {.stage = ADM_STAGE_##row_stage, .name = row_name, .summary = row_summary, .max_head_dim = ADM_MAX_HEAD_DIM, __VA_ARGS__}

/* The versions of one metric, slowest first. */
#if defined(__x86_64__)
#define METRIC(id, row_name, row_bits, row_summary)                                                                            \
    ROW(DISTANCE, row_name, row_summary, .metric = row_name, .bits = row_bits, .fn.distance = adm_distance_##id),              \
        ROW(DISTANCE, row_name "-popcnt", row_summary, .metric = row_name, .bits = row_bits, .is_available = adm_cpu_has_avx2, \
            .fn.distance = adm_distance_##id##_popcnt),                                                                        \
        ROW(DISTANCE, row_name "-avx512", row_summary, .metric = row_name, .bits = row_bits,                                   \
            .is_available = adm_cpu_has_avx512, .fn.distance = adm_distance_##id##_avx512)
#else
#define METRIC(id, row_name, row_bits, row_summary) \
    ROW(DISTANCE, row_name, row_summary, .metric = row_name, .bits = row_bits, .fn.distance = adm_distance_##id)
#endif

/* One unit in the last place of a float32: derived in attention_simd.c. */
#define HOST_ATTENTION_TOLERANCE 0x1p-23

/* Within a stage slowest first: the default pipeline takes the last that runs here. */
static const adm_host_impl rows[] = {
    ROW(HADAMARD, "reference", "float32 butterflies of stride 1, 2, ... d/2", .fn.hadamard = adm_hadamard_reference),
#if defined(__x86_64__)
    ROW(HADAMARD, "avx2", "the same in registers of 8", .is_available = adm_cpu_has_avx2, .fn.hadamard = adm_hadamard_avx2),
    ROW(HADAMARD, "avx512", "the same in registers of 16", .is_available = adm_cpu_has_avx512,
        .fn.hadamard = adm_hadamard_avx512),
#elif defined(__aarch64__)
    ROW(HADAMARD, "neon", "the same in registers of 4", .fn.hadamard = adm_hadamard_neon),
#endif
    ROW(BUCKET, "reference", "three comparisons an element", .fn.bucket = adm_bucket_reference),
#if defined(__x86_64__)
    ROW(BUCKET, "avx2", "32 elements at a time", .is_available = adm_cpu_has_avx2, .fn.bucket = adm_bucket_avx2),
#endif
    ROW(PACK, "reference", "four codes a byte", .fn.pack = adm_pack_reference),
#if defined(__x86_64__)
    ROW(PACK, "avx2", "32 codes at a time", .is_available = adm_cpu_has_avx2, .fn.pack = adm_pack_avx2),
#endif
    METRIC(xor, "xor", 2, "the authors' released kernel's metric, not L1: the pair (1,2) scores 3"),
    METRIC(l2, "l2", 2, "squares of differences"),
    METRIC(sign, "sign", 2, "one bit of each code"),
    METRIC(dot, "dot", 2, "dot product of codes as -3, -1, 1, 3, turned round"),
    METRIC(hamming, "hamming", 1, "bits that differ: every metric of 1-bit codes"),
    ROW(DISTANCE, "reference", "L1, element by element", .metric = "l1", .bits = 2, .fn.distance = adm_distance_reference),
    ROW(DISTANCE, "l1", "L1, 32 elements a word", .metric = "l1", .bits = 2, .fn.distance = adm_distance_l1),
#if defined(__x86_64__)
    ROW(DISTANCE, "l1-avx2", "L1, 16 tokens a block, sums by table", .metric = "l1", .bits = 2,
        .is_available = adm_cpu_has_avx2, .fn.distance = adm_distance_l1_avx2),
    ROW(DISTANCE, "l1-avx512", "L1, 16 tokens a block, bit counts of unary codes", .metric = "l1", .bits = 2,
        .is_available = adm_cpu_has_avx512, .fn.distance = adm_distance_l1_avx512),
#elif defined(__aarch64__)
    ROW(DISTANCE, "l1-neon", "L1, bit counts of unary codes", .metric = "l1", .bits = 2, .fn.distance = adm_distance_l1_neon),
#endif
    ROW(TOPK, "reference", "counting select in two passes", .fn.topk = adm_topk_reference),
#if defined(__x86_64__)
    ROW(TOPK, "avx2", "boundary by bisection, 32 distances at a time", .is_available = adm_cpu_has_avx2,
        .fn.topk = adm_topk_avx2),
    ROW(TOPK, "avx512", "boundary by bisection, 64 distances at a time", .is_available = adm_cpu_has_avx512,
        .fn.topk = adm_topk_avx512),
#elif defined(__aarch64__)
    ROW(TOPK, "neon", "boundary by bisection, 16 distances at a time", .fn.topk = adm_topk_neon),
#endif
    ROW(ATTENTION, "reference", "double precision, two passes", .fn.attention = adm_attention_reference),
#if defined(__x86_64__)
    ROW(ATTENTION, "avx2", "double precision, 4 lanes", .is_available = adm_cpu_has_avx2, .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_avx2),
    ROW(ATTENTION, "avx512", "double precision, 8 lanes", .is_available = adm_cpu_has_avx512, .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_avx512),
#elif defined(__aarch64__)
    ROW(ATTENTION, "neon", "double precision, 4 lanes in two registers", .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_neon),
#endif
    ROW(DENSE, "reference", "double precision, two passes over every token", .fn.attention = adm_attention_reference),
#if defined(__x86_64__)
    ROW(DENSE, "avx2", "double precision, 4 lanes", .is_available = adm_cpu_has_avx2, .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_avx2),
    ROW(DENSE, "avx512", "double precision, 8 lanes", .is_available = adm_cpu_has_avx512, .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_avx512),
#elif defined(__aarch64__)
    ROW(DENSE, "neon", "double precision, 4 lanes in two registers", .tolerance = HOST_ATTENTION_TOLERANCE,
        .fn.attention = adm_attention_neon),
#endif
};

size_t adm_registry_count(void) { return sizeof rows / sizeof *rows; }

const adm_host_impl *adm_registry_at(size_t i) { return i < adm_registry_count() ? &rows[i] : NULL; }

const adm_host_impl *adm_registry_find(adm_stage stage, const char *name) {
    for (size_t i = 0; i < adm_registry_count(); i++)
        if (rows[i].stage == stage && strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

bool adm_host_impl_available(const adm_host_impl *impl) { return impl->is_available == NULL || impl->is_available(); }

/* The last available row of the stage, or of one metric and width of the stage distance; NULL if there is none. */
static const adm_host_impl *fastest(adm_stage stage, const char *metric, uint32_t bits) {
    for (size_t i = adm_registry_count(); i-- > 0;) {
        const adm_host_impl *row = &rows[i];
        if (row->stage != stage || row->bits != bits || (metric != NULL && strcmp(row->metric, metric) != 0)) continue;
        if (adm_host_impl_available(row)) return row;
    }
    return NULL;
}

void adm_host_pipeline_default(adm_host_pipeline *pipeline) {
    *pipeline = (adm_host_pipeline){
        .hadamard = fastest(ADM_STAGE_HADAMARD, NULL, 0),
        .bucket = fastest(ADM_STAGE_BUCKET, NULL, 0),
        .pack = fastest(ADM_STAGE_PACK, NULL, 0),
        .distance = fastest(ADM_STAGE_DISTANCE, "l1", 2),
        .topk = fastest(ADM_STAGE_TOPK, NULL, 0),
        .attention = fastest(ADM_STAGE_ATTENTION, NULL, 0),
        .dense = fastest(ADM_STAGE_DENSE, NULL, 0),
        .encode = adm_encode_rows,
        .scan = adm_scan_bytes,
    };
    for (adm_code_metric m = ADM_METRIC_L1; m < ADM_METRIC_ASYMMETRIC; m++) {
        pipeline->code_distance[m][1] = fastest(ADM_STAGE_DISTANCE, "hamming", 1);
        pipeline->code_distance[m][2] = fastest(ADM_STAGE_DISTANCE, adm_code_metric_name(m), 2);
    }
}

adm_work adm_stage_work(adm_stage stage, const adm_work_case *c) {
    const adm_shape *shape = &c->shape;
    const uint32_t d = shape->head_dim;
    const double n_encoded = (double)shape->n_q_heads + shape->n_kv_heads; /* the queries and the new keys */
    switch (stage) {
    case ADM_STAGE_HADAMARD: return (adm_work){adm_hadamard_bytes(c->dtype, n_encoded, d), adm_hadamard_flops(n_encoded, d)};
    case ADM_STAGE_BUCKET: return (adm_work){adm_bucket_bytes(n_encoded, d), adm_bucket_flops(n_encoded, d)};
    case ADM_STAGE_PACK: return (adm_work){adm_pack_bytes(n_encoded, d), adm_pack_flops(n_encoded, d)};
    case ADM_STAGE_APPEND: return (adm_work){adm_append_bytes(shape->n_kv_heads, d), 0};
    case ADM_STAGE_DISTANCE: return (adm_work){adm_distance_bytes(shape, c->n_tokens), adm_distance_flops(shape, c->n_tokens)};
    case ADM_STAGE_TOPK:
        return (adm_work){adm_topk_bytes(shape, c->n_tokens, c->n_selected), adm_topk_flops(shape, c->n_tokens)};
    case ADM_STAGE_ATTENTION:
        return (adm_work){adm_attention_bytes(shape, c->dtype, c->n_selected, c->n_distinct),
                          adm_attention_flops(shape, c->n_selected)};
    case ADM_STAGE_DENSE: return (adm_work){adm_dense_bytes(shape, c->dtype, c->n_tokens), adm_dense_flops(shape, c->n_tokens)};
    case ADM_STAGE_STEP:
    case ADM_N_STAGES: break;
    }
    adm_work sum = {0, 0};
    for (int part = ADM_STAGE_HADAMARD; part <= ADM_STAGE_ATTENTION; part++) {
        adm_work work = adm_stage_work((adm_stage)part, c);
        sum.bytes += work.bytes;
        sum.flops += work.flops;
    }
    return sum;
}
