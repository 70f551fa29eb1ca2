/* outcome.c: distributions over the served requests. */
#include "analysis/serving/outcome.h"

#include "core/base/mem.h"

static const adm_metric metrics[ADM_OUTCOME_METRICS] = {
    [ADM_OUT_TTFT] = {"ttft_ns", "ns", "lower", "Simulated time from a request's arrival to its first token"},
    [ADM_OUT_TPOT] = {"tpot_ns", "ns", "lower", "Simulated time per token of an answer after its first, mean of a request"},
    [ADM_OUT_E2E] = {"e2e_ns", "ns", "lower", "Simulated time from a request's arrival to its last token"},
    [ADM_OUT_TOKENS] = {"output_tokens_per_s", "tokens/s", "higher", "Answer tokens per second of simulated time"},
    [ADM_OUT_REQUESTS] = {"requests_per_s", "requests/s", "higher", "Requests served per second of simulated time"},
    [ADM_OUT_GOODPUT] = {"goodput_requests_per_s", "requests/s", "higher",
                         "Requests served within the targets of TTFT and TPOT, per second of simulated time"},
    [ADM_OUT_GOOD_RATIO] = {"goodput_ratio", "ratio", "higher", "Share of all requests that is served within the targets"},
    [ADM_OUT_KV_BYTES] = {"kv_peak_bytes", "bytes", "lower", "K and V held by running sequences, at most"},
    [ADM_OUT_CODE_BYTES] = {"code_peak_bytes", "bytes", "lower", "2-bit codes held by running sequences, at most"},
    [ADM_OUT_BATCH] = {"decode_batch", "1", "none", "Decoding sequences per step, mean over steps"},
    [ADM_OUT_BUSY] = {"busy_ratio", "ratio", "none", "Share of the simulated time that is spent in steps"},
    [ADM_OUT_SHARED] = {"prefix_hit_ratio", "ratio", "higher",
                        "Share of prompt tokens that were in the cache and not computed"},
    [ADM_OUT_SPAN] = {"span_ns", "ns", "lower", "Simulated time until the last request is served"},
    [ADM_OUT_PREEMPTED] = {"n_preempted", "1", "lower", "How often a sequence lost its cache for want of memory"},
    [ADM_OUT_REFUSED] = {"n_refused", "1", "lower", "Requests larger than all memory for the cache"},
    [ADM_OUT_SERVED] = {"n_served", "1", "higher", "Requests served"},
    [ADM_OUT_STEPS] = {"n_steps", "1", "none", "Steps of the engine"},
    [ADM_OUT_STEP] = {"mean_step_ns", "ns", "lower", "Simulated time of a step, mean"},
};

static void set(adm_outcome *o, size_t i, double x) {
    o->value[i].d = (adm_distribution){1, x, x, x, x, x, x, x, x, x, x};
    o->value[i].reason = NULL;
}

static void set_ratio(adm_outcome *o, size_t i, double over, double under, const char *reason) {
    if (under > 0) set(o, i, over / under);
    else o->value[i].reason = reason;
}

typedef enum latency { TTFT, TPOT, E2E } latency;

/* The latency of each request that has one; returns how many. */
static size_t collect(const adm_requests *requests, const adm_simulation *s, latency which, double *values) {
    size_t n = 0;
    for (size_t i = 0; i < requests->n; i++) {
        const adm_served *r = &s->served[i];
        const uint32_t tokens = requests->request[i].output_tokens;
        if (r->end_ns == ADM_NEVER || (which == TPOT && tokens < 2)) continue;
        values[n++] = which == TTFT  ? (double)(r->first_ns - r->arrival_ns)
                      : which == E2E ? (double)(r->end_ns - r->arrival_ns)
                                     : (double)(r->end_ns - r->first_ns) / (tokens - 1);
    }
    return n;
}

static size_t count_good(const adm_requests *requests, const adm_simulation *s, const adm_target_latency *target) {
    size_t n = 0;
    for (size_t i = 0; i < requests->n; i++) {
        const adm_served *r = &s->served[i];
        const uint64_t after = requests->request[i].output_tokens > 1 ? requests->request[i].output_tokens - 1 : 0;
        n += r->end_ns != ADM_NEVER && r->first_ns - r->arrival_ns <= target->ttft_ns &&
             r->end_ns - r->first_ns <= after * target->tpot_ns;
    }
    return n;
}

adm_status adm_outcome_of(const adm_requests *requests, const adm_simulation *s, const adm_target_latency *target,
                          double kv_share, adm_outcome *o, adm_error *err) {
    double *values;
    *o = (adm_outcome){0};
    for (size_t i = 0; i < ADM_OUTCOME_METRICS; i++) o->value[i] = (adm_outcome_value){&metrics[i], {0}, "not simulated"};
    adm_status status = adm_alloc(&values, requests->n, sizeof *values, "latencies", err);
    if (status != ADM_OK) return status;
    for (latency which = TTFT; which <= E2E; which++) {
        const size_t n = collect(requests, s, which, values);
        adm_outcome_value *value = &o->value[which == TTFT ? ADM_OUT_TTFT : which == TPOT ? ADM_OUT_TPOT : ADM_OUT_E2E];
        value->d = adm_distribution_of(values, n);
        value->reason = n > 0 ? NULL : which == TPOT ? "no answer has two tokens" : "no request was served";
    }
    adm_free(&values);
    const double seconds = (double)s->end_ns * 1e-9, good = (double)count_good(requests, s, target);
    const double served = (double)(requests->n - s->n_refused);
    set_ratio(o, ADM_OUT_TOKENS, (double)s->n_output_tokens, seconds, "no time passed");
    set_ratio(o, ADM_OUT_REQUESTS, served, seconds, "no time passed");
    set_ratio(o, ADM_OUT_GOODPUT, good, seconds, "no time passed");
    set_ratio(o, ADM_OUT_GOOD_RATIO, good, (double)requests->n, "no requests");
    set(o, ADM_OUT_KV_BYTES, s->peak_bytes * kv_share);
    set(o, ADM_OUT_CODE_BYTES, s->peak_bytes * (1 - kv_share));
    set_ratio(o, ADM_OUT_BATCH, (double)s->batch_tokens, (double)s->n_steps, "no step");
    set_ratio(o, ADM_OUT_BUSY, (double)s->busy_ns, (double)s->end_ns, "no time passed");
    set_ratio(o, ADM_OUT_SHARED, (double)s->n_cached_tokens, (double)s->n_prompt_tokens, "no prompt was computed");
    set(o, ADM_OUT_SPAN, (double)s->end_ns);
    set(o, ADM_OUT_PREEMPTED, (double)s->n_preempted);
    set(o, ADM_OUT_REFUSED, (double)s->n_refused);
    set(o, ADM_OUT_SERVED, served);
    set(o, ADM_OUT_STEPS, (double)s->n_steps);
    set_ratio(o, ADM_OUT_STEP, (double)s->busy_ns, (double)s->n_steps, "no step");
    return ADM_OK;
}
