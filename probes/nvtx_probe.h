/* nvtx_probe.h: the probe that shows ranges to whatever tool is attached through NVTX: Nsight Systems, Nsight Compute,
 * or any library named in NVTX_INJECTION64_PATH. Works on the host alone, with or without a GPU.
 *
 *   domain "adamas"                   message (registered)     category
 *     session                         the session's name       "session"
 *       step                          "step"                   "decode step"
 *         layer                       "layer"                  "layer"
 *           stage                     "hadamard", "topk", ...  the stage's name: one a stage
 *
 * Every range carries an adm_nvtx_payload under the schema "adamas range". A tool that takes no schemas is given the
 * 64-bit number seq_len * 2^32 + budget instead. */
#ifndef ADM_PROBES_NVTX_PROBE_H
#define ADM_PROBES_NVTX_PROBE_H

#include "core/contract/probe.h"

/* Fields as in adm_range: -1 and 0 where they do not apply. */
typedef struct adm_nvtx_payload {
    uint32_t seq_len, budget;
    int32_t layer, step;
} adm_nvtx_payload;

/* Storage is the caller's; one thread. Between start() and stop() it owns the domain. */
typedef struct adm_nvtx_probe adm_nvtx_probe;
struct adm_nvtx_probe {
    adm_probe probe;                  /* attach &nvtx.probe before the clock, so that the clock does not time it */
    void *domain;                     /* NULL: no tool is attached, and a range costs a branch */
    void *stage_name[ADM_N_STAGES];   /* registered strings */
    void *kind_name[ADM_RANGE_STAGE]; /* of session, step, layer */
    uint64_t schema;                  /* 0: the tool takes none */
    const adm_nvtx_probe *owner;      /* whose domain it shows ranges in: its own, see adm_nvtx_probe_share() */
};

/* Prepares the probe; it never fails to start. In a build without NVTX it does nothing. */
void adm_nvtx_probe_init(adm_nvtx_probe *nvtx);

/* Prepares `out` to show ranges in the domain of `nvtx`, which is attached elsewhere, started, and outlives it. */
void adm_nvtx_probe_share(const adm_nvtx_probe *nvtx, adm_nvtx_probe *out);

/* Why this build emits no ranges, as a sentence; NULL if it does. */
const char *adm_nvtx_missing(void);

#endif
