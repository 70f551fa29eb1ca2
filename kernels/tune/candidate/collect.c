/* collect.c: gathers the candidates of a session; see collect.h. */
#include "kernels/tune/candidate/collect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/system/read_room.h"
#include "core/system/threads.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/ways.h"
#include "kernels/registry.h"
#include "kernels/tune/candidate/module.h"
#include "kernels/tune/candidate/plugin.h"

static adm_candidate *append(adm_tune_list *list, adm_stage stage, bool on_gpu, adm_error *err) {
    if (list->c == NULL && adm_alloc(&list->c, ADM_TUNE_MAX_CANDIDATES, sizeof *list->c, "candidates", err) != ADM_OK)
        return NULL;
    if (list->n == ADM_TUNE_MAX_CANDIDATES) {
        adm_fail(err, ADM_EINPUT, "more than %d candidates", ADM_TUNE_MAX_CANDIDATES);
        return NULL;
    }
    adm_candidate *c = &list->c[list->n++];
    *c = (adm_candidate){.stage = stage,
                         .on_gpu = on_gpu,
                         .resources = ADM_TUNE_NO_RESOURCES,
                         .limits = {ADM_TUNE_ALL_HEAD_DIMS, ADM_TUNE_ALL_DTYPES, 0}};
    return c;
}

adm_status adm_tune_append(adm_tune_list *to, const adm_tune_list *from, adm_error *err) {
    adm_status status = ADM_OK;
    if (from->n > 0 && to->c == NULL) status = adm_alloc(&to->c, ADM_TUNE_MAX_CANDIDATES, sizeof *to->c, "candidates", err);
    if (status == ADM_OK && to->n + from->n > ADM_TUNE_MAX_CANDIDATES)
        status = adm_fail(err, ADM_EINPUT, "more than %d candidates", ADM_TUNE_MAX_CANDIDATES);
    for (size_t i = 0; status == ADM_OK && i < from->n; i++) to->c[to->n++] = from->c[i];
    return status;
}

/* --- Rows of the registry ------------------------------------------------------------------------------------------- */

static bool is_host_row(const adm_host_impl *row, adm_stage stage) {
    return row->stage == stage && (stage != ADM_STAGE_DISTANCE || strcmp(row->metric, "l1") == 0);
}

static bool is_gpu_row(const adm_gpu_impl *row, adm_stage stage) {
    if (stage == ADM_STAGE_STEP) return row->stage == stage && adm_gpu_impl_serves(row, ADM_METRIC_L1);
    return row->covers == 1u << stage && adm_gpu_impl_serves(row, ADM_METRIC_L1); /* which is the contract */
}

adm_status adm_tune_add_ways(adm_tune_list *list, adm_stage stage, const char *only, adm_error *err) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        const adm_gpu_ways *ways = is_gpu_row(row, stage) ? adm_gpu_ways_of(row) : NULL;
        if (ways == NULL || (only != NULL && strcmp(only, row->name) != 0)) continue;
        adm_candidate *c = append(list, stage, true, err);
        if (c == NULL) return err->status;
        c->kind = ADM_CANDIDATE_ROW;
        c->gpu_row = row;
        snprintf(c->name, sizeof c->name, "%s", row->name);
        for (; c->n_parameters < ADM_GPU_WAY_PARAMETERS && ways->parameter[c->n_parameters].name != NULL; c->n_parameters++) {
            const adm_gpu_way_parameter *from = &ways->parameter[c->n_parameters];
            adm_tune_parameter *to = &c->parameter[c->n_parameters];
            snprintf(to->name, sizeof to->name, "%s", from->name);
            memcpy(to->value, from->value, from->n_values * sizeof *to->value);
            to->n_values = from->n_values;
            c->chosen[c->n_parameters] = to->value[0];
        }
    }
    return ADM_OK;
}

static adm_status no_row(adm_stage stage, bool on_gpu, const char *only, adm_error *err) {
    enum { MAX_NAMES = 64 };
    const char *names[MAX_NAMES];
    char meant[ADM_DID_YOU_MEAN_BYTES];
    size_t n = 0;
    for (size_t i = 0; n < MAX_NAMES && i < (on_gpu ? adm_gpu_registry_count() : adm_registry_count()); i++) {
        const adm_host_impl *host = on_gpu ? NULL : adm_registry_at(i);
        const adm_gpu_impl *gpu = on_gpu ? adm_gpu_registry_at(i) : NULL;
        if (on_gpu ? is_gpu_row(gpu, stage) : is_host_row(host, stage) && adm_host_impl_available(host))
            names[n++] = on_gpu ? gpu->name : host->name;
    }
    return adm_fail(err, ADM_EINPUT, "--implementation: the stage %s has no row '%s' that runs here%s", adm_stage_name(stage),
                    only, adm_did_you_mean(only, names, n, meant));
}

adm_status adm_tune_add_rows(adm_tune_list *list, adm_stage stage, bool on_gpu, const char *only, adm_error *err) {
    const size_t before = list->n, n = on_gpu ? adm_gpu_registry_count() : adm_registry_count();
    for (size_t i = 0; i < n; i++) {
        const adm_host_impl *host = on_gpu ? NULL : adm_registry_at(i);
        const adm_gpu_impl *gpu = on_gpu ? adm_gpu_registry_at(i) : NULL;
        if (on_gpu ? !is_gpu_row(gpu, stage) : !is_host_row(host, stage) || !adm_host_impl_available(host)) continue;
        const char *name = on_gpu ? gpu->name : host->name;
        if (only != NULL && strcmp(only, name) != 0) continue;
        adm_candidate *c = append(list, stage, on_gpu, err);
        if (c == NULL) return err->status;
        c->kind = ADM_CANDIDATE_ROW;
        c->host_row = host;
        c->gpu_row = gpu;
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    return only != NULL && list->n == before ? no_row(stage, on_gpu, only, err) : ADM_OK;
}

size_t adm_tune_default_of(const adm_candidate *c, size_t n) {
    size_t found = n;
    for (size_t i = 0; i < n; i++)
        if (c[i].kind == ADM_CANDIDATE_ROW && (!c[i].on_gpu || found == n)) found = i;
    return found;
}

/* --- Files ---------------------------------------------------------------------------------------------------------- */

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool ends_in(const char *path, const char *suffix) {
    const size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

static adm_status add_source(adm_tune_list *list, adm_stage stage, const char *path, adm_error *err) {
    adm_candidate *c = append(list, stage, ends_in(path, ".cu"), err);
    if (c == NULL) return err->status;
    c->kind = ADM_CANDIDATE_SOURCE;
    snprintf(c->path, sizeof c->path, "%s", path);
    snprintf(c->name, sizeof c->name, "%s", base_of(path));
    return adm_source_read(c, err);
}

static adm_status add_shared(adm_tune_list *list, adm_stage stage, const char *path, uint64_t limit_ns, adm_error *err) {
    char *library = realpath(path, NULL); /* the loader looks elsewhere for a name without a folder */
    if (library == NULL) return adm_fail(err, adm_status_of_read(errno), "%s: %s", path, strerror(errno));
    adm_plugin_list *found = NULL;
    adm_status status = adm_alloc(&found, 1, sizeof *found, "a table of implementations", err);
    if (status == ADM_OK) adm_plugin_find(library, stage, limit_ns, found);
    const size_t n = status != ADM_OK ? 0 : found->status == ADM_OK ? found->n : 1;
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        adm_candidate *c = append(list, stage, found->entry[i].on_gpu, err);
        if (c == NULL) status = err->status;
        if (status != ADM_OK) break;
        const adm_plugin_entry *entry = &found->entry[i];
        c->kind = ADM_CANDIDATE_SHARED;
        snprintf(c->path, sizeof c->path, "%s", path);
        snprintf(c->library, sizeof c->library, "%s", library);
        snprintf(c->name, sizeof c->name, "%.60s%s%s", base_of(path), entry->name[0] != '\0' ? ":" : "", entry->name);
        if (found->status != ADM_OK) adm_candidate_refuse(c, found->status, "%s", found->reason);
        if (found->status != ADM_OK) break;
        snprintf(c->implementation, sizeof c->implementation, "%s", entry->name);
        c->limits = entry->limits;
        c->n_parameters = entry->n_parameters;
        memcpy(c->parameter, entry->parameter, sizeof c->parameter);
        for (size_t p = 0; p < c->n_parameters; p++) c->chosen[p] = c->parameter[p].value[0];
        adm_source_hash(c, err);
    }
    adm_free(&found);
    free(library);
    return status;
}

static adm_status add_module(adm_tune_list *list, adm_stage stage, const char *path, adm_error *err) {
    adm_candidate *c = append(list, stage, true, err);
    if (c == NULL) return err->status;
    c->kind = ADM_CANDIDATE_MODULE;
    snprintf(c->path, sizeof c->path, "%s", path);
    snprintf(c->library, sizeof c->library, "%s", path);
    snprintf(c->name, sizeof c->name, "%s", base_of(path));
    adm_error why;
    adm_status status = adm_source_hash(c, err);
    if (status == ADM_OK && adm_module_read(c, &why) != ADM_OK) adm_candidate_refuse(c, why.status, "%s", why.text);
    return status;
}

adm_status adm_tune_check_file(const char *path, adm_error *err) {
    struct stat file;
    if (strlen(path) >= PATH_MAX - 1) return adm_fail(err, ADM_EINPUT, "a candidate's path is too long");
    if (access(path, R_OK) != 0 || stat(path, &file) != 0) return adm_fail(err, ADM_EINPUT, "%s: %s", path, strerror(errno));
    if (S_ISDIR(file.st_mode)) return adm_fail(err, ADM_EINPUT, "%s: is a folder, not a candidate's file", path);
    if (ends_in(path, ".c") || ends_in(path, ".cu") || ends_in(path, ".so") || ends_in(path, ".json")) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "%s: is no candidate: a .c or .cu file, an .so, or the .json manifest of a .cubin or .ptx",
                    path);
}

adm_status adm_tune_add_file(adm_tune_list *list, adm_stage stage, const char *path, uint64_t limit_ns, adm_error *err) {
    const adm_status status = adm_tune_check_file(path, err);
    if (status != ADM_OK) return status;
    if (ends_in(path, ".c") || ends_in(path, ".cu")) return add_source(list, stage, path, err);
    return ends_in(path, ".so") ? add_shared(list, stage, path, limit_ns, err) : add_module(list, stage, path, err);
}

/* --- Parameters ----------------------------------------------------------------------------------------------------- */

/* The parameter of a candidate that a setting names; NULL: it has none. */
static adm_tune_parameter *parameter_of(adm_candidate *c, const char *name, size_t bytes, int64_t **chosen) {
    for (size_t p = 0; p < c->n_parameters; p++)
        if (strlen(c->parameter[p].name) == bytes && strncmp(c->parameter[p].name, name, bytes) == 0) {
            *chosen = &c->chosen[p];
            return &c->parameter[p];
        }
    return NULL;
}

adm_status adm_tune_set(adm_tune_list *list, const char *setting, bool *found, adm_error *err) {
    const char *equals = strchr(setting, '=');
    char *end;
    const int64_t value = equals != NULL ? strtoll(equals + 1, &end, 0) : 0;
    if (equals == NULL || equals[1] == '\0' || *end != '\0')
        return adm_fail(err, ADM_EINPUT, "--set: '%s' is not NAME=NUMBER", setting);
    for (size_t i = 0; i < list->n; i++) {
        int64_t *chosen;
        adm_tune_parameter *p = parameter_of(&list->c[i], setting, (size_t)(equals - setting), &chosen);
        if (p == NULL) continue;
        p->value[0] = *chosen = value;
        p->n_values = 1;
        *found = true;
    }
    return ADM_OK;
}

/* --- Compiling ------------------------------------------------------------------------------------------------------ */

void adm_tune_compile(adm_candidate *c, size_t n, const char *arch, adm_tune_scratch *scratch, adm_tune_compiled_fn *done,
                      void *user) {
    const size_t n_at_once = adm_threads_available();
    adm_source_build build[ADM_TUNE_MAX_CANDIDATES];
    size_t waiting[ADM_TUNE_MAX_CANDIDATES], first = 0, last = 0;
    for (size_t i = 0; i <= n; i++) {
        /* In the order in which they were started: the oldest is the likeliest to be done. */
        while (first < last && (i == n || last - first >= n_at_once)) {
            const size_t oldest = waiting[first++];
            char *output = NULL;
            adm_source_finish(&c[oldest], &build[oldest], &output);
            if (done != NULL) done(user, output, oldest + 1, n);
            adm_free(&output);
        }
        adm_error why;
        if (i == n || c[i].kind != ADM_CANDIDATE_SOURCE || c[i].status != ADM_OK || c[i].library[0] != '\0') continue;
        if (adm_source_start(&c[i], arch, scratch, &build[i], &why) == ADM_OK) waiting[last++] = i;
        else adm_candidate_refuse(&c[i], why.status, "%s", why.text);
    }
}
