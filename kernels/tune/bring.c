/* bring.c: from --candidate to sessions; see bring.h. */
#include "kernels/tune/bring.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json_read.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/system/read_room.h"
#include "kernels/tune/candidate/plugin.h"

enum { KEY_CANDIDATE = 0x7100, KEY_SET, MAX_SOURCE_BYTES = 4 << 20 };

static const struct argp_option options[] = {
    {"candidate", KEY_CANDIDATE, "[STAGE=]FILE", 0,
     "Also judge and time a kernel of your own, as `adamas tune` does: a .c or .cu file, an .so, or the .json manifest of a "
     ".cubin or .ptx; may be repeated",
     80},
    {"set", KEY_SET, "NAME=N", 0, "Fix a parameter of the candidates (default: the first value of each); may be repeated", 80},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    adm_bring *b = state->input;
    switch (key) {
    case KEY_CANDIDATE:
        if (b->n_files == ADM_BRING_MAX_FILES) argp_error(state, "--candidate: given more than %d times", ADM_BRING_MAX_FILES);
        b->file[b->n_files++] = arg;
        return 0;
    case KEY_SET:
        if (b->n_set == ADM_TUNE_MAX_PARAMETERS) argp_error(state, "--set: given more than %d times", ADM_TUNE_MAX_PARAMETERS);
        b->set[b->n_set++] = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp own = {.options = options, .parser = parse};

const struct argp_child adm_argp_grid[] = {{&adm_argp_shard_and_dry_run, 0, NULL, 0},
                                           {&adm_argp_db, 0, NULL, 0},
                                           {&adm_argp_output, 0, NULL, 0},
                                           {&own, 0, NULL, 0},
                                           {0}};

error_t adm_give_grid_inputs(struct argp_state *state, adm_fleet *fleet, adm_common *common, adm_bring *bring) {
    return adm_give_inputs(state, 4, (void *[]){fleet, common, common, bring});
}

/* --- Which stage ---------------------------------------------------------------------------------------------------- */

static bool ends_in(const char *path, const char *suffix) {
    const size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

/* "topk=FILE"; a path may have an equals sign of its own. */
static bool named_stage(const char *given, bool *stages, const char **path) {
    const char *equals = strchr(given, '=');
    *path = given;
    for (int s = 0; equals != NULL && s < ADM_N_STAGES; s++) {
        const char *name = adm_stage_name((adm_stage)s);
        if (strlen(name) != (size_t)(equals - given) || strncmp(name, given, strlen(name)) != 0) continue;
        stages[s] = true;
        *path = equals + 1;
        return true;
    }
    return false;
}

/* No file either. */
static adm_status no_stage(const char *given, adm_error *err) {
    const char *stages[ADM_N_STAGES];
    char typed[64];
    adm_stage_names(stages);
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(given, "="), given);
    return adm_refuse_word("--candidate", typed, stages, ADM_N_STAGES, err);
}

static adm_status read_text(const char *path, char **text, adm_error *err) {
    FILE *file = adm_open_to_read(path);
    if (file == NULL) return adm_fail(err, adm_status_of_read(errno), "%s: %s", path, strerror(errno));
    adm_status status = adm_alloc(text, MAX_SOURCE_BYTES + 1, 1, "a candidate's source", err);
    if (status == ADM_OK) (*text)[fread(*text, 1, MAX_SOURCE_BYTES, file)] = '\0';
    if (status == ADM_OK && ferror(file))
        status = adm_fail(err, adm_status_of_read(errno), "%s cannot be read: %s", path, strerror(errno));
    fclose(file);
    return status;
}

/* Whether a source has a function of the stage: its name, and then a parenthesis. */
static bool defines(const char *text, const char *prefix, const char *stage) {
    char name[64];
    const int length = snprintf(name, sizeof name, "%s%s", prefix, stage);
    for (const char *at = strstr(text, name); at != NULL; at = strstr(at + 1, name))
        if (at[length + (int)strspn(at + length, " \t\n")] == '(') return true;
    return false;
}

static adm_status stages_of_source(const char *path, bool *stages, adm_error *err) {
    char *text = NULL;
    const char *const prefix = ends_in(path, ".cu") ? "adamas_gpu_" : "adamas_";
    adm_status status = read_text(path, &text, err);
    for (int s = 0; status == ADM_OK && s < ADM_N_STAGES; s++) stages[s] = defines(text, prefix, adm_stage_name((adm_stage)s));
    adm_free(&text);
    return status;
}

static adm_status stages_of_shared(const char *path, bool *stages, adm_error *err) {
    adm_plugin_list *found = NULL;
    char *library = realpath(path, NULL); /* the loader looks elsewhere for a name without a folder */
    if (library == NULL) return adm_fail(err, adm_status_of_read(errno), "%s: %s", path, strerror(errno));
    adm_status status = adm_alloc(&found, 1, sizeof *found, "a table of implementations", err);
    for (int s = 0; status == ADM_OK && s < ADM_N_STAGES; s++) {
        adm_plugin_find(library, (adm_stage)s, 10000000000u, found);
        stages[s] = found->status == ADM_OK;
    }
    adm_free(&found);
    free(library);
    return status;
}

/* What else is wrong with a manifest, its own reader says. */
static adm_status stage_of_manifest(const char *path, bool *stages, adm_error *err) {
    adm_json_fault why;
    json_t *document = adm_json_read_path(path, MAX_SOURCE_BYTES, &why);
    if (document == NULL && why.no_memory) return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while reading it", path);
    if (document == NULL && why.error != 0)
        return adm_fail(err, adm_status_of_read(why.error), "%s cannot be read: %s", path, why.text);
    const char *stage = json_string_value(json_object_get(document, "stage"));
    for (int s = 0; stage != NULL && s < ADM_N_STAGES; s++) stages[s] = strcmp(stage, adm_stage_name((adm_stage)s)) == 0;
    json_decref(document);
    return ADM_OK;
}

adm_status adm_bring_stages(const char *given, bool *stages, const char **path, adm_error *err) {
    adm_status status;
    size_t n = 0;
    for (int s = 0; s < ADM_N_STAGES; s++) stages[s] = false;
    if (named_stage(given, stages, path)) return ADM_OK;
    const bool is_source = ends_in(given, ".c") || ends_in(given, ".cu");
    status = strchr(given, '=') != NULL && access(given, F_OK) != 0 ? no_stage(given, err) : ADM_OK;
    if (status == ADM_OK) status = adm_tune_check_file(given, err);
    if (status != ADM_OK) return status;
    if (is_source) status = stages_of_source(given, stages, err);
    else if (ends_in(given, ".so")) status = stages_of_shared(given, stages, err);
    else if (ends_in(given, ".json")) status = stage_of_manifest(given, stages, err);
    for (int s = 0; s < ADM_N_STAGES; s++) n += stages[s];
    if (status == ADM_OK && (n == 0 || (is_source && n > 1)))
        status = adm_fail(err, ADM_EINPUT,
                          "--candidate: %s %s; name the stage, as in --candidate topk=FILE (`adamas kernel header` has the "
                          "functions)",
                          given, n == 0 ? "does not say which stage it is of" : "has functions of several stages");
    return status;
}

adm_status adm_bring_add_inputs(const adm_bring *b, adm_fleet *sweep, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && sweep->shard.count > 0 && i < b->n_files; i++) {
        bool stages[ADM_N_STAGES];
        const char *path;
        status = adm_bring_stages(b->file[i], stages, &path, err);
        for (int s = 0; status == ADM_OK && s < ADM_N_STAGES; s++)
            if (stages[s]) adm_fleet_add_text(sweep, adm_stage_name((adm_stage)s));
        if (status == ADM_OK) status = adm_fleet_add_file(sweep, path, err);
    }
    return status;
}

/* --- Sessions ------------------------------------------------------------------------------------------------------- */

static adm_tune_session *session_of(adm_tune_session *sessions, size_t *n, adm_stage stage, const adm_tune_options *o) {
    for (size_t i = 0; i < *n; i++)
        if (sessions[i].stage == stage) return &sessions[i];
    sessions[*n] = (adm_tune_session){.stage = stage, .options = *o, .no_search = true};
    return &sessions[(*n)++];
}

/* A setting is for whichever session has the parameter. */
static adm_status set_in_any(adm_tune_session *sessions, size_t n, const char *setting, adm_error *err) {
    adm_status status = ADM_OK;
    bool found = n == 0;
    for (size_t i = 0; i < n; i++) {
        status = adm_tune_session_set(&sessions[i], setting, err);
        found |= status == ADM_OK;
    }
    return found ? ADM_OK : status;
}

adm_status adm_bring_sessions(const adm_bring *b, const adm_tune_options *o, adm_tune_session **sessions, size_t *n,
                              adm_error *err) {
    *n = 0;
    adm_status status = adm_alloc(sessions, ADM_N_STAGES, sizeof **sessions, "sessions of candidates", err);
    for (size_t i = 0; status == ADM_OK && i < b->n_files; i++) {
        bool stages[ADM_N_STAGES];
        const char *path;
        status = adm_bring_stages(b->file[i], stages, &path, err);
        for (int s = 0; status == ADM_OK && s < ADM_N_STAGES; s++)
            if (stages[s]) status = adm_tune_session_add(session_of(*sessions, n, (adm_stage)s, o), path, err);
    }
    for (size_t i = 0; status == ADM_OK && i < b->n_set; i++) status = set_in_any(*sessions, *n, b->set[i], err);
    if (status == ADM_OK && b->n_files == 0 && b->n_set > 0)
        status = adm_fail(err, ADM_EINPUT, "--set is about a candidate: give one with --candidate");
    return status;
}
