/* grid.h: measured times of one implementation of one stage, over batch, budget and length, and what lies between and beyond
 * them.
 *
 *   exact point       the measurement
 *   between points    a straight line between the two nearest on one axis
 *   beyond the edge   the share of the read limit that the outermost interval reached is held: bytes added from there on move
 *                     as fast as those of the interval did, but never faster than the read limit
 *   a single value    likewise, with the share of the widest interval of length or budget; at the read limit if there is none
 *
 * Only +, -, * and / of binary64: the same bits on every machine. */
#ifndef ADM_ANALYSIS_COST_GRID_H
#define ADM_ANALYSIS_COST_GRID_H

#include <stdbool.h>
#include <stddef.h>

#include "analysis/cost/floor.h"

/* In ascending order of trust lost. */
typedef enum adm_cost_rule {
    ADM_COST_MEASURED,
    ADM_COST_INTERPOLATED,
    ADM_COST_HELD,        /* beyond the grid */
    ADM_COST_OTHER_SHAPE, /* from another head shape's grid, at an equal load */
    ADM_COST_BYTES,       /* no measurement: bytes at the measured read limit */
    ADM_COST_FLOPS,       /* no measurement: arithmetic at a share of the data sheet's peak */
    ADM_N_COST_RULES
} adm_cost_rule;

/* "measured", "interpolated", "held", "other shape", "bytes", "flops". */
const char *adm_cost_rule_name(adm_cost_rule rule);

typedef struct adm_cost_time {
    double ns;
    adm_cost_rule rule;
    double reach; /* factor from the nearest measured point along the farthest axis; 1: there */
} adm_cost_time;

/* Where a time is asked for. */
typedef struct adm_cost_at {
    double len, budget, batch; /* budget 0: the stage has none */
} adm_cost_at;

typedef struct adm_cost_point {
    adm_cost_at at;
    double ns;
} adm_cost_point;

enum { ADM_COST_VARIANT_BYTES = 64 };

typedef struct adm_cost_grid {
    int stage;
    char variant[ADM_COST_VARIANT_BYTES];
    adm_shape shape;
    uint32_t element_bytes, page_size; /* page_size 0: contiguous */
    adm_cost_point *point;             /* [n], by batch, budget, length; borrowed */
    size_t n;
    double read_bytes_per_s;
} adm_cost_grid;

/* Orders points as a grid wants them. */
int adm_cost_point_order(const void *a, const void *b);

/* The time at a place. The grid has at least one point. */
adm_cost_time adm_cost_grid_at(const adm_cost_grid *grid, adm_cost_at at);

/* Whether a point lies there. */
bool adm_cost_grid_has(const adm_cost_grid *grid, adm_cost_at at);

#endif
