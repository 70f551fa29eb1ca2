/* refuse.c: two sides that are not about the same thing are refused with what differs. */
#include "analysis/regress/compare/refuse.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/text.h"
#include "core/base/mem.h"

/* --- Machines ----------------------------------------------------------------------------------------------------- */

enum { N_MACHINE = 8 };
static const char *const machine_name[N_MACHINE] = {"host", "CPU", "CPUs", "GPU", "GPU UUID", "driver", "CUDA", "power limit"};

/* The pool's label in the place of the host; the GPU's UUID says nothing then (as in machines.c). */
static void machine_text(const adm_series_run *r, int field, char *out, size_t out_bytes) {
    const bool labelled = r->machine[0] != '\0';
    const char *host = labelled ? r->machine : r->host_name, *gpu_uuid = labelled ? "" : r->gpu_uuid;
    const char *texts[N_MACHINE] = {host, r->cpu_model, NULL, r->gpu_name, gpu_uuid, r->driver, r->cuda, NULL};
    if (field == 2) snprintf(out, out_bytes, "%lld", (long long)r->n_cpus);
    else if (field == 7) snprintf(out, out_bytes, r->power_limit_w > 0 ? "%.6g W" : "", r->power_limit_w);
    else snprintf(out, out_bytes, "%s", texts[field]);
}

/* A power limit that is not known, as of runs of an older program, is no other power limit. */
static bool matches_any(int field, const char *text) { return field == 7 && text[0] == '\0'; }

/* The set's value of a field, and false if its runs have several. */
static bool one_value(const adm_series_set *set, int field, char *out, size_t out_bytes) {
    char other[256];
    machine_text(&set->run[0], field, out, out_bytes);
    for (size_t i = 1; i < set->n_runs; i++) {
        machine_text(&set->run[i], field, other, sizeof other);
        if (matches_any(field, out)) snprintf(out, out_bytes, "%s", other);
        else if (!matches_any(field, other) && strcmp(other, out) != 0) return false;
    }
    return true;
}

static adm_status check_machines(const adm_series_set *base, const adm_series_set *cand, adm_error *err) {
    char a[256], b[256];
    adm_text differences = {.dialect = ADM_TEXT_PLAIN};
    for (int field = 0; field < N_MACHINE; field++) {
        bool one_a = one_value(base, field, a, sizeof a), one_b = one_value(cand, field, b, sizeof b);
        if (one_a && one_b && (strcmp(a, b) == 0 || matches_any(field, a) || matches_any(field, b))) continue;
        adm_text_format(&differences, "%s%s (", differences.length > 0 ? ", " : "", machine_name[field]);
        if (one_a && one_b) adm_text_format(&differences, "%s against %s)", a[0] ? a : "none", b[0] ? b : "none");
        else adm_text_format(&differences, "several in the %s)", one_a ? "candidate" : "baseline");
    }
    adm_status status = adm_text_check(&differences, err);
    if (status == ADM_OK && differences.length > 0)
        status = adm_fail(err, ADM_EINPUT,
                          "times of different machines: they differ in %s; --across-machines compares them "
                          "anyway",
                          differences.data);
    adm_text_free(&differences);
    return status;
}

static void describe_machine(const adm_series_set *set, adm_comparison *out) {
    const adm_series_run *r = &set->run[0];
    size_t used = (size_t)snprintf(out->machine, sizeof out->machine, "%s, %s, %lld CPUs", r->host_name, r->cpu_model,
                                   (long long)r->n_cpus);
    if (r->gpu_name[0] != '\0' && used < sizeof out->machine)
        snprintf(out->machine + used, sizeof out->machine - used, ", %s, driver %s, CUDA %s", r->gpu_name, r->driver, r->cuda);
}

/* --- Shapes ------------------------------------------------------------------------------------------------------- */

static bool has_shape(const adm_comparison *c, bool of_base, const char *shape) {
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_series *s = of_base ? c->row[i].base : c->row[i].cand;
        if (s != NULL && strcmp(s->config->shape, shape) == 0) return true;
    }
    return false;
}

static const char *shape_only_in(const adm_comparison *c, bool base) {
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_series *s = base ? c->row[i].base : c->row[i].cand;
        if (s != NULL && !has_shape(c, !base, s->config->shape)) return s->config->shape;
    }
    return NULL;
}

static adm_status check_shapes(const adm_comparison *c, adm_error *err) {
    const char *base = shape_only_in(c, true), *cand = shape_only_in(c, false);
    if (base == NULL && cand == NULL) return ADM_OK;
    if (base != NULL && cand != NULL)
        return adm_fail(err, ADM_EINPUT, "the two sides measured different things: the baseline %s, the candidate %s", base,
                        cand);
    return adm_fail(err, ADM_EINPUT, "the two sides measured different things: only the %s has %s",
                    base ? "baseline" : "candidate", base ? base : cand);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* A run is one process: on both sides it would be compared with itself. */
static adm_status check_sides(const adm_series_set *base, const adm_series_set *cand, adm_error *err) {
    const char **uuids = NULL;
    adm_status status = adm_alloc(&uuids, base->n_runs, sizeof *uuids, "runs", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < base->n_runs; i++) uuids[i] = base->run[i].uuid;
    adm_sort(uuids, base->n_runs, sizeof *uuids, by_text);
    for (size_t i = 0; status == ADM_OK && i < cand->n_runs; i++)
        if (adm_search(&cand->run[i].uuid, uuids, base->n_runs, sizeof *uuids, by_text) != NULL)
            status = adm_fail(err, ADM_EINPUT, "run %lld is on both sides: name runs that the other side does not have",
                              (long long)cand->run[i].id);
    adm_free(&uuids);
    return status;
}

adm_status adm_compare_refuse(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                              adm_comparison *out, adm_error *err) {
    size_t n_times = 0, n_common = 0;
    if (base->n_runs == 0 || cand->n_runs == 0) return adm_fail(err, ADM_EINPUT, "one side has no runs to compare");
    for (size_t i = 0; i < out->n_rows; i++) {
        const adm_series *s = out->row[i].base != NULL ? out->row[i].base : out->row[i].cand;
        double tolerance;
        n_times += adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance) == ADM_FIGURE_TIME;
        n_common += out->row[i].base != NULL && out->row[i].cand != NULL;
    }
    describe_machine(cand, out);
    if (out->n_rows == 0) return adm_fail(err, ADM_EINPUT, "the runs hold no figure that can be compared");
    adm_status status = o->shares_runs ? ADM_OK : check_sides(base, cand, err);
    if (status == ADM_OK && n_common == 0) status = check_shapes(out, err); /* else the common part is judged */
    if (status == ADM_OK && n_common == 0)
        status = adm_fail(err, ADM_EINPUT, "the two sides have no stage and configuration in common (%zu rows in all)",
                          out->n_rows);
    /* Compiled figures and quality do not depend on the machine. */
    if (status == ADM_OK && n_times > 0 && !o->across_machines) status = check_machines(base, cand, err);
    return status;
}
