/* profile.h: a GPU profile: the grid of configurations, what is run in each, the check against the host reference, and
 * what reaches the store.
 *
 * A configuration is (kv_heads, batch, seq_len); each holds units. A unit is what is timed as one: a stage's
 * implementation, the six stages in turn (`step`, variant `six`), or a fused step. Every unit is checked against the host
 * reference on the very buffers that are timed; what fails is recorded as failed and never timed. */
#ifndef ADM_KERNELS_PROFILE_H
#define ADM_KERNELS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/store.h"
#include "kernels/gpu.h"
#include "kernels/gpu_run.h"

typedef struct adm_profile_options {
    const uint32_t *seq_lens, *budgets, *kv_heads, *batches; /* ascending */
    size_t n_seq_lens, n_budgets, n_kv_heads, n_batches;
    uint32_t n_q_heads, head_dim, page_size;
    adm_dtype dtype;
    float threshold[3];
    uint32_t n_sinks, n_recent;
    bool launch[2];              /* by adm_gpu_launch_mode */
    bool cold;
    bool check_only;
    bool stage[ADM_N_STAGES];    /* which stages' units run */
    double target;               /* relative half width of the 95% interval of the median */
    uint64_t cap_ns;             /* time limit a unit */
    uint64_t seed;
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* may be NULL */
    bool (*should_stop)(void);   /* may be NULL */
    void *user;
} adm_profile_options;

enum { ADM_MAX_UNIT_IMPLS = 8 };

/* One thing to check and time. */
typedef struct adm_profile_unit {
    adm_stage stage;
    const char *variant;         /* the implementation's name, or "six" */
    uint32_t budget;             /* 0 where it does not matter */
    const adm_gpu_impl *impl[ADM_MAX_UNIT_IMPLS];
    size_t n_impls;
} adm_profile_unit;

/* The units of every configuration of these options, in the order in which they run. Release with adm_free(). */
adm_status adm_profile_units(const adm_profile_options *options, adm_profile_unit **units, size_t *n_units,
                             adm_error *err);

/* The shape of one configuration, with room for the largest budget. */
adm_gpu_shape adm_profile_shape(const adm_profile_options *options, uint32_t n_kv_heads, uint32_t batch,
                                uint32_t seq_len);

/* Runs a unit on set 0 of a case with poisoned outputs and compares what it wrote with the host reference for the first
 * and the last (sequence, KV head) of the batch. ADM_OK: right. ADM_EINTERNAL: wrong, the sentence says where.
 * Other statuses: it could not be run. */
typedef struct adm_profile_reference adm_profile_reference;

/* Recomputes inputs, codes and distances of the checked heads on the host. length [batch]. */
adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const uint32_t *length, uint64_t seed,
                                        adm_profile_reference **out, adm_error *err);
void adm_profile_reference_free(adm_profile_reference **reference);

adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_shape *shape,
                             const adm_profile_reference *reference, const adm_profile_unit *unit, adm_error *err);

/* Stores registers, static shared memory, stack and spills of every kernel and architecture of this build, as the CUDA
 * assembler stated them: policy 'static', variant "KERNEL ARCH", the stage its file is about. Sets *n_kernels to the
 * rows; 0 in a build without CUDA. */
adm_status adm_profile_static(adm_store *store, int64_t run_id, size_t *n_kernels, adm_error *err);

/* Runs the whole grid on a device, into a run that was begun. A failed configuration is recorded and the grid goes on
 * while the context survives; n_failed counts units that were wrong or could not run. */
adm_status adm_profile_run(const adm_profile_options *options, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           size_t *n_failed, adm_error *err);

#endif
