/* case.cu: cases on a device; see case.h, and plan.h for how a case's memory is cut. */
#include <cstring>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu/case.cuh"
#include "kernels/gpu/fill.cuh"

static adm_status make_pages(adm_gpu_case *c, adm_error *err) {
    const adm_gpu_shape *s = &c->shape;
    if (s->page_size == 0) return ADM_OK;
    size_t n = (size_t)s->batch * s->max_pages;
    adm_status status = adm_alloc(&c->h_pages, n, sizeof *c->h_pages, "page table", err);
    if (status != ADM_OK) return status;
    adm_gpu_plan_pages(s, c->h_pages);
    cudaError_t result = cudaMemcpyAsync(c->d_pages, c->h_pages, n * sizeof *c->d_pages, cudaMemcpyHostToDevice,
                                         c->gpu->stream);
    return adm_gpu_status(c->gpu, result, "placing the page table", err);
}

static adm_status out_of_memory(const adm_gpu_case *c, size_t free_bytes, adm_error *err) {
    const adm_gpu_plan *p = &c->plan;
    return adm_fail(err, ADM_EENVIRONMENT,
                    "%s: out of device memory: %.2f GiB needed (%u copies of K, V and codes of %.2f GiB, the rest %.2f "
                    "GiB), %.2f GiB free",
                    c->gpu->info.name, (double)p->bytes / 0x1p30, p->n_kv, (double)p->copy_bytes / 0x1p30,
                    (double)(p->bytes - p->n_kv * p->copy_bytes) / 0x1p30, (double)free_bytes / 0x1p30);
}

static adm_status allocate(adm_gpu_case *c, const adm_gpu_inputs *in, bool cold, adm_error *err) {
    size_t free_bytes = 0, all_bytes = 0;
    cudaError_t result = cudaMemGetInfo(&free_bytes, &all_bytes);
    if (result != cudaSuccess) return adm_gpu_status(c->gpu, result, "asking for free memory", err);
    adm_gpu_plan *p = &c->plan;
    adm_gpu_plan_make(&c->shape, in, cold, c->gpu->info.l2_bytes, free_bytes / 10 * 6, p);
    if (p->bytes > free_bytes) return out_of_memory(c, free_bytes, err);
    result = cudaMalloc((void **)&c->copies, p->n_kv * p->copy_bytes);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->sets, p->n_sets * p->set_bytes);
    if (result == cudaSuccess) result = cudaMalloc((void **)&c->shared, p->shared_bytes);
    if (result == cudaSuccess && p->page_table_bytes > 0) result = cudaMalloc((void **)&c->d_pages, p->page_table_bytes);
    if (result == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* the runtime would report it again to the next caller */
        return out_of_memory(c, free_bytes, err);
    }
    if (result == cudaSuccess) result = cudaMemsetAsync(c->sets, 0, p->n_sets * p->set_bytes, c->gpu->stream);
    if (result == cudaSuccess) result = cudaMemsetAsync(c->copies, 0, p->n_kv * p->copy_bytes, c->gpu->stream);
    if (result == cudaSuccess) result = cudaMemsetAsync(c->shared, 0, p->shared_bytes, c->gpu->stream);
    return adm_gpu_status(c->gpu, result, "preparing memory", err);
}

static adm_status keep_thresholds(adm_gpu_case *c, const adm_gpu_inputs *in, adm_error *err) {
    adm_status status = adm_alloc(&c->threshold, c->plan.n_layers, sizeof *c->threshold, "thresholds", err);
    for (uint32_t l = 0; status == ADM_OK && l < c->plan.n_layers; l++)
        memcpy(c->threshold[l], in->session != NULL ? in->session->threshold[l] : c->shape.threshold, sizeof *c->threshold);
    return status;
}

extern "C" adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold,
                                          adm_gpu_case **out, adm_error *err) {
    adm_gpu_case *c = NULL;
    *out = NULL;
    adm_status status = adm_shape_check(&shape->heads, err);
    if (status == ADM_OK) status = adm_alloc(&c, 1, sizeof *c, "GPU case", err);
    if (status != ADM_OK) return status;
    c->gpu = gpu;
    c->shape = *shape;
    c->max_shape = *shape;
    status = allocate(c, inputs, cold, err);
    if (status == ADM_OK) status = make_pages(c, err);
    if (status == ADM_OK) status = keep_thresholds(c, inputs, err);
    if (status == ADM_OK) status = adm_alloc(&c->buffers, c->plan.n_sets, sizeof *c->buffers, "GPU buffers", err);
    for (uint32_t i = 0; status == ADM_OK && i < c->plan.n_sets; i++)
        c->buffers[i] = adm_gpu_plan_buffers(&c->plan, i, c->copies, c->sets, c->shared, c->d_pages);
    if (status == ADM_OK) status = adm_gpu_case_fill(c, inputs, err);
    if (status != ADM_OK) adm_gpu_case_free(&c);
    *out = c;
    return status;
}

extern "C" void adm_gpu_case_free(adm_gpu_case **gpu_case) {
    adm_gpu_case *c = *gpu_case;
    if (c == NULL) return;
    cudaFree(c->copies);
    cudaFree(c->sets);
    cudaFree(c->shared);
    cudaFree(c->d_pages);
    adm_free(&c->h_pages);
    adm_free(&c->buffers);
    adm_free(&c->threshold);
    adm_free(gpu_case);
}

extern "C" const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *c) { return &c->plan; }
extern "C" const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *c, uint32_t set) { return &c->buffers[set]; }
extern "C" const int32_t *adm_gpu_case_pages(const adm_gpu_case *c) { return c->h_pages; }

extern "C" adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *c, uint32_t set) {
    adm_gpu_shape shape = c->shape;
    memcpy(shape.threshold, c->threshold[set % c->plan.n_layers], sizeof shape.threshold);
    return shape;
}

extern "C" void adm_gpu_case_set_rule(adm_gpu_case *c, const adm_select_rule *rule) {
    c->shape.rule = *rule;
    c->shape.rule.budget = adm_min(rule->budget, c->max_shape.rule.budget);
}

extern "C" adm_status adm_gpu_case_poison(adm_gpu_case *c, uint32_t set, uint32_t covers, adm_error *err) {
    /* Regions follow one another: what a stage writes ends where the next region begins. */
    const adm_gpu_plan *p = &c->plan;
    char *own = c->sets + set * p->set_bytes;
    const struct {
        adm_stage stage;
        char *from, *to;
    } written[] = {
        {ADM_STAGE_HADAMARD, own + p->y, own + p->code},
        {ADM_STAGE_BUCKET, own + p->code, own + p->packed},
        {ADM_STAGE_PACK, own + p->packed, own + p->index},
        {ADM_STAGE_TOPK, own + p->index, own + p->out},
        {ADM_STAGE_DISTANCE, c->shared + p->distance, c->shared + p->workspace},
        {ADM_STAGE_ATTENTION, own + p->out, own + p->set_bytes},
        {ADM_STAGE_DENSE, own + p->out, own + p->set_bytes},
    };
    cudaError_t result = cudaSuccess;
    for (size_t i = 0; i < sizeof written / sizeof written[0] && result == cudaSuccess; i++)
        if (covers >> written[i].stage & 1)
            result = cudaMemsetAsync(written[i].from, 0xff, (size_t)(written[i].to - written[i].from), c->gpu->stream);
    /* A session's copy holds codes beyond a step's own tokens, which a step's encoding would not bring back. */
    if (result == cudaSuccess && (covers & ADM_GPU_COVERS_PROMPT) && !p->similar_queries)
        result = cudaMemsetAsync(c->buffers[set].planes, 0xff, p->planes_bytes, c->gpu->stream);
    return adm_gpu_status(c->gpu, result, "poisoning outputs", err);
}

/* A launch that failed may have left a workspace without the zeros of gpu.h. */
extern "C" adm_status adm_gpu_case_clear(adm_gpu_case *c, adm_error *err) {
    const size_t bytes = c->plan.shared_bytes - c->plan.workspace;
    if (bytes == 0) return ADM_OK;
    cudaError_t result = cudaMemsetAsync(c->shared + c->plan.workspace, 0, bytes, c->gpu->stream);
    return adm_gpu_status(c->gpu, result, "clearing workspaces", err);
}

adm_status adm_gpu_case_enqueue(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, set);
    for (size_t i = 0; i < n_impls; i++) {
        adm_gpu_buffers buffers = c->buffers[set];
        buffers.workspace = (char *)buffers.workspace + adm_gpu_plan_workspace(&c->max_shape, impls[i]);
        adm_status status = impls[i]->launch(&shape, &buffers, c->gpu->stream, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static adm_status run_sets(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t first, uint32_t n,
                           adm_error *err) {
    adm_status status = adm_gpu_case_clear(c, err);
    for (uint32_t i = n; status == ADM_OK && i > 0; i--) status = adm_gpu_case_enqueue(c, impls, n_impls, first + i - 1, err);
    cudaError_t result = cudaStreamSynchronize(c->gpu->stream);
    return status != ADM_OK ? status : adm_gpu_status(c->gpu, result, impls[0]->name, err);
}

extern "C" adm_status adm_gpu_case_run(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                       adm_error *err) {
    return run_sets(c, impls, n_impls, set, 1, err);
}

extern "C" adm_status adm_gpu_case_run_all(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err) {
    return run_sets(c, impls, n_impls, 0, c->plan.n_sets, err);
}

extern "C" adm_status adm_gpu_case_run_first(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_sets,
                                             adm_error *err) {
    return run_sets(c, impls, n_impls, 0, n_sets, err);
}

extern "C" adm_status adm_gpu_case_launch(adm_gpu_case *c, const adm_gpu_impl *impl, uint32_t set, adm_error *err) {
    return adm_gpu_case_enqueue(c, &impl, 1, set, err);
}
