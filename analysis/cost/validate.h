/* validate.h: how well the cost model predicts measurements that it was not given.
 *
 *   interior    every point that has neighbours on both sides: in five random parts, each in turn, of five draws
 *   row         every point of one inner length, or of one inner budget; each in turn
 *   frontier    every point of the least or greatest length, or budget; each in turn
 *   batch       every point of the greatest batch: where a grid has two batches, from one alone
 *   shape       every point of one head shape, from the other shapes; each in turn
 *   other gpu   every point of another GPU's profile, from this one's and both read limits
 *
 * An error is prediction / measurement - 1. */
#ifndef ADM_ANALYSIS_COST_VALIDATE_H
#define ADM_ANALYSIS_COST_VALIDATE_H

#include "analysis/cost/cost.h"

typedef enum adm_held_out {
    ADM_HELD_INTERIOR,
    ADM_HELD_ROW,
    ADM_HELD_FRONTIER,
    ADM_HELD_BATCH,
    ADM_HELD_SHAPE,
    ADM_HELD_GPU,
    ADM_N_HELD_OUT
} adm_held_out;

/* "interior", "row", "frontier", "batch", "shape", "other gpu". */
const char *adm_held_out_name(adm_held_out what);

/* The errors of one stage's implementation; stage -1: of all, variant "". */
typedef struct adm_validation_row {
    adm_held_out what;
    int stage;
    char variant[ADM_COST_VARIANT_BYTES];
    size_t n;
    double mape, bias, p50, p95, max; /* ratios; p50, p95 and max of the absolute errors */
} adm_validation_row;

/* Whether predictions with a whole length held out lead to the choices that the measurements do. */
typedef struct adm_validation_picks {
    size_t n_variants, n_right_variants; /* places with several variants of the step; where the fastest is picked */
    double worst_variant_loss;           /* what the worst pick costs over the fastest, as a ratio */
    size_t n_budgets, n_right_budgets;   /* lengths; where the largest budget that beats dense attention is found */
    size_t n_near_budgets;               /* and where it is the next one */
} adm_validation_picks;

typedef struct adm_validation {
    adm_validation_row *row; /* [n] by what was held out, stage and variant; the row over all stages first */
    size_t n;
    adm_validation_picks picks;
} adm_validation;

/* other: another GPU's model, or NULL. Release with adm_validation_free(). */
adm_status adm_validate(const adm_cost *cost, const adm_cost *other, uint64_t seed, adm_validation *out, adm_error *err);
void adm_validation_free(adm_validation *validation);

#endif
