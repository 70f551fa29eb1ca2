/* grid.h: what a GPU profile runs: the grid of configurations, and the units of each.
 *
 * A configuration is a batch of sequences of given lengths on a number of KV heads; each has units. A unit is timed as one: a
 * stage's implementation, the six stages in turn (`step`, variant `six`), or a fused step. Every unit is checked against the
 * host reference on the buffers that are timed. A unit that fails is recorded as failed and never timed. */
#ifndef ADM_KERNELS_PROFILE_GRID_GRID_H
#define ADM_KERNELS_PROFILE_GRID_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/error.h"
#include "core/contract/probe.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"

/* One length of a real trace, instead of random inputs (trace.h makes them). */
typedef struct adm_profile_session {
    uint32_t seq_len;            /* as a replay of the trace names it: tokens before the first of its steps */
    adm_gpu_session session;
    const float *channels;       /* [n_layers][n_kv_heads][4][d] for asym4; NULL: not profiled */
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
    bool phases;                 /* of steps of one launch, too */
    bool stage[ADM_N_STAGES];    /* which stages' units run */
    const char *const *only;     /* [n_only] "NAME" or "STAGE=NAME": adm_profile_chooses(); none: every row */
    size_t n_only;
    double target;               /* relative half width of the 95% interval of the median */
    uint64_t cap_ns;             /* time limit per unit */
    uint64_t seed;
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* may be NULL */
    bool (*should_stop)(void);   /* may be NULL */
    const bool *is_ours;         /* [units of all configurations] of a shard; NULL: all */
    const size_t *first_of_case; /* [configurations + 1] where each one's units begin in is_ours */
    struct adm_profile_spent *spent; /* kernels/profile/grid/spent.h; NULL: nobody asked */
    const struct adm_profile_start *start; /* of a run that goes on; NULL: from the beginning */
    const adm_code_metric *metrics; /* [n_metrics] by which codes are compared, a configuration each */
    size_t n_metrics;
    struct adm_profile_observer *observer; /* observer.h; NULL: nobody watches */
    double power_limit_w;        /* of the device; where it is not known 0, and why */
    const char *no_power_limit;  /* NULL: nobody asked, and nothing is stored */
    const adm_counter *fact;     /* [n_facts] what the tools that count and trace could use, a row each; borrowed */
    const double *fact_value;    /* [n_facts] */
    size_t n_facts;
    void *user;
} adm_profile_options;

/* Where a run goes on: before this configuration everything is stored, and from it on nothing. */
typedef struct adm_profile_start {
    size_t n_done;               /* configurations */
    double read_limit;           /* that the stored floors stand on, bytes/s; 0: there is none */
} adm_profile_start;

/* One configuration of the grid, before budgets. */
typedef struct adm_profile_case {
    uint32_t seq_len, n_kv_heads, batch;  /* seq_len: the longest */
    uint32_t page_size;
    adm_dtype dtype;
    adm_code_metric metric;
    uint32_t length[64];                  /* [batch], the longest that each will be */
    const adm_profile_session *session;   /* NULL: random inputs */
} adm_profile_case;

/* Configuration i < adm_profile_n_cases(), in the order in which they run. */
size_t adm_profile_n_cases(const adm_profile_options *options);
adm_profile_case adm_profile_case_at(const adm_profile_options *options, size_t i);

/* Its shape, for the largest budget, and what it is filled with (which borrows from `c`); with asym4 and random inputs the
 * channels are still to come (metrics.h). */
adm_gpu_shape adm_profile_shape(const adm_profile_options *options, const adm_profile_case *c);
adm_gpu_inputs adm_profile_inputs(const adm_profile_options *options, const adm_profile_case *c);

enum { ADM_MAX_UNIT_IMPLS = 8 };

/* One thing to check and time. */
typedef struct adm_profile_unit {
    adm_stage stage;
    const char *variant;         /* the implementation's name, or "six"; behind it the metric, where it matters and is not l1:
                                    "six asym4"; a distance's name is its metric */
    uint32_t budget;             /* 0 where it does not matter */
    const adm_gpu_impl *impl[ADM_MAX_UNIT_IMPLS];
    size_t n_impls;
} adm_profile_unit;

/* The stages that a unit covers, bits 1 << adm_stage. */
uint32_t adm_profile_covers(const adm_profile_unit *unit);

/* Whether a stage's row is among those that options->only chooses: a name without a stage chooses the rows of that name and no
 * others; "topk=NAME" chooses among the rows of that stage and leaves the other stages alone. */
bool adm_profile_chooses(const adm_profile_options *options, adm_stage stage, const char *variant);

/* ADM_EINPUT: a name that options->only has and no row of the stages that run, with any of the metrics. */
adm_status adm_profile_check_only(const adm_profile_options *options, adm_error *err);

/* The units of every configuration with this metric, one of the options', in the order in which they run. What no metric
 * changes, and codes that metrics share, are units of the first of them alone. Release with adm_free(); names are in it. */
adm_status adm_profile_units(const adm_profile_options *options, adm_code_metric metric, adm_profile_unit **units,
                             size_t *n_units, adm_error *err);

/* How many they are with all metrics together. */
adm_status adm_profile_n_units(const adm_profile_options *options, size_t *n, adm_error *err);

/* The six stages, each alone, in order: the unit `six` without a budget. False where the registry lacks one. */
bool adm_profile_six_stages(adm_code_metric metric, adm_profile_unit *unit);

/* True for stages whose work depends on the budget: they are repeated for each. */
bool adm_profile_by_budget(adm_stage stage);

#endif
