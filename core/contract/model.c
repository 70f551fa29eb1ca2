/* model.c: shapes of known models, and arithmetic on them. */
#include "core/contract/model.h"

#include <string.h>

static const adm_model models[] = {
    {"llama-2-7b", {32, 32, 128}, 32, 4096, 11008, 32000, 1, 2, 2, false},
    {"llama-3.1-8b", {32, 8, 128}, 32, 4096, 14336, 128256, 1, 2, 2, false},
    {"llama-3-70b-tp4", {16, 2, 128}, 80, 8192, 28672, 128256, 4, 2, 2, false},
    {"qwen-2.5-7b", {28, 4, 128}, 28, 3584, 18944, 152064, 1, 2, 2, false},
    {"smollm2-135m", {9, 3, 64}, 30, 576, 1536, 49152, 1, 2, 2, true},
    {"smollm2-1.7b", {32, 32, 64}, 24, 2048, 8192, 49152, 1, 2, 2, true},
};
enum { N_MODELS = sizeof models / sizeof models[0] };

const adm_model *adm_model_at(size_t i) { return i < N_MODELS ? &models[i] : NULL; }

const adm_model *adm_model_find(const char *name) {
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].name, name) == 0) return &models[i];
    return NULL;
}

adm_status adm_model_check(const adm_model *m, adm_error *err) {
    const struct {
        const char *name;
        uint32_t value, max;
    } numbers[] = {{"layers", m->n_layers, 4096},
                   {"hidden size", m->hidden, 1u << 20},
                   {"intermediate size", m->intermediate, 1u << 22},
                   {"vocabulary", m->vocab, 1u << 24},
                   {"ranks", m->n_ranks, 1024},
                   {"bytes per weight", m->weight_bytes, 4},
                   {"bytes per cached element", m->cache_bytes, 4}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].value < 1 || numbers[i].value > numbers[i].max)
            return adm_fail(err, ADM_EINPUT, "model %s: %s is %u, it must be 1 to %u", m->name, numbers[i].name,
                            numbers[i].value, numbers[i].max);
    return adm_shape_check(&m->shape, err);
}

double adm_model_layer_weights(const adm_model *m) {
    const double q = (double)m->shape.n_q_heads * m->shape.head_dim, kv = (double)m->shape.n_kv_heads * m->shape.head_dim;
    return m->hidden * (2 * q + 2 * kv + 3.0 * m->intermediate / m->n_ranks);
}

double adm_model_head_weights(const adm_model *m) { return (double)m->hidden * m->vocab / m->n_ranks; }

double adm_model_weight_bytes(const adm_model *m) {
    return (m->n_layers * adm_model_layer_weights(m) + (m->tied ? 1 : 2) * adm_model_head_weights(m)) * m->weight_bytes;
}

double adm_model_kv_bytes(const adm_model *m) {
    return 2.0 * m->n_layers * m->shape.n_kv_heads * m->shape.head_dim * m->cache_bytes;
}

double adm_model_code_bytes(const adm_model *m, uint32_t n_sparse) {
    return (double)n_sparse * m->shape.n_kv_heads * m->shape.head_dim / 4;
}
