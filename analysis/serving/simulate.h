/* simulate.h: replays request traffic through one GPU's serving engine: an event simulation on a clock of whole nanoseconds.
 *
 * The engine: continuous batching. A step gives every decoding sequence one token and spends what is left of its tokens on
 * prompts, in chunks, oldest request first. A request is admitted when a seat and memory for its prompt are free. Where memory
 * runs out while decoding, the youngest sequence loses its cache, goes back to the head of the queue, and computes its tokens
 * anew.
 *
 *   paged        memory is taken page by page; whole blocks of a prompt are shared and kept for later requests
 *   contiguous   a request takes memory for its prompt and answer when it is admitted; nothing is shared or taken back
 *
 * A request whose tokens exceed all memory is refused and counted. One thread; the same traffic and options give the same
 * nanoseconds everywhere. */
#ifndef ADM_ANALYSIS_SERVING_SIMULATE_H
#define ADM_ANALYSIS_SERVING_SIMULATE_H

#include "analysis/serving/step_time.h"
#include "core/contract/request.h"

typedef struct adm_engine {
    uint32_t max_batch;     /* sequences that run at once */
    uint32_t max_tokens;    /* of one step, decoded and prompts' together */
    uint32_t chunk_tokens;  /* of one prompt in a step, at most */
    uint32_t page_tokens;   /* of one page */
    bool contiguous, share_prefixes, open_loop; /* open_loop: a request with a parent comes when it came in the trace */
    double arrival_scale;   /* 2: arrivals and delays twice as fast */
    double cache_bytes;     /* for K, V and codes */
    double token_bytes;     /* of K, V and codes of one token */
} adm_engine;

enum { ADM_NEVER = 0 };

/* What became of a request. */
typedef struct adm_served {
    uint64_t arrival_ns; /* scaled; with a parent: its end and the delay */
    uint64_t first_ns;   /* its first token; ADM_NEVER: refused */
    uint64_t end_ns;     /* its last token */
} adm_served;

typedef struct adm_simulation {
    adm_served *served;      /* [n] as the requests */
    size_t n_refused;
    uint32_t first_refused;  /* line of the first refused request */
    uint64_t refused_tokens; /* of the largest */
    uint64_t end_ns;         /* of the last step */
    uint64_t busy_ns;        /* spent in steps */
    uint64_t n_steps, n_preempted, n_evicted;
    uint64_t n_output_tokens, n_prompt_tokens, n_cached_tokens; /* of served requests; cached: not computed, because shared */
    uint64_t batch_tokens;   /* sum of decoding sequences over steps */
    double peak_bytes;       /* of K, V and codes held by running sequences */
} adm_simulation;

/* Release with adm_simulation_free(). ADM_EINPUT: options out of range, or no memory for a single page. ADM_EINTERRUPTED:
 * should_stop (may be NULL) said so. */
adm_status adm_simulate(const adm_requests *requests, const adm_engine *engine, adm_step_time *time, bool (*should_stop)(void),
                        adm_simulation *out, adm_error *err);
void adm_simulation_free(adm_simulation *simulation);

#endif
