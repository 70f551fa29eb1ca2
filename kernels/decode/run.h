/* run.h: the grid of `adamas decode`: checks, times and stores the decode steps of one model. */
#ifndef ADM_KERNELS_DECODE_RUN_H
#define ADM_KERNELS_DECODE_RUN_H

#include "core/store/store.h"
#include "kernels/decode/check.h"

typedef struct adm_decode_job {
    adm_decode_setup setup;   /* batch, capacity and max_budget are set per batch */
    const uint32_t *seq_lens, *budgets, *batches; /* ascending; budgets beside dense attention */
    size_t n_seq_lens, n_budgets, n_batches;
    const adm_decode_source *source; /* NULL: random weights */
    const int32_t *token, *expected; /* [n_tokens] to follow first; n_tokens 0: none */
    uint32_t n_tokens;
    double target;
    uint64_t cap_ns;
    bool check_only;
    adm_probes *tracing;      /* NULL: no timeline; its sinks store what they see */
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total);
    bool (*should_stop)(void);
    void *user;
} adm_decode_job;

/* One measured step. Medians in ns; reason "": measured. */
typedef struct adm_decode_row {
    uint32_t batch, seq_len, budget; /* budget 0: dense */
    const char *step;     /* the step's variant, "dense" or "" */
    const char *linear;   /* who multiplied */
    double token_ns, token_ci, attention_ns, linear_ns, rest_ns; /* rest: what the token takes beyond the two before it */
    double others_ns; /* of the rest's kernels by themselves */
    double linear_bytes, attention_bytes;
    char reason[256];
} adm_decode_row;

typedef struct adm_decode_result {
    adm_decode_row *row; /* [n]; owned */
    size_t n;
    double read_bytes_per_s; /* 0: not measured */
    adm_decode_errors errors; /* the largest of all checks */
    uint32_t n_checks;
    adm_decode_followed followed;
    char cublas[320];     /* its version, or "" where it was not used */
    char untraced[320];   /* why there is no timeline */
} adm_decode_result;

/* Stores as it goes; the run has begun. Release with adm_decode_result_free(). */
adm_status adm_decode_run(const adm_decode_job *job, adm_gpu *gpu, adm_store *store, int64_t run_id, adm_decode_result *result,
                          adm_error *err);
void adm_decode_result_free(adm_decode_result *result);

/* The row of config of a step. */
adm_config adm_decode_config(const adm_decode_setup *setup, uint32_t seq_len, uint32_t budget);

#endif
