/* profile.h: a GPU profile: the grid of configurations, what is run in each, the check against the host reference, and
 * what reaches the store.
 *
 * A configuration is a batch of sequences of given lengths on a number of KV heads; each holds units. A unit is what is
 * timed as one: a stage's implementation, the six stages in turn (`step`, variant `six`), or a fused step. Every unit is
 * checked against the host reference on the very buffers that are timed; what fails is recorded as failed and never
 * timed. */
#ifndef ADM_KERNELS_PROFILE_PROFILE_H
#define ADM_KERNELS_PROFILE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"

/* One length of a real trace, instead of random inputs (kernels/profile/profile_trace.h makes them). */
typedef struct adm_profile_session {
    uint32_t seq_len;            /* as a replay of the trace names it: tokens before the first of its steps */
    adm_gpu_session session;
} adm_profile_session;

typedef struct adm_profile_options {
    const uint32_t *seq_lens, *budgets, *kv_heads, *batches, *page_sizes; /* ascending; a page size of 0: contiguous */
    size_t n_seq_lens, n_budgets, n_kv_heads, n_batches, n_page_sizes;
    const adm_dtype *dtypes;
    size_t n_dtypes;
    const uint32_t *batch_lens;  /* [n_batch_lens] of one ragged batch, 0 for an empty sequence: instead of seq_lens */
    size_t n_batch_lens;         /* and batches; 0: none */
    const char *batch_lens_text; /* the same as the database has it */
    const adm_profile_session *sessions; /* instead of seq_lens and random inputs */
    size_t n_sessions;
    int64_t trace_id;            /* of the sessions; 0: random inputs */
    uint32_t n_q_heads, head_dim;
    float threshold[3];          /* of random inputs */
    float scale;                 /* of the softmax; 0: 1/sqrt(d) */
    uint32_t n_sinks, n_recent;
    adm_selection selection;
    bool launch[2];              /* by adm_gpu_launch_mode */
    bool cold;
    bool check_only;
    bool stage[ADM_N_STAGES];    /* which stages' units run */
    double target;               /* relative half width of the 95% interval of the median */
    uint64_t cap_ns;             /* time limit a unit */
    uint64_t seed;
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* may be NULL */
    bool (*should_stop)(void);   /* may be NULL */
    struct adm_profile_observer *observer; /* kernels/profile/profile_observe.h; NULL: nobody watches */
    double power_limit_w;        /* of the device; where it is not known 0, and why */
    const char *no_power_limit;  /* NULL: nobody asked, and nothing is stored */
    void *user;
} adm_profile_options;

/* One configuration of the grid, before budgets. */
typedef struct adm_profile_case {
    uint32_t seq_len, n_kv_heads, batch;  /* seq_len: the longest */
    uint32_t page_size;
    adm_dtype dtype;
    uint32_t length[64];                  /* [batch], the most tokens each will hold */
    const adm_profile_session *session;   /* NULL: random inputs */
} adm_profile_case;

/* Configuration i < adm_profile_n_cases(), in the order in which they run. */
size_t adm_profile_n_cases(const adm_profile_options *options);
adm_profile_case adm_profile_case_at(const adm_profile_options *options, size_t i);

/* Its shape, with room for the largest budget, and what it is filled with (which borrows from `c`). */
adm_gpu_shape adm_profile_shape(const adm_profile_options *options, const adm_profile_case *c);
adm_gpu_inputs adm_profile_inputs(const adm_profile_options *options, const adm_profile_case *c);

enum { ADM_MAX_UNIT_IMPLS = 8 };

/* One thing to check and time. */
typedef struct adm_profile_unit {
    adm_stage stage;
    const char *variant;         /* the implementation's name, or "six" */
    uint32_t budget;             /* 0 where it does not matter */
    const adm_gpu_impl *impl[ADM_MAX_UNIT_IMPLS];
    size_t n_impls;
} adm_profile_unit;

/* The stages that a unit covers, bits 1 << adm_stage. */
uint32_t adm_profile_covers(const adm_profile_unit *unit);

/* The units of every configuration of these options, in the order in which they run. Release with adm_free(). */
adm_status adm_profile_units(const adm_profile_options *options, adm_profile_unit **units, size_t *n_units, adm_error *err);

/* What a set of a case should hold and give, recomputed on the host for some of its (sequence, KV head): the first and
 * the last of a batch, or one KV head of each of the first 16 sequences where their lengths differ. The inputs are
 * borrowed while it lives. */
typedef struct adm_profile_reference adm_profile_reference;

adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, uint32_t set,
                                        adm_profile_reference **out, adm_error *err);
void adm_profile_reference_free(adm_profile_reference **reference);

/* Tokens that the query heads of a group attend to between them under this rule, over those that one selection holds:
 * the mean of the checked heads, 1 to the group's size. */
double adm_profile_reference_overlap(const adm_profile_reference *reference, const adm_select_rule *rule);

/* Runs a unit on the reference's set, whose hand-over is in place, with poisoned outputs, and compares what it wrote.
 * ADM_OK: right. ADM_EINTERNAL: wrong, the sentence says where. Other statuses: it could not be run. */
adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_profile_reference *reference,
                             const adm_profile_unit *unit, adm_error *err);

/* Stores registers, static shared memory, stack and spills of every kernel and architecture of this build, as the CUDA
 * assembler stated them: policy 'static', variant "KERNEL ARCH", the stage its file is about. Sets *n_kernels to the
 * rows; 0 in a build without CUDA. */
adm_status adm_profile_static(adm_store *store, int64_t run_id, size_t *n_kernels, adm_error *err);

/* How the units of all configurations fared, each counted once however it was launched. */
typedef struct adm_profile_tally {
    size_t n_right;    /* checked, and as the host computes it */
    size_t n_failed;   /* wrong, or could not be run */
    size_t n_skipped;  /* not for this shape or device */
} adm_profile_tally;

/* Runs the whole grid on a device, into a run that was begun. A failed configuration is recorded and the grid goes on
 * while the context survives. */
adm_status adm_profile_run(const adm_profile_options *options, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           adm_profile_tally *tally, adm_error *err);

#endif
