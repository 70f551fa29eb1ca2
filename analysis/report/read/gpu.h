/* gpu.h: the GPU profiles of a report's document. Shared by the files that gather it; nothing else. */
#ifndef ADM_ANALYSIS_REPORT_READ_GPU_H
#define ADM_ANALYSIS_REPORT_READ_GPU_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Fills document["configs"], ["settings"], ["units"], ["phases"], ["counters"] and ["timelines"] for the document's profiles,
 * and the what was measured of the devices themselves into the profiles: see web-report/README.md. */
adm_status adm_report_gpu_read(adm_store *store, json_t *document, adm_error *err);

#endif
