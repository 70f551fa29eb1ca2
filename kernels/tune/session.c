/* session.c: candidates of one stage from files to verdicts; see session.h. */
#include "kernels/tune/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/suggest.h"
#include "core/system/clock.h"
#include "kernels/tune/search.h"

void adm_tune_session_forget(adm_tune_session *s) {
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; s->result[side] != NULL && i < s->list[side].n; i++) adm_tune_result_clear(&s->result[side][i]);
        adm_free(&s->result[side]);
        s->judged[side] = false;
    }
}

void adm_tune_session_close(adm_tune_session *s) {
    adm_tune_session_forget(s);
    for (int side = 0; side < 2; side++) adm_free(&s->list[side].c);
    adm_tune_scratch_close(&s->scratch);
}

/* --- Candidates ----------------------------------------------------------------------------------------------------- */

/* A .cu file, a manifest, or whatever its table says: what a path holds is known once it is read. */
adm_status adm_tune_session_add(adm_tune_session *s, const char *path, adm_error *err) {
    adm_tune_list all = {0};
    adm_status status = adm_tune_add_file(&all, s->stage, path, s->options.limit_ns, err);
    for (size_t i = 0; status == ADM_OK && i < all.n; i++)
        status = adm_tune_append(&s->list[all.c[i].on_gpu], &(adm_tune_list){&all.c[i], 1}, err);
    adm_free(&all.c);
    return status;
}

static adm_status no_parameter(const adm_tune_session *s, const char *setting, adm_error *err) {
    enum { MAX_NAMES = 64 };
    const char *names[MAX_NAMES];
    char typed[64], meant[ADM_DID_YOU_MEAN_BYTES];
    size_t n = 0;
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < s->list[side].n; i++)
            for (size_t p = 0; p < s->list[side].c[i].n_parameters && n < MAX_NAMES; p++)
                names[n++] = s->list[side].c[i].parameter[p].name;
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(setting, "="), setting);
    return adm_fail(err, ADM_EINPUT, "--set: no candidate has the parameter of '%s'%s", setting,
                    adm_did_you_mean(typed, names, n, meant));
}

adm_status adm_tune_session_set(adm_tune_session *s, const char *setting, adm_error *err) {
    bool found = false;
    adm_status status = ADM_OK;
    for (int side = 0; side < 2 && status == ADM_OK; side++) status = adm_tune_set(&s->list[side], setting, &found, err);
    if (status != ADM_OK || found) return status;
    return no_parameter(s, setting, err);
}

/* --- Progress ------------------------------------------------------------------------------------------------------- */

enum { PART = 1000 }; /* steps of a part, whose own share is told in numbers of any size */

static void begin_progress(adm_tune_session *s, const char *what, uint64_t n_parts) {
    s->n_parts_done = 0;
    s->n_parts = n_parts;
    adm_progress_start(&s->progress, what, n_parts * PART, !s->shows_progress);
}

/* Of the part that is worked on. */
static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_tune_session *s = user;
    const double share = n_total > 0 && n_done < n_total ? (double)n_done / (double)n_total : 1;
    adm_progress_step(&s->progress, s->n_parts_done * PART + (uint64_t)(share * PART));
}

void adm_tune_show_errors(void *user, const char *output, size_t n_done, size_t n_total) {
    (void)user;
    (void)n_done;
    (void)n_total;
    if (output != NULL) adm_print_lines(stderr, output);
}

static void on_compiled(void *user, const char *output, size_t n_done, size_t n_total) {
    adm_tune_session *s = user;
    if (output != NULL) adm_progress_hide(&s->progress);
    adm_tune_show_errors(NULL, output, n_done, n_total);
    on_progress(s, n_done, n_total);
}

/* --- The device and its compiler ------------------------------------------------------------------------------------ */

void adm_tune_session_find_gpu(adm_tune_session *s) {
    if (s->has_looked) return;
    s->has_looked = true;
    if (adm_tune_find_device(s->device, &s->gpu, &s->no_gpu) != ADM_OK) snprintf(s->gpu.name, sizeof s->gpu.name, "no GPU");
}

void adm_tune_session_arch(const adm_tune_session *s, char *out, size_t bytes) {
    if (s->arch != NULL) snprintf(out, bytes, "%s", s->arch);
    else if (s->has_looked && s->no_gpu.status == ADM_OK)
        snprintf(out, bytes, "sm_%d%d", s->gpu.compute_major, s->gpu.compute_minor);
    else snprintf(out, bytes, "sm_90");
}

static void compile(adm_tune_session *s, adm_candidate *c, size_t n, const char *arch) {
    const uint64_t start_ns = adm_clock_ns();
    begin_progress(s, "compiling", 1);
    adm_tune_compile(c, n, arch, &s->scratch, on_compiled, s);
    adm_progress_end(&s->progress);
    s->compile_ns += adm_clock_ns() - start_ns;
}

/* --- Judging -------------------------------------------------------------------------------------------------------- */

static adm_status judge_side(adm_tune_session *s, int side, adm_error *err) {
    adm_tune_list *list = &s->list[side];
    adm_status status = adm_alloc(&s->result[side], list->n + 1, sizeof **s->result, "results", err);
    if (status != ADM_OK) return status;
    if (side == 1 && s->no_gpu.status != ADM_OK) {
        for (size_t i = 0; i < list->n; i++) {
            adm_tune_result *r = &s->result[1][i];
            adm_candidate_refuse(&list->c[i], s->no_gpu.status, "compiled, not judged: %s", s->no_gpu.text);
            *r = (adm_tune_result){.status = list->c[i].status, .resources = ADM_TUNE_NO_RESOURCES};
            snprintf(r->reason, sizeof r->reason, "%s", list->c[i].reason);
        }
        s->judged[1] = true;
        return ADM_OK;
    }
    adm_tune_options options = s->options;
    options.progress = on_progress;
    options.progress_user = s;
    begin_progress(s, side == 0 ? "judging on the host" : "judging on the GPU", 1);
    status = side == 0 ? adm_host_session_run(&options, list->c, list->n, s->result[0], &s->seed, err)
                       : adm_gpu_judge_run(&options, s->device, list->c, list->n, s->result[1], &s->seed, err);
    adm_progress_end(&s->progress);
    s->judged[side] = status == ADM_OK;
    return status;
}

adm_status adm_tune_session_judge(adm_tune_session *s, adm_error *err) {
    adm_status status = ADM_OK;
    for (int side = 0; side < 2 && status == ADM_OK; side++)
        if (s->list[side].n > 0) status = judge_side(s, side, err);
    return status;
}

/* --- Search --------------------------------------------------------------------------------------------------------- */

/* One candidate's settings, each a candidate of its own. */
typedef struct settings {
    adm_tune_session *session;
    int side;
    adm_candidate *all; /* [n] */
    uint64_t *seed;
} settings;

/* A cheap session of some settings, nothing beside them. */
static adm_status measure_settings(void *user, const size_t *which, size_t n, size_t n_samples, double *ns, adm_error *err) {
    settings *s = user;
    adm_candidate *some = NULL;
    adm_tune_result *result = NULL;
    adm_tune_options o = s->session->options;
    o.max_samples = n_samples;
    o.progress = on_progress;
    o.progress_user = s->session;
    o.cap_ns = s->side == 1 ? 1000000u * n_samples : o.cap_ns; /* a GPU's sample is some calls, and 20 are taken at least */
    adm_status status = adm_alloc(&some, n, sizeof *some, "settings", err);
    if (status == ADM_OK) status = adm_alloc(&result, n, sizeof *result, "results", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) some[i] = s->all[which[i]];
    if (status == ADM_OK)
        status = s->side == 0 ? adm_host_session_run(&o, some, n, result, s->seed, err)
                              : adm_gpu_judge_screen(&o, s->session->device, some, n, result, s->seed, err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        ns[i] = result[i].status == ADM_OK && result[i].n > 0 ? result[i].median_ns : NAN;
        if (result[i].status != ADM_OK && s->all[which[i]].status == ADM_OK) /* the verdict stays with the setting */
            adm_candidate_refuse(&s->all[which[i]], result[i].status, "%s", result[i].reason);
    }
    for (size_t i = 0; result != NULL && i < n; i++) adm_tune_result_clear(&result[i]);
    s->session->n_parts_done++;
    adm_free(&result);
    adm_free(&some);
    return status;
}

/* Puts the finalists in the candidate's place; where every setting is out, the first with its reason, or of a row none: the row
 * itself is judged, too. */
static adm_status search_one(adm_tune_session *session, int side, const adm_candidate *candidate, const char *arch,
                             adm_tune_list *into, adm_error *err) {
    const size_t n = adm_search_n_settings(candidate), first_samples = side == 1 ? ADM_SEARCH_ENOUGH : ADM_SEARCH_FIRST_SAMPLES;
    uint64_t seed = 0;
    settings s = {.session = session, .side = side, .seed = &seed};
    size_t finalist[ADM_SEARCH_FINALISTS], n_finalists = 0, n_measured = 0;
    const uint64_t start_ns = adm_clock_ns();
    if (n > ADM_TUNE_MAX_CANDIDATES)
        return adm_fail(err, ADM_EINPUT, "%s: its parameters have more than %d settings", candidate->path,
                        ADM_TUNE_MAX_CANDIDATES);
    adm_status status = adm_alloc(&s.all, n, sizeof *s.all, "settings", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        s.all[i] = *candidate;
        adm_search_choose(&s.all[i], i);
    }
    if (status == ADM_OK) compile(session, s.all, n, arch);
    begin_progress(session, "searching", adm_search_n_rounds(n, first_samples));
    if (status == ADM_OK)
        status = adm_search_halve(n, first_samples, measure_settings, &s, finalist, &n_finalists, &n_measured, err);
    adm_progress_end(&session->progress);
    if (status == ADM_OK && n_finalists == 0 && candidate->kind != ADM_CANDIDATE_ROW) finalist[n_finalists++] = 0;
    for (size_t i = 0; i < n_finalists && status == ADM_OK; i++) into->c[into->n++] = s.all[finalist[i]];
    if (status == ADM_OK && !session->quiet)
        adm_print("searched %zu settings of %s with %zu samples in %.1f s; %zu finalists\n", n, candidate->name, n_measured,
                  (double)(adm_clock_ns() - start_ns) * 1e-9, n_finalists);
    adm_free(&s.all);
    return status;
}

/* Replaces every candidate with several settings by its finalists. */
static adm_status search(adm_tune_session *s, int side, const char *arch, adm_error *err) {
    adm_tune_list *list = &s->list[side], found = {0};
    bool any = false;
    for (size_t i = 0; i < list->n; i++) any |= adm_search_n_settings(&list->c[i]) > 1 && list->c[i].status == ADM_OK;
    if (!any || s->no_search || (side == 1 && s->no_gpu.status != ADM_OK)) return ADM_OK;
    adm_status status = adm_alloc(&found.c, ADM_TUNE_MAX_CANDIDATES, sizeof *found.c, "candidates", err);
    for (size_t i = 0; i < list->n && status == ADM_OK; i++) {
        if (found.n + ADM_SEARCH_FINALISTS > ADM_TUNE_MAX_CANDIDATES) status = adm_fail(err, ADM_EINPUT, "too many candidates");
        else if (adm_search_n_settings(&list->c[i]) > 1 && list->c[i].status == ADM_OK)
            status = search_one(s, side, &list->c[i], arch, &found, err);
        else found.c[found.n++] = list->c[i];
    }
    adm_free(&list->c);
    *list = found;
    return status;
}

adm_status adm_tune_session_prepare(adm_tune_session *s, adm_error *err) {
    char arch[32];
    adm_status status = s->scratch.folder[0] == '\0' ? adm_tune_scratch_open(&s->scratch, err) : ADM_OK;
    if (s->list[1].n > 0) adm_tune_session_find_gpu(s);
    adm_tune_session_arch(s, arch, sizeof arch);
    for (int side = 0; side < 2 && status == ADM_OK; side++) status = search(s, side, arch, err);
    for (int side = 0; side < 2 && status == ADM_OK; side++) compile(s, s->list[side].c, s->list[side].n, arch);
    return status;
}
