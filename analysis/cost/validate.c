/* validate.c: hides points of a grid, predicts them, and sums up the errors. */
#include "analysis/cost/validate.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/rng.h"
#include "core/stats/stats.h"

typedef struct error_of {
    adm_held_out what;
    const adm_cost_grid *grid;
    double ratio;
} error_of;

typedef struct work {
    const adm_cost *cost;
    adm_validation *out;
    adm_cost_point *kept; /* [n_points] of the grid that is looked at */
    bool *hidden;         /* [n_points] of that grid */
    error_of *error;
    size_t n_errors, capacity;
} work;

const char *adm_held_out_name(adm_held_out what) {
    static const char *const names[] = {"interior", "row", "frontier", "batch", "shape", "other gpu"};
    return names[what];
}

static adm_status note(work *w, adm_held_out what, const adm_cost_grid *grid, double predicted, double measured,
                       adm_error *err) {
    adm_status status = adm_grow(&w->error, w->n_errors, &w->capacity, sizeof *w->error, "errors of predictions", err);
    if (status != ADM_OK) return status;
    w->error[w->n_errors++] = (error_of){what, grid, predicted / measured - 1};
    return ADM_OK;
}

/* --- Hiding --------------------------------------------------------------------------------------------------------- */

enum { LEN, BUDGET, BATCH };

static double on_axis(const adm_cost_at *at, int axis) {
    return axis == LEN ? at->len : axis == BUDGET ? at->budget : at->batch;
}

/* The least and greatest value of an axis. */
static void ends(const adm_cost_grid *g, int axis, double *min, double *max) {
    *min = *max = on_axis(&g->point[0].at, axis);
    for (size_t i = 1; i < g->n; i++) {
        const double x = on_axis(&g->point[i].at, axis);
        if (x < *min) *min = x;
        if (x > *max) *max = x;
    }
}

/* Whether points that differ on this axis alone lie on both sides, or the axis has one value: a grid need not be full. */
static bool inner(const adm_cost_grid *g, const adm_cost_at *at, int axis) {
    double min, max;
    bool below = false, above = false;
    ends(g, axis, &min, &max);
    for (size_t i = 0; i < g->n; i++) {
        const adm_cost_at *p = &g->point[i].at;
        bool beside = true;
        for (int other = LEN; other <= BATCH; other++) beside &= other == axis || on_axis(p, other) == on_axis(at, other);
        below |= beside && on_axis(p, axis) < on_axis(at, axis);
        above |= beside && on_axis(p, axis) > on_axis(at, axis);
    }
    return min == max || (below && above);
}

/* Predicts the hidden points from the others; nothing where none are left. */
static adm_status predict_hidden(work *w, adm_held_out what, const adm_cost_grid *g, adm_error *err) {
    adm_cost_grid rest = *g;
    adm_status status = ADM_OK;
    rest.point = w->kept;
    rest.n = 0;
    for (size_t i = 0; i < g->n; i++)
        if (!w->hidden[i]) w->kept[rest.n++] = g->point[i];
    for (size_t i = 0; i < g->n && rest.n > 0 && rest.n < g->n && status == ADM_OK; i++)
        if (w->hidden[i]) status = note(w, what, g, adm_cost_grid_at(&rest, g->point[i].at).ns, g->point[i].ns, err);
    return status;
}

static size_t hide_value(work *w, const adm_cost_grid *g, int axis, double value) {
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) n += w->hidden[i] = on_axis(&g->point[i].at, axis) == value;
    return n;
}

/* Each value of an axis in turn: inner ones as rows, the ends as the frontier. */
static adm_status hide_rows(work *w, const adm_cost_grid *g, int axis, adm_error *err) {
    double min, max;
    adm_status status = ADM_OK;
    ends(g, axis, &min, &max);
    for (size_t i = 0; i < g->n && status == ADM_OK && min < max; i++) {
        const double x = on_axis(&g->point[i].at, axis);
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) seen = on_axis(&g->point[j].at, axis) == x;
        if (seen || (axis == BATCH && x != max)) continue;
        hide_value(w, g, axis, x);
        status = predict_hidden(w,
                                axis == BATCH          ? ADM_HELD_BATCH
                                : x == min || x == max ? ADM_HELD_FRONTIER
                                                       : ADM_HELD_ROW,
                                g, err);
    }
    return status;
}

enum { N_PARTS = 5, N_DRAWS = 5 };

/* The inner points in N_PARTS random parts, each hidden in turn: one part alone would be a handful of points, whose mean says
 * more of the draw than of the model. */
static adm_status hide_parts(work *w, const adm_cost_grid *g, adm_rng *rng, adm_error *err) {
    uint8_t *part = NULL;
    adm_status status = adm_alloc(&part, g->n, 1, "parts of a grid", err);
    for (size_t i = 0; i < g->n && status == ADM_OK; i++)
        part[i] = inner(g, &g->point[i].at, LEN) && inner(g, &g->point[i].at, BUDGET) ? (uint8_t)adm_rng_below(rng, N_PARTS)
                                                                                      : N_PARTS;
    for (uint8_t p = 0; p < N_PARTS && status == ADM_OK; p++) {
        for (size_t i = 0; i < g->n; i++) w->hidden[i] = part[i] == p;
        status = predict_hidden(w, ADM_HELD_INTERIOR, g, err);
    }
    adm_free(&part);
    return status;
}

static adm_status validate_grid(work *w, const adm_cost_grid *g, adm_rng *rng, adm_error *err) {
    adm_status status = ADM_OK;
    for (int draw = 0; draw < N_DRAWS && status == ADM_OK; draw++) status = hide_parts(w, g, rng, err);
    for (int axis = LEN; axis <= BATCH && status == ADM_OK; axis++) status = hide_rows(w, g, axis, err);
    return status;
}

/* --- Other shapes, other GPUs --------------------------------------------------------------------------------------- */

static bool same_heads(const adm_shape *a, const adm_shape *b) {
    return a->n_q_heads == b->n_q_heads && a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim;
}

/* The grid's points as a model predicts them that may lack the stage. */
static adm_status predict_grid(work *w, adm_held_out what, const adm_cost *by, const adm_cost_grid *g, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < g->n && status == ADM_OK; i++) {
        const adm_cost_question q = {g->stage, g->variant, g->shape, g->element_bytes, g->page_size, g->point[i].at};
        adm_cost_answer a;
        if (adm_cost_ask(by, &q, &a, NULL) != ADM_OK) continue;
        status = note(w, what, g, a.time.ns, g->point[i].ns, err);
    }
    return status;
}

static adm_status validate_shapes(work *w, adm_error *err) {
    adm_cost others = *w->cost;
    adm_status status = adm_alloc(&others.grid, w->cost->n_grids, sizeof *others.grid, "grids of other shapes", err);
    for (size_t i = 0; i < w->cost->n_grids && status == ADM_OK; i++) {
        const adm_cost_grid *g = &w->cost->grid[i];
        others.n_grids = 0;
        for (size_t j = 0; j < w->cost->n_grids; j++)
            if (!same_heads(&w->cost->grid[j].shape, &g->shape)) others.grid[others.n_grids++] = w->cost->grid[j];
        status = predict_grid(w, ADM_HELD_SHAPE, &others, g, err);
    }
    adm_free(&others.grid);
    return status;
}

static adm_status validate_gpu(work *w, const adm_cost *other, adm_error *err) {
    adm_cost here = *w->cost;
    adm_status status = ADM_OK;
    here.device = other->measured;
    for (size_t i = 0; i < other->n_grids && status == ADM_OK; i++)
        status = predict_grid(w, ADM_HELD_GPU, &here, &other->grid[i], err);
    return status;
}

/* --- Sums ----------------------------------------------------------------------------------------------------------- */

static bool of_row(const error_of *e, adm_held_out what, int stage, const char *variant) {
    return e->what == what && (stage < 0 || (e->grid->stage == stage && strcmp(e->grid->variant, variant) == 0));
}

static adm_status add_row(work *w, adm_held_out what, int stage, const char *variant, double *absolute, adm_error *err) {
    adm_validation_row row = {.what = what, .stage = stage};
    double sum = 0, bias = 0;
    (void)err;
    for (size_t i = 0; i < w->n_errors; i++) {
        if (!of_row(&w->error[i], what, stage, variant)) continue;
        const double x = w->error[i].ratio;
        bias += x;
        absolute[row.n++] = x < 0 ? -x : x;
        sum += x < 0 ? -x : x;
    }
    if (row.n == 0) return ADM_OK;
    const adm_distribution d = adm_distribution_of(absolute, row.n);
    snprintf(row.variant, sizeof row.variant, "%s", variant);
    row.mape = sum / (double)row.n;
    row.bias = bias / (double)row.n;
    row.p50 = d.median;
    row.p95 = d.p95;
    row.max = d.max;
    if (what == ADM_HELD_INTERIOR) row.n /= N_DRAWS; /* points */
    w->out->row[w->out->n++] = row;
    return ADM_OK;
}

/* Whether the grid is the first of its stage and variant. */
static bool first_of_kind(const adm_cost *c, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (c->grid[j].stage == c->grid[i].stage && strcmp(c->grid[j].variant, c->grid[i].variant) == 0) return false;
    return true;
}

static adm_status sum_up(work *w, adm_error *err) {
    double *absolute = NULL;
    adm_status status = adm_alloc(&absolute, w->n_errors, sizeof *absolute, "errors of predictions", err);
    if (status == ADM_OK)
        status = adm_alloc(&w->out->row, ADM_N_HELD_OUT * (w->cost->n_grids + 1), sizeof *w->out->row, "errors of predictions",
                           err);
    for (adm_held_out what = 0; what < ADM_N_HELD_OUT && status == ADM_OK; what++) {
        status = add_row(w, what, -1, "", absolute, err);
        for (size_t i = 0; i < w->cost->n_grids && status == ADM_OK; i++)
            if (first_of_kind(w->cost, i))
                status = add_row(w, what, w->cost->grid[i].stage, w->cost->grid[i].variant, absolute, err);
    }
    adm_free(&absolute);
    return status;
}

/* --- Choices -------------------------------------------------------------------------------------------------------- */

static bool is_same_cache(const adm_cost_grid *a, const adm_cost_grid *b) {
    return same_heads(&a->shape, &b->shape) && a->page_size == b->page_size && a->element_bytes == b->element_bytes;
}

static bool is_same_step(const adm_cost_grid *a, const adm_cost_grid *b) {
    return a->stage == ADM_STAGE_STEP && b->stage == ADM_STAGE_STEP && is_same_cache(a, b);
}

/* The time at a place with its whole length held out, or as measured. Negative: there is none, or less than two lengths are
 * left, which say nothing of a third. */
static double time_at(work *w, const adm_cost_grid *g, adm_cost_at at, bool measured) {
    bool two_lengths = false;
    adm_cost_grid rest = *g;
    rest.point = w->kept;
    rest.n = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (g->point[i].at.len == at.len) continue;
        w->kept[rest.n++] = g->point[i];
        two_lengths |= g->point[i].at.len != w->kept[0].at.len;
    }
    if (!two_lengths || (measured && !adm_cost_grid_has(g, at))) return -1;
    return adm_cost_grid_at(measured ? g : &rest, at).ns;
}

/* The fastest variant of the step at a place, and its time. */
static const adm_cost_grid *fastest(work *w, const adm_cost_grid *like, adm_cost_at at, bool measured, size_t *n, double *ns) {
    const adm_cost_grid *best = NULL;
    *n = 0;
    for (size_t i = 0; i < w->cost->n_grids; i++) {
        const adm_cost_grid *g = &w->cost->grid[i];
        if (!is_same_step(g, like) || !adm_cost_grid_has(g, at)) continue;
        const double t = time_at(w, g, at, measured);
        if (t < 0) continue;
        ++*n;
        if (best == NULL || t < *ns) {
            best = g;
            *ns = t;
        }
    }
    return best;
}

static void pick_variant(work *w, const adm_cost_grid *like, adm_cost_at at) {
    adm_validation_picks *p = &w->out->picks;
    size_t n;
    double predicted_ns, best_ns;
    const adm_cost_grid *picked = fastest(w, like, at, false, &n, &predicted_ns),
                        *best = fastest(w, like, at, true, &n, &best_ns);
    if (n < 2 || picked == NULL || best == NULL) return;
    const double loss = time_at(w, picked, at, true) / best_ns - 1;
    p->n_variants++;
    p->n_right_variants += picked == best;
    if (loss > p->worst_variant_loss) p->worst_variant_loss = loss;
}

/* Of the budgets measured at a length, in ascending order: how many beat dense attention without a gap. */
static size_t budgets_that_pay(work *w, const adm_cost_grid *dense, const adm_cost_grid *like, adm_cost_at at, bool measured) {
    adm_cost_at dense_at = at;
    size_t n = 0, n_variants;
    double ns;
    dense_at.budget = 0;
    const double dense_ns = time_at(w, dense, dense_at, measured);
    for (size_t i = 0; i < like->n; i++) { /* by batch, budget, length */
        if (like->point[i].at.len != at.len || like->point[i].at.batch != at.batch) continue;
        if (fastest(w, like, like->point[i].at, measured, &n_variants, &ns) == NULL || ns >= dense_ns) break;
        n++;
    }
    return n;
}

static void pick_budget(work *w, const adm_cost_grid *like, adm_cost_at at) {
    adm_validation_picks *p = &w->out->picks;
    for (size_t i = 0; i < w->cost->n_grids; i++) {
        const adm_cost_grid *dense = &w->cost->grid[i];
        if (dense->stage != ADM_STAGE_DENSE || !is_same_cache(dense, like) ||
            !adm_cost_grid_has(dense, (adm_cost_at){at.len, 0, at.batch}))
            continue;
        const size_t predicted = budgets_that_pay(w, dense, like, at, false),
                     measured = budgets_that_pay(w, dense, like, at, true);
        p->n_budgets++;
        p->n_right_budgets += predicted == measured;
        p->n_near_budgets += predicted == measured + 1 || predicted + 1 == measured;
        return;
    }
}

/* At every place of the variant measured at the most places: another may leave some to it. */
static void validate_picks(work *w) {
    const adm_cost_grid *grid = w->cost->grid;
    for (size_t i = 0; i < w->cost->n_grids; i++) {
        const adm_cost_grid *g = &grid[i];
        bool widest = g->stage == ADM_STAGE_STEP;
        for (size_t j = 0; j < w->cost->n_grids && widest; j++)
            widest = !is_same_step(&grid[j], g) || grid[j].n < g->n || (grid[j].n == g->n && j >= i);
        for (size_t k = 0; widest && k < g->n; k++) {
            bool first_budget = true;
            pick_variant(w, g, g->point[k].at);
            for (size_t l = 0; l < k; l++)
                first_budget &= g->point[l].at.len != g->point[k].at.len || g->point[l].at.batch != g->point[k].at.batch;
            if (first_budget) pick_budget(w, g, g->point[k].at);
        }
    }
}

/* --- All ------------------------------------------------------------------------------------------------------------ */

adm_status adm_validate(const adm_cost *cost, const adm_cost *other, uint64_t seed, adm_validation *out, adm_error *err) {
    work w = {.cost = cost, .out = out};
    adm_rng rng;
    adm_rng_seed(&rng, seed);
    *out = (adm_validation){0};
    adm_status status = adm_alloc(&w.kept, cost->n_points, sizeof *w.kept, "points that are kept", err);
    if (status == ADM_OK) status = adm_alloc(&w.hidden, cost->n_points, sizeof *w.hidden, "points that are hidden", err);
    for (size_t i = 0; i < cost->n_grids && status == ADM_OK; i++) status = validate_grid(&w, &cost->grid[i], &rng, err);
    if (status == ADM_OK) status = validate_shapes(&w, err);
    if (status == ADM_OK && other != NULL) status = validate_gpu(&w, other, err);
    if (status == ADM_OK) status = sum_up(&w, err);
    if (status == ADM_OK) validate_picks(&w);
    adm_free(&w.kept);
    adm_free(&w.hidden);
    adm_free(&w.error);
    if (status != ADM_OK) adm_validation_free(out);
    return status;
}

void adm_validation_free(adm_validation *validation) { adm_free(&validation->row); }
