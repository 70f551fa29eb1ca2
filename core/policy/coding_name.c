/* coding_name.c: what the variants of adamas are called. */
#include "core/policy/coding_name.h"

#include <stdio.h>

#include "core/policy/calibration.h"

void adm_coding_name(const adm_coding *coding, char *name) {
    char width[12] = "", own[ADM_CODING_NAME_BYTES], sinks[20] = "", recent[20] = "";
    if (coding->bits != 2) snprintf(width, sizeof width, ", %u bit%s", coding->bits, coding->bits > 1 ? "s" : "");
    if (coding->n_sinks > 0) snprintf(sinks, sizeof sinks, ", %u sink%s", coding->n_sinks, coding->n_sinks > 1 ? "s" : "");
    if (coding->n_recent > 1) snprintf(recent, sizeof recent, ", %u recent", coding->n_recent);
    if (coding->calibration != NULL) adm_calibration_name(coding->calibration, own);
    else snprintf(own, sizeof own, "%s %s", adm_code_metric_name(coding->metric), coding->thresholds.text);
    snprintf(name, ADM_CODING_NAME_BYTES, "%.96s%s%s%s%s", own, width, coding->hadamard ? "" : ", no Hadamard", sinks, recent);
}
