/* generate.h: makes decode sessions of any length whose keys have what real ones have; kind=synthetic.
 *
 *   key  of token t:  R(t) (mean + sigma * content(t))          R: RoPE, rotate-half, base `rope_base`
 *   query of a head:  R(p) (-s mean_slow + r mean_mid + c content'(p) [+ n needle])
 *
 * `mean` is constant before rotation, so in the slow RoPE pairs it survives as outlier channels with a non-zero mean,
 * in the middle pairs it makes nearer tokens score higher (recency), and in the fast ones it becomes variance. A query's
 * -s mean_slow pushes every token down alike, and the sink tokens, whose keys are small, are left on top: that is how
 * a sink comes about in the model that was measured. Content is a mixture of noise, of a phrase of 4 tokens and of one
 * of 64 topics for 32 tokens; it makes scores normally distributed, so softmax mass is log-normal: heavy-tailed. Each
 * query head draws the shares of mass that its sink and its recent tokens get and the spread of its scores; s, r and c
 * are then solved for.
 *
 * Fitted to the bundled capture of SmolLM2-135M (traces/README.md), layers 14 and 24, at positions 4096 and on:
 *
 *   median (range), by `python3 tests/traces/test_generate.py 40`          captured, 18 heads     generated, 40 sessions
 *     softmax mass of token 0                                       0.545 (0.21 to 0.74)   0.48 (0.068 to 0.96)
 *     mass of the last 64 tokens                                    0.195 (0.048 to 0.49)  0.145 (0.0069 to 0.81)
 *     mass of the 64 best tokens                                    0.867 (0.62 to 0.99)   0.856 (0.5 to 1)
 *     mass of the best 1% of tokens                                 0.838 (0.56 to 0.98)   0.824 (0.44 to 0.99)
 *     exp of the entropy                                            30.5 (3.4 to 190)      31 (1.4 to 430)
 *     standard deviation of scaled scores, without sink and recent  2.74 (2 to 3.9)        2.53 (1.7 to 4.3)
 *     score of token 0 above the mean of the others                 12.2 (9.6 to 16)       11.9 (8.1 to 21)
 *     median norm of a key                                          16.1 (15 to 19)        17.5 (14 to 21)
 *     norm of token 0's key over that median                        0.298 (0.25 to 0.32)   0.273 (0.2 to 0.38)
 *     largest |mean| of a channel                                   7.26 (5.7 to 10)       7.84 (4.3 to 9.9)
 *     channels whose |mean| exceeds the median standard deviation   8 (5 to 14)            8 (4 to 13)
 *     largest standard deviation of a channel over the median       2.49 (1.5 to 3.1)      2.2 (1.6 to 3.1)
 *     correlation of a key with the next one, before RoPE           0.35 (0.27 to 0.38)    0.364 (0.36 to 0.37)
 *     norm of token 0's value over the median                       0.193 (0.11 to 0.27)   0.198 (0.16 to 0.25)
 *
 * tests/traces/test_generate.py measures both anew and compares them. At other lengths and head dimensions each head still
 * aims at its shares of sink and recent mass; nothing longer was there to fit to. Unlike in a real session, layers and
 * heads are independent but for the topics, and text has no grammar.
 *
 * Bits: the same seed and options give the same file on every machine. Only +, -, *, / and sqrt in binary64, which
 * IEEE 754 rounds exactly, lead to a stored value (logarithms, exponentials and sines are polynomials of
 * generate_math.h, not the C library's), then one rounding to float32 and one to the dtype. Each value depends on the
 * seed and its own indices alone, never on the order of the work, so threads cannot change it (today there is one). */
#ifndef ADM_TRACES_GENERATE_GENERATE_H
#define ADM_TRACES_GENERATE_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/stage.h"

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
    double rope_base;         /* 0: 100000 to 4096 tokens, as fitted; beyond, larger with the length, as in models */
    const uint32_t *needles;  /* [n_needles] ascending: tokens planted for needle_head in every layer; borrowed */
    size_t n_needles;
    uint32_t needle_head;     /* a query head */
    bool (*should_stop)(void);                                         /* may be NULL */
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* bytes; may be NULL */
    void *user;
} adm_generate_spec;

/* seed 1, 8192 tokens, 8 query and 2 KV heads of 64, F16, the last 64 steps, layer 2, one sink, no needle. */
void adm_generate_defaults(adm_generate_spec *spec);

/* About how many bytes adm_generate() will report as n_total; 0 for a spec that it refuses. */
uint64_t adm_generate_bytes(const adm_generate_spec *spec);

/* Writes the trace (format adamas-trace/1), with the spec in its metadata. Memory does not grow with n_tokens. Errors
 * as adm_st_create(), ADM_EINPUT with the option, the value and the limit, and ADM_EINTERRUPTED; after any failure
 * `path` is as it was. */
adm_status adm_generate(const adm_generate_spec *spec, const char *path, adm_error *err);

#endif
