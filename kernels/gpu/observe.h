/* observe.h: what counting and tracing need from a device beyond case.h: an L2 in the same state before every pass, waiting,
 * and a graph that is launched by a call of its own. */
#ifndef ADM_KERNELS_GPU_OBSERVE_H
#define ADM_KERNELS_GPU_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Waits for the GPU's stream; ADM_EENVIRONMENT with CUDA's words if something before failed. */
adm_status adm_gpu_wait(adm_gpu *gpu, adm_error *err);

/* Nanoseconds per cycle of an SM's clock, measured now on the GPU's stream by its own timer, within 1%. Waits. */
adm_status adm_gpu_cycle_ns(adm_gpu *gpu, double *ns, adm_error *err);

/* A buffer of 4 times the L2. Reading it all evicts what the L2 holds, and writes back what was dirty. */
typedef struct adm_gpu_flusher adm_gpu_flusher;
adm_status adm_gpu_flusher_create(adm_gpu *gpu, adm_gpu_flusher **out, adm_error *err);
void adm_gpu_flusher_free(adm_gpu_flusher **flusher);
adm_status adm_gpu_flush_l2(adm_gpu_flusher *flusher, adm_error *err); /* enqueues */

/* What is enqueued on the GPU's stream between begin and end becomes a graph instead of running. Between them
 * adm_gpu_graph_nodes() says how many nodes there are so far: on one stream they run in the order of enqueueing. */
typedef struct adm_gpu_graph adm_gpu_graph;
adm_status adm_gpu_graph_begin(adm_gpu *gpu, adm_error *err);
adm_status adm_gpu_graph_nodes(adm_gpu *gpu, size_t *n, adm_error *err);
adm_status adm_gpu_graph_end(adm_gpu *gpu, adm_gpu_graph **out, adm_error *err); /* ends the capture in any case */
adm_status adm_gpu_graph_launch(adm_gpu_graph *graph, adm_error *err);

/* Launches it n times back to back, and waits: nanoseconds of the device per launch, by its own events. */
adm_status adm_gpu_graph_time(adm_gpu_graph *graph, uint32_t n, double *ns, adm_error *err);
void adm_gpu_graph_free(adm_gpu_graph **graph);

#ifdef __cplusplus
}
#endif

#endif
