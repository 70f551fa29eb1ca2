/* grid.c: times between and beyond measured points. */
#include "analysis/cost/grid.h"

#include <string.h>

#include "analysis/cost/curve.h"

enum { LEN, BUDGET, BATCH, N_AXES };

const char *adm_cost_rule_name(adm_cost_rule rule) {
    static const char *const names[] = {"measured", "interpolated", "held", "other shape", "bytes", "flops"};
    return names[rule];
}

static double get(const adm_cost_at *at, int axis) { return axis == LEN ? at->len : axis == BUDGET ? at->budget : at->batch; }

static void set(adm_cost_at *at, int axis, double value) {
    if (axis == LEN) at->len = value;
    else if (axis == BUDGET) at->budget = value;
    else at->batch = value;
}

int adm_cost_point_order(const void *a, const void *b) {
    const adm_cost_at *x = &((const adm_cost_point *)a)->at, *y = &((const adm_cost_point *)b)->at;
    for (int axis = BATCH; axis >= LEN; axis--)
        if (get(x, axis) != get(y, axis)) return get(x, axis) < get(y, axis) ? -1 : 1;
    return 0;
}

static const adm_cost_point *find(const adm_cost_grid *g, const adm_cost_at *at) {
    const adm_cost_point key = {*at, 0};
    size_t low = 0, high = g->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (adm_cost_point_order(&g->point[middle], &key) < 0) low = middle + 1;
        else high = middle;
    }
    return low < g->n && adm_cost_point_order(&g->point[low], &key) == 0 ? &g->point[low] : NULL;
}

bool adm_cost_grid_has(const adm_cost_grid *grid, adm_cost_at at) { return find(grid, &at) != NULL; }

static double floor_ns(const adm_cost_grid *g, const adm_cost_at *at) {
    return adm_cost_floor_bytes(g->stage, &g->shape, g->element_bytes, at->len, at->budget, at->batch) / g->read_bytes_per_s *
           1e9;
}

/* The values of an axis nearest to x among points that agree with `at` on the axes in `fixed`: the two on either side of it, or
 * on the one side the two nearest to it. n: how many values there are, counted to 2. before, after: the values next to an
 * inner bracket; negative: none. */
typedef struct bracket {
    double low, high, before, after;
    int n;
    bool outside;
} bracket;

static bool agrees(const adm_cost_at *a, const adm_cost_at *b, unsigned fixed) {
    for (int axis = 0; axis < N_AXES; axis++)
        if (fixed >> axis & 1 && get(a, axis) != get(b, axis)) return false;
    return true;
}

static bracket bracket_of(const adm_cost_grid *g, const adm_cost_at *at, int axis, unsigned fixed) {
    const double x = get(at, axis);
    double below[2] = {-1, -1}, above[2] = {-1, -1}; /* the nearest first; no axis has negative values */
    for (size_t i = 0; i < g->n; i++) {
        if (!agrees(&g->point[i].at, at, fixed)) continue;
        const double v = get(&g->point[i].at, axis);
        double *side = v <= x ? below : above;
        const bool nearer = side[0] < 0 || (v <= x ? v > side[0] : v < side[0]);
        if (v == side[0] || v == side[1]) continue;
        if (nearer) {
            side[1] = side[0];
            side[0] = v;
        } else if (side[1] < 0 || (v <= x ? v > side[1] : v < side[1])) side[1] = v;
    }
    if (below[0] == x) return (bracket){x, x, -1, -1, 1, false};
    if (below[0] >= 0 && above[0] >= 0) return (bracket){below[0], above[0], below[1], above[1], 2, false};
    const double *side = below[0] >= 0 ? below : above;
    if (side[1] < 0) return (bracket){side[0], side[0], -1, -1, 1, true};
    return (bracket){side[0] < side[1] ? side[0] : side[1], side[0] < side[1] ? side[1] : side[0], -1, -1, 2, true};
}

static double factor(double a, double b) {
    if (a <= 0 || b <= 0) return 1;
    return a > b ? a / b : b / a;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* How much slower than the read limit added bytes move, by another axis than the one with a single value: of the last interval
 * of length or budget on which bytes are added, the one where most are. 1: at the limit. Points of the grid alone. */
static double slowness_of(const adm_cost_grid *g, const adm_cost_at *edge) {
    double max_bytes_ns = 0, slope = 1;
    for (int axis = LEN; axis <= BUDGET; axis++) {
        adm_cost_at at = *edge, low = *edge, high = *edge;
        set(&at, axis, 1e18);
        const bracket b = bracket_of(g, &at, axis, ((1u << N_AXES) - 1) & ~(1u << axis));
        if (b.n < 2) continue;
        set(&low, axis, b.low);
        set(&high, axis, b.high);
        const double bytes_ns = floor_ns(g, &high) - floor_ns(g, &low);
        if (bytes_ns <= max_bytes_ns) continue;
        max_bytes_ns = bytes_ns;
        slope = (find(g, &high)->ns - find(g, &low)->ns) / bytes_ns;
    }
    return slope > 1 ? slope : 1;
}

/* From the times at the bracket's two ends to the one at x. Outside, and between batches, by a straight line; `next` has the
 * times at b.before and b.after, which bend the others; held ones do not. */
static adm_cost_time join(const adm_cost_grid *g, const adm_cost_at *at, int axis, bracket b, adm_cost_time low,
                          adm_cost_time high, const adm_cost_time next[2]) {
    const double x = get(at, axis);
    adm_cost_at edge_at = *at;
    adm_cost_time t = {0, low.rule > high.rule ? low.rule : high.rule, larger(low.reach, high.reach)};
    const adm_cost_time *edge = x > b.high ? &high : &low;
    set(&edge_at, axis, x > b.high ? b.high : b.low);
    const double far = factor(x, get(&edge_at, axis));
    const double added = floor_ns(g, at) - floor_ns(g, &edge_at); /* negative below the grid */
    if (b.n == 1) t.ns = edge->ns + added * slowness_of(g, &edge_at);
    else if (b.outside) t.ns = low.ns + (high.ns - low.ns) * ((x - b.low) / (b.high - b.low));
    else {
        const adm_cost_curve curve = {{b.before, b.low, b.high, b.after},
                                      {next[0].ns, low.ns, high.ns, next[1].ns},
                                      b.before >= 0 && next[0].rule < ADM_COST_HELD,
                                      b.after >= 0 && next[1].rule < ADM_COST_HELD};
        t.ns = adm_cost_curve_at(&curve, x);
    }
    if (b.outside && b.n == 2) {
        if (x > b.high) t.ns = larger(t.ns, edge->ns + added);
        else { /* not a better share than the edge's, and not slower than the edge */
            const double at_edge = floor_ns(g, &edge_at), min_ns = at_edge > 0 ? edge->ns * (floor_ns(g, at) / at_edge) : 0;
            t.ns = t.ns > edge->ns ? edge->ns : larger(t.ns, min_ns);
        }
    }
    const adm_cost_rule here = b.outside ? ADM_COST_HELD : ADM_COST_INTERPOLATED;
    if (here > t.rule) t.rule = here;
    const double reach = b.outside ? far : factor(x, b.low) < factor(x, b.high) ? factor(x, b.low) : factor(x, b.high);
    t.reach = larger(t.reach, reach);
    return t;
}

static adm_cost_time walk(const adm_cost_grid *g, adm_cost_at at, int axis, unsigned fixed);

/* The time with another value on the axis, which the grid has. Negative values: none. */
static adm_cost_time time_at(const adm_cost_grid *g, const adm_cost_at *at, int axis, double value, unsigned fixed) {
    adm_cost_at there = *at;
    if (value < 0) return (adm_cost_time){0, ADM_COST_HELD, 1};
    set(&there, axis, value);
    return walk(g, there, axis - 1, fixed | 1u << axis);
}

/* Walks the axes from BATCH down to LEN; `fixed`: the axes on which `at` already has a value of the grid. */
static adm_cost_time walk(const adm_cost_grid *g, adm_cost_at at, int axis, unsigned fixed) {
    if (axis < LEN) return (adm_cost_time){find(g, &at)->ns, ADM_COST_MEASURED, 1};
    bracket b = bracket_of(g, &at, axis, fixed);
    if (b.n == 1 && !b.outside) return walk(g, at, axis - 1, fixed | 1u << axis);
    if (axis == BATCH) b.before = b.after = -1;
    const adm_cost_time low = time_at(g, &at, axis, b.low, fixed), high = b.n == 2 ? time_at(g, &at, axis, b.high, fixed) : low;
    const adm_cost_time next[] = {time_at(g, &at, axis, b.before, fixed), time_at(g, &at, axis, b.after, fixed)};
    return join(g, &at, axis, b, low, high, next);
}

static adm_cost_time measured(const adm_cost_grid *g, const adm_cost_at *at, int axis, double value) {
    adm_cost_at there = *at;
    if (value < 0) return (adm_cost_time){0, ADM_COST_HELD, 1};
    set(&there, axis, value);
    return (adm_cost_time){find(g, &there)->ns, ADM_COST_MEASURED, 1};
}

adm_cost_time adm_cost_grid_at(const adm_cost_grid *g, adm_cost_at at) {
    const unsigned all = (1u << N_AXES) - 1;
    const adm_cost_point *exact = find(g, &at);
    if (exact != NULL) return (adm_cost_time){exact->ns, ADM_COST_MEASURED, 1};
    /* A hole in the grid: the axis on which the neighbours stand closest. */
    int best = -1;
    double narrowest = 0;
    bracket chosen = {0};
    for (int axis = LEN; axis < N_AXES; axis++) {
        const bracket b = bracket_of(g, &at, axis, all & ~(1u << axis));
        if (b.n < 2 || b.outside) continue;
        const double width = factor(b.high, b.low);
        if (best >= 0 && width > narrowest) continue; /* equal: budget before length */
        best = axis;
        narrowest = width;
        chosen = b;
    }
    if (best < 0) return walk(g, at, BATCH, 0);
    if (best == BATCH) chosen.before = chosen.after = -1;
    const adm_cost_time next[] = {measured(g, &at, best, chosen.before), measured(g, &at, best, chosen.after)};
    return join(g, &at, best, chosen, measured(g, &at, best, chosen.low), measured(g, &at, best, chosen.high), next);
}
