/* linear.c: matrix products, prompts and exchanges. */
#include "analysis/cost/linear.h"

#include <string.h>

static adm_cost_time roofline(const adm_cost *cost, double compute_share, double bytes, double flops) {
    const double bytes_ns = bytes / cost->device.read_bytes_per_s * 1e9;
    const double flops_ns = flops / (cost->device.flops_per_s * compute_share) * 1e9;
    return flops_ns > bytes_ns ? (adm_cost_time){flops_ns, ADM_COST_FLOPS, 1} : (adm_cost_time){bytes_ns, ADM_COST_BYTES, 1};
}

/* Anchors of a model on a line over the batch; false if there are none. Beyond the largest batch the last slope goes on. */
static bool by_anchors(const adm_cost *cost, const char *model, adm_cost_share share, double n_tokens, adm_cost_time *time) {
    const adm_cost_whole *low = NULL, *high = NULL;
    for (size_t i = 0; i < cost->n_whole; i++) {
        const adm_cost_whole *w = &cost->whole[i];
        if (w->share != share || strcmp(w->model, model) != 0) continue;
        if (low == NULL) low = w;
        else if (w->batch > (high != NULL ? high : low)->batch) {
            if (high != NULL && high->batch < n_tokens) low = high;
            if (high == NULL || high->batch < n_tokens) high = w;
        }
    }
    if (low == NULL) return false;
    if (high == NULL || n_tokens <= low->batch) {
        const bool there = n_tokens == low->batch;
        *time = (adm_cost_time){low->ns, there ? ADM_COST_MEASURED : ADM_COST_HELD,
                                n_tokens > low->batch ? n_tokens / low->batch : low->batch / n_tokens};
        return true;
    }
    time->ns = low->ns + (high->ns - low->ns) * ((n_tokens - low->batch) / (high->batch - low->batch));
    time->rule = n_tokens == high->batch ? ADM_COST_MEASURED : n_tokens < high->batch ? ADM_COST_INTERPOLATED : ADM_COST_HELD;
    const double above = n_tokens < high->batch ? high->batch / n_tokens : n_tokens / high->batch;
    time->reach = n_tokens / low->batch < above ? n_tokens / low->batch : above;
    if (time->rule == ADM_COST_HELD) time->reach = above;
    return true;
}

adm_cost_time adm_cost_linear(const adm_cost *cost, const adm_model *model, double compute_share, double n_tokens,
                              double n_sampled) {
    const double layers = model->n_layers * adm_model_layer_weights(model), head = adm_model_head_weights(model);
    const double bytes = (layers + (n_sampled > 0 ? head : 0)) * model->weight_bytes;
    const adm_cost_time floor = roofline(cost, compute_share, bytes, 2 * (layers * n_tokens + head * n_sampled));
    adm_cost_time time;
    if (!by_anchors(cost, model->name, ADM_COST_LINEAR, n_tokens, &time)) return floor;
    time.ns = adm_cost_on_device(cost, time.ns, bytes);
    return time.rule == ADM_COST_HELD && floor.ns > time.ns ? floor : time; /* large chunks are bound by arithmetic */
}

adm_cost_time adm_cost_rest(const adm_cost *cost, const adm_model *model, double n_tokens) {
    adm_cost_time time = {0, ADM_COST_BYTES, 1};
    by_anchors(cost, model->name, ADM_COST_REST, n_tokens, &time);
    return time;
}

adm_cost_time adm_cost_prompt_attention(const adm_cost *cost, const adm_model *model, double compute_share, double n_pairs,
                                        double n_keys) {
    const double flops = 4.0 * model->n_layers * model->shape.n_q_heads * model->shape.head_dim * n_pairs;
    return roofline(cost, compute_share, n_keys * adm_model_kv_bytes(model), flops);
}

adm_cost_time adm_cost_exchange(const adm_cost *cost, const adm_model *model, double n_tokens) {
    const double n = model->n_ranks, bytes = n_tokens * model->hidden * 2;
    if (model->n_ranks < 2) return (adm_cost_time){0, ADM_COST_BYTES, 1};
    return (adm_cost_time){2.0 * model->n_layers * (2 * (n - 1) / n) * bytes / cost->device.copy_bytes_per_s * 1e9,
                           ADM_COST_BYTES, 1};
}

adm_status adm_cost_linear_check(const adm_cost *cost, const adm_model *model, adm_error *err) {
    if (!(cost->device.flops_per_s > 0))
        return adm_fail(err, ADM_EINPUT, "the peak arithmetic of '%s' is not known; give it with --gpu flops=X",
                        cost->device.name);
    if (model->n_ranks > 1 && !(cost->device.copy_bytes_per_s > 0))
        return adm_fail(err, ADM_EINPUT,
                        "the copy rate of '%s' is not known, and %u ranks exchange data; give it with --gpu copy=X",
                        cost->device.name, model->n_ranks);
    return ADM_OK;
}
