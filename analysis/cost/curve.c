/* curve.c: monotone cubics; see curve.h. Sums and products alone, so that every machine gets the same bits. */
#include "analysis/cost/curve.h"

/* The slope at a point between intervals of slopes a and b and widths h_a and h_b: their harmonic mean; 0 at an extreme. */
static double inner_slope(double a, double b, double h_a, double h_b) {
    if (a * b <= 0) return 0;
    const double w_a = 2 * h_b + h_a, w_b = h_b + 2 * h_a;
    return (w_a + w_b) / (w_a / a + w_b / b);
}

/* The slope at the far end of the interval of slope a, whose neighbour has slope b: that of the parabola through both, and a
 * itself where the times turn round. */
static double end_slope(double a, double b, double h_a, double h_b) {
    if (a * b <= 0) return a;
    const double s = ((2 * h_a + h_b) * a - h_a * b) / (h_a + h_b);
    return s * a > 0 ? s : 0;
}

double adm_cost_curve_at(const adm_cost_curve *c, double x) {
    const double h = c->x[2] - c->x[1], slope = (c->y[2] - c->y[1]) / h, t = (x - c->x[1]) / h;
    double before = 0, after = 0, h_before = 0, h_after = 0, left, right;
    if (!c->has_before && !c->has_after) return c->y[1] + (c->y[2] - c->y[1]) * t;
    if (c->has_before) {
        h_before = c->x[1] - c->x[0];
        before = (c->y[1] - c->y[0]) / h_before;
    }
    if (c->has_after) {
        h_after = c->x[3] - c->x[2];
        after = (c->y[3] - c->y[2]) / h_after;
    }
    left = c->has_before ? inner_slope(before, slope, h_before, h) : end_slope(slope, after, h, h_after);
    right = c->has_after ? inner_slope(slope, after, h, h_after) : end_slope(slope, before, h, h_before);
    const double u = 1 - t;
    return c->y[1] * u * u * (1 + 2 * t) + c->y[2] * t * t * (1 + 2 * u) + h * t * u * (left * u - right * t);
}
