/* host_case.h: what a host implementation is judged on: calls of one stage with their inputs and the right answers.
 *
 *   check   many small calls: odd lengths, ties, extremes, a needle, empty input, every type and size that is asked for
 *   timed   the calls of one layer of one decode step, all heads, at the configuration that the user asked for
 *
 * Inputs lie in one arena, outputs in another (arena.h). The judge fills, poisons and verifies; whoever has the implementation
 * runs the calls. */
#ifndef ADM_KERNELS_TUNE_HOST_HOST_CASE_H
#define ADM_KERNELS_TUNE_HOST_HOST_CASE_H

#include "core/stats/rng.h"
#include "core/contract/stage.h"
#include "kernels/tune/candidate/arena.h"

/* The configuration that is timed, and how far the check goes. */
typedef struct adm_host_config {
    adm_stage stage;       /* any but append and step, which have no function of their own on the host */
    adm_shape shape;
    adm_dtype dtype;
    uint32_t n_tokens;
    adm_select_rule rule;
    uint32_t head_dims;    /* that are checked: a sum of 64, 128, 256 */
    uint32_t dtypes;       /* likewise, bits 1 << adm_dtype */
    struct adm_trace_source *source; /* of the timed inputs (trace_source.h); NULL: random */
    double scale;          /* of the timed softmax; 0: 1/sqrt(d) */
} adm_host_config;

enum { ADM_CALL_INPUTS = 4, ADM_CALL_OUTPUTS = 4, ADM_NO_BUFFER = -1 };

/* One call. Buffers by their numbers in the two arenas:
 *
 *   hadamard   in: x                      out: y
 *   bucket     in: y                      out: codes
 *   pack       in: codes                  out: packed
 *   distance   in: q, k                   out: distance
 *   topk       in: distance               out: index, the number returned, info, histogram (scratch)
 *   attention  in: q, k, v, index         out: out, score (scratch)             dense: the same without index */
typedef struct adm_host_call {
    adm_stage stage;
    adm_dtype dtype;
    uint32_t head_dim;
    size_t n;                /* rows, elements or tokens */
    size_t n_rows;           /* attention: rows of K and V that an index may name */
    adm_select_rule rule;
    float threshold[3];
    double scale;
    uint32_t pattern;        /* of the inputs */
    int32_t in[ADM_CALL_INPUTS], out[ADM_CALL_OUTPUTS];
    size_t expected;         /* offset of the answer */
} adm_host_call;

typedef struct adm_host_case {
    adm_host_config config;
    bool is_timed;
    uint32_t n_sets;         /* of a timed case: independent decode steps, each once per sample */
    adm_host_call *call;     /* [n_calls] */
    size_t n_calls;
    adm_arena in, out;
    char *expected;
    double *score;           /* scratch of the answers */
    adm_attention_fn *timed_attention; /* answers a timed case: the reference would take seconds at 32K tokens */
    uint32_t *histogram;
    uint64_t seed;           /* of the present contents */
} adm_host_case;

/* ADM_EUNSUPPORTED for a stage without a host function. Inputs are not filled yet. Release after a failure too. */
adm_status adm_host_case_create(const adm_host_config *config, bool timed, adm_host_case *out, adm_error *err);
void adm_host_case_close(adm_host_case *c);

/* New contents for every input, and the right answers. A refill changes what is cheap to change and alters every answer: all
 * inputs but K, V and the codes of keys. */
void adm_host_case_fill(adm_host_case *c, uint64_t seed, bool refill);

/* An implementation of the stage, as the registry or a plugin has it. */
typedef void (*adm_any_fn)(void);

/* Runs one call in this process. */
void adm_host_call_run(const adm_host_case *c, const adm_arena *out, size_t call, adm_any_fn fn);

/* Compares what a call left in an arena of outputs. ADM_EINTERNAL: wrong, and the sentence says where and how. tolerance:
 * relative L2 error allowed in attention; the other stages are exact. */
adm_status adm_host_call_verify(const adm_host_case *c, const adm_arena *out, size_t call, double tolerance, adm_error *err);

/* The call in words: "257 tokens, budget 64, 4 sinks". */
void adm_host_call_words(const adm_host_case *c, size_t call, char *out, size_t bytes);

/* Names a buffer of an arena as the contract does: "distance", "index". */
const char *adm_host_buffer_name(const adm_host_case *c, bool is_output, size_t buffer);

#endif
