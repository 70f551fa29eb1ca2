/* weights.c: reads a model's weights; see weights.h. */
#include "kernels/decode/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "traces/format/safetensors.h"

struct adm_weights {
    adm_safetensors *file;
    adm_decode_source source;
    adm_decode_setup setup;
    adm_decode_plan plan;
    int32_t *token, *expected; /* [n_tokens] */
    uint32_t n_tokens;
};

/* The tensor's data if it has that type and shape; columns 0: one dimension. */
static adm_status tensor(const adm_weights *w, const char *name, const char *dtype, uint64_t rows, uint64_t columns,
                         const void **data, adm_error *err) {
    const adm_st_tensor *t = adm_safetensors_find(w->file, name);
    const char *label = adm_safetensors_file(w->file)->label;
    if (t == NULL) return adm_fail(err, ADM_EINPUT, "%s: has no tensor '%s'", label, name);
    if (strcmp(t->dtype, dtype) != 0 || t->n_dims != (columns > 0 ? 2 : 1) || t->shape[0] != rows || t->shape[1] != columns)
        return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' is %s of %llu x %llu; the model calls for %s of %llu x %llu", label,
                        name, t->dtype, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1], dtype,
                        (unsigned long long)rows, (unsigned long long)columns);
    *data = t->data;
    return ADM_OK;
}

static adm_status matrix(void *user, adm_decode_matrix which, uint32_t layer, const void **data, adm_error *err) {
    static const char *const names[ADM_N_MATRICES] = {"qkv", "output", "gate_up", "down", "head"};
    const adm_weights *w = user;
    char name[64];
    if (which == ADM_MATRIX_HEAD) snprintf(name, sizeof name, "head");
    else snprintf(name, sizeof name, "layers.%u.%s", layer, names[which]);
    return tensor(w, name, "F16", w->plan.rows[which], w->plan.columns[which], data, err);
}

static adm_status embedding(void *user, const void **data, adm_error *err) {
    const adm_weights *w = user;
    return tensor(w, "embedding", "F16", w->plan.sizes.vocab, w->plan.sizes.hidden, data, err);
}

static adm_status gain(void *user, uint32_t layer, bool second, const void **data, adm_error *err) {
    const adm_weights *w = user;
    char name[64];
    if (layer == w->setup.model.n_layers) snprintf(name, sizeof name, "norm");
    else snprintf(name, sizeof name, "layers.%u.norm%d", layer, second ? 2 : 1);
    return tensor(w, name, "F32", w->plan.sizes.hidden, 0, data, err);
}

static adm_status bias(void *user, uint32_t layer, const void **data, adm_error *err) {
    const adm_weights *w = user;
    char name[64];
    *data = NULL;
    snprintf(name, sizeof name, "layers.%u.bias", layer);
    if (adm_safetensors_find(w->file, name) == NULL) return ADM_OK;
    return tensor(w, name, "F32", w->plan.rows[ADM_MATRIX_QKV], 0, data, err);
}

static adm_status number(const adm_weights *w, const char *key, float *value, adm_error *err) {
    const adm_trace_meta *pairs;
    const size_t n = adm_safetensors_metadata(w->file, &pairs);
    for (size_t i = 0; i < n; i++) {
        char *end;
        if (strcmp(pairs[i].key, key) != 0) continue;
        *value = strtof(pairs[i].value, &end);
        if (end != pairs[i].value && *end == '\0' && *value > 0 && isfinite(*value)) return ADM_OK;
    }
    return adm_fail(err, ADM_EINPUT, "%s: its metadata has no '%s' above 0", adm_safetensors_file(w->file)->label, key);
}

static adm_status check_all(adm_weights *w, adm_error *err) {
    const void *data;
    adm_status status = embedding(w, &data, err);
    if (status == ADM_OK && !w->setup.model.tied) status = matrix(w, ADM_MATRIX_HEAD, 0, &data, err);
    if (status == ADM_OK) status = gain(w, w->setup.model.n_layers, false, &data, err);
    for (uint32_t l = 0; l < w->setup.model.n_layers && status == ADM_OK; l++) {
        for (int i = 0; i < ADM_MATRIX_HEAD && status == ADM_OK; i++) status = matrix(w, (adm_decode_matrix)i, l, &data, err);
        if (status == ADM_OK) status = gain(w, l, false, &data, err);
        if (status == ADM_OK) status = gain(w, l, true, &data, err);
        if (status == ADM_OK) status = bias(w, l, &data, err);
    }
    return status;
}

/* Tensors lie at any alignment, so they are copied. */
static adm_status read_tokens(adm_weights *w, adm_error *err) {
    const adm_st_tensor *t = adm_safetensors_find(w->file, "tokens");
    const void *tokens, *expected;
    if (t == NULL) return ADM_OK;
    const uint64_t n = t->shape[0];
    if (n < 1 || n > 1u << 20)
        return adm_fail(err, ADM_EINPUT, "%s: %llu tokens; 1 to %u can be followed", adm_safetensors_file(w->file)->label,
                        (unsigned long long)n, 1u << 20);
    adm_status status = tensor(w, "tokens", "I32", n, 0, &tokens, err);
    if (status == ADM_OK) status = tensor(w, "expected", "I32", n, 0, &expected, err);
    if (status == ADM_OK) status = adm_alloc(&w->token, n, sizeof *w->token, "tokens", err);
    if (status == ADM_OK) status = adm_alloc(&w->expected, n, sizeof *w->expected, "tokens", err);
    if (status != ADM_OK) return status;
    memcpy(w->token, tokens, n * sizeof *w->token);
    memcpy(w->expected, expected, n * sizeof *w->expected);
    for (uint64_t i = 0; i < n; i++)
        if (w->token[i] < 0 || (uint32_t)w->token[i] >= w->plan.sizes.vocab)
            return adm_fail(err, ADM_EINPUT, "%s: token %d is none of the model's %u", adm_safetensors_file(w->file)->label,
                            w->token[i], w->plan.sizes.vocab);
    w->n_tokens = (uint32_t)n;
    return ADM_OK;
}

adm_status adm_weights_open(const char *path, adm_decode_setup *setup, adm_weights **out, adm_error *err) {
    adm_weights *w = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&w, 1, sizeof *w, "weights", err);
    if (status != ADM_OK) return status;
    w->source = (adm_decode_source){matrix, embedding, gain, bias, w};
    w->setup = *setup;
    w->setup.batch = 1;
    w->setup.capacity = 1;
    status = adm_decode_plan_make(&w->setup, &w->plan, err);
    if (status == ADM_OK) status = adm_safetensors_open(path, &w->file, err);
    if (status == ADM_OK) status = number(w, "eps", &setup->eps, err);
    if (status == ADM_OK) status = number(w, "rope_base", &setup->rope_base, err);
    if (status == ADM_OK) status = check_all(w, err);
    if (status == ADM_OK) status = read_tokens(w, err);
    if (status != ADM_OK) adm_weights_close(&w);
    *out = w;
    return status;
}

void adm_weights_close(adm_weights **weights) {
    if (*weights == NULL) return;
    adm_safetensors_close(&(*weights)->file);
    adm_free(&(*weights)->token);
    adm_free(&(*weights)->expected);
    adm_free(weights);
}

const adm_decode_source *adm_weights_source(const adm_weights *weights) { return &weights->source; }

uint32_t adm_weights_tokens(const adm_weights *w, const int32_t **token, const int32_t **expected) {
    *token = w->token;
    *expected = w->expected;
    return w->n_tokens;
}
