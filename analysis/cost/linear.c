/* linear.c: matrix products, prompts and exchanges. */
#include "analysis/cost/linear.h"

#include <string.h>

static adm_cost_time roofline(const adm_cost *cost, double compute_share, double bytes, double flops) {
    const double bytes_ns = bytes / cost->device.read_bytes_per_s * 1e9;
    const double flops_ns = flops / (cost->device.flops_per_s * compute_share) * 1e9;
    return flops_ns > bytes_ns ? (adm_cost_time){flops_ns, ADM_COST_FLOPS, 1} : (adm_cost_time){bytes_ns, ADM_COST_BYTES, 1};
}

/* --- Anchors: what was measured of a whole model --------------------------------------------------------------------- */

/* Which measurements: of a model, of products or of the rest, the latter of steps that select tokens or of dense ones. */
typedef struct anchors {
    const adm_cost *cost;
    const char *model;
    adm_cost_share share;
    bool any, sparse; /* any: sparse does not matter */
} anchors;

static bool fits(const anchors *a, const adm_cost_whole *w) {
    const adm_cost_whole *held = a->cost->held_out;
    if (w->share != a->share || strcmp(w->model, a->model) != 0 || (!a->any && a->sparse != (w->budget > 0))) return false;
    return held == NULL || a->share != ADM_COST_REST || held->batch != w->batch || held->len != w->len ||
           held->budget != w->budget || held->page_size != w->page_size || strcmp(held->model, w->model) != 0;
}

/* The nearest batch measured below n_tokens, or above it, both inclusive; 0: none. */
static double nearest_batch(const anchors *a, double n_tokens, bool above) {
    double found = 0;
    for (size_t i = 0; i < a->cost->n_whole; i++) {
        const adm_cost_whole *w = &a->cost->whole[i];
        if (!fits(a, w) || (above ? w->batch < n_tokens : w->batch > n_tokens)) continue;
        if (found == 0 || (above ? w->batch < found : w->batch > found)) found = w->batch;
    }
    return found;
}

/* The mean over the lengths and budgets that were measured at a batch. */
static double mean_at(const anchors *a, double batch) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < a->cost->n_whole; i++)
        if (fits(a, &a->cost->whole[i]) && a->cost->whole[i].batch == batch) {
            sum += a->cost->whole[i].ns;
            n++;
        }
    return sum / n;
}

/* On a line over the batch; beyond the largest batch its last slope goes on, but never falls. False: there are none. */
static bool by_anchors(const anchors *a, double n_tokens, adm_cost_time *time) {
    const double low = nearest_batch(a, n_tokens, false), high = nearest_batch(a, n_tokens, true);
    if (low == 0 && high == 0) return false;
    if (low == 0 || low == n_tokens) {
        *time = low == 0 ? (adm_cost_time){mean_at(a, high), ADM_COST_HELD, high / n_tokens}
                         : (adm_cost_time){mean_at(a, low), ADM_COST_MEASURED, 1};
        return true;
    }
    const double from = high > 0 ? low : nearest_batch(a, low * (1 - 0x1p-20), false), to = high > 0 ? high : low;
    const double at_to = mean_at(a, to), at_from = from > 0 ? mean_at(a, from) : at_to;
    double slope = from > 0 ? (at_to - at_from) / (to - from) : 0;
    if (high == 0 && slope < 0) slope = 0;
    time->ns = high > 0 ? at_from + slope * (n_tokens - from) : at_to + slope * (n_tokens - to);
    time->rule = high > 0 ? ADM_COST_INTERPOLATED : ADM_COST_HELD;
    time->reach = n_tokens / low;
    if (high > 0 && high / n_tokens < time->reach) time->reach = high / n_tokens;
    return true;
}

static double linear_bytes(const adm_model *m) {
    return (m->n_layers * adm_model_layer_weights(m) + adm_model_head_weights(m)) * m->weight_bytes;
}

/* The measured model whose products read the most similar number of bytes; NULL: none was measured. */
static const adm_model *similar_model(const adm_cost *cost, const adm_model *model, adm_cost_share share, double *ratio) {
    const adm_model *best = NULL;
    for (size_t i = 0; i < cost->n_whole; i++) {
        const adm_model *other = cost->whole[i].share == share ? adm_model_find(cost->whole[i].model) : NULL;
        if (other == NULL) continue;
        const double r = linear_bytes(other) / linear_bytes(model), apart = r < 1 ? 1 / r : r;
        if (best != NULL && apart >= *ratio) continue;
        best = other;
        *ratio = apart;
    }
    return best;
}

adm_cost_time adm_cost_linear(const adm_cost *cost, const adm_model *model, double compute_share, double n_tokens,
                              double n_sampled) {
    const double layers = model->n_layers * adm_model_layer_weights(model), head = adm_model_head_weights(model);
    const double bytes = (layers + (n_sampled > 0 ? head : 0)) * model->weight_bytes;
    const adm_cost_time floor = roofline(cost, compute_share, bytes, 2 * (layers * n_tokens + head * n_sampled));
    anchors a = {cost, model->name, ADM_COST_LINEAR, true, false};
    adm_cost_time time;
    if (!by_anchors(&a, n_tokens, &time)) {
        double ratio;
        const adm_model *other = similar_model(cost, model, ADM_COST_LINEAR, &ratio);
        if (other == NULL) return floor;
        a.model = other->name;
        by_anchors(&a, n_tokens, &time);
        time.ns *= linear_bytes(model) / linear_bytes(other); /* the share of the read limit that it reached */
        time.reach = ratio > time.reach ? ratio : time.reach;
        if (time.rule != ADM_COST_HELD || floor.ns < time.ns) time.rule = ADM_COST_OTHER_SHAPE;
        else return floor;
    }
    const bool is_held = time.rule == ADM_COST_HELD;
    time.ns = adm_cost_on_device(cost, time.ns, bytes);
    return is_held && floor.ns > time.ns ? floor : time; /* large chunks are bound by arithmetic */
}

adm_cost_time adm_cost_rest(const adm_cost *cost, const adm_model *model, double n_tokens, bool sparse) {
    adm_cost_time time = {0, ADM_COST_BYTES, 1};
    anchors a = {cost, model->name, ADM_COST_REST, false, sparse};
    if (by_anchors(&a, n_tokens, &time)) return time;
    a.any = true;
    if (by_anchors(&a, n_tokens, &time)) return time;
    double ratio;
    const adm_model *other = similar_model(cost, model, ADM_COST_REST, &ratio);
    if (other == NULL) return time;
    a = (anchors){cost, other->name, ADM_COST_REST, false, sparse};
    bool there = by_anchors(&a, n_tokens, &time);
    a.any = true;
    if (!there) there = by_anchors(&a, n_tokens, &time);
    if (!there) return (adm_cost_time){0, ADM_COST_BYTES, 1};
    time.ns *= (double)model->n_layers / other->n_layers; /* it is latency: a layer has so many kernels */
    time.rule = ADM_COST_OTHER_SHAPE;
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
