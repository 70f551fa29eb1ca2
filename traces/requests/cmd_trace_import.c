/* cmd_trace_import.c: `adamas trace import`: reads a request trace and shows what it holds. */
#include <inttypes.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/stats/stats.h"
#include "traces/format/trace_text.h"
#include "traces/format/trace_verbs.h"
#include "traces/requests/requests.h"

typedef struct summary {
    double span_s;
    size_t n_distinct_arrivals, n_without_output;
    adm_distribution input, output; /* tokens */
} summary;

static adm_status summarise(const adm_requests *requests, summary *s, adm_error *err) {
    double *values;
    size_t n = requests->n;
    adm_status status = adm_alloc(&values, n, sizeof *values, "lengths of requests", err);
    if (status != ADM_OK) return status;
    *s = (summary){.span_s = (double)requests->request[n - 1].arrival_ns * 1e-9};
    for (size_t i = 0; i < n; i++) {
        const adm_request *request = &requests->request[i];
        s->n_distinct_arrivals += i == 0 || request->arrival_ns != request[-1].arrival_ns;
        s->n_without_output += request->output_tokens == 0;
        values[i] = request->input_tokens;
    }
    s->input = adm_distribution_of(values, n);
    for (size_t i = 0; i < n; i++) values[i] = requests->request[i].output_tokens;
    s->output = adm_distribution_of(values, n);
    adm_free(&values);
    return ADM_OK;
}

static void print_lengths(const char *name, const adm_distribution *d) {
    adm_print("  %-9s  p50 %.0f, p90 %.0f, p95 %.0f, p99 %.0f, most %.0f, mean %.1f tokens\n", name, d->median, d->p90, d->p95,
              d->p99, d->max, d->mean);
}

static void print_summary(const char *path, const adm_requests *requests, const adm_requests_source *source, const summary *s) {
    adm_trace_print_text(path);
    adm_print("\n  format     %s\n  requests   %zu, %zu of them without output\n", source->format, requests->n,
              s->n_without_output);
    adm_print("  span       %.3f s, %zu distinct arrival times", s->span_s, s->n_distinct_arrivals);
    if (requests->n_early > 0) adm_print("; %zu rows were out of order", requests->n_early);
    if (requests->n_chained > 0) adm_print("; %zu wait for another to end", requests->n_chained);
    if (source->n_skipped > 0) adm_print("; %" PRIu64 " calls without token counts were left out", source->n_skipped);
    if (requests->block_tokens > 0)
        adm_print("\n  prefixes   %zu different blocks of %u tokens, %zu in all", requests->n_distinct_blocks,
                  requests->block_tokens, requests->n_blocks);
    adm_print("\n");
    print_lengths("input", &s->input);
    print_lengths("output", &s->output);
}

static json_t *lengths_json(const adm_distribution *d) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "mean", d->mean, "min", d->min, "p50", d->median, "p90", d->p90,
                     "p95", d->p95, "p99", d->p99, "max", d->max);
}

static json_t *summary_json(const char *path, const adm_requests *requests, const adm_requests_source *source,
                            const summary *s) {
    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:o, s:o}", "path", adm_trace_json_text(path),
                     "format", source->format, "n", (json_int_t)requests->n, "n_out_of_order", (json_int_t)requests->n_early,
                     "n_without_output", (json_int_t)s->n_without_output, "n_distinct_arrivals",
                     (json_int_t)s->n_distinct_arrivals, "span_s", s->span_s, "n_chained", (json_int_t)requests->n_chained,
                     "block_tokens", (json_int_t)requests->block_tokens, "n_distinct_blocks",
                     (json_int_t)requests->n_distinct_blocks, "n_skipped", (json_int_t)source->n_skipped, "input_tokens",
                     lengths_json(&s->input), "output_tokens", lengths_json(&s->output));
}

adm_status adm_trace_import_one(const char *path, const adm_trace_options *options, json_t *document, adm_error *err) {
    adm_requests *requests;
    adm_requests_source source;
    summary s;
    adm_status status = adm_requests_read(path, ADM_REQUESTS_SEED, &requests, &source, err);
    if (status == ADM_OK) status = summarise(requests, &s, err);
    if (status == ADM_OK && options->common.json &&
        json_array_append_new(document, summary_json(path, requests, &source, &s)) != 0)
        status = adm_fail(err, ADM_EENVIRONMENT, "out of memory while describing a request trace");
    if (status == ADM_OK && !options->common.json && !options->common.quiet) print_summary(path, requests, &source, &s);
    adm_requests_free(&requests);
    return status;
}
