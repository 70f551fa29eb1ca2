/* calibration_file.h: the file that `adamas calibrate` writes and `replay`, `profile` and traces/model/evaluate.py take (JSON,
 * public):
 *
 *   {"format": "adamas-calibration/1", "created_by": ..., "model": ..., "weights_sha256": ...,
 *    "shape": {"n_q_heads": 9, "n_kv_heads": 3, "head_dim": 64},
 *    "default": {"metric": "asym4", "thresholds": "scaled:0.9"},             layers that the trace did not hold
 *    "layers": [{"layer": 14, "metric": "asym4", "thresholds": "scaled:0.8"}, ...],
 *    "trace": ..., "fitted": ..., "held_out": ...}                           what was measured; not read
 *
 * Metric and thresholds are as `adamas replay --policies adamas:metric=M,thresholds=T` has them, of 2 bits with Hadamard.
 * Centre, scale and quantiles themselves are learnt from the prompt, so the file holds none. */
#ifndef ADM_CORE_CALIBRATE_CALIBRATION_FILE_H
#define ADM_CORE_CALIBRATE_CALIBRATION_FILE_H

#include "core/policy/calibration.h"

#define ADM_CALIBRATION_FORMAT "adamas-calibration/1"

enum { ADM_CALIBRATION_MAX_BYTES = 1 << 20 };

/* Reads a file. Unknown members are left alone. ADM_EINPUT with the path and what is wrong: no file, too large, no JSON,
 * another format, a member that is missing or of the wrong kind, a metric or thresholds that are not known, a layer given
 * twice.
 * Release with adm_calibration_clear(), also after a failure. */
adm_status adm_calibration_read(const char *path, adm_calibration *calibration, adm_error *err);

/* Appends the members that are read to a JSON object, all others being there already. ADM_EENVIRONMENT: out of memory. */
struct json_t;
adm_status adm_calibration_to_json(const adm_calibration *calibration, struct json_t *document, adm_error *err);

#endif
