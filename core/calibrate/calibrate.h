/* calibrate.h: which coding keeps most of the attention of a model's layers.
 *
 *   steps to fit to  --every candidate--> mass kept by layer --> the best of each layer, and of all layers together
 *   held-out steps   --the best, l1, the exact top-k--> quality, into the database as a replay's
 *
 * What is compared is the mean softmax mass that the selected tokens keep, over steps, heads and budgets. */
#ifndef ADM_CORE_CALIBRATE_CALIBRATE_H
#define ADM_CORE_CALIBRATE_CALIBRATE_H

#include "core/policy/calibration.h"
#include "core/replay/session/options.h"
#include "core/store/store.h"

/* Which metrics are tried: the names are those of adm_code_metric_name(). */
enum { ADM_CALIBRATE_N_METRICS = 4 };
extern const char *const adm_calibrate_metrics[ADM_CALIBRATE_N_METRICS]; /* l1, dot, asym4, asymmetric */

typedef struct adm_calibrate_options {
    adm_replay_options replay; /* pipeline, threads, budgets, layers; variants and lengths are not looked at */
    bool metric[ADM_CALIBRATE_N_METRICS];
} adm_calibrate_options;

/* The mean mass kept by one layer's keys, or with layer -1 by those of all layers. */
typedef struct adm_calibrate_layer {
    int32_t layer;
    double fitted, held_out; /* by what was chosen; of layer -1 by each layer's own choice */
    double exact, base; /* on held-out steps: by the exact top-k, and by l1 calibrated, what a replay measures by default */
    double fitted_base;
} adm_calibrate_layer;

typedef struct adm_calibrate_result {
    adm_calibration calibration; /* owned */
    size_t n_candidates, n_fit_steps, n_held_out_steps;
    adm_calibrate_layer all;
    double uniform; /* on held-out steps, mass by calibration.other in every layer */
    adm_calibrate_layer *layer; /* [n_layers] owned; as calibration.layer */
    size_t n_layers;
} adm_calibrate_result;

/* The run is begun by the caller; its held-out rows are in the store when this returns. Release with adm_calibrate_clear(),
 * also after a failure. ADM_EINPUT: too few steps, no layer, no metric. */
adm_status adm_calibrate(const adm_trace *trace, const adm_calibrate_options *options, adm_store *store, int64_t run_id,
                         adm_calibrate_result *result, adm_error *err);
void adm_calibrate_clear(adm_calibrate_result *result);

#endif
