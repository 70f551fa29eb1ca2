/* coding_name.h: what a variant of adamas is called, by the database and the report. */
#ifndef ADM_CORE_POLICY_CODING_NAME_H
#define ADM_CORE_POLICY_CODING_NAME_H

#include "core/policy/coding.h"

/* Metric and thresholds, or the name of its calibration, then whatever is not the default: "l1 calibrated", "dot channel, 3
 * bits, no Hadamard, 4 sinks, 64 recent". name: ADM_CODING_NAME_BYTES. */
void adm_coding_name(const adm_coding *coding, char *name);

#endif
