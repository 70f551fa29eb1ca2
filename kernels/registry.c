/* registry.c: the table of host implementations. */
#include "kernels/registry.h"

#include <string.h>

#include "core/policy/coding.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/distance/asym4.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "core/system/cpu.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"

/* The instruction sets, slowest first: to add one, add a line. Its functions are adm_STAGE_SET, for the stages marked 1.
 *
 * METRIC_SETS are those in which every metric but L1 is computed, adm_distance_METRIC_SET, and "METRIC-SET" their name. */
#if defined(__x86_64__)
/* set, registers, whether the CPU has it; then 1 for each of Hadamard, bucketing, packing, L1, asym4, top-k, attention */
#define SETS(X)                                                \
    X(avx2, "256 bits", adm_cpu_has_avx2, 1, 1, 1, 1, 1, 1, 1) \
    X(avx512, "512 bits", adm_cpu_has_avx512, 1, 0, 0, 1, 1, 1, 1)
#define METRIC_SETS(X, ...)                  \
    X(popcnt, adm_cpu_has_avx2, __VA_ARGS__) \
    X(avx512, adm_cpu_has_avx512, __VA_ARGS__)
#elif defined(__aarch64__)
#define SETS(X) X(neon, "128 bits", NULL, 1, 0, 0, 1, 0, 1, 1)
#define METRIC_SETS(X, ...)
#else
#define SETS(X)
#define METRIC_SETS(X, ...)
#endif

/* A double differs by its order of summation alone: one unit in the last place of a float32, derived in attention_simd.c. */
#define HOST_ATTENTION_TOLERANCE 0x1p-23

#define ROW(row_stage, row_name, row_summary, ...) \
    {.stage = ADM_STAGE_##row_stage, .name = row_name, .summary = row_summary, .max_head_dim = ADM_MAX_HEAD_DIM, __VA_ARGS__},
#define ROW_IF_0(...)
#define ROW_IF_1(...) ROW(__VA_ARGS__)

/* The rows of a stage, one for each set that has it. */
#define HADAMARD_ROW(set, registers, has, H, B, P, L, Q, T, A)                                        \
    ROW_IF_##H(HADAMARD, #set, "float32 butterflies in registers of " registers, .is_available = has, \
               .fn.hadamard = adm_hadamard_##set)
#define BUCKET_ROW(set, registers, has, H, B, P, L, Q, T, A) \
    ROW_IF_##B(BUCKET, #set, "comparisons in registers of " registers, .is_available = has, .fn.bucket = adm_bucket_##set)
#define PACK_ROW(set, registers, has, H, B, P, L, Q, T, A) \
    ROW_IF_##P(PACK, #set, "in registers of " registers, .is_available = has, .fn.pack = adm_pack_##set)
#define L1_ROW(set, registers, has, H, B, P, L, Q, T, A)                                                              \
    ROW_IF_##L(DISTANCE, "l1-" #set, "L1 in registers of " registers, .metric = "l1", .bits = 2, .is_available = has, \
               .fn.distance = adm_distance_l1_##set)
#define ASYM4_ROW(set, registers, has, H, B, P, L, Q, T, A)                                                             \
    ROW_IF_##Q(DISTANCE, "asym4-" #set, "4-bit query, products of bytes in registers of " registers, .metric = "asym4", \
               .bits = 2, .is_available = has, .fn.distance = adm_distance_asym4_##set)
#define TOPK_ROW(set, registers, has, H, B, P, L, Q, T, A) \
    ROW_IF_##T(TOPK, #set, "boundary by bisection, in registers of " registers, .is_available = has, .fn.topk = adm_topk_##set)
#define ATTENTION_ROW(set, registers, has, H, B, P, L, Q, T, A)                                     \
    ROW_IF_##A(ATTENTION, #set, "double precision in registers of " registers, .is_available = has, \
               .tolerance = HOST_ATTENTION_TOLERANCE, .fn.attention = adm_attention_##set)
#define DENSE_ROW(set, registers, has, H, B, P, L, Q, T, A)                                     \
    ROW_IF_##A(DENSE, #set, "double precision in registers of " registers, .is_available = has, \
               .tolerance = HOST_ATTENTION_TOLERANCE, .fn.attention = adm_attention_##set)

/* The versions of one metric. */
#define METRIC_ROW(set, has, id, row_bits, row_summary)                                            \
    ROW(DISTANCE, #id "-" #set, row_summary, .metric = #id, .bits = row_bits, .is_available = has, \
        .fn.distance = adm_distance_##id##_##set)
#define METRIC(id, row_bits, row_summary)                                                              \
    ROW(DISTANCE, #id, row_summary, .metric = #id, .bits = row_bits, .fn.distance = adm_distance_##id) \
    METRIC_SETS(METRIC_ROW, id, row_bits, row_summary)

/* Within a stage slowest first: the default pipeline takes the last that runs here. */
/* clang-format off */
static const adm_host_impl rows[] = {
    ROW(HADAMARD, "reference", "float32 butterflies of stride 1, 2, ... d/2", .fn.hadamard = adm_hadamard_reference)
    SETS(HADAMARD_ROW)
    ROW(BUCKET, "reference", "three comparisons per element", .fn.bucket = adm_bucket_reference)
    SETS(BUCKET_ROW)
    ROW(PACK, "reference", "four codes per byte", .fn.pack = adm_pack_reference)
    SETS(PACK_ROW)
    METRIC(xor, 2, "the authors' released kernel's metric, not L1: the pair (1,2) scores 3")
    METRIC(l2, 2, "squares of differences")
    METRIC(sign, 2, "one bit of each code")
    METRIC(dot, 2, "dot product of codes as -3, -1, 1, 3, negated so that smaller is nearer")
    METRIC(hamming, 1, "bits that differ: every metric of 1-bit codes")
    ROW(DISTANCE, "asym4-reference", "4-bit query, element by element", .metric = "asym4", .bits = 2,
        .fn.distance = adm_distance_asym4_reference)
    ROW(DISTANCE, "asym4", "4-bit query, 32 elements per word by bit counts", .metric = "asym4", .bits = 2,
        .fn.distance = adm_distance_asym4)
    SETS(ASYM4_ROW)
    ROW(DISTANCE, "reference", "L1, element by element", .metric = "l1", .bits = 2, .fn.distance = adm_distance_reference)
    ROW(DISTANCE, "l1", "L1, 32 elements per word", .metric = "l1", .bits = 2, .fn.distance = adm_distance_l1)
    SETS(L1_ROW)
    ROW(TOPK, "reference", "counting select in two passes", .fn.topk = adm_topk_reference)
    SETS(TOPK_ROW)
    ROW(ATTENTION, "reference", "double precision, two passes", .fn.attention = adm_attention_reference)
    SETS(ATTENTION_ROW)
    ROW(DENSE, "reference", "double precision, two passes over every token", .fn.attention = adm_attention_reference)
    SETS(DENSE_ROW)
};
/* clang-format on */

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
    pipeline->code_distance[ADM_METRIC_ASYM4][2] = fastest(ADM_STAGE_DISTANCE, "asym4", 2);
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
    for (int one = ADM_STAGE_HADAMARD; one <= ADM_STAGE_ATTENTION; one++) {
        adm_work work = adm_stage_work((adm_stage)one, c);
        sum.bytes += work.bytes;
        sum.flops += work.flops;
    }
    return sum;
}
