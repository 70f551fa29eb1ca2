/* model_cuda.c: a decode step for a program that runs the model itself, on a GPU (core/contract/model_step.h): the step of one
 * launch that takes the shape; where none does, the stages one after another, which need a workspace. In a build without CUDA
 * the table of implementations is empty, and there is nothing to launch. */
#include "core/contract/model_step.h"

#include "core/base/layout.h"
#include "kernels/gpu/registry.h"

/* The stages where no single launch does it: any device and any group takes them. */
static const struct {
    adm_stage stage;
    const char *name; /* NULL: the row that serves the metric; of each there is one */
} chain[] = {{ADM_STAGE_APPEND, "fused"}, {ADM_STAGE_DISTANCE, NULL}, {ADM_STAGE_TOPK, "two"}, {ADM_STAGE_ATTENTION, NULL}};
enum { N_CHAIN = sizeof chain / sizeof *chain };

static const adm_gpu_impl *link_at(int i, adm_code_metric metric) {
    if (chain[i].name != NULL) return adm_gpu_registry_find(chain[i].stage, chain[i].name);
    for (size_t at = 0; at < adm_gpu_registry_count(); at++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(at);
        if (row->stage == chain[i].stage && adm_gpu_impl_serves(row, metric)) return row;
    }
    return NULL;
}

static adm_gpu_shape shape_of(const adm_model_step *step) {
    return (adm_gpu_shape){.heads = step->shape,
                           .dtype = step->dtype,
                           .batch = step->batch,
                           .capacity = step->capacity,
                           .rule = step->rule,
                           .threshold = {step->threshold[0], step->threshold[1], step->threshold[2]},
                           .scale = step->scale,
                           .selection = step->selection,
                           .metric = step->metric};
}

static adm_gpu_buffers buffers_of(const adm_model_step *step) {
    return (adm_gpu_buffers){.q = step->q,
                             .k_new = step->k_new,
                             .v_new = step->v_new,
                             .k = step->k,
                             .v = step->v,
                             .planes = (uint32_t *)(void *)step->codes,
                             .length = step->length,
                             .index = step->index,
                             .n_selected = step->n_selected,
                             .out = step->out,
                             .channels = step->channels};
}

/* What the chain hands from stage to stage, and top-k's own memory at the end. */
static void take(const adm_gpu_shape *shape, adm_layout *layout, adm_gpu_buffers *p) {
    const size_t rows = (size_t)shape->batch * (shape->heads.n_q_heads + shape->heads.n_kv_heads), d = shape->heads.head_dim;
    const size_t selections = (size_t)shape->batch * adm_gpu_select_heads(shape);
    const adm_gpu_impl *topk = link_at(2, shape->metric);
    p->y = adm_layout_take(layout, rows * d, sizeof *p->y);
    p->code = adm_layout_take(layout, rows * d, 1);
    p->packed = adm_layout_take(layout, rows * adm_gpu_packed_bytes(shape), 1);
    p->distance = adm_layout_take(layout, selections * shape->capacity, sizeof *p->distance);
    p->workspace = adm_layout_take(layout, topk != NULL && topk->workspace_bytes != NULL ? topk->workspace_bytes(shape) : 0, 1);
}

size_t adm_model_step_workspace_bytes(const adm_model_step *step) {
    const adm_gpu_shape shape = shape_of(step);
    adm_gpu_buffers unused;
    adm_layout layout = {0};
    if (step->shape.n_kv_heads == 0) return 0;
    take(&shape, &layout, &unused);
    return layout.bytes;
}

static adm_status run_chain(const adm_gpu_shape *shape, adm_gpu_buffers *buffers, void *workspace, adm_gpu_stream stream,
                            adm_error *err) {
    adm_status status = ADM_OK;
    take(shape, &(adm_layout){.base = workspace}, buffers);
    for (int i = 0; status == ADM_OK && i < N_CHAIN; i++)
        status = link_at(i, shape->metric)->launch(shape, buffers, stream, err);
    return status;
}

static adm_status without_cuda(adm_error *err) {
    return adm_fail(
        err, ADM_EUNSUPPORTED,
        "this libadamas.so was built without CUDA: install the CUDA toolkit 13, run ./configure.py and build again");
}

adm_status adm_model_step_cuda(const adm_model_step *step, void *workspace, void *stream, adm_error *err) {
    static const char *const steps[] = {"grouped", "fused"};
    const adm_gpu_shape shape = shape_of(step);
    adm_gpu_buffers buffers = buffers_of(step);
    if (adm_gpu_registry_count() == 0) return without_cuda(err);
    if (step->index == NULL || step->n_selected == NULL)
        return adm_fail(err, ADM_EINPUT, "a step on a GPU needs room for the selected tokens and their counts");
    adm_status status = adm_model_step_check_metric(step, err);
    if (status != ADM_OK) return status;
    status = ADM_EUNSUPPORTED;
    adm_gpu_launch_apart(true);
    for (int i = 0; status == ADM_EUNSUPPORTED && i < 2; i++) {
        const adm_gpu_impl *row = adm_gpu_registry_find(ADM_STAGE_STEP, steps[i]);
        if (adm_gpu_impl_serves(row, step->metric)) status = row->launch(&shape, &buffers, stream, err);
    }
    if (status == ADM_EUNSUPPORTED && workspace != NULL) status = run_chain(&shape, &buffers, workspace, stream, err);
    adm_gpu_launch_apart(false);
    return status;
}

adm_status adm_model_encode_cuda(const adm_model_step *step, void *stream, adm_error *err) {
    adm_gpu_shape shape = shape_of(step);
    const adm_gpu_buffers buffers = buffers_of(step);
    if (adm_gpu_registry_count() == 0) return without_cuda(err);
    shape.rule = (adm_select_rule){.budget = 1};
    adm_status status = adm_model_step_check_metric(step, err);
    if (status != ADM_OK) return status;
    adm_gpu_launch_apart(true);
    status = adm_gpu_registry_find(ADM_STAGE_APPEND, "prompt")->launch(&shape, &buffers, stream, err);
    adm_gpu_launch_apart(false);
    return status;
}
