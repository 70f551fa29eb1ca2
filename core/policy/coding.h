/* coding.h: the variants of the policy adamas: how keys and queries become codes, and how codes are compared.
 *
 *   key, query [d] -- hadamard or not --> y [d] -- thresholds --> codes [d] of 1, 2 or 3 bits -- metric --> distance
 *
 * The metrics are those of core/contract/stage.h. */
#ifndef ADM_CORE_POLICY_CODING_H
#define ADM_CORE_POLICY_CODING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/api.h"
#include "core/base/error.h"
#include "core/contract/stage.h"
#include "core/policy/thresholds.h"

/* "l1", "xor", ... as the command line and the database spell them; never NULL. */
const char *adm_code_metric_name(adm_code_metric metric);

/* Whether a distance is the sum of distances of two codes: not of asymmetric and asym4, whose queries have no codes. */
static inline bool adm_code_metric_is_of_codes(adm_code_metric metric) { return metric < ADM_METRIC_ASYMMETRIC; }

/* The distance of two codes of `bits` bits; the metric is of codes. */
ADM_API uint32_t adm_code_distance(adm_code_metric metric, uint32_t bits, uint32_t a, uint32_t b);

/* The largest distance that two codes of `bits` bits can have: 1, 3, 7 with l1; the metric is of codes. */
uint32_t adm_code_distance_max(adm_code_metric metric, uint32_t bits);

/* Bytes of a packed row: element i at bits bits*i .. of the little-endian row. d is a multiple of 8. */
static inline size_t adm_code_row_bytes(uint32_t bits, uint32_t head_dim) { return (size_t)bits * head_dim / 8; }

typedef struct adm_calibration adm_calibration; /* core/policy/calibration.h */

/* One variant of adamas. */
typedef struct adm_coding {
    adm_code_metric metric;
    uint32_t bits; /* 1, 2 or 3 */
    bool hadamard;
    adm_selection selection;
    adm_threshold_spec thresholds; /* value[] complete, n_values = 2^bits - 1: adm_coding_complete() */
    const adm_calibration *calibration; /* borrowed: metric and thresholds of each layer are its; NULL: all have these */
    uint32_t n_sinks, n_recent; /* first and last tokens forced into a selection; n_recent >= 1, the newest */
} adm_coding;

/* l1, 2 bits, Hadamard, a selection per head, the newest token forced in; no thresholds yet. */
extern const adm_coding adm_coding_default;

/* Fills in thresholds that were left to their defaults; for asym4 `calibrated` is `scaled`. ADM_EINPUT: a number of thresholds
 * that does not go with the width; asym4 with another width than 2 bits or other thresholds. */
adm_status adm_coding_complete(adm_coding *coding, adm_error *err);

/* ADM_EUNSUPPORTED where the largest distance of a group does not fit 16 bits. Shape as of adm_shape_check(). */
adm_status adm_coding_check(const adm_coding *coding, const adm_shape *shape, adm_error *err);

enum { ADM_CODING_NAME_BYTES = 160 }; /* of adm_coding_name(), core/policy/coding_name.h */

/* The contract of core/contract/stage.h: L1 over 2-bit codes of transformed keys, thresholds of a layer, each head by itself.
 * The pipeline's bucket, pack and distance apply; stages are timed. */
bool adm_coding_is_contract(const adm_coding *coding);

/* Whether keys get the same codes, so that one cache serves both. */
bool adm_coding_same_codes(const adm_coding *a, const adm_coding *b);

/* The rule by which a budget's tokens are selected. */
static inline adm_select_rule adm_coding_rule(const adm_coding *coding, uint32_t budget) {
    return (adm_select_rule){budget, coding->n_sinks, coding->n_recent};
}

/* Queries that one distance is summed over: 1, or with a selection per group the query heads of a KV head. */
uint32_t adm_coding_queries(const adm_coding *coding, const adm_shape *shape);

/* The largest distance over n_queries queries, for top-k. */
uint32_t adm_coding_max_distance(const adm_coding *coding, uint32_t head_dim, uint32_t n_queries);

#endif
