/* fake_gpu_ranks.c: ranks of the fake GPU: host memory, the NCCL that ADAMAS_NCCL names, and made-up times. The real ones are
 * kernels/step/sharded/rank.cu. */
#include <stdlib.h>
#include <string.h>

#include "core/base/floatfmt.h"
#include "kernels/step/sharded/rank.h"
#include "tests/support/fake_gpu.h"

struct adm_rank {
    const adm_nccl *nccl;
    adm_nccl_comm comm;
    int rank, n_ranks;
    size_t n_elements, n_message;
    uint16_t *send, *receive;
    adm_rank_work work;
    double step_ns;
};

adm_status adm_rank_open(adm_gpu *gpu, const adm_nccl *nccl, const adm_nccl_id *id, int rank, int n_ranks, size_t n_elements,
                         adm_rank **out, adm_error *err) {
    adm_rank *r = adm_fake_gpu_memory(sizeof *r);
    (void)gpu;
    *r = (adm_rank){.nccl = nccl, .rank = rank, .n_ranks = n_ranks, .n_elements = n_elements};
    *out = r;
    if (n_ranks == 1) return ADM_OK;
    r->send = adm_fake_gpu_memory(n_elements * 2);
    r->receive = adm_fake_gpu_memory(n_elements * 2);
    for (size_t i = 0; i < n_elements; i++) {
        const float value = (float)((rank + 1) * (int)(i % 16));
        adm_from_f32(ADM_F16, &value, 1, &r->send[i]);
    }
    return adm_nccl_status(nccl, nccl->comm_init_rank(&r->comm, n_ranks, *id, rank), "joining the ranks", err);
}

void adm_rank_close(adm_rank **address) {
    adm_rank *r = *address;
    if (r == NULL) return;
    if (r->comm != NULL) r->nccl->comm_destroy(r->comm);
    adm_fake_gpu_release(r->send);
    adm_fake_gpu_release(r->receive);
    adm_fake_gpu_release(r);
    *address = NULL;
}

static adm_status reduce(adm_rank *r, size_t n, adm_error *err) {
    return adm_nccl_status(r->nccl, r->nccl->all_reduce(r->send, r->receive, n, ADM_NCCL_FLOAT16, ADM_NCCL_SUM, r->comm, NULL),
                           "an all-reduce", err);
}

adm_status adm_rank_check(adm_rank *r, size_t n, adm_error *err) {
    if (r->n_ranks == 1) return ADM_OK;
    adm_status status = reduce(r, n, err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        float got;
        adm_to_f32(ADM_F16, &r->receive[i], 1, &got);
        const float want = (float)(r->n_ranks * (r->n_ranks + 1) / 2 * (int)(i % 16));
        if (!(got == want))
            status = adm_fail(err, ADM_EINTERNAL, "all-reduce over %d ranks: element %zu of rank %d is %g, and the sum is %g",
                              r->n_ranks, i, r->rank, (double)got, (double)want);
    }
    return status;
}

adm_status adm_rank_capture(adm_rank *r, adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_rank_work work,
                            size_t n_elements, uint32_t n_calls, adm_error *err) {
    (void)n_calls;
    r->work = work;
    r->n_message = n_elements;
    /* Twice the heads take twice the time: what there is to share. */
    r->step_ns = work & ADM_RANK_STEP ? 1000.0 * adm_gpu_case_shape(c, 0).heads.n_kv_heads : 0;
    return work & ADM_RANK_STEP ? adm_gpu_case_run(c, impls, n_impls, 0, err) : ADM_OK;
}

adm_status adm_rank_sample(adm_rank *r, double *ns, adm_error *err) {
    const bool reduces = r->work & ADM_RANK_REDUCE && r->n_ranks > 1;
    *ns = r->step_ns * (1 + 0.01 * r->rank) + (reduces ? 500 + 1e-3 * (double)r->n_message : 0);
    return reduces ? reduce(r, r->n_message < 64 ? r->n_message : 64, err) : ADM_OK;
}
