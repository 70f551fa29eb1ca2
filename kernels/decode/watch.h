/* watch.h: the probes of `adamas decode --timeline`: NVTX ranges, GPU activities and the host's clock, per layer and part. */
#ifndef ADM_KERNELS_DECODE_WATCH_H
#define ADM_KERNELS_DECODE_WATCH_H

#include "core/contract/probe.h"
#include "core/store/store.h"

typedef struct adm_decode_probes adm_decode_probes;

/* timeline false: NVTX alone. What the probes see goes to the store as it comes. */
adm_status adm_decode_probes_open(bool timeline, adm_store *store, int64_t run_id, adm_decode_probes **out, adm_error *err);

/* What adm_decode_job.tracing takes. */
adm_probes *adm_decode_probes_of(adm_decode_probes *probes);

/* The first failure of a sink. */
adm_status adm_decode_probes_close(adm_decode_probes **probes, adm_error *err);

#endif
