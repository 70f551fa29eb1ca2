/* module.c: manifests of compiled kernels; see module.h. */
#include "kernels/tune/candidate/module.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/json_read.h"
#include "core/system/read_room.h"
#include "kernels/tune/candidate/expression.h"

enum { MAX_NAMES = 16 + ADM_TUNE_MAX_PARAMETERS, FORMULA_BYTES = 256 };

struct adm_module {
    json_t *manifest;
    adm_tune_parameter parameter[ADM_TUNE_MAX_PARAMETERS];
    int64_t chosen[ADM_TUNE_MAX_PARAMETERS];
    size_t n_parameters;
    char path[PATH_MAX], kernel[256];
};

/* --- Reading -------------------------------------------------------------------------------------------------------- */

static adm_status load(const char *path, json_t **out, adm_error *err) {
    adm_json_fault why;
    *out = adm_json_read_path(path, 1 << 20, &why);
    if (*out == NULL && why.no_memory) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while reading the manifest");
    if (*out == NULL && why.error != 0)
        return adm_fail(err, adm_status_of_read(why.error), "the manifest cannot be read: %s", why.text);
    if (*out == NULL && why.line == 0) return adm_fail(err, ADM_EINPUT, "the manifest: %s", why.text);
    if (*out == NULL) return adm_fail(err, ADM_EINPUT, "line %d of the manifest: %s", why.line, why.text);
    return json_is_object(*out) ? ADM_OK : adm_fail(err, ADM_EINPUT, "the manifest is no JSON object");
}

static adm_status read_parameters(adm_candidate *c, const json_t *manifest, adm_error *err) {
    const char *name;
    json_t *values;
    c->n_parameters = 0;
    json_object_foreach(json_object_get(manifest, "parameters"), name, values) {
        if (c->n_parameters == ADM_TUNE_MAX_PARAMETERS)
            return adm_fail(err, ADM_EINPUT, "more than %d parameters", ADM_TUNE_MAX_PARAMETERS);
        adm_tune_parameter *p = &c->parameter[c->n_parameters];
        const size_t n = json_array_size(values);
        if (n == 0 || n > ADM_TUNE_MAX_VALUES)
            return adm_fail(err, ADM_EINPUT, "the parameter '%.40s' needs a list of 1 to %d numbers", name,
                            ADM_TUNE_MAX_VALUES);
        snprintf(p->name, sizeof p->name, "%s", name);
        p->n_values = n;
        for (size_t i = 0; i < n; i++) p->value[i] = json_integer_value(json_array_get(values, i));
        c->chosen[c->n_parameters++] = p->value[0];
    }
    return ADM_OK;
}

static adm_status read_limits(adm_candidate *c, const json_t *manifest, adm_error *err) {
    const json_t *dims = json_object_get(manifest, "head_dim"), *dtypes = json_object_get(manifest, "dtype");
    c->limits = (adm_tune_limits){ADM_TUNE_ALL_HEAD_DIMS, ADM_TUNE_ALL_DTYPES, 0};
    if (dims != NULL) c->limits.head_dims = 0;
    for (size_t i = 0; i < json_array_size(dims); i++) {
        const json_int_t d = json_integer_value(json_array_get(dims, i));
        if (d == 64 || d == 128 || d == 256) c->limits.head_dims |= (uint32_t)d;
    }
    if (dtypes != NULL) c->limits.dtypes = 0;
    for (size_t i = 0; i < json_array_size(dtypes); i++) {
        const char *word = json_string_value(json_array_get(dtypes, i));
        if (word != NULL && strcmp(word, "f16") == 0) c->limits.dtypes |= 1u << ADM_F16;
        if (word != NULL && strcmp(word, "bf16") == 0) c->limits.dtypes |= 1u << ADM_BF16;
    }
    if (c->limits.head_dims == 0) return adm_fail(err, ADM_EINPUT, "head_dim is no list of 64, 128 and 256");
    return c->limits.dtypes != 0 ? ADM_OK : adm_fail(err, ADM_EINPUT, "dtype is no list of \"f16\" and \"bf16\"");
}

static adm_status check_fields(const json_t *manifest, adm_stage stage, adm_error *err) {
    static const char *const lists[] = {"grid", "block"};
    const char *named = json_string_value(json_object_get(manifest, "stage"));
    if (named == NULL || strcmp(named, adm_stage_name(stage)) != 0)
        return adm_fail(err, ADM_EINPUT, "the manifest is for the stage '%.40s'", named != NULL ? named : "");
    if (!json_is_string(json_object_get(manifest, "module")) || !json_is_string(json_object_get(manifest, "kernel")))
        return adm_fail(err, ADM_EINPUT, "the manifest needs \"module\" and \"kernel\", both strings");
    for (int i = 0; i < 2; i++)
        if (json_array_size(json_object_get(manifest, lists[i])) != 3)
            return adm_fail(err, ADM_EINPUT, "\"%s\" is no list of three formulas", lists[i]);
    const size_t n = json_array_size(json_object_get(manifest, "arguments"));
    if (n == 0 || n > ADM_LAUNCH_MAX_ARGUMENTS)
        return adm_fail(err, ADM_EINPUT, "\"arguments\" is no list of 1 to %d", ADM_LAUNCH_MAX_ARGUMENTS);
    return ADM_OK;
}

/* Replaces "{NAME}" by the parameter's value. */
static void fill_in(const adm_module *m, const char *text, char *out, size_t bytes) {
    size_t used = 0;
    while (*text != '\0' && used + 1 < bytes) {
        size_t p = 0;
        for (; *text == '{' && p < m->n_parameters; p++) {
            const size_t length = strlen(m->parameter[p].name);
            if (strncmp(text + 1, m->parameter[p].name, length) == 0 && text[1 + length] == '}') break;
        }
        if (*text == '{' && p < m->n_parameters) {
            used += (size_t)snprintf(out + used, bytes - used, "%lld", (long long)m->chosen[p]);
            text += strlen(m->parameter[p].name) + 2;
        } else out[used++] = *text++;
    }
    out[used < bytes ? used : bytes - 1] = '\0';
}

adm_status adm_module_open(const adm_candidate *c, adm_module **out, const char **path, const char **kernel, adm_error *err) {
    char name[256];
    adm_status status = adm_alloc(out, 1, sizeof **out, "a manifest", err);
    if (status != ADM_OK) return status;
    adm_module *m = *out;
    memcpy(m->parameter, c->parameter, sizeof m->parameter);
    memcpy(m->chosen, c->chosen, sizeof m->chosen);
    m->n_parameters = c->n_parameters;
    status = load(c->library, &m->manifest, err);
    if (status == ADM_OK) status = check_fields(m->manifest, c->stage, err);
    if (status != ADM_OK) {
        adm_module_close(out);
        return status;
    }
    const char *slash = strrchr(c->library, '/');
    fill_in(m, json_string_value(json_object_get(m->manifest, "module")), name, sizeof name);
    snprintf(m->path, sizeof m->path, "%.*s%s", slash != NULL ? (int)(slash - c->library + 1) : 0, c->library, name);
    fill_in(m, json_string_value(json_object_get(m->manifest, "kernel")), m->kernel, sizeof m->kernel);
    *path = m->path;
    *kernel = m->kernel;
    if (access(m->path, R_OK) == 0) return ADM_OK;
    status = adm_fail(err, ADM_EINPUT, "the manifest's module %.400s is not there", m->path);
    adm_module_close(out);
    return status;
}

void adm_module_close(adm_module **module) {
    if (*module == NULL) return;
    json_decref((*module)->manifest);
    adm_free(module);
}

adm_status adm_module_read(adm_candidate *c, adm_error *err) {
    json_t *manifest = NULL;
    adm_module *module = NULL;
    const char *path, *kernel;
    adm_status status = load(c->library, &manifest, err);
    if (status == ADM_OK) status = check_fields(manifest, c->stage, err);
    if (status == ADM_OK) status = read_parameters(c, manifest, err);
    if (status == ADM_OK) status = read_limits(c, manifest, err);
    if (status == ADM_OK) status = adm_module_open(c, &module, &path, &kernel, err);
    adm_module_close(&module);
    json_decref(manifest);
    return status;
}

/* --- Formulas ------------------------------------------------------------------------------------------------------- */

static size_t names_of(const adm_module *m, const adm_gpu_shape *s, adm_name_value names[MAX_NAMES]) {
    const adm_name_value shape[] = {
        {"n_q_heads", s->heads.n_q_heads},
        {"n_kv_heads", s->heads.n_kv_heads},
        {"head_dim", s->heads.head_dim},
        {"batch", s->batch},
        {"capacity", s->capacity},
        {"page_size", s->page_size},
        {"max_pages", s->max_pages},
        {"budget", s->rule.budget},
        {"sinks", s->rule.n_sinks},
        {"recent", s->rule.n_recent},
        {"group", s->selection == ADM_SELECT_GROUP},
        {"select_rows", (int64_t)s->batch * adm_gpu_select_heads(s)},
    };
    size_t n = sizeof shape / sizeof *shape;
    memcpy(names, shape, sizeof shape);
    for (size_t p = 0; p < m->n_parameters; p++) names[n++] = (adm_name_value){m->parameter[p].name, m->chosen[p]};
    return n;
}

/* A number, or a formula in a string. */
static adm_status evaluate(const adm_module *m, const adm_gpu_shape *s, const json_t *formula, int64_t *value, adm_error *err) {
    adm_name_value names[MAX_NAMES];
    if (json_is_integer(formula)) {
        *value = json_integer_value(formula);
        return ADM_OK;
    }
    if (!json_is_string(formula))
        return adm_fail(err, ADM_EINPUT, "a formula of the manifest is neither a number nor a string");
    const size_t n = names_of(m, s, names);
    return adm_expression_evaluate(json_string_value(formula), names, n, value, err);
}

static adm_status evaluate_three(const adm_module *m, const adm_gpu_shape *s, const char *field, uint32_t out[3],
                                 adm_error *err) {
    const json_t *list = json_object_get(m->manifest, field);
    for (size_t i = 0; i < 3; i++) {
        int64_t value = 0;
        adm_status status = evaluate(m, s, json_array_get(list, i), &value, err);
        if (status == ADM_OK && (value < 1 || value > INT32_MAX))
            status = adm_fail(err, ADM_EINPUT, "%s[%zu] is %lld, which no launch can have", field, i, (long long)value);
        if (status != ADM_OK) return status;
        out[i] = (uint32_t)value;
    }
    return ADM_OK;
}

static bool buffer_of(const char *name, const adm_gpu_buffers *b, uint64_t *value) {
    const struct {
        const char *name;
        const void *pointer;
    } buffers[] = {{"q", b->q},
                   {"k_new", b->k_new},
                   {"v_new", b->v_new},
                   {"k", b->k},
                   {"v", b->v},
                   {"planes", b->planes},
                   {"page_table", b->page_table},
                   {"length", b->length},
                   {"y", b->y},
                   {"code", b->code},
                   {"packed", b->packed},
                   {"distance", b->distance},
                   {"index", b->index},
                   {"n_selected", b->n_selected},
                   {"out", b->out},
                   {"workspace", b->workspace}};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (strcmp(buffers[i].name, name) == 0) {
            *value = (uint64_t)(uintptr_t)buffers[i].pointer;
            return true;
        }
    return false;
}

static bool float_of(const char *name, const adm_gpu_shape *s, float *value) {
    if (strcmp(name, "scale") == 0) *value = s->scale;
    else if (strncmp(name, "threshold", 9) == 0 && name[9] >= '0' && name[9] <= '2' && name[10] == '\0')
        *value = s->threshold[name[9] - '0'];
    else return false;
    return true;
}

static adm_status argument_of(const adm_module *m, const adm_gpu_shape *s, const adm_gpu_buffers *b, const char *text,
                              uint64_t *value, adm_error *err) {
    int64_t number = 0;
    float real;
    *value = 0;
    if (text != NULL && buffer_of(text, b, value)) return ADM_OK;
    const char *colon = text != NULL ? strchr(text, ':') : NULL;
    if (colon == NULL)
        return adm_fail(err, ADM_EINPUT, "the argument '%.60s' is neither a buffer nor \"TYPE: FORMULA\"",
                        text != NULL ? text : "");
    const char *formula = colon + 1 + strspn(colon + 1, " ");
    if (strncmp(text, "f32:", 4) == 0) {
        if (!float_of(formula, s, &real))
            return adm_fail(err, ADM_EINPUT, "the argument '%.60s': f32 is scale or threshold0 to 2", text);
        memcpy(value, &real, sizeof real);
        return ADM_OK;
    }
    if (strncmp(text, "i32:", 4) != 0 && strncmp(text, "i64:", 4) != 0 && strncmp(text, "pointer:", 8) != 0)
        return adm_fail(err, ADM_EINPUT, "the argument '%.60s': the types are i32, i64, f32 and pointer", text);
    adm_name_value names[MAX_NAMES];
    const size_t n = names_of(m, s, names);
    adm_status status = adm_expression_evaluate(formula, names, n, &number, err);
    if (status == ADM_OK && text[1] == '3' && (number < INT32_MIN || number > INT32_MAX))
        return adm_fail(err, ADM_EINPUT, "the argument '%.60s' is %lld, which no i32 holds", text, (long long)number);
    *value = (uint64_t)number;
    return status;
}

adm_status adm_module_launch(const adm_module *m, const adm_gpu_shape *s, const adm_gpu_buffers *b, adm_tune_launch *l,
                             adm_error *err) {
    const json_t *arguments = json_object_get(m->manifest, "arguments"), *
        requires
    = json_object_get(m->manifest, "requires"), *shared = json_object_get(m->manifest, "shared_bytes");
    int64_t value = 1;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && value != 0 && i < json_array_size(requires); i++)
        status = evaluate(m, s, json_array_get(requires, i), &value, err);
    if (status == ADM_OK && value == 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the manifest's `requires` rules this shape out");
    if (status == ADM_OK) status = evaluate_three(m, s, "grid", l->grid, err);
    if (status == ADM_OK) status = evaluate_three(m, s, "block", l->block, err);
    value = 0;
    if (status == ADM_OK && shared != NULL) status = evaluate(m, s, shared, &value, err);
    if (status == ADM_OK && (value < 0 || value > 1 << 20))
        status = adm_fail(err, ADM_EINPUT, "shared_bytes is %lld", (long long)value);
    l->shared_bytes = (uint32_t)value;
    l->n_arguments = (uint32_t)json_array_size(arguments);
    for (uint32_t i = 0; status == ADM_OK && i < l->n_arguments; i++) {
        status = argument_of(m, s, b, json_string_value(json_array_get(arguments, i)), &l->value[i], err);
        l->argument[i] = &l->value[i];
    }
    return status;
}

adm_status adm_module_workspace(const adm_module *m, const adm_gpu_shape *s, size_t *bytes, adm_error *err) {
    const json_t *formula = json_object_get(m->manifest, "workspace_bytes");
    int64_t value = 0;
    adm_status status = formula != NULL ? evaluate(m, s, formula, &value, err) : ADM_OK;
    if (status == ADM_OK && (value < 0 || value > (int64_t)1 << 36))
        status = adm_fail(err, ADM_EINPUT, "workspace_bytes is %lld", (long long)value);
    *bytes = (size_t)value;
    return status;
}
