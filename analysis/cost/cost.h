/* cost.h: the cost model: a profile's timings as anchors, and the time of any stage of any shape from them.
 *
 *   measured, interpolated, held    by the grid of the same head shape (grid.h)
 *   other shape                     by the nearest other head shape's grid, at the batch at which its compulsory bytes are
 *                                   equal
 *   no anchor                       an error
 *
 * Another GPU: the compulsory bytes take as much longer as its read limit is lower, the rest stays as measured. */
#ifndef ADM_ANALYSIS_COST_COST_H
#define ADM_ANALYSIS_COST_COST_H

#include <stdint.h>

#include "analysis/cost/device.h"
#include "analysis/cost/grid.h"
#include "core/base/error.h"

typedef enum adm_cost_share { ADM_COST_LINEAR, ADM_COST_REST, ADM_COST_TOKEN } adm_cost_share;

/* What was measured of a decode step of a whole model: its matrix products, what is neither those nor attention, or all. */
typedef struct adm_cost_whole {
    char model[ADM_COST_VARIANT_BYTES];
    adm_cost_share share;
    double batch, len, ns;
    uint32_t budget, page_size; /* 0: dense; 0: contiguous */
} adm_cost_whole;

typedef struct adm_cost {
    int64_t run_id;
    char run_uuid[40], label[128];
    adm_cost_device measured; /* where the anchors come from */
    adm_cost_device device; /* that times are for; change it for a what-if */
    adm_cost_point *point; /* [n_points], of all grids */
    size_t n_points;
    adm_cost_grid *grid; /* [n_grids] */
    size_t n_grids;
    adm_cost_whole *whole; /* [n_whole] what `adamas decode` measured of whole models */
    size_t n_whole;
    const adm_cost_whole *held_out; /* NULL: none; else the rest of a step is predicted without what was measured there */
    double skew; /* share by which a batch of mixed lengths is slower, per unit of longest / mean - 1 */
    size_t n_ragged; /* measurements that the skew was fitted to; 0: it is 0 */
} adm_cost;

/* NULL pointers are fine. */
void adm_cost_free(adm_cost *cost);

/* What is asked for. variant NULL: the fastest. page_size: paged anchors where there are any, else contiguous ones. */
typedef struct adm_cost_question {
    int stage;
    const char *variant;
    adm_shape shape;
    uint32_t element_bytes, page_size;
    adm_cost_at at;
} adm_cost_question;

typedef struct adm_cost_answer {
    adm_cost_time time;
    const adm_cost_grid *grid; /* that the time comes from: its variant and shape */
} adm_cost_answer;

/* ADM_EINPUT without an anchor: the sentence says of which stage, and what measures it. */
adm_status adm_cost_ask(const adm_cost *cost, const adm_cost_question *question, adm_cost_answer *answer, adm_error *err);

/* A batch of mixed lengths, from its time at their mean and the longest sequence's time alone. */
double adm_cost_mixed_ns(const adm_cost *cost, double at_mean_ns, double longest_alone_ns, double longest, double mean);

/* Scales a time measured on cost->measured to cost->device. floor_bytes: compulsory. */
double adm_cost_on_device(const adm_cost *cost, double ns, double floor_bytes);

#endif
