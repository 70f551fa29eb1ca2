/* peers.h: recorded times of other people's dense attention, so that "times dense" is against the best that is known for a
 * shape, ours or theirs. dense_peers.tsv has the figures, each with its source and machine; tests/bench/bench_sdpa.py --peers
 * writes it. */
#ifndef ADM_KERNELS_PROFILE_PEERS_H
#define ADM_KERNELS_PROFILE_PEERS_H

#include <stdbool.h>

#include "kernels/gpu/gpu.h"

typedef struct adm_dense_peer {
    char name[32]; /* "cuDNN" */
    char source[128]; /* "PyTorch 2.11.0 scaled_dot_product_attention, 2026-11-29" */
    double time_ns; /* one layer of one decode step, cold L2, in a CUDA graph; a median */
} adm_dense_peer;

/* The fastest record of a shape at a length, on a device of that name: K and V contiguous, every sequence that long. *found:
 * whether there is one. ADM_EINTERNAL: the program carries a table that it cannot read. */
adm_status adm_dense_peer_find(const char *gpu_name, const adm_gpu_shape *shape, uint32_t seq_len, adm_dense_peer *peer,
                               bool *found, adm_error *err);

#endif
