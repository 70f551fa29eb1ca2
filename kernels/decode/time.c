/* time.c: how long a decode step, or a part of it, takes as a CUDA graph; see decode.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/system/clock.h"
#include "kernels/decode/decode.h"
#include "kernels/gpu/observe.h"

enum { MIN_SAMPLES = 20, MAX_SAMPLES = 400, MAX_STEPS = 64 };
static const double sample_ns_wanted = 4e6; /* beside it the microseconds of a graph's launch are nothing */

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Half the width of the 95% interval of the median over it: order statistics n/2 +- 0.98 sqrt(n). */
static double uncertainty(const double *samples, size_t n) {
    double sorted[MAX_SAMPLES];
    memcpy(sorted, samples, n * sizeof *sorted);
    adm_sort(sorted, n, sizeof *sorted, ascending);
    const double half = 0.98 * sqrt((double)n);
    const size_t low = (size_t)fmax(0, floor((double)n / 2 - half)), high = adm_min(n - 1, (size_t)ceil((double)n / 2 + half));
    return (sorted[high] - sorted[low]) / 2 / sorted[n / 2];
}

adm_status adm_decode_capture(adm_decode *m, unsigned parts, adm_gpu_graph **graph, adm_error *err) {
    adm_status status = adm_decode_enqueue(m, parts, NULL, err); /* loads the kernels: a capture must not */
    if (status == ADM_OK) status = adm_gpu_wait(m->gpu, err);
    if (status == ADM_OK) status = adm_gpu_graph_begin(m->gpu, err);
    if (status != ADM_OK) return status;
    status = adm_decode_enqueue(m, parts, NULL, err);
    const adm_status ended = adm_gpu_graph_end(m->gpu, graph, status == ADM_OK ? err : NULL);
    return status == ADM_OK ? ended : status;
}

adm_status adm_decode_time(adm_decode *m, unsigned parts, double target, uint64_t cap_ns, adm_decode_timing *timing,
                           adm_error *err) {
    adm_gpu_graph *graph = NULL;
    double ns = 0;
    *timing = (adm_decode_timing){.n_steps = 1};
    adm_status status = adm_alloc(&timing->sample_ns, MAX_SAMPLES, sizeof *timing->sample_ns, "samples", err);
    if (status == ADM_OK) status = adm_decode_capture(m, parts, &graph, err);
    for (int i = 0; i < 2 && status == ADM_OK; i++) status = adm_gpu_graph_time(graph, 1, &ns, err);
    if (status == ADM_OK) timing->n_steps = (uint32_t)fmin(MAX_STEPS, fmax(2, ceil(sample_ns_wanted / ns)));
    const uint64_t start = adm_clock_ns();
    while (status == ADM_OK && timing->n < MAX_SAMPLES) {
        status = adm_gpu_graph_time(graph, timing->n_steps, &timing->sample_ns[timing->n++], err);
        if (timing->n < MIN_SAMPLES) continue;
        timing->median_ci_ratio = uncertainty(timing->sample_ns, timing->n);
        if (timing->median_ci_ratio <= target || adm_clock_ns() - start > cap_ns) break;
    }
    adm_gpu_graph_free(&graph);
    if (status != ADM_OK) adm_free(&timing->sample_ns);
    return status;
}
