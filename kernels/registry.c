/* registry.c: the table of host implementations. */
#include "kernels/registry.h"

#include <string.h>

#include "kernels/attention.h"
#include "kernels/bucket.h"
#include "kernels/distance.h"
#include "kernels/hadamard.h"
#include "kernels/pack.h"
#include "kernels/topk.h"

static const adm_host_impl rows[] = {
    {ADM_STAGE_HADAMARD, "reference", "float32 butterflies of stride 1, 2, ... d/2", 256, 0,
     {.hadamard = adm_hadamard_reference}},
    {ADM_STAGE_BUCKET, "reference", "three comparisons an element", 256, 0, {.bucket = adm_bucket_reference}},
    {ADM_STAGE_PACK, "reference", "four codes a byte", 256, 0, {.pack = adm_pack_reference}},
    {ADM_STAGE_DISTANCE, "reference", "L1, element by element", 256, 0, {.distance = adm_distance_reference}},
    {ADM_STAGE_DISTANCE, "l1", "L1, 32 elements a word", 256, 0, {.distance = adm_distance_l1}},
    {ADM_STAGE_DISTANCE, "xor", "the authors' released kernel's metric, not L1: the pair (1,2) scores 3", 256, 0,
     {.distance = adm_distance_xor}},
    {ADM_STAGE_TOPK, "reference", "counting select in two passes", 256, 0, {.topk = adm_topk_reference}},
    {ADM_STAGE_ATTENTION, "reference", "double precision, two passes", 256, 0,
     {.attention = adm_attention_reference}},
    {ADM_STAGE_DENSE, "reference", "double precision, two passes over every token", 256, 0,
     {.attention = adm_attention_reference}},
};

size_t adm_registry_count(void) { return sizeof rows / sizeof *rows; }

const adm_host_impl *adm_registry_at(size_t i) { return i < adm_registry_count() ? &rows[i] : NULL; }

const adm_host_impl *adm_registry_find(adm_stage stage, const char *name) {
    for (size_t i = 0; i < adm_registry_count(); i++)
        if (rows[i].stage == stage && strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

void adm_host_pipeline_default(adm_host_pipeline *pipeline) {
    *pipeline = (adm_host_pipeline){
        .hadamard = adm_registry_find(ADM_STAGE_HADAMARD, "reference"),
        .bucket = adm_registry_find(ADM_STAGE_BUCKET, "reference"),
        .pack = adm_registry_find(ADM_STAGE_PACK, "reference"),
        .distance = adm_registry_find(ADM_STAGE_DISTANCE, "l1"),
        .topk = adm_registry_find(ADM_STAGE_TOPK, "reference"),
        .attention = adm_registry_find(ADM_STAGE_ATTENTION, "reference"),
        .dense = adm_registry_find(ADM_STAGE_DENSE, "reference"),
    };
}

adm_work adm_stage_work(adm_stage stage, const adm_work_case *c) {
    const adm_shape *shape = &c->shape;
    const uint32_t d = shape->head_dim;
    const double n_encoded = (double)shape->n_q_heads + shape->n_kv_heads; /* the queries and the new keys */
    switch (stage) {
    case ADM_STAGE_HADAMARD:
        return (adm_work){adm_hadamard_bytes(c->dtype, n_encoded, d), adm_hadamard_flops(n_encoded, d)};
    case ADM_STAGE_BUCKET: return (adm_work){adm_bucket_bytes(n_encoded, d), adm_bucket_flops(n_encoded, d)};
    case ADM_STAGE_PACK: return (adm_work){adm_pack_bytes(n_encoded, d), adm_pack_flops(n_encoded, d)};
    case ADM_STAGE_APPEND: return (adm_work){adm_append_bytes(shape->n_kv_heads, d), 0};
    case ADM_STAGE_DISTANCE:
        return (adm_work){adm_distance_bytes(shape, c->n_tokens), adm_distance_flops(shape, c->n_tokens)};
    case ADM_STAGE_TOPK:
        return (adm_work){adm_topk_bytes(shape, c->n_tokens, c->n_selected), adm_topk_flops(shape, c->n_tokens)};
    case ADM_STAGE_ATTENTION:
        return (adm_work){adm_attention_bytes(shape, c->dtype, c->n_selected, c->n_distinct),
                          adm_attention_flops(shape, c->n_selected)};
    case ADM_STAGE_DENSE:
        return (adm_work){adm_dense_bytes(shape, c->dtype, c->n_tokens), adm_dense_flops(shape, c->n_tokens)};
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
