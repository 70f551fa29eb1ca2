/* cmd_counters.c: `adamas counters`: which GPU metrics there are, what they mean, and how many passes a set of them takes.
 * Needs no GPU: CUPTI's host interface knows every chip. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/suggest.h"
#include "core/cli/command.h"
#include "probes/cupti/counter_plan.h"
#include "probes/cupti/cupti_load.h"
#include "probes/metrics/metric_set.h"

static const char default_chip[] = "GH100";

typedef struct counters_command {
    adm_common common;
    const char *chip, *set, *verb;
    const char *name[16];
    size_t n_names;
} counters_command;

enum { KEY_CHIP = 0x5000, KEY_SET };

static const struct argp_option options[] = {
    {"chip", KEY_CHIP, "NAME", 0, "As CUPTI names it (default GH100, the H100 and H200); plan: 'all' for each that it knows",
     1},
    {"set", KEY_SET, "SET", 0, "One that list names, or a file of your own (default: list all of them, plan full)", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    counters_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &c->common; return 0;
    case KEY_CHIP: c->chip = arg; return 0;
    case KEY_SET: c->set = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->verb == NULL) c->verb = arg;
        else if (c->n_names < sizeof c->name / sizeof c->name[0]) c->name[c->n_names++] = arg;
        else argp_error(state, "at most %zu metrics at a time", sizeof c->name / sizeof c->name[0]);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "say list, explain or plan"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .args_doc = "list|explain|plan [METRIC...]",
    .doc =
        "Explains the GPU counters of `adamas profile --counters` and plans their passes, without a GPU.\v"
        "list: the sets, or with --set what one holds, or with --chip alone every base metric of that chip. explain METRIC...: "
        "unit, meaning and caveat from the sets, and CUPTI's own words. plan: what a chip has of a set, what it lacks, "
        "and how many times the work is run to collect it. The exit code is 77 without CUPTI."};

/* --- list --------------------------------------------------------------------------------------------------------- */

static json_t *metric_json(const adm_set_metric *m) {
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", m->name, "unit", m->unit, "better", m->better, "meaning",
                              m->meaning, "set", m->set);
    if (m->caveat != NULL) json_object_set_new(entry, "caveat", json_string(m->caveat));
    if (m->formula != NULL) json_object_set_new(entry, "formula", json_string(m->formula));
    for (size_t i = 0; i < m->n_alternatives; i++) {
        if (i == 0) json_object_set_new(entry, "alternatives", json_array());
        json_array_append_new(json_object_get(entry, "alternatives"), json_string(m->alternative[i]));
    }
    if (m->absent != NULL) json_object_set_new(entry, "absent", json_string(m->absent));
    return entry;
}

static adm_status list_set(const counters_command *c, const char *name, json_t *document, adm_error *err) {
    adm_metric_set *set;
    adm_status status = adm_fail_of(err, adm_metric_set_open(name, &set, err), "--set");
    if (status != ADM_OK) return status;
    json_t *metrics = json_array();
    size_t n_derived = 0;
    for (size_t i = 0; i < set->n; i++) {
        n_derived += set->metric[i].formula != NULL;
        if (c->common.json) json_array_append_new(metrics, metric_json(&set->metric[i]));
        else if (c->set != NULL)
            adm_print("%-74s %-13s %s\n", set->metric[i].name, set->metric[i].unit, set->metric[i].meaning);
    }
    if (!c->common.json && c->set == NULL)
        adm_print("%-8s %2zu metrics of the hardware, %2zu derived: %s\n", set->name, set->n - n_derived, n_derived,
                  set->summary);
    json_array_append_new(document,
                          json_pack("{s:s, s:s, s:o}", "set", set->name, "summary", set->summary, "metrics", metrics));
    adm_metric_set_close(&set);
    return ADM_OK;
}

static adm_status list_chip(const counters_command *c, adm_error *err) {
    static const char *const kinds[] = {"counter", "ratio", "throughput"};
    adm_cupti_host *host = NULL;
    json_t *document = json_array();
    adm_status status = adm_cupti_host_open(c->chip, NULL, &host, err);
    for (int kind = 0; status == ADM_OK && kind < 3; kind++) {
        const char *const *names;
        size_t n;
        status = adm_cupti_host_metrics(host, kind, &names, &n, err);
        for (size_t i = 0; status == ADM_OK && i < n; i++)
            if (!c->common.json) adm_print("%-10s %s\n", kinds[kind], names[i]);
            else json_array_append_new(document, json_pack("{s:s, s:s}", "name", names[i], "kind", kinds[kind]));
    }
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(document), err);
    json_decref(document);
    adm_cupti_host_close(&host);
    return status;
}

static adm_status list(const counters_command *c, adm_error *err) {
    if (c->chip != NULL && c->set == NULL) return list_chip(c, err);
    json_t *document = json_array();
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && c->set == NULL && i < adm_metric_set_count(); i++)
        status = list_set(c, adm_metric_set_name(i), document, err);
    if (c->set != NULL) status = list_set(c, c->set, document, err);
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(document), err);
    json_decref(document);
    return status;
}

/* --- explain ------------------------------------------------------------------------------------------------------ */

/* The metric in the set that was named, or in the first of the program's that has it. The set is the caller's to close. */
static adm_status find_metric(const counters_command *c, const char *name, adm_metric_set **set, const adm_set_metric **metric,
                              adm_error *err) {
    adm_status status = ADM_OK;
    *metric = NULL;
    for (size_t i = 0; i < (c->set != NULL ? 1 : adm_metric_set_count()); i++) {
        status = adm_fail_of(err, adm_metric_set_open(c->set != NULL ? c->set : adm_metric_set_name(i), set, err), "--set");
        if (status != ADM_OK) return status;
        *metric = adm_metric_set_find(*set, name, strlen(name));
        if (*metric != NULL) return ADM_OK;
        adm_metric_set_close(set);
    }
    return ADM_OK;
}

static void print_metric(const adm_set_metric *m) {
    adm_print("%s\n  unit     %s%s\n  meaning  %s\n", m->name, m->unit,
              strcmp(m->better, "none") == 0    ? ""
              : strcmp(m->better, "lower") == 0 ? ", lower is better"
                                                : ", higher is better",
              m->meaning);
    if (m->caveat != NULL) adm_print("  caveat   %s\n", m->caveat);
    if (m->formula != NULL) adm_print("  formula  %s\n", m->formula);
    for (size_t i = 0; i < m->n_alternatives; i++) adm_print("  or       %s, on other chips\n", m->alternative[i]);
    if (m->absent != NULL) adm_print("  absent   %s\n", m->absent);
    adm_print("  set      %s\n", m->set);
}

/* What was meant, of the metrics of the set that was named, or of all. */
static adm_status meant_by(const counters_command *c, const char *name, char meant[ADM_DID_YOU_MEAN_BYTES], adm_error *err) {
    const size_t n_sets = c->set != NULL ? 1 : adm_metric_set_count();
    meant[0] = '\0';
    for (size_t i = 0; i < n_sets && meant[0] == '\0'; i++) {
        adm_metric_set *set = NULL;
        const char **names = NULL;
        adm_status status = adm_metric_set_open(c->set != NULL ? c->set : adm_metric_set_name(i), &set, err);
        if (status == ADM_OK) status = adm_alloc(&names, set->n + 1, sizeof *names, "names of metrics", err);
        for (size_t m = 0; status == ADM_OK && m < set->n; m++) names[m] = set->metric[m].name;
        if (status == ADM_OK) adm_did_you_mean(name, names, set->n, meant);
        adm_free(&names);
        adm_metric_set_close(&set);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* why: CUPTI's words on it, or why there are none. */
static adm_status no_metric(const counters_command *c, const char *name, bool no_host, const char *why, adm_error *err) {
    char meant[ADM_DID_YOU_MEAN_BYTES];
    const adm_status status = meant_by(c, name, meant, err);
    if (status != ADM_OK) return status;
    return no_host ? adm_fail(err, ADM_EUNSUPPORTED, "'%.200s' is in no set, and %.400s%s", name, why, meant)
                   : adm_fail(err, ADM_EINPUT,
                              "'%.200s' is in no set, and %.200s; `adamas counters list --chip %.60s` names its metrics%s",
                              name, why, c->chip, meant);
}

/* One metric: what the sets say, and CUPTI's words, where there are any. */
static adm_status explain_metric(const counters_command *c, const char *name, adm_cupti_host *host, const adm_error *no_host,
                                 json_t *document, adm_error *err) {
    adm_metric_set *set = NULL;
    const adm_set_metric *metric;
    adm_cupti_words words = {0};
    adm_error no_words = *no_host;
    adm_status status = find_metric(c, name, &set, &metric, err);
    if (status != ADM_OK) return status;
    bool of_cupti = host != NULL && (metric == NULL || metric->formula == NULL) &&
                    adm_cupti_host_describe(host, name, &words, &no_words) == ADM_OK;
    if (metric == NULL && !of_cupti) {
        status = no_metric(c, name, host == NULL, host == NULL ? no_host->text : no_words.text, err);
    } else if (c->common.json) {
        json_t *entry = metric != NULL ? metric_json(metric) : json_pack("{s:s}", "name", name);
        if (of_cupti) json_object_set_new(entry, "cupti", json_string(words.description));
        json_array_append_new(document, entry);
    } else {
        if (metric != NULL) print_metric(metric);
        else adm_print("%s\n", name);
        if (of_cupti) adm_print("  CUPTI    %s (%s, in %s)\n", words.description, words.hardware, words.dimension);
    }
    adm_metric_set_close(&set);
    return status;
}

static adm_status explain(counters_command *c, adm_error *err) {
    adm_cupti_host *host = NULL;
    adm_error no_host = {0};
    bool asked = c->chip != NULL;
    if (c->n_names == 0) return adm_fail(err, ADM_EINPUT, "explain: name metrics; `adamas counters list` has some");
    if (!asked) c->chip = default_chip;
    adm_status status = adm_cupti_host_open(c->chip, NULL, &host, &no_host);
    if (status != ADM_OK && asked) { /* without --chip the sets' own words will do */
        *err = no_host;
        return status;
    }
    json_t *document = json_array();
    status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_names; i++)
        status = explain_metric(c, c->name[i], host, &no_host, document, err);
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(document), err);
    json_decref(document);
    adm_cupti_host_close(&host);
    return status;
}

/* --- plan --------------------------------------------------------------------------------------------------------- */

/* Whether a metric is collected under another chip's name for it. */
static bool is_alternative(const adm_counter_plan *p, size_t i) {
    return p->collected[i] != NULL && strcmp(p->collected[i], p->set->metric[i].name) != 0;
}

static json_t *plan_json(const adm_counter_plan *p) {
    json_t *collected = json_array(), *scheduled = json_array(), *lacking = json_array(), *alternatives = json_object();
    for (size_t i = 0; i < p->set->n; i++) {
        const char *name = p->set->metric[i].name;
        if (p->collected[i] != NULL) json_array_append_new(collected, json_string(name));
        if (is_alternative(p, i)) json_object_set_new(alternatives, name, json_string(p->collected[i]));
        if (p->reason[i][0] != '\0')
            json_array_append_new(lacking, json_pack("{s:s, s:s}", "name", name, "reason", p->reason[i]));
    }
    for (size_t i = 0; i < p->n_hardware; i++) json_array_append_new(scheduled, json_string(p->hardware[i]));
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:I, s:s*, s:o, s:o, s:o, s:o}", "chip", p->chip, "set", p->set->name, "passes",
                     (json_int_t)p->n_passes, "passes_in_own_order", (json_int_t)p->own_order_passes, "cupti", adm_cupti_path(),
                     "cupti_version", (json_int_t)adm_cupti_version(), "note", adm_cupti_note(), "collected", collected,
                     "scheduled", scheduled, "alternatives", alternatives, "lacking", lacking);
}

static void print_plan(const adm_counter_plan *p) {
    adm_print("%s on %s: %zu pass%s for %zu metrics of the hardware\n", p->set->name, p->chip, p->n_passes,
              p->n_passes == 1 ? "" : "es", p->n_hardware);
    for (size_t i = 0; i < p->set->n; i++)
        if (is_alternative(p, i)) adm_print("  %s, counted as %s\n", p->set->metric[i].name, p->collected[i]);
        else if (p->collected[i] != NULL) adm_print("  %s\n", p->collected[i]);
    for (size_t i = 0; i < p->set->n; i++)
        if (p->reason[i][0] != '\0') adm_print("  not: %s\n", p->reason[i]);
    if (adm_cupti_note() != NULL) adm_print("note: %s\n", adm_cupti_note());
}

/* Every chip that CUPTI knows, a line or an object each. A chip that this profiler does not support is no failure. */
static adm_status plan_all(const counters_command *c, const adm_metric_set *set, adm_error *err) {
    const char *const *chips;
    size_t n_chips;
    json_t *document = json_array();
    adm_status status = adm_cupti_chips(&chips, &n_chips, err);
    for (size_t i = 0; status == ADM_OK && i < n_chips; i++) {
        adm_counter_plan *p = NULL;
        adm_error why;
        adm_status planned = adm_counter_plan_open(set, chips[i], NULL, &p, &why);
        if (planned != ADM_OK && planned != ADM_EUNSUPPORTED) {
            *err = why;
            status = planned;
        } else if (c->common.json) {
            json_array_append_new(
                document, p != NULL ? plan_json(p)
                                    : json_pack("{s:s, s:s, s:s}", "chip", chips[i], "set", set->name, "reason", why.text));
        } else if (p == NULL) {
            adm_print("%-6s not: %s\n", chips[i], why.text);
        } else {
            size_t n_alternatives = 0, n_lacking = 0;
            for (size_t m = 0; m < set->n; m++) {
                n_alternatives += is_alternative(p, m);
                n_lacking += p->reason[m][0] != '\0';
            }
            adm_print("%-6s %2zu pass%s for %2zu metrics, %zu of them under another name; %zu lacking\n", p->chip, p->n_passes,
                      p->n_passes == 1 ? "  " : "es", p->n_hardware, n_alternatives, n_lacking);
        }
        adm_counter_plan_close(&p);
    }
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(document), err);
    else if (status == ADM_OK && adm_cupti_note() != NULL) adm_print("note: %s\n", adm_cupti_note());
    json_decref(document);
    return status;
}

static adm_status plan(counters_command *c, adm_error *err) {
    adm_metric_set *set = NULL;
    adm_counter_plan *p = NULL;
    if (c->chip == NULL) c->chip = default_chip;
    adm_status status = adm_fail_of(err, adm_metric_set_open(c->set != NULL ? c->set : "full", &set, err), "--set");
    const bool all = strcmp(c->chip, "all") == 0;
    if (status == ADM_OK && all) status = plan_all(c, set, err);
    else if (status == ADM_OK) status = adm_counter_plan_open(set, c->chip, NULL, &p, err);
    if (p != NULL && c->common.json) status = adm_print_json(plan_json(p), err);
    else if (p != NULL) print_plan(p);
    adm_counter_plan_close(&p);
    adm_metric_set_close(&set);
    return status;
}

static int run(int argc, char **argv) {
    counters_command c = {.common = {0}};
    adm_error err = {0};
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status;
    static const char *const verbs[] = {"list", "explain", "plan"};
    bool known[3] = {false};
    status = adm_parse_words("counters", c.verb, verbs, 3, known, &err);
    if (status != ADM_OK) return adm_report_error(&err);
    if (known[1]) status = explain(&c, &err);
    else if (c.n_names > 0)
        status = adm_fail(&err, ADM_EINPUT, "%.60s takes no '%.100s': only explain takes metrics", c.verb, c.name[0]);
    else status = known[0] ? list(&c, &err) : plan(&c, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_counters = {"counters", "GPU counters: what there is, what it means, how many passes", run};
