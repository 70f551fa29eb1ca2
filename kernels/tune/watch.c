/* watch.c: the loop of an editor and a judge; see watch.h. */
#include "kernels/tune/watch.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "kernels/tune/gpu/gpu_judge.h"
#include "kernels/tune/print.h"

/* What the versions so far came to. */
typedef struct progress {
    size_t n;                 /* versions */
    double default_ns, last_ns, best_ns; /* 0: none yet */
    char hash[33];            /* of the last version */
} progress;

static void print_change(const char *what, double before_ns, double now_ns) {
    if (before_ns > 0 && now_ns > 0) adm_print("  %s %+.1f%%", what, (now_ns / before_ns - 1) * 100);
}

static void print_version(const progress *p, const adm_candidate *c, const adm_tune_result *r) {
    adm_print("#%-3zu %.8s  ", p->n, c->hash);
    if (r->status == ADM_OK && r->n > 0) {
        adm_print("right %10.2f us", r->median_ns * 1e-3);
        print_change("last", p->last_ns, r->median_ns);
        print_change("best", p->best_ns, r->median_ns);
        print_change("default", p->default_ns, r->median_ns);
    } else adm_print("%s", r->status == ADM_OK ? "right" : r->status == ADM_EINTERNAL ? "WRONG" : "not judged");
    const adm_tune_resources *s = r->resources.registers >= 0 ? &r->resources : &c->resources;
    if (s->registers >= 0) adm_print("  %d registers", s->registers);
    if (s->spill_bytes > 0) adm_print(", %d bytes of local memory", s->spill_bytes);
    if (s->occupancy > 0) adm_print(", occupancy %.0f%%", s->occupancy * 100);
    adm_print("\n");
    if (r->status != ADM_OK) adm_print("     %s\n", r->reason);
    else if (r->counted != NULL) adm_tune_print_counters(r->counted);
    fflush(stdout);
}

static json_t *time_or_null(double ns) { return ns > 0 ? json_real(ns) : json_null(); }

/* A line: what `tune --json` says of a candidate, its version, and the times that the text compares with. */
static adm_status print_version_json(const progress *p, const adm_candidate *c, const adm_tune_result *r, adm_error *err) {
    json_t *rows = json_array();
    adm_tune_json_rows(rows, c, r, 1, 1);
    json_t *row = json_incref(json_array_get(rows, 0));
    json_decref(rows);
    json_object_set_new(row, "version", json_integer((json_int_t)p->n));
    json_object_set_new(row, "hash", json_string(c->hash));
    json_object_set_new(row, "last_ns", time_or_null(p->last_ns));
    json_object_set_new(row, "best_ns", time_or_null(p->best_ns));
    json_object_set_new(row, "default_ns", time_or_null(p->default_ns));
    json_object_del(row, "gain_ratio"); /* there are three */
    char *text = row != NULL ? json_dumps(row, JSON_COMPACT) : NULL;
    json_decref(row);
    if (text == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while a version was printed");
    adm_print("%s\n", text);
    free(text);
    fflush(stdout);
    return ADM_OK;
}

static adm_status judge(const adm_tune_watch *w, const adm_tune_options *o, adm_candidate *c, size_t n, adm_tune_result *r,
                        adm_error *err) {
    uint64_t seed = 0;
    if (!c[0].on_gpu) return adm_host_session_run(o, c, n, r, &seed, err);
    if (w->gpu_is_there) return adm_gpu_judge_run(o, w->device, c, n, r, &seed, err);
    for (size_t i = 0; i < n; i++) {
        r[i] = (adm_tune_result){.status = c[i].status != ADM_OK ? c[i].status : ADM_EUNSUPPORTED,
                                 .resources = ADM_TUNE_NO_RESOURCES};
        snprintf(r[i].reason, sizeof r[i].reason, "%s", c[i].status != ADM_OK ? c[i].reason : "compiled, not judged: no GPU");
    }
    return ADM_OK;
}

/* The default row in the first version, and the file. */
static adm_status gather(const adm_tune_watch *w, const progress *p, adm_tune_list *list, adm_error *err) {
    const bool on_gpu = strlen(w->path) > 3 && strcmp(w->path + strlen(w->path) - 3, ".cu") == 0;
    adm_tune_list rows = {0};
    adm_status status = p->n == 1 ? adm_tune_add_rows(&rows, w->stage, on_gpu, w->only, err) : ADM_OK;
    if (status == ADM_OK) status = adm_alloc(&list->c, ADM_TUNE_MAX_CANDIDATES, sizeof *list->c, "candidates", err);
    if (status == ADM_OK && rows.n > 0) list->c[list->n++] = rows.c[adm_tune_default_of(rows.c, rows.n)];
    adm_free(&rows.c);
    adm_error why = {0};
    if (status == ADM_OK && adm_tune_add_file(list, w->stage, w->path, 0, &why) != ADM_OK) { /* a directive, say */
        if (list->n == 0 || list->c[list->n - 1].kind == ADM_CANDIDATE_ROW) return adm_fail(err, why.status, "%s", why.text);
        adm_candidate_refuse(&list->c[list->n - 1], why.status, "%s", why.text);
    }
    for (size_t i = 0; i < w->n_set && status == ADM_OK; i++) {
        bool found = false;
        status = adm_tune_set(list, w->set[i], &found, err);
        if (status == ADM_OK && !found && list->n > 0)
            adm_candidate_refuse(&list->c[list->n - 1], ADM_EINPUT, "has no parameter for --set %s", w->set[i]);
    }
    return status;
}

static adm_status version(const adm_tune_watch *w, const adm_tune_options *o, adm_tune_record *record, progress *p,
                          adm_error *err) {
    adm_tune_list list = {0};
    adm_tune_result *r = NULL;
    p->n++;
    adm_status status = gather(w, p, &list, err);
    if (status == ADM_OK) status = adm_alloc(&r, list.n, sizeof *r, "results", err);
    if (status == ADM_OK) {
        adm_candidate *own = &list.c[list.n - 1];
        const size_t length = strlen(own->name);
        snprintf(own->name + length, sizeof own->name - length, " #%zu", p->n);
        adm_tune_compile(list.c, list.n, w->arch, w->scratch, w->compiled, NULL);
        status = judge(w, o, list.c, list.n, r, err);
        for (size_t i = 0; i < list.n && status == ADM_OK; i++) status = adm_tune_record_put(record, &list.c[i], &r[i], err);
        const adm_tune_result *mine = &r[list.n - 1];
        if (status == ADM_OK && list.n > 1 && r[0].status == ADM_OK) p->default_ns = r[0].median_ns;
        if (status == ADM_OK && w->json) status = print_version_json(p, own, mine, err);
        else if (status == ADM_OK && !w->quiet) print_version(p, own, mine);
        if (status == ADM_OK && mine->status == ADM_OK && mine->n > 0) {
            p->last_ns = mine->median_ns;
            if (p->best_ns == 0 || mine->median_ns < p->best_ns) {
                p->best_ns = mine->median_ns;
                if (p->default_ns == 0 || mine->median_ns < p->default_ns)
                    status = adm_tune_record_winner(record, own, mine, p->default_ns, err);
            }
        }
        memcpy(p->hash, own->hash, sizeof p->hash);
    }
    for (size_t i = 0; r != NULL && i < list.n; i++) adm_tune_result_clear(&r[i]);
    adm_free(&r);
    adm_free(&list.c);
    return status;
}

/* Whether the file's contents are another than those of the last version; an editor may replace it while we look. */
static bool has_changed(const char *path, const progress *p) {
    adm_candidate c = {.status = ADM_OK};
    struct stat info;
    snprintf(c.path, sizeof c.path, "%s", path);
    return stat(path, &info) == 0 && info.st_size > 0 && adm_source_hash(&c, NULL) == ADM_OK && strcmp(c.hash, p->hash) != 0;
}

adm_status adm_tune_watch_run(const adm_tune_watch *w, const adm_tune_options *o, adm_tune_record *record, adm_error *err) {
    progress p = {.n = 0};
    adm_status status = ADM_OK;
    while (status == ADM_OK && !(o->should_stop != NULL && o->should_stop()) && (w->n_versions == 0 || p.n < w->n_versions)) {
        if (has_changed(w->path, &p)) status = version(w, o, record, &p, err);
        else nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    return status;
}
