/* session.h: the contents of a GPU case: random inputs (input.h), or steps of a decode session in host memory, whatever its
 * source.
 *
 *   set s    layer s % n_layers, step (s / n_layers) % n_steps, with that step's query, new token and length */
#ifndef ADM_KERNELS_GPU_SESSION_H
#define ADM_KERNELS_GPU_SESSION_H

#include <stddef.h>
#include <stdint.h>

/* Everything of the shape's dtype; every sequence of a batch is this one. */
typedef struct adm_gpu_session {
    uint32_t n_layers, n_tokens, n_steps;
    const void *const *k, *const *v; /* [n_layers], each [n_kv_heads][n_tokens][d], possibly unaligned */
    const void *const *q;            /* [n_layers], each [n_steps][n_q_heads][d], likewise */
    const uint32_t *length;          /* [n_steps] tokens a step attends over, its own included: 1..n_tokens, ascending */
    const float (*threshold)[3];     /* [n_layers], instead of the shape's */
} adm_gpu_session;

/* What a case is filled with. */
typedef struct adm_gpu_inputs {
    const uint32_t *length;          /* [batch], each 0..capacity; unused with a session */
    uint64_t seed;                   /* of random inputs */
    uint32_t min_budget;           /* the smallest that will be timed; 0: the shape's */
    const adm_gpu_session *session;  /* NULL: random inputs */
    const float *channels;           /* [n_layers][n_kv_heads][4][d] for asym4 (gpu.h); else NULL */
} adm_gpu_inputs;

/* Which layer and step of a session set s holds. */
static inline uint32_t adm_gpu_session_layer(const adm_gpu_session *session, uint32_t set) { return set % session->n_layers; }
static inline uint32_t adm_gpu_session_step(const adm_gpu_session *session, uint32_t set) {
    return set / session->n_layers % session->n_steps;
}

/* The longest that sequence b will be, in tokens. */
static inline uint32_t adm_gpu_inputs_length(const adm_gpu_inputs *inputs, uint32_t b) {
    const adm_gpu_session *session = inputs->session;
    return session != NULL ? session->length[session->n_steps - 1] : inputs->length[b];
}

#endif
