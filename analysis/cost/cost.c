/* cost.c: asks the grids. */
#include "analysis/cost/cost.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"

void adm_cost_free(adm_cost *cost) {
    adm_free(&cost->point);
    adm_free(&cost->grid);
    adm_free(&cost->whole);
    *cost = (adm_cost){0};
}

double adm_cost_on_device(const adm_cost *cost, double ns, double floor_bytes) {
    if (cost->device.read_bytes_per_s == cost->measured.read_bytes_per_s) return ns;
    double bytes_ns = floor_bytes / cost->measured.read_bytes_per_s * 1e9;
    if (bytes_ns > ns) bytes_ns = ns;
    return ns - bytes_ns + bytes_ns * (cost->measured.read_bytes_per_s / cost->device.read_bytes_per_s);
}

double adm_cost_mixed_ns(const adm_cost *cost, double at_mean_ns, double longest_alone_ns, double longest, double mean) {
    const double ns = at_mean_ns > longest_alone_ns ? at_mean_ns : longest_alone_ns;
    return mean > 0 && longest > mean ? ns * (1 + cost->skew * (longest / mean - 1)) : ns;
}

/* How unlike two head shapes are: head size first, then how many query heads share a KV head, then their number. */
static double unlikeness(const adm_cost_grid *g, const adm_cost_question *q) {
    const double group = (double)g->shape.n_q_heads / g->shape.n_kv_heads,
                 wanted = (double)q->shape.n_q_heads / q->shape.n_kv_heads;
    const double heads = (double)g->shape.n_kv_heads / q->shape.n_kv_heads;
    return (g->shape.head_dim != q->shape.head_dim ? 1e6 : 0) + (g->element_bytes != q->element_bytes ? 1e8 : 0) +
           1e3 * (group > wanted ? group / wanted - 1 : wanted / group - 1) + (heads > 1 ? heads - 1 : 1 / heads - 1);
}

static bool same_shape(const adm_cost_grid *g, const adm_cost_question *q) {
    return g->shape.n_q_heads == q->shape.n_q_heads && g->shape.n_kv_heads == q->shape.n_kv_heads &&
           g->shape.head_dim == q->shape.head_dim && g->element_bytes == q->element_bytes;
}

static adm_cost_time time_by(const adm_cost *cost, const adm_cost_grid *g, const adm_cost_question *q) {
    const double bytes = adm_cost_floor_bytes(q->stage, &q->shape, q->element_bytes, q->at.len, q->at.budget, q->at.batch);
    adm_cost_at at = q->at;
    double load = 1;
    if (!same_shape(g, q)) {
        const double wanted = adm_cost_load_bytes(q->stage, &q->shape, q->element_bytes, at.len, at.budget, at.batch);
        const double per_sequence = adm_cost_load_bytes(q->stage, &g->shape, g->element_bytes, at.len, at.budget, 1);
        if (per_sequence > 0) at.batch = wanted / per_sequence;
        load = at.batch / q->at.batch;
    }
    adm_cost_time t = adm_cost_grid_at(g, at);
    if (!same_shape(g, q)) {
        t.rule = ADM_COST_OTHER_SHAPE;
        if (load < 1) load = 1 / load;
        if (load > t.reach) t.reach = load;
    }
    t.ns = adm_cost_on_device(cost, t.ns, bytes);
    return t;
}

static adm_status no_anchor(const adm_cost *cost, const adm_cost_question *q, adm_error *err) {
    const char *known[64];
    char meant[ADM_DID_YOU_MEAN_BYTES] = "";
    size_t n = 0;
    for (size_t i = 0; i < cost->n_grids && n < sizeof known / sizeof *known; i++)
        if (cost->grid[i].stage == q->stage) known[n++] = cost->grid[i].variant;
    if (q->variant != NULL) adm_did_you_mean(q->variant, known, n, meant);
    return adm_fail(err, ADM_EINPUT,
                    "no anchor for stage %s%s%s: run %lld '%s' has no timing of it (cold, as CUDA graphs); `adamas profile` "
                    "measures it, and --calibration names another run%s",
                    adm_cost_stage_name(q->stage), q->variant != NULL ? ", variant " : "", q->variant != NULL ? q->variant : "",
                    (long long)cost->run_id, cost->label, meant);
}

adm_status adm_cost_ask(const adm_cost *cost, const adm_cost_question *q, adm_cost_answer *answer, adm_error *err) {
    /* Paged anchors where there are any of the stage, else contiguous ones. */
    bool paged = false;
    for (size_t i = 0; i < cost->n_grids && q->page_size > 0; i++)
        paged |= cost->grid[i].stage == q->stage && cost->grid[i].page_size == q->page_size;
    double min_unlike = -1;
    for (size_t i = 0; i < cost->n_grids; i++) {
        const adm_cost_grid *g = &cost->grid[i];
        if (g->stage != q->stage || g->page_size != (paged ? q->page_size : 0)) continue;
        if (q->variant != NULL && strcmp(g->variant, q->variant) != 0) continue;
        const double unlike = unlikeness(g, q);
        if (min_unlike < 0 || unlike < min_unlike) min_unlike = unlike;
    }
    if (min_unlike < 0) return no_anchor(cost, q, err);
    answer->grid = NULL;
    for (size_t i = 0; i < cost->n_grids; i++) {
        const adm_cost_grid *g = &cost->grid[i];
        if (g->stage != q->stage || g->page_size != (paged ? q->page_size : 0) || unlikeness(g, q) != min_unlike) continue;
        if (q->variant != NULL && strcmp(g->variant, q->variant) != 0) continue;
        const adm_cost_time t = time_by(cost, g, q);
        if (answer->grid == NULL || t.ns < answer->time.ns) *answer = (adm_cost_answer){t, g};
    }
    return ADM_OK;
}
