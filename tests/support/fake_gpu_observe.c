/* fake_gpu_observe.c: kernels/gpu/observe.h for the fake GPU of fake_gpu.c, whose launches run at once: a graph is the list of
 * what was launched while it was captured. */
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "kernels/gpu/case.h"
#include "kernels/gpu/observe.h"
#include "tests/support/fake_gpu.h"

enum { MAX_NODES = 512, ARGUMENT_BYTES = 512 };

typedef struct node {
    adm_gpu_case *gpu_case;
    const adm_gpu_impl *impl;
    uint32_t set;
    adm_fake_gpu_call *run; /* NULL: a launch of the case */
    _Alignas(16) char arguments[ARGUMENT_BYTES];
} node;

struct adm_gpu_graph {
    node node[MAX_NODES];
    size_t n;
    double ns; /* made up: what was spent while it was captured */
};

struct adm_gpu_flusher {
    int unused;
};

static adm_gpu_graph captured;
static bool capturing;

void adm_fake_gpu_spend(double ns) {
    if (capturing) captured.ns += ns;
}

adm_status adm_fake_gpu_do(adm_fake_gpu_call *run, const void *arguments, size_t bytes, adm_error *err) {
    if (!capturing) return run(arguments, err);
    if (captured.n == MAX_NODES || bytes > ARGUMENT_BYTES)
        return adm_fail(err, ADM_EINTERNAL, "the fake GPU captures at most %d nodes", MAX_NODES);
    captured.node[captured.n].run = run;
    memcpy(captured.node[captured.n++].arguments, arguments, bytes);
    return ADM_OK;
}

adm_status adm_gpu_wait(adm_gpu *gpu, adm_error *err) {
    (void)gpu, (void)err;
    return ADM_OK;
}
adm_status adm_gpu_cycle_ns(adm_gpu *gpu, double *ns, adm_error *err) {
    (void)gpu, (void)err;
    *ns = 0.5;
    return ADM_OK;
}
adm_status adm_gpu_flusher_create(adm_gpu *gpu, adm_gpu_flusher **out, adm_error *err) {
    (void)gpu;
    return adm_alloc(out, 1, sizeof **out, "an L2 flush", err);
}
void adm_gpu_flusher_free(adm_gpu_flusher **flusher) { adm_free(flusher); }
adm_status adm_gpu_flush_l2(adm_gpu_flusher *flusher, adm_error *err) {
    (void)flusher, (void)err;
    return ADM_OK;
}

adm_status adm_gpu_case_clear(adm_gpu_case *gpu_case, adm_error *err) {
    (void)gpu_case, (void)err;
    return ADM_OK;
}

adm_status adm_gpu_case_launch(adm_gpu_case *gpu_case, const adm_gpu_impl *impl, uint32_t set, adm_error *err) {
    if (!capturing) return adm_gpu_case_run(gpu_case, &impl, 1, set, err);
    if (captured.n == MAX_NODES) return adm_fail(err, ADM_EINTERNAL, "the fake GPU captures at most %d nodes", MAX_NODES);
    captured.node[captured.n++] = (node){.gpu_case = gpu_case, .impl = impl, .set = set};
    return ADM_OK;
}

adm_status adm_gpu_graph_begin(adm_gpu *gpu, adm_error *err) {
    (void)gpu, (void)err;
    capturing = true;
    captured.n = 0;
    captured.ns = 0;
    return ADM_OK;
}

adm_status adm_gpu_graph_nodes(adm_gpu *gpu, size_t *n, adm_error *err) {
    (void)gpu, (void)err;
    *n = captured.n;
    return ADM_OK;
}

adm_status adm_gpu_graph_end(adm_gpu *gpu, adm_gpu_graph **out, adm_error *err) {
    (void)gpu;
    capturing = false;
    adm_status status = adm_alloc(out, 1, sizeof **out, "a graph", err);
    if (status == ADM_OK) **out = captured;
    return status;
}

adm_status adm_gpu_graph_launch(adm_gpu_graph *graph, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < graph->n; i++)
        status = graph->node[i].run != NULL
                     ? graph->node[i].run(graph->node[i].arguments, err)
                     : adm_gpu_case_run(graph->node[i].gpu_case, &graph->node[i].impl, 1, graph->node[i].set, err);
    return status;
}

adm_status adm_gpu_graph_time(adm_gpu_graph *graph, uint32_t n, double *ns, adm_error *err) {
    (void)n, (void)err;
    *ns = graph->ns;
    return ADM_OK;
}

void adm_gpu_graph_free(adm_gpu_graph **graph) { adm_free(graph); }
