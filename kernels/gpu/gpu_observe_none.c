/* gpu_observe_none.c: gpu_observe.h in a build without CUDA. No adm_gpu exists there, so nothing here is reached. */
#include "kernels/gpu/gpu_observe.h"

static adm_status none(adm_error *err) { return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA"); }

adm_status adm_gpu_wait(adm_gpu *gpu, adm_error *err) {
    (void)gpu;
    return none(err);
}
adm_status adm_gpu_flusher_create(adm_gpu *gpu, adm_gpu_flusher **out, adm_error *err) {
    (void)gpu;
    *out = NULL;
    return none(err);
}
void adm_gpu_flusher_free(adm_gpu_flusher **flusher) { *flusher = NULL; }
adm_status adm_gpu_flush_l2(adm_gpu_flusher *flusher, adm_error *err) {
    (void)flusher;
    return none(err);
}
adm_status adm_gpu_graph_begin(adm_gpu *gpu, adm_error *err) {
    (void)gpu;
    return none(err);
}
adm_status adm_gpu_graph_nodes(adm_gpu *gpu, size_t *n, adm_error *err) {
    (void)gpu, (void)n;
    return none(err);
}
adm_status adm_gpu_graph_end(adm_gpu *gpu, adm_gpu_graph **out, adm_error *err) {
    (void)gpu;
    *out = NULL;
    return none(err);
}
adm_status adm_gpu_graph_launch(adm_gpu_graph *graph, adm_error *err) {
    (void)graph;
    return none(err);
}
void adm_gpu_graph_free(adm_gpu_graph **graph) { *graph = NULL; }
