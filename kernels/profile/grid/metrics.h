/* metrics.h: the metrics by which a GPU profile compares codes, and what asym4 needs of the keys. */
#ifndef ADM_KERNELS_PROFILE_GRID_METRICS_H
#define ADM_KERNELS_PROFILE_GRID_METRICS_H

#include "core/policy/calibration.h"
#include "core/policy/thresholds.h"
#include "kernels/profile/grid/grid.h"

enum { ADM_PROFILE_METRICS = 4 }; /* l1, xor, dot and asym4 */

/* What `--metric` says, in the order l1, xor, dot, asym4, each once. text NULL: the metrics of the calibration's layers, or
 * without one l1; path: of that. ADM_EINPUT names a word that is none; ADM_EUNSUPPORTED a calibrated metric that no GPU kernel
 * computes. */
adm_status adm_profile_metrics(const char *text, const adm_calibration *calibration, const char *path,
                               adm_code_metric metric[ADM_PROFILE_METRICS], size_t *n, adm_error *err);

/* channels [4][d] (kernels/gpu/gpu.h) of one KV head, by adm_asym4_learn() from its transformed keys y [n_rows][d]; z: the
 * thresholds as multiples of the standard deviation. */
void adm_profile_channels_learn(const float *y, size_t n_rows, uint32_t head_dim, const float z[3], float *channels);

/* The same for every KV head of a case with random inputs, from up to 1,024 keys of its longest sequence: channels
 * [n_kv_heads][4][d]. Release with adm_free(). */
adm_status adm_profile_channels_random(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, float **channels,
                                       adm_error *err);

#endif
