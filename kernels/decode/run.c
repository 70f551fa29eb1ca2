/* run.c: checks, times and stores; see run.h. */
#include "kernels/decode/run.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/stats/stats.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu/observe.h"

static const adm_metric read_metric = {"read_limit_bytes_per_s", "bytes/s", "higher",
                                       "Bandwidth of a plain read kernel over a buffer far larger than the L2"};
static const adm_metric token_metric = {"token_time_ns", "ns", "lower",
                                        "Duration of a decode step of a whole model: one token of every sequence"};
static const adm_metric attention_metric = {"attention_layers_ns", "ns", "lower",
                                            "Duration of the attention of all layers of a decode step, by itself"};
static const adm_metric linear_metric = {"linear_layers_ns", "ns", "lower",
                                         "Duration of all matrix products of a decode step, by themselves"};
static const adm_metric rest_metric = {"rest_of_step_ns", "ns", "lower",
                                       "What a decode step takes beyond its attention and its matrix products, each by itself: "
                                       "norms, RoPE, sampling, and the gaps "
                                       "between kernels that wait for one another"};
static const adm_metric others_metric = {
    "other_kernels_ns", "ns", "lower",
    "Duration of the kernels of a decode step that are neither attention nor matrix products, by themselves: embedding, norms, "
    "RoPE, the MLP's gate where it has a kernel, sampling"};
static const adm_metric linear_limit_metric = {
    "linear_limit_ratio", "ratio", "higher",
    "Share of the device's measured read bandwidth that the weights of a decode step's matrix products reach"};
static const adm_metric ci_metric = {"token_ci_ratio", "ratio", "lower",
                                     "Half the 95% confidence interval of the median of token_time_ns, over the median"};
static const adm_metric same_metric = {
    "same_token_ratio", "ratio", "higher",
    "Share of a text's positions at which the model samples the token that the capture's forward pass predicts"};

typedef struct decoding {
    const adm_decode_job *job;
    adm_gpu *gpu;
    adm_store *store;
    int64_t run_id;
    adm_decode_result *result;
    uint64_t n_done, n_total;
} decoding;

adm_config adm_decode_config(const adm_decode_setup *s, uint32_t seq_len, uint32_t budget) {
    return (adm_config){.policy = budget > 0 ? "adamas" : "dense",
                        .variant = s->model.name,
                        .shape = s->model.shape,
                        .dtype = ADM_F16,
                        .seq_len = seq_len,
                        .budget = budget,
                        .batch = s->batch,
                        .n_sinks = -1,
                        .n_recent = -1,
                        .cache = "cold",
                        .launch = "graph",
                        .page_size = s->page_size};
}

/* --- Storing -------------------------------------------------------------------------------------------------------- */

/* values NULL: skipped, for the reason. */
static adm_status put(decoding *d, int64_t config_id, const char *stage, const adm_metric *metric, const double *values,
                      size_t n, const char *reason, adm_error *err) {
    double *sorted = NULL;
    adm_distribution distribution;
    adm_status status = adm_alloc(&sorted, n, sizeof *sorted, "samples", err);
    if (status != ADM_OK) return status;
    adm_copy(sorted, values, n * sizeof *sorted);
    distribution = adm_distribution_of(sorted, n);
    const adm_measurement m = {.run_id = d->run_id,
                               .config_id = config_id,
                               .source = "gpu",
                               .stage = stage,
                               .layer = -1,
                               .head = -1,
                               .metric = metric,
                               .distribution = n > 0 ? &distribution : NULL,
                               .status = n > 0 ? "ok" : "skipped",
                               .reason = n > 0 ? NULL : reason,
                               .samples = n > 1 ? values : NULL,
                               .n_samples = n > 1 ? n : 0};
    status = adm_store_measurement(d->store, &m, err);
    adm_free(&sorted);
    return status;
}

static adm_status config_of(decoding *d, const adm_decode_setup *setup, uint32_t seq_len, uint32_t budget, int64_t *config_id,
                            adm_error *err) {
    const adm_config config = adm_decode_config(setup, seq_len, budget);
    return adm_store_config(d->store, &config, config_id, err);
}

/* --- The device's read limit ---------------------------------------------------------------------------------------- */

static adm_status measure_read_limit(decoding *d, adm_error *err) {
    const adm_config config = {.policy = "device",
                               .variant = "read",
                               .shape = {1, 1, 128},
                               .dtype = ADM_F16,
                               .batch = 1,
                               .n_sinks = -1,
                               .n_recent = -1,
                               .cache = "cold",
                               .launch = "stream"};
    adm_error why = {0};
    int64_t config_id;
    double *limit = &d->result->read_bytes_per_s;
    const bool measured = adm_bandwidth_read(0, limit, &why) == ADM_OK;
    adm_status status = adm_store_config(d->store, &config, &config_id, err);
    if (!measured) *limit = 0;
    return status == ADM_OK ? put(d, config_id, NULL, &read_metric, limit, measured, why.text, err) : status;
}

/* --- Checking ------------------------------------------------------------------------------------------------------- */

static void keep_largest(decoding *d, const adm_decode_errors *errors) {
    adm_decode_errors *all = &d->result->errors;
    if (errors->rows > all->rows) all->rows = errors->rows;
    if (errors->attention > all->attention) all->attention = errors->attention;
    if (errors->logits > all->logits) all->logits = errors->logits;
    all->n_selections += errors->n_selections;
    d->result->n_checks++;
}

enum { CHECK_TOKENS = 300, CHECK_BUDGET = 48 };

/* On a small model with the same heads, pages, variant and products: dense, at a budget, and at one that is all. */
static adm_status check(decoding *d, const adm_decode_setup *setup, adm_error *err) {
    const uint32_t budgets[] = {0, CHECK_BUDGET, CHECK_TOKENS};
    adm_decode_setup small = adm_decode_small(setup);
    adm_decode *m = NULL;
    small.capacity = CHECK_TOKENS;
    if (setup->max_budget > 0) small.max_budget = CHECK_TOKENS;
    small.variant = NULL; /* one may leave so few tokens to another; `adamas profile` checks each at its own sizes */
    adm_status status = adm_decode_open(d->gpu, &small, NULL, &m, err);
    for (size_t i = 0; i < (setup->max_budget > 0 ? 3u : 1u) && status == ADM_OK; i++) {
        adm_decode_errors errors;
        status = adm_decode_check(m, CHECK_TOKENS - (uint32_t)i, budgets[i], &errors, err);
        if (status == ADM_OK) keep_largest(d, &errors);
    }
    adm_decode_close(&m);
    return status;
}

/* --- Tracing -------------------------------------------------------------------------------------------------------- */

/* One step, launch by launch, under the probes. What cannot be traced is said once. */
static adm_status trace(decoding *d, adm_decode *m, int64_t config_id, adm_error *err) {
    const adm_decode_watch watch = {.probes = d->job->tracing, .config_id = config_id, .step = 0};
    adm_error why = {0};
    if (d->job->tracing == NULL) return ADM_OK;
    adm_status status = adm_store_flush(d->store, err);
    if (status != ADM_OK) return status;
    if (adm_probes_start(d->job->tracing, &why) == ADM_OK) {
        status = adm_decode_enqueue(m, ADM_DECODE_ALL, &watch, err);
        if (status == ADM_OK) status = adm_gpu_wait(d->gpu, err);
        adm_probes_stop(d->job->tracing, &why);
    }
    if (why.status != ADM_OK && d->result->untraced[0] == '\0')
        snprintf(d->result->untraced, sizeof d->result->untraced, "%.300s", why.text);
    return status;
}

/* --- Timing --------------------------------------------------------------------------------------------------------- */

static adm_status time_part(decoding *d, adm_decode *m, int64_t config_id, unsigned parts, const adm_metric *metric,
                            double *median, double *ci, adm_error *err) {
    adm_decode_timing timing = {0};
    adm_status status = adm_decode_time(m, parts, d->job->target, d->job->cap_ns, &timing, err);
    if (status == ADM_OK) status = put(d, config_id, "step", metric, timing.sample_ns, timing.n, NULL, err);
    if (status == ADM_OK) {
        adm_distribution distribution = adm_distribution_of(timing.sample_ns, timing.n); /* sorts */
        *median = distribution.median;
        if (ci != NULL) *ci = timing.median_ci_ratio;
    }
    adm_free(&timing.sample_ns);
    return status;
}

/* Matrix products and the other kernels depend on the batch alone, so they are timed once per batch. */
typedef struct batch_times {
    bool known;
    double linear_ns, others_ns;
} batch_times;

static adm_status time_batch(decoding *d, adm_decode *m, int64_t config_id, batch_times *batch, adm_error *err) {
    const double limit = d->result->read_bytes_per_s;
    if (batch->known) return ADM_OK;
    adm_status status = time_part(d, m, config_id, ADM_DECODE_LINEAR, &linear_metric, &batch->linear_ns, NULL, err);
    if (status == ADM_OK) status = time_part(d, m, config_id, ADM_DECODE_REST, &others_metric, &batch->others_ns, NULL, err);
    if (status == ADM_OK && limit > 0) {
        const double share = m->plan.linear_bytes / batch->linear_ns * 1e9 / limit;
        status = put(d, config_id, "step", &linear_limit_metric, &share, 1, NULL, err);
    }
    batch->known = status == ADM_OK;
    return status;
}

static adm_status measure(decoding *d, adm_decode *m, adm_decode_row *row, batch_times *batch, adm_error *err) {
    int64_t config_id;
    adm_status status = adm_decode_set(m, row->seq_len, row->budget, err);
    if (status == ADM_OK) status = config_of(d, &m->setup, row->seq_len, row->budget, &config_id, err);
    if (status == ADM_OK) status = time_batch(d, m, config_id, batch, err);
    if (status == ADM_OK)
        status = time_part(d, m, config_id, ADM_DECODE_ALL, &token_metric, &row->token_ns, &row->token_ci, err);
    if (status == ADM_OK)
        status = time_part(d, m, config_id, ADM_DECODE_ATTENTION, &attention_metric, &row->attention_ns, NULL, err);
    if (status == ADM_OK) status = put(d, config_id, "step", &ci_metric, &row->token_ci, 1, NULL, err);
    row->linear_ns = batch->linear_ns;
    row->others_ns = batch->others_ns;
    row->rest_ns = row->token_ns - row->attention_ns - row->linear_ns;
    if (status == ADM_OK) status = put(d, config_id, "step", &rest_metric, &row->rest_ns, 1, NULL, err);
    if (status == ADM_OK) status = trace(d, m, config_id, err);
    if (status != ADM_OK) return status;
    row->step = m->budget > 0 ? m->step->name : "dense";
    row->linear = adm_decode_linear_name(m);
    row->linear_bytes = m->plan.linear_bytes;
    row->attention_bytes = adm_decode_attention_bytes(&m->setup, row->seq_len, m->budget);
    return ADM_OK;
}

/* --- The grid ------------------------------------------------------------------------------------------------------- */

static adm_status skip(decoding *d, const adm_decode_setup *setup, adm_decode_row *row, const char *reason, adm_error *err) {
    int64_t config_id;
    snprintf(row->reason, sizeof row->reason, "%.255s", reason);
    adm_status status = config_of(d, setup, row->seq_len, row->budget, &config_id, err);
    return status == ADM_OK ? put(d, config_id, "step", &token_metric, NULL, 0, reason, err) : status;
}

/* Opens the model for the longest of the lengths that fits; *n_fit of them do. *why: why the next does not. */
static adm_status open_longest(decoding *d, adm_decode_setup *setup, adm_decode **out, size_t *n_fit, adm_error *why) {
    adm_status status = ADM_EENVIRONMENT;
    for (*n_fit = d->job->n_seq_lens; *n_fit > 0; --*n_fit) {
        setup->capacity = d->job->seq_lens[*n_fit - 1];
        adm_error latest = {0};
        status = adm_decode_open(d->gpu, setup, d->job->source, out, &latest);
        if (status == ADM_OK) return ADM_OK;
        *why = latest;
        if (status != ADM_EENVIRONMENT || !adm_gpu_alive(d->gpu)) return status;
    }
    return status;
}

static adm_status run_batch(decoding *d, uint32_t batch, adm_error *err) {
    const adm_decode_job *job = d->job;
    adm_decode_setup setup = job->setup;
    adm_decode *m = NULL;
    adm_error why = {0};
    batch_times times = {0};
    size_t n_fit = 0;
    setup.batch = batch;
    setup.max_budget = job->n_budgets > 0 ? job->budgets[job->n_budgets - 1] : 0;
    adm_status status = check(d, &setup, err);
    if (status != ADM_OK || job->check_only) return status;
    const adm_status opened = open_longest(d, &setup, &m, &n_fit, &why);
    if (opened != ADM_OK && opened != ADM_EENVIRONMENT) return adm_fail(err, opened, "%s", why.text);
    if (m != NULL && m->cublas != NULL)
        snprintf(d->result->cublas, sizeof d->result->cublas, "%s", adm_cublas_version(m->cublas));
    for (size_t l = 0; l < job->n_seq_lens && status == ADM_OK; l++)
        for (size_t b = 0; b <= job->n_budgets && status == ADM_OK; b++) {
            adm_decode_row *row = &d->result->row[d->result->n++];
            *row = (adm_decode_row){.batch = batch, .seq_len = job->seq_lens[l], .budget = b > 0 ? job->budgets[b - 1] : 0};
            if (job->should_stop != NULL && job->should_stop()) status = adm_fail(err, ADM_EINTERRUPTED, "interrupted");
            else status = l < n_fit ? measure(d, m, row, &times, err) : skip(d, &setup, row, why.text, err);
            if (status == ADM_OK) status = adm_store_flush(d->store, err);
            if (job->on_progress != NULL) job->on_progress(job->user, ++d->n_done, d->n_total);
        }
    adm_decode_close(&m);
    return status;
}

static adm_status follow(decoding *d, adm_error *err) {
    const adm_decode_job *job = d->job;
    adm_decode_setup setup = job->setup;
    adm_decode *m = NULL;
    int64_t config_id;
    if (job->n_tokens == 0) return ADM_OK;
    setup.batch = 1;
    setup.capacity = job->n_tokens;
    setup.max_budget = job->n_tokens;
    adm_status status = adm_decode_open(d->gpu, &setup, job->source, &m, err);
    if (status == ADM_OK)
        status = adm_decode_follow(m, job->token, job->expected, job->n_tokens, setup.max_budget, &d->result->followed, err);
    if (status == ADM_OK) status = config_of(d, &setup, job->n_tokens, setup.max_budget, &config_id, err);
    if (status == ADM_OK) {
        const double share = (double)d->result->followed.n_same / d->result->followed.n;
        status = put(d, config_id, "step", &same_metric, &share, 1, NULL, err);
    }
    adm_decode_close(&m);
    return status;
}

adm_status adm_decode_run(const adm_decode_job *job, adm_gpu *gpu, adm_store *store, int64_t run_id, adm_decode_result *result,
                          adm_error *err) {
    decoding d = {.job = job, .gpu = gpu, .store = store, .run_id = run_id, .result = result};
    *result = (adm_decode_result){0};
    d.n_total = job->n_batches * job->n_seq_lens * (job->n_budgets + 1);
    adm_status status = adm_alloc(&result->row, d.n_total, sizeof *result->row, "decode steps", err);
    if (status == ADM_OK) status = measure_read_limit(&d, err);
    if (status == ADM_OK) status = follow(&d, err);
    for (size_t i = 0; i < job->n_batches && status == ADM_OK; i++) status = run_batch(&d, job->batches[i], err);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    return status;
}

void adm_decode_result_free(adm_decode_result *result) { adm_free(&result->row); }
