/* model_file.c: config.json to a shape. */
#include "analysis/serving/model_file.h"

#include <jansson.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/json_read.h"
#include "core/base/printable.h"
#include "core/base/suggest.h"
#include "core/system/read_room.h"

static adm_status unknown(const char *name, adm_error *err) {
    enum { MAX_MODELS = 32 };
    const char *names[MAX_MODELS];
    char known[256] = "", shown[96], meant[ADM_DID_YOU_MEAN_BYTES];
    size_t n = 0;
    for (size_t i = 0; adm_model_at(i) != NULL; i++) {
        const size_t used = strlen(known);
        if (n < MAX_MODELS) names[n++] = adm_model_at(i)->name;
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", adm_model_at(i)->name);
    }
    return adm_fail(err, ADM_EINPUT, "--model: '%s' is neither a file nor one of %s%s",
                    adm_printable(name, shown, sizeof shown), known, adm_did_you_mean(name, names, n, meant));
}

/* A whole number of the file; `otherwise` where it is missing, and that is no failure unless it is 0. */
static adm_status take(const char *path, const json_t *config, const char *key, uint32_t otherwise, uint32_t *value,
                       adm_error *err) {
    const json_t *item = json_object_get(config, key);
    *value = otherwise;
    if ((item == NULL || json_is_null(item)) && otherwise > 0) return ADM_OK;
    const json_int_t number = json_integer_value(item);
    if (!json_is_integer(item) || number < 1 || number > 1 << 28)
        return adm_fail(err, ADM_EINPUT, "--model: %s: \"%s\" is not a whole number from 1 on", path, key);
    *value = (uint32_t)number;
    return ADM_OK;
}

static adm_status read_config(const char *path, const json_t *config, adm_model *m, adm_error *err) {
    uint32_t heads = 0, kv_heads = 0;
    adm_status status = take(path, config, "num_attention_heads", 0, &heads, err);
    if (status == ADM_OK) status = take(path, config, "num_key_value_heads", heads, &kv_heads, err);
    if (status == ADM_OK) status = take(path, config, "hidden_size", 0, &m->hidden, err);
    if (status == ADM_OK) status = take(path, config, "head_dim", m->hidden / heads, &m->shape.head_dim, err);
    if (status == ADM_OK) status = take(path, config, "intermediate_size", 0, &m->intermediate, err);
    if (status == ADM_OK) status = take(path, config, "num_hidden_layers", 0, &m->n_layers, err);
    if (status == ADM_OK) status = take(path, config, "vocab_size", 0, &m->vocab, err);
    if (status == ADM_OK) status = take(path, config, "ranks", 1, &m->n_ranks, err);
    if (status != ADM_OK) return status;
    if (heads % m->n_ranks != 0 || kv_heads % m->n_ranks != 0)
        return adm_fail(err, ADM_EINPUT, "--model: %s: %u ranks do not divide %u query and %u KV heads", path, m->n_ranks,
                        heads, kv_heads);
    m->shape.n_q_heads = heads / m->n_ranks;
    m->shape.n_kv_heads = kv_heads / m->n_ranks;
    m->tied = json_is_true(json_object_get(config, "tie_word_embeddings"));
    m->weight_bytes = m->cache_bytes = 2;
    return adm_model_check(m, err);
}

adm_status adm_model_read(const char *name, adm_model *model, adm_error *err) {
    struct stat info;
    adm_json_fault why;
    char path[256];
    const adm_model *known = adm_model_find(name);
    if (known != NULL) {
        *model = *known;
        return ADM_OK;
    }
    *model = (adm_model){0};
    if (stat(name, &info) != 0) return unknown(name, err);
    adm_printable(name, path, sizeof path);
    if (!S_ISREG(info.st_mode) || info.st_size > 1 << 24)
        return adm_fail(err, ADM_EINPUT, "--model: %s is no config.json of a model", path);
    FILE *file = fopen(name, "rbe");
    if (file == NULL) return adm_fail(err, adm_status_of_read(errno), "--model: %s cannot be read: %s", path, strerror(errno));
    json_t *config = adm_json_read_file(file, (size_t)info.st_size, &why);
    fclose(file);
    if (config == NULL && why.no_memory)
        return adm_fail(err, ADM_EENVIRONMENT, "--model: %s: out of memory while reading it", path);
    if (config == NULL && why.error != 0)
        return adm_fail(err, adm_status_of_read(why.error), "--model: %s cannot be read: %s", path, why.text);
    if (config == NULL) return adm_fail(err, ADM_EINPUT, "--model: %s is no JSON: line %d: %s", path, why.line, why.text);
    const char *slash = strrchr(path, '/');
    const char *type = json_string_value(json_object_get(config, "name"));
    adm_printable(type != NULL ? type : slash != NULL ? slash + 1 : path, model->name, sizeof model->name);
    adm_status status = read_config(path, config, model, err);
    json_decref(config);
    return status;
}
