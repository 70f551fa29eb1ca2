/* generate.h: makes decode sessions of any length whose keys have what real ones have; kind=synthetic.
 *
 *   key  of token t:  R(t) (mean + sigma * content(t))          R: RoPE, rotate-half, base `rope_base`
 *   query of a head:  R(p) (-s mean_slow + r mean_mid + c content'(p) [+ n needle])
 *
 * `mean` is constant before rotation, so in the slow RoPE pairs it survives as outlier channels with a non-zero mean,
 * in the middle pairs it makes nearer tokens score higher (recency), and in the fast ones it becomes variance. A query's
 * -s mean_slow pushes every token down alike, and the sink tokens, whose keys are small, are left on top: that is how
 * a sink comes about in the model that was measured. Content is a mixture of noise, of a phrase of 4 tokens and of one of 64
 * topics for 32 tokens; it makes scores normally distributed, so softmax mass is log-normal: heavy-tailed. Each query
 * head draws the shares of mass that its sinks and its recent tokens get, and the spread of its scores.
 *
 * Fitted to the bundled capture of SmolLM2-135M (traces/README.md), layers 14 and 24, at positions 4096 and on:
 *
 *   median and range over its 18 heads, by `python tests/test_generate.py`       captured             generated
@TABLE@
 * tests/test_generate.py measures both anew and compares them. What is not fitted: Q, K and V of different layers and
 * heads are independent, text has no grammar, and there is no prefill that made the keys.
 *
 * Bits: the same seed and options give the same file on every machine. Only +, -, *, / and sqrt in binary64, which
 * IEEE 754 rounds exactly, lead to a stored value (logarithms and sines are polynomials of generate_math.h, not the
 * C library's), then one rounding to float32 and one to the dtype. Each value depends on the seed and its own
 * indices alone, never on the order of the work, so threads cannot change it (today there is one). */
#ifndef ADM_TRACES_GENERATE_H
#define ADM_TRACES_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/stage.h"

/* Changes whenever the same seed gives other bytes; in the metadata as generator_version. */
#define ADM_GENERATE_VERSION "1"

enum { ADM_GENERATE_MAX_TOKENS = 1 << 24, ADM_GENERATE_MAX_SINKS = 16, ADM_GENERATE_MAX_LAYER = 999 };

typedef struct adm_generate_spec {
    uint64_t seed;
    uint64_t n_tokens;        /* 256 .. ADM_GENERATE_MAX_TOKENS */
    adm_shape shape;
    adm_dtype dtype;
    uint64_t n_steps;         /* steps in each run */
    const uint32_t *starts;   /* [n_starts] ascending: the first position of each run; borrowed */
    size_t n_starts;          /* 0: one run, the last n_steps tokens */
    const uint32_t *layers;   /* [n_layers] ascending: the model's layer numbers; borrowed */
    size_t n_layers;
    uint32_t n_sinks;         /* 0 .. ADM_GENERATE_MAX_SINKS */
    double rope_base;         /* 0: 100000 to 8192 tokens, as fitted; beyond, stretched with the length, as models are */
    const uint32_t *needles;  /* [n_needles] ascending: tokens planted for needle_head in every layer; borrowed */
    size_t n_needles;
    uint32_t needle_head;     /* a query head */
    bool (*should_stop)(void);                                         /* may be NULL */
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* bytes; may be NULL */
    void *user;
} adm_generate_spec;

/* seed 1, 8192 tokens, 8 query and 2 KV heads of 64, F16, the last 64 steps, layer 2, one sink, no needle. */
void adm_generate_defaults(adm_generate_spec *spec);

/* Writes the trace (format adamas-trace/1), with the spec in its metadata. Memory does not grow with n_tokens. Errors
 * as adm_st_create(), ADM_EINPUT with the option, the value and the limit, and ADM_EINTERRUPTED; after any failure
 * `path` is as it was. */
adm_status adm_generate(const adm_generate_spec *spec, const char *path, adm_error *err);

#endif
