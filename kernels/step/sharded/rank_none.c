/* rank_none.c: stands in for ranks where a build has no CUDA. */
#include "kernels/step/sharded/rank.h"

static adm_status none(adm_error *err) { return adm_fail(err, ADM_EUNSUPPORTED, "this build has no CUDA, and no ranks"); }

adm_status adm_rank_open(adm_gpu *gpu, const adm_nccl *nccl, const adm_nccl_id *id, int rank, int n_ranks, size_t n_elements,
                         adm_rank **out, adm_error *err) {
    (void)gpu, (void)nccl, (void)id, (void)rank, (void)n_ranks, (void)n_elements;
    *out = NULL;
    return none(err);
}

void adm_rank_close(adm_rank **rank) { *rank = NULL; }

adm_status adm_rank_check(adm_rank *rank, size_t n_elements, adm_error *err) {
    (void)rank, (void)n_elements;
    return none(err);
}

adm_status adm_rank_capture(adm_rank *rank, adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls,
                            adm_rank_work work, size_t n_elements, uint32_t n_calls, adm_error *err) {
    (void)rank, (void)gpu_case, (void)impls, (void)n_impls, (void)work, (void)n_elements, (void)n_calls;
    return none(err);
}

adm_status adm_rank_sample(adm_rank *rank, double *ns, adm_error *err) {
    (void)rank;
    *ns = 0;
    return none(err);
}
