/* plugin.c: shared objects with a table of implementations; see plugin.h. */
#include "kernels/tune/candidate/plugin.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "kernels/tune/candidate/adamas_plugin.h"
#include "kernels/tune/candidate/child.h"

/* The public header repeats types of ours, so that it stands alone. */
#define SAME(ours, theirs) _Static_assert(sizeof(ours) == sizeof(theirs), "adamas_plugin.h: " #theirs)
#define SAME_AT(ours, field, theirs, their_field) \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, their_field), "adamas_plugin.h: " #theirs "." #their_field)
SAME(adm_select_rule, adamas_select_rule);
SAME(adm_select_info, adamas_select_info);
/* Ours may go on where theirs ends. */
_Static_assert(offsetof(adm_gpu_shape, metric) == sizeof(adamas_gpu_shape), "adamas_plugin.h: adamas_gpu_shape");
_Static_assert(offsetof(adm_gpu_buffers, channels) == sizeof(adamas_gpu_buffers), "adamas_plugin.h: adamas_gpu_buffers");
SAME_AT(adm_select_rule, n_recent, adamas_select_rule, n_recent);
SAME_AT(adm_select_info, n_tied_in, adamas_select_info, n_tied_in);
SAME_AT(adm_gpu_shape, heads.head_dim, adamas_gpu_shape, head_dim);
SAME_AT(adm_gpu_shape, max_pages, adamas_gpu_shape, max_pages);
SAME_AT(adm_gpu_shape, rule, adamas_gpu_shape, rule);
SAME_AT(adm_gpu_shape, scale, adamas_gpu_shape, scale);
SAME_AT(adm_gpu_shape, selection, adamas_gpu_shape, group);
SAME_AT(adm_gpu_buffers, planes, adamas_gpu_buffers, planes);
SAME_AT(adm_gpu_buffers, distance, adamas_gpu_buffers, distance);
SAME_AT(adm_gpu_buffers, workspace, adamas_gpu_buffers, workspace);
_Static_assert((int)ADM_F32 == ADAMAS_F32 && (int)ADM_F16 == ADAMAS_F16 && (int)ADM_BF16 == ADAMAS_BF16, "element types");
_Static_assert((int)ADM_SELECT_GROUP == 1, "adamas_gpu_shape.group");
_Static_assert((int)ADM_TUNE_MAX_PARAMETERS == (int)ADAMAS_MAX_PARAMETERS, "parameters");

static bool is_name(const char *text, size_t max) {
    size_t n = 0;
    for (; text != NULL && text[n] != '\0'; n++)
        if (n >= max || !(isalnum((unsigned char)text[n]) || strchr("._-", text[n]) != NULL)) return false;
    return n > 0;
}

/* Everything of a row that is read later. */
static adm_status check_row(const char *library, const adamas_implementation *row, size_t i, adm_error *err) {
    if (!is_name(row->name, 63))
        return adm_fail(err, ADM_EINPUT, "%s: the name of implementation %zu is not of letters, digits, '.', '_' and '-'",
                        library, i);
    if (row->run == NULL) return adm_fail(err, ADM_EINPUT, "%s: implementation '%s' has no function", library, row->name);
    if (row->n_parameters > ADAMAS_MAX_PARAMETERS || (row->n_parameters > 0 && (row->parameters == NULL || row->set == NULL)))
        return adm_fail(err, ADM_EINPUT,
                        "%s: implementation '%s' has %u parameters; up to %d, each in `parameters`, and a `set`", library,
                        row->name, row->n_parameters, ADAMAS_MAX_PARAMETERS);
    for (uint32_t p = 0; p < row->n_parameters; p++) {
        const adamas_parameter *parameter = &row->parameters[p];
        if (!is_name(parameter->name, 47) || parameter->values == NULL || parameter->n_values == 0 ||
            parameter->n_values > ADM_TUNE_MAX_VALUES)
            return adm_fail(err, ADM_EINPUT, "%s: parameter %u of '%s' needs a name and 1 to %d values", library, p, row->name,
                            ADM_TUNE_MAX_VALUES);
    }
    return ADM_OK;
}

/* Why the dynamic linker refused a file. Out of memory, glibc says that it "cannot create" or "cannot allocate" something, or
 * that there is no such file, which it also says of one for another machine: hence the look at whether there is memory. */
static adm_status say_why(adm_error *err) {
    const char *said = dlerror(), *words = said != NULL ? said : "out of memory";
    char *memory = NULL;
    const bool is_memory = adm_alloc(&memory, 1 << 20, 1, "a candidate", NULL) != ADM_OK || strstr(words, "memory") != NULL ||
                           strstr(words, "cannot create") != NULL || strstr(words, "cannot allocate") != NULL;
    adm_free(&memory);
    if (is_memory) return adm_fail(err, ADM_EENVIRONMENT, "cannot be loaded, out of memory: %s", words);
    return adm_fail(err, ADM_EINPUT, "cannot be loaded: %s", words);
}

static adm_status open_table(const char *library, const adamas_plugin **table, adm_error *err) {
    struct stat info;
    if (stat(library, &info) == 0 && !S_ISREG(info.st_mode)) /* the dynamic linker would wait for a pipe's writer */
        return adm_fail(err, ADM_EINPUT, "cannot be loaded: it is no regular file");
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL); /* stays open as long as the process */
    if (handle == NULL) handle = dlopen(library, RTLD_NOW | RTLD_LOCAL); /* what failed for want of memory alone may go now */
    if (handle == NULL) return say_why(err);
    const adamas_plugin *t = dlsym(handle, "adamas_plugin_table");
    if (t == NULL)
        return adm_fail(err, ADM_EINPUT,
                        "exports no adamas_plugin_table; adamas_plugin.h (`adamas kernel header`) says what that is");
    if (t->version != ADAMAS_PLUGIN_VERSION || t->bytes != sizeof(adamas_implementation))
        return adm_fail(err, ADM_EINPUT,
                        "was built with version %u of adamas_plugin.h, and this program reads version %d: rebuild it",
                        t->version, ADAMAS_PLUGIN_VERSION);
    if (t->n_implementations == 0 || t->implementations == NULL) return adm_fail(err, ADM_EINPUT, "its table is empty");
    for (uint32_t i = 0; i < t->n_implementations; i++) {
        adm_status status = check_row("its table", &t->implementations[i], i, err);
        if (status != ADM_OK) return status;
    }
    *table = t;
    return ADM_OK;
}

static bool is_of_stage(const adamas_implementation *row, adm_stage stage) {
    return row->stage != NULL && strcmp(row->stage, adm_stage_name(stage)) == 0;
}

static adm_plugin_entry entry_of(const adamas_implementation *row) {
    adm_plugin_entry e = {.on_gpu = row->on_gpu != 0, .n_parameters = row->n_parameters};
    snprintf(e.name, sizeof e.name, "%s", row->name);
    e.limits = (adm_tune_limits){row->head_dims != 0 ? row->head_dims & ADM_TUNE_ALL_HEAD_DIMS : ADM_TUNE_ALL_HEAD_DIMS,
                                 row->dtypes != 0 ? row->dtypes & ADM_TUNE_ALL_DTYPES : ADM_TUNE_ALL_DTYPES, row->max_tokens};
    for (uint32_t p = 0; p < row->n_parameters; p++) {
        snprintf(e.parameter[p].name, sizeof e.parameter[p].name, "%s", row->parameters[p].name);
        e.parameter[p].n_values = row->parameters[p].n_values;
        memcpy(e.parameter[p].value, row->parameters[p].values, row->parameters[p].n_values * sizeof(int64_t));
    }
    return e;
}

/* --- Listing, in a process of its own ------------------------------------------------------------------------------- */

typedef struct question {
    const char *library;
    adm_stage stage;
} question;

static int serve_list(void *user, int socket, adm_child_page *page) {
    const question *q = user;
    adm_plugin_list list = {.status = ADM_OK};
    adm_error err = {0};
    const adamas_plugin *table = NULL;
    (void)page;
    list.status = open_table(q->library, &table, &err);
    for (uint32_t i = 0; list.status == ADM_OK && i < table->n_implementations; i++)
        if (is_of_stage(&table->implementations[i], q->stage) && list.n < ADM_PLUGIN_MAX_LISTED)
            list.entry[list.n++] = entry_of(&table->implementations[i]);
    if (list.status == ADM_OK && list.n == 0)
        list.status = adm_fail(&err, ADM_EINPUT, "its table has no implementation of the stage %s", adm_stage_name(q->stage));
    snprintf(list.reason, sizeof list.reason, "%s", err.text);
    return !adm_child_answer(socket, &list, sizeof list);
}

void adm_plugin_find(const char *library, adm_stage stage, uint64_t limit_ns, adm_plugin_list *list) {
    question q = {library, stage};
    adm_child child;
    adm_error err = {0};
    adm_status status = adm_child_start(serve_list, &q, limit_ns, 0, &child, &err);
    if (status == ADM_OK) {
        status = adm_child_ask(&child, NULL, 0, list, sizeof *list, &err);
        adm_child_end(&child);
    }
    if (status == ADM_OK) return;
    *list = (adm_plugin_list){.status = status == ADM_EINTERNAL ? ADM_EINPUT : status}; /* it is the file that is bad */
    snprintf(list->reason, sizeof list->reason, "while it was loaded it %.480s", err.text);
}

/* --- Loading -------------------------------------------------------------------------------------------------------- */

adm_status adm_plugin_load(const adm_candidate *c, adm_plugin_loaded *out, adm_error *err) {
    const adamas_plugin *table = NULL;
    adm_status status = open_table(c->library, &table, err);
    if (status != ADM_OK) return status;
    for (uint32_t i = 0; i < table->n_implementations; i++) {
        const adamas_implementation *row = &table->implementations[i];
        if (!is_of_stage(row, c->stage) || (c->implementation[0] != '\0' && strcmp(row->name, c->implementation) != 0))
            continue;
        if (row->on_gpu != (uint32_t)c->on_gpu) continue;
        if (c->kind == ADM_CANDIDATE_SHARED && row->n_parameters > 0 && row->set(c->chosen) != 0)
            return adm_fail(err, ADM_EUNSUPPORTED, "'%s' refused its parameters", row->name);
        *out = (adm_plugin_loaded){row->run, (size_t(*)(const void *))row->workspace_bytes};
        return ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT, "has no implementation '%s' of the stage %s", c->implementation, adm_stage_name(c->stage));
}
