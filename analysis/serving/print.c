/* print.c: one line per case, and where its time went. */
#include "analysis/serving/print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/output/rows.h"
#include "core/base/print.h"
#include "core/base/printable.h"

const char *adm_case_name(const adm_case *c, char out[32]) {
    if (c->plan.n_sparse == 0) snprintf(out, 32, "dense");
    else if (c->plan.budget > 0) snprintf(out, 32, "%u", c->plan.budget);
    else snprintf(out, 32, "by layer");
    return out;
}

/* A duration in few characters: "12.3 ms". */
static void duration(double ns, char out[16]) {
    if (ns < 1e6) snprintf(out, 16, "%.1f us", ns / 1e3);
    else if (ns < 1e9) snprintf(out, 16, "%.1f ms", ns / 1e6);
    else snprintf(out, 16, "%.2f s", ns / 1e9);
}

static void print_latency(const adm_outcome_value *v) {
    char p50[16], p95[16], p99[16];
    if (v->reason != NULL) {
        adm_print("  %29s", "-");
        return;
    }
    duration(v->d.median, p50);
    duration(v->d.p95, p95);
    duration(v->d.p99, p99);
    adm_print("  %9s %9s %9s", p50, p95, p99);
}

static void print_case(const adm_case *c, const adm_case_quality *quality) {
    const adm_outcome_value *v = c->outcome.value;
    char name[32];
    adm_print("%-9s %-10s", adm_case_name(c, name), c->contiguous ? "contiguous" : "paged");
    print_latency(&v[ADM_OUT_TTFT]);
    print_latency(&v[ADM_OUT_TPOT]);
    print_latency(&v[ADM_OUT_E2E]);
    adm_print("  %8.1f  %7.3f  %5.1f  %6.2f  %6.2f", v[ADM_OUT_TOKENS].d.median, v[ADM_OUT_GOODPUT].d.median,
              100 * v[ADM_OUT_GOOD_RATIO].d.median, v[ADM_OUT_KV_BYTES].d.median / 1e9, v[ADM_OUT_CODE_BYTES].d.median / 1e9);
    if (quality->found) adm_print("  %8.1f", 100 * quality->output_rel_l2);
    else adm_print("  %8s", c->plan.n_sparse == 0 ? "0" : "-");
    adm_print("\n");
}

/* "step 31% (interpolated 3.9x 20%, held 1.5x 11%), linear 60% ..." of the time in steps. */
static void print_parts(const adm_case *c) {
    const adm_rule_use(*uses)[ADM_N_COST_RULES] = adm_step_time_uses(c->time);
    char name[32];
    adm_print("  %-9s", adm_case_name(c, name));
    for (adm_step_part part = 0; part < ADM_N_PARTS; part++) {
        double ns = 0;
        for (int rule = 0; rule < ADM_N_COST_RULES; rule++) ns += (double)uses[part][rule].ns;
        if (ns <= 0) continue;
        adm_print(" %s %.1f%% (", adm_step_part_name(part), 100 * ns / (double)c->simulation.busy_ns);
        for (int rule = 0, n = 0; rule < ADM_N_COST_RULES; rule++) {
            const adm_rule_use *u = &uses[part][rule];
            if (u->ns == 0) continue;
            adm_print("%s%s", n++ > 0 ? ", " : "", adm_cost_rule_name((adm_cost_rule)rule));
            if (u->reach > 1) adm_print(" %.3gx", u->reach);
            adm_print(" %.0f%%", 100 * (double)u->ns / ns);
        }
        adm_print(")");
    }
    adm_print("\n");
}

static void print_notes(const adm_setup *s, const adm_case *cases, size_t n, const adm_quality_source *source) {
    const adm_simulation *first = &cases[0].simulation;
    char shown[132];
    if (source->run_uuid[0] != '\0')
        adm_print("output error: median of run %" PRId64
                  ", %s at %u tokens, adamas %s; not of the simulated model or traffic\n",
                  source->run_id, adm_printable(source->trace, shown, sizeof shown), source->seq_len, source->variant);
    if (s->cost->n_ragged == 0)
        adm_print(
            "mixed lengths: no ragged batch was measured, so a batch takes its mean length's time, or its longest's alone\n");
    for (size_t i = 0; i < n; i++)
        if (cases[i].simulation.n_refused > 0) {
            adm_print("%zu of %zu requests can never fit: the first in line %u, the largest of %" PRIu64 " tokens\n",
                      first->n_refused, s->requests->n, first->first_refused, first->refused_tokens);
            break;
        }
}

void adm_cases_print(const adm_setup *s, const adm_case *cases, size_t n, const adm_quality_source *source,
                     const adm_case_quality *quality) {
    adm_print("%s on %s, %zu requests; anchors: run %" PRId64 " '%s'; goodput: TTFT within %.0f ms, TPOT within %.0f ms\n\n",
              s->model->name, s->cost->device.name, s->requests->n, s->cost->run_id, s->cost->label,
              (double)s->target.ttft_ns / 1e6, (double)s->target.tpot_ns / 1e6);
    adm_print("%-9s %-10s  %-29s  %-29s  %-29s  %8s  %7s  %5s  %6s  %6s  %8s\n", "budget", "memory", "TTFT p50, p95, p99",
              "TPOT p50, p95, p99", "end to end p50, p95, p99", "tokens/s", "good/s", "good%", "KV GB", "code GB", "error %");
    for (size_t i = 0; i < n; i++) print_case(&cases[i], &quality[i]);
    adm_print("\nwhere the time goes, by which rule it was predicted, how far that reached and for which share:\n");
    for (size_t i = 0; i < n; i++) print_parts(&cases[i]);
    print_notes(s, cases, n, source);
}

/* --- JSON ----------------------------------------------------------------------------------------------------------- */

static json_t *metrics_json(const adm_outcome *outcome) {
    json_t *metrics = json_object();
    for (size_t i = 0; i < ADM_OUTCOME_METRICS; i++) {
        const adm_outcome_value *v = &outcome->value[i];
        json_object_set_new(metrics, v->metric->name,
                            v->reason != NULL
                                ? json_pack("{s:s, s:i, s:s}", "unit", v->metric->unit, "n", 0, "reason", v->reason)
                                : json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "unit", v->metric->unit, "n",
                                            (json_int_t)v->d.n, "mean", v->d.mean, "p50", v->d.median, "p95", v->d.p95, "p99",
                                            v->d.p99, "max", v->d.max));
    }
    return metrics;
}

static json_t *uses_json(const adm_step_time *time) {
    json_t *all = json_array();
    for (adm_step_part part = 0; part < ADM_N_PARTS; part++)
        for (int rule = 0; rule < ADM_N_COST_RULES; rule++) {
            const adm_rule_use *u = &adm_step_time_uses(time)[part][rule];
            if (u->n > 0)
                json_array_append_new(all, json_pack("{s:s, s:s, s:I, s:I, s:f}", "part", adm_step_part_name(part), "rule",
                                                     adm_cost_rule_name((adm_cost_rule)rule), "n", (json_int_t)u->n, "time_ns",
                                                     (json_int_t)u->ns, "reach", u->reach));
        }
    return all;
}

static json_t *case_json(const adm_case *c, const adm_case_quality *quality) {
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:f, s:f, s:o, s:o, s:o, s:I, s:I}", "policy",
                     c->plan.n_sparse > 0 ? "adamas" : "dense", "variant", adm_step_time_variants(c->time), "budget",
                     c->plan.budget > 0 ? json_integer(c->plan.budget) : json_null(), "layer_budgets",
                     c->plan.layers[0] != '\0' ? adm_rows_string(c->plan.layers) : json_null(), "memory",
                     c->contiguous ? "contiguous" : "paged", "cache_bytes", c->cache_bytes, "token_bytes", c->token_bytes,
                     "metrics", metrics_json(&c->outcome), "predictions", uses_json(c->time), "output_rel_l2",
                     quality->found ? json_real(quality->output_rel_l2) : json_null(), "end_ns",
                     (json_int_t)c->simulation.end_ns, "n_evicted", (json_int_t)c->simulation.n_evicted);
}

json_t *adm_cases_json(const adm_setup *s, const adm_case *cases, size_t n, const adm_quality_source *source,
                       const adm_case_quality *quality) {
    json_t *all = json_array();
    const bool known = source->run_uuid[0] != '\0';
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(all, case_json(&cases[i], &quality[i])) != 0) {
            json_decref(all);
            return NULL;
        }
    json_t *where = known ? json_pack("{s:I, s:o, s:o, s:I}", "run_id", (json_int_t)source->run_id, "trace",
                                      adm_rows_string(source->trace), "variant", adm_rows_string(source->variant), "seq_len",
                                      (json_int_t)source->seq_len)
                          : json_null();
    return json_pack("{s:o, s:o, s:I, s:I, s:f, s:I, s:o, s:o}", "model", adm_rows_string(s->model->name), "gpu",
                     adm_rows_string(s->cost->device.name), "calibration_run", (json_int_t)s->cost->run_id, "n_requests",
                     (json_int_t)s->requests->n, "skew", s->cost->skew, "n_ragged", (json_int_t)s->cost->n_ragged, "quality",
                     where, "cases", all);
}
