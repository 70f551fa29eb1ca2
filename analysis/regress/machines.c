/* machines.c: numbers the machines of runs. */
#include "analysis/regress/machines.h"

#include <regex.h>
#include <string.h>

#include "core/base/mem.h"

/* A run with what its machine is told by. */
typedef struct seen {
    const char *host, *cpu, *gpu, *gpu_uuid, *driver, *cuda;
    double power_limit_w;
    size_t at;
} seen;

static int order_machines(const seen *a, const seen *b) {
    const char *const x[] = {a->host, a->cpu, a->gpu, a->gpu_uuid, a->driver, a->cuda};
    const char *const y[] = {b->host, b->cpu, b->gpu, b->gpu_uuid, b->driver, b->cuda};
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        int order = strcmp(x[i], y[i]);
        if (order != 0) return order;
    }
    return 0;
}

static int by_machine(const void *x, const void *y) {
    const seen *a = x, *b = y;
    int order = order_machines(a, b);
    return order != 0 ? order : (a->at > b->at) - (a->at < b->at);
}

static int order_limits(const seen *a, const seen *b) {
    int order = order_machines(a, b);
    return order != 0 ? order : (a->power_limit_w > b->power_limit_w) - (a->power_limit_w < b->power_limit_w);
}

static int by_limit(const void *x, const void *y) {
    const seen *a = x, *b = y;
    int order = order_limits(a, b);
    return order != 0 ? order : (a->at > b->at) - (a->at < b->at);
}

/* Where a run does not know its power limit, as of an older program, it is that of the machine's last run that does; before
 * the first such, that of the first. `order` is by machine. */
static void fill_limits(seen *order, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (order[i].power_limit_w == 0 && order_machines(&order[i - 1], &order[i]) == 0)
            order[i].power_limit_w = order[i - 1].power_limit_w;
    for (size_t i = n; i-- > 1;)
        if (order[i - 1].power_limit_w == 0 && order_machines(&order[i - 1], &order[i]) == 0)
            order[i - 1].power_limit_w = order[i].power_limit_w;
}

static void number(seen *order, size_t n, int (*sort)(const void *, const void *), int (*differ)(const seen *, const seen *),
                   size_t *at, size_t *n_out) {
    adm_sort(order, n, sizeof *order, sort);
    *n_out = 0;
    for (size_t i = 0; i < n; i++) {
        *n_out += i == 0 || differ(&order[i - 1], &order[i]) != 0;
        at[order[i].at] = *n_out - 1;
    }
}

/* The pool's label in the place of the host; the GPU's UUID says nothing then. */
static seen see(const adm_series_run *r, size_t at, const regex_t *pool) {
    const bool labelled = r->machine[0] != '\0';
    const bool pooled = labelled || (pool != NULL && regexec(pool, r->host_name, 0, NULL, 0) == 0);
    return (seen){.host = labelled ? r->machine
                          : pooled ? "(pool)"
                                   : r->host_name,
                  .cpu = r->cpu_model,
                  .gpu = r->gpu_name,
                  .gpu_uuid = pooled ? "" : r->gpu_uuid,
                  .driver = r->driver,
                  .cuda = r->cuda,
                  .power_limit_w = r->power_limit_w,
                  .at = at};
}

adm_status adm_machines_find(const adm_series_set *set, const char *same_machine, adm_machines *out, adm_error *err) {
    regex_t pool;
    seen *order = NULL;
    *out = (adm_machines){0};
    if (same_machine != NULL && regcomp(&pool, same_machine, REG_EXTENDED | REG_NOSUB) != 0)
        return adm_fail(err, ADM_EINPUT, "--same-machine: '%s' is not a regular expression", same_machine);
    adm_status status = adm_alloc(&order, set->n_runs, sizeof *order, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&out->time_at, set->n_runs, sizeof *out->time_at, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&out->count_at, set->n_runs, sizeof *out->count_at, "runs", err);
    if (status == ADM_OK) {
        for (size_t i = 0; i < set->n_runs; i++) order[i] = see(&set->run[i], i, same_machine != NULL ? &pool : NULL);
        adm_sort(order, set->n_runs, sizeof *order, by_machine);
        fill_limits(order, set->n_runs);
        number(order, set->n_runs, by_limit, order_limits, out->time_at, &out->n_time);
        for (size_t i = 0; i < set->n_runs; i++) order[i] = (seen){"", "", order[i].gpu, "", "", "", 0, order[i].at};
        number(order, set->n_runs, by_machine, order_machines, out->count_at, &out->n_count);
    }
    adm_free(&order);
    if (same_machine != NULL) regfree(&pool);
    if (status != ADM_OK) adm_machines_free(out);
    return status;
}

void adm_machines_free(adm_machines *machines) {
    adm_free(&machines->time_at);
    adm_free(&machines->count_at);
    *machines = (adm_machines){0};
}

static bool is_gpu_count(const adm_series *s, adm_figure figure) {
    return figure == ADM_FIGURE_COUNT && strcmp(s->source, "gpu") == 0 && strcmp(s->config->policy, "static") != 0;
}

size_t adm_machine_of(const adm_machines *m, const adm_series *s, adm_figure figure, size_t run) {
    if (figure == ADM_FIGURE_TIME || figure == ADM_FIGURE_CONTEXT) return m->time_at[run];
    return is_gpu_count(s, figure) ? m->count_at[run] : 0;
}

size_t adm_machines_n(const adm_machines *m, const adm_series *s, adm_figure figure) {
    if (figure == ADM_FIGURE_TIME || figure == ADM_FIGURE_CONTEXT) return m->n_time;
    return is_gpu_count(s, figure) ? m->n_count : 1;
}
