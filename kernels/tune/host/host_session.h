/* host_session.h: judges host implementations: each in a process of its own, all on the same inputs.
 *
 *   load       every candidate, in its process
 *   seed       drawn now, so that no candidate can have known it
 *   check      three rounds of new inputs through every call of the check (host_case.h)
 *   time       round after round: new inputs, outputs poisoned, each candidate one step in turn, results compared; until each
 *              median is sure
 *   judge      what was right but cannot be: below the floor, or with more processor time than it took
 *
 * A candidate that fails is out, with the sentence, and the others go on. */
#ifndef ADM_KERNELS_TUNE_HOST_HOST_SESSION_H
#define ADM_KERNELS_TUNE_HOST_HOST_SESSION_H

#include "kernels/tune/candidate/candidate.h"
#include "kernels/tune/host/counters.h"
#include "kernels/tune/host/host_case.h"

typedef struct adm_tune_options {
    adm_shape shape;
    adm_dtype dtype;
    uint32_t n_tokens;
    adm_select_rule rule;
    uint64_t seed;          /* 0: drawn after loading */
    uint64_t limit_ns;      /* for one answer of a candidate */
    uint64_t cap_ns;        /* for the samples of one candidate */
    double target;          /* relative half width of the median's 95% interval */
    size_t max_samples;     /* 0: no limit but the cap */
    bool check_only;
    bool (*should_stop)(void); /* may be NULL */
    void (*progress)(void *user, uint64_t n_done, uint64_t n_total); /* of a judgement; may be NULL */
    void *progress_user;

    adm_tune_count_fn *count; /* after the times, on a GPU: the metrics of count_set; NULL: nothing is counted */
    const char *count_set;
    bool skips_small; /* the small shapes have been checked in this session already */

    /* Of the timed configuration on a GPU; all zero: one sequence, contiguous K and V, selection per head, cold L2, a graph. */
    uint32_t batch; /* 0: 1 */
    const uint32_t *length; /* [batch] tokens; NULL: n_tokens each */
    const char *batch_lens; /* the same as the database has it; NULL: they are alike */
    uint32_t page_size;
    adm_selection selection;
    bool warm, stream;

    /* Of the timed configuration on the host; all zero: random inputs. */
    struct adm_trace_source *source; /* inputs of a recorded session (trace_source.h); borrowed */
    double scale; /* of the softmax; 0: 1/sqrt(d) */
    int64_t trace_id; /* in the database, and what it calls the length; 0: none, n_tokens */
    uint32_t seq_len;
} adm_tune_options;

typedef struct adm_tune_result {
    adm_status status; /* ADM_OK: right, and timed unless only checked. ADM_EUNSUPPORTED: it does not take this shape */
    char reason[768];
    double *sample_ns; /* [n] one decode step of one layer, all heads; owned: adm_tune_result_clear() */
    size_t n;
    size_t n_disturbed; /* samples taken while something else used the core: left out, unless */
    bool is_disturbed; /* hardly any other was to be had */
    double median_ns, p10_ns, p90_ns, ci_ratio; /* of the samples; ci_ratio: half the 95% interval over the median */
    double floor_ns; /* 0: not known */
    double model_bytes; /* of the floor; 0: not known */
    adm_tune_resources resources;
    adm_tune_counted *counted; /* owned; NULL: nothing was asked for */
} adm_tune_result;

void adm_tune_result_clear(adm_tune_result *result);

/* Fills in median, quantiles and interval from the samples. Fails when memory runs out: then they stay as they were. */
adm_status adm_tune_result_summarise(adm_tune_result *result, adm_error *err);

/* Judges n candidates of one stage. Candidates that are refused already (candidate.status) get that as their result. Fails only
 * where no session could be held at all. *seed: what was used. */
adm_status adm_host_session_run(const adm_tune_options *options, const adm_candidate *candidates, size_t n,
                                adm_tune_result *results, uint64_t *seed, adm_error *err);

/* Checks rows of the registry in this process: for a program that is about to use them. ADM_EINTERNAL: wrong, and where. */
adm_status adm_host_row_check(const adm_host_impl *row, const adm_host_config *config, uint64_t seed, adm_error *err);

/* A seed from the operating system. */
uint64_t adm_tune_draw_seed(void);

#endif
