/* floor.h: the bytes that a stage cannot avoid to move, for one layer of one decode step. They say how two configurations, or
 * two head shapes, compare in load; kernels/gpu_work.h is the profile's own count, by what flows between the kernels. */
#ifndef ADM_ANALYSIS_COST_FLOOR_H
#define ADM_ANALYSIS_COST_FLOOR_H

#include "core/contract/stage.h"

/* A stage of the cost model: an adm_stage, or the encoding of a whole prompt's keys, which the database has as `append`,
 * variant `prompt`. */
enum { ADM_COST_PROMPT = ADM_N_STAGES, ADM_COST_N_STAGES };

/* "hadamard" ... "dense", "prompt". */
const char *adm_cost_stage_name(int stage);

/* Proportional to `batch`. len: tokens in each cache; budget: tokens that a query head attends to (ignored where the stage has
 * none). Each query head's selected rows count as its own. */
double adm_cost_floor_bytes(int stage, const adm_shape *shape, uint32_t element_bytes, double len, double budget, double batch);

/* The load by which two head shapes compare: those bytes and, of a whole step, the distances, which each query head has of its
 * own: written once and read twice where a step is several kernels, and computed in any case. */
double adm_cost_load_bytes(int stage, const adm_shape *shape, uint32_t element_bytes, double len, double budget, double batch);

#endif
