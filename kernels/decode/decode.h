/* decode.h: a whole transformer on a GPU, and its decode steps: one token of every sequence through all layers. */
#ifndef ADM_KERNELS_DECODE_DECODE_H
#define ADM_KERNELS_DECODE_DECODE_H

#include "core/contract/probe.h"
#include "kernels/decode/cublas.h"
#include "kernels/decode/plan.h"
#include "kernels/gpu/context.h"

/* Where weights come from that are not random: a file, say. Each function lends rows * columns elements, F16 for a matrix
 * (plan.h has their shapes; gate and up interleaved) and float32 for a gain, until the next call. layer: n_layers for the last
 * norm. head: asked for unless the model is tied. */
typedef struct adm_decode_source {
    adm_status (*matrix)(void *user, adm_decode_matrix which, uint32_t layer, const void **data, adm_error *err);
    adm_status (*embedding)(void *user, const void **data, adm_error *err);
    /* second: the norm before the MLP. */
    adm_status (*gain)(void *user, uint32_t layer, bool second, const void **data, adm_error *err);
    adm_status (*bias)(void *user, uint32_t layer, const void **data, adm_error *err); /* of qkv; *data NULL: none */
    void *user;
} adm_decode_source;

typedef struct adm_decode_layer {
    const void *matrix[ADM_MATRIX_HEAD];
    const float *gain[2], *bias; /* bias NULL: none */
    adm_gpu_buffers buffers; /* for the attention's launchers */
    bool has_codes;
} adm_decode_layer;

/* All pointers but `layer`, `page` and `step` are of the device. Read it; the functions below change it. */
typedef struct adm_decode {
    adm_gpu *gpu;
    adm_decode_setup setup;
    adm_decode_plan plan;
    adm_decode_layer *layer; /* [n_layers] */
    int32_t *page; /* on the host [batch][max_pages], or NULL */
    adm_cublas *cublas; /* NULL: not used */
    const adm_gpu_impl *step, *dense; /* step NULL: dense attention alone */
    uint32_t length, budget; /* now; budget 0: dense */
    char *weights, *gains, *cache, *activations, *workspace, *cublas_workspace, *pages;
    const void *embedding, *head;
    const float *last_gain, *frequency;
    float *residual, *logits;
    void *x, *qkv, *y, *gate_up, *inner;
    int32_t *token;
    uint32_t *lengths;
} adm_decode;

/* Allocates and fills a model; source NULL: random weights. ADM_EENVIRONMENT out of memory, with what is needed and free;
 * ADM_EUNSUPPORTED without what the setup asks for. The cache holds random keys and values, and their codes, up to the
 * capacity. */
adm_status adm_decode_open(adm_gpu *gpu, const adm_decode_setup *setup, const adm_decode_source *source, adm_decode **out,
                           adm_error *err);
void adm_decode_close(adm_decode **decode);

/* Every sequence has so many tokens, the one to be decoded included; layers from setup.dense_layers on select `budget` of them,
 * 0: none does. ADM_EINPUT beyond capacity or max_budget. Chooses the step's variant. Waits. */
adm_status adm_decode_set(adm_decode *decode, uint32_t length, uint32_t budget, adm_error *err);

/* The tokens to decode next, [batch]; a step leaves the sampled ones in their place. Waits. */
adm_status adm_decode_set_tokens(adm_decode *decode, const int32_t *token, adm_error *err);

/* What a step consists of. */
enum { ADM_DECODE_LINEAR = 1, ADM_DECODE_ATTENTION = 2, ADM_DECODE_REST = 4, ADM_DECODE_ALL = 7 };

/* Called after a layer's attention is enqueued. */
typedef adm_status adm_decode_hook(void *user, uint32_t layer, adm_error *err);

/* How a step is enqueued. */
typedef struct adm_decode_watch {
    adm_probes *probes; /* NULL: none; ranges per layer and part, with range->part set for what is no stage */
    int64_t config_id;
    int32_t step;
    adm_decode_hook *hook; /* NULL: none */
    void *user;
} adm_decode_watch;

/* Enqueues those parts of one step on the GPU's stream; watch may be NULL. */
adm_status adm_decode_enqueue(adm_decode *decode, unsigned parts, const adm_decode_watch *watch, adm_error *err);

/* "own" or "cublas", as the next step's matrix products run. */
const char *adm_decode_linear_name(const adm_decode *decode);

/* Those parts of a step as a CUDA graph (kernels/gpu/observe.h), which can be launched as often as lengths and tokens change.
 * Runs the step once. */
struct adm_gpu_graph;
adm_status adm_decode_capture(adm_decode *decode, unsigned parts, struct adm_gpu_graph **graph, adm_error *err);

/* Durations of whole steps, or of parts of them, as CUDA graphs. */
typedef struct adm_decode_timing {
    double *sample_ns; /* [n], of one step each; owned: adm_free() */
    size_t n;
    uint32_t n_steps; /* behind each sample, which is their mean */
    double median_ci_ratio;
} adm_decode_timing;

/* Samples until half the median's 95% interval is within `target` of it, or cap_ns have passed. */
adm_status adm_decode_time(adm_decode *decode, unsigned parts, double target, uint64_t cap_ns, adm_decode_timing *timing,
                           adm_error *err);

#endif
