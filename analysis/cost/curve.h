/* curve.h: a curve through measured times. */
#ifndef ADM_ANALYSIS_COST_CURVE_H
#define ADM_ANALYSIS_COST_CURVE_H

#include <stdbool.h>

/* Up to four neighbours in ascending order of x: the time is wanted between x[1] and x[2], which are there. x[0] and x[3] are
 * there if has_before and has_after. */
typedef struct adm_cost_curve {
    double x[4], y[4];
    bool has_before, has_after;
} adm_cost_curve;

/* The time at x, x[1] <= x <= x[2]: a cubic whose slopes follow the neighbours (Fritsch and Butland, SIAM J. Sci. Stat. Comput.
 * 5, 1984). It meets every neighbour and stays between y[1] and y[2]. With no neighbour beyond these two it is a straight
 * line. */
double adm_cost_curve_at(const adm_cost_curve *c, double x);

#endif
