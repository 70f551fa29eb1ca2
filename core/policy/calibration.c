/* calibration.c: codings by layer. */
#include "core/policy/calibration.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"

adm_status adm_calibration_coding_of(const char *metric, const char *thresholds, adm_coding *coding, adm_error *err) {
    *coding = adm_coding_default;
    coding->metric = 0;
    while (coding->metric < ADM_N_CODE_METRICS && strcmp(adm_code_metric_name(coding->metric), metric) != 0) coding->metric++;
    if (coding->metric == ADM_N_CODE_METRICS) {
        const char *names[ADM_N_CODE_METRICS];
        for (int i = 0; i < ADM_N_CODE_METRICS; i++) names[i] = adm_code_metric_name((adm_code_metric)i);
        return adm_refuse_word("metric", metric, names, ADM_N_CODE_METRICS, err);
    }
    adm_status status = adm_threshold_parse(thresholds, &coding->thresholds, err);
    return status == ADM_OK ? adm_coding_complete(coding, err) : status;
}

const adm_coding *adm_calibration_coding(const adm_calibration *calibration, uint32_t layer) {
    for (size_t i = 0; i < calibration->n_layers; i++)
        if (calibration->layer[i].number == layer) return &calibration->layer[i].coding;
    return &calibration->other;
}

/* FNV-1a. */
static uint32_t hash_text(uint32_t hash, const char *text) {
    for (; *text != '\0'; text++) hash = (hash ^ (uint8_t)*text) * UINT32_C(16777619);
    return hash * UINT32_C(16777619); /* the end counts, too */
}

static uint32_t hash_coding(uint32_t hash, const adm_coding *coding) {
    return hash_text(hash_text(hash, adm_code_metric_name(coding->metric)), coding->thresholds.text);
}

/* "asym4 scaled:0.9", or where the listed layers differ "l1+asym4". */
static void name_codings(const adm_calibration *calibration, char *text, size_t text_bytes) {
    bool is_used[ADM_N_CODE_METRICS] = {false}, differs = false;
    const adm_coding *first = calibration->n_layers > 0 ? &calibration->layer[0].coding : &calibration->other;
    is_used[first->metric] = true;
    for (size_t i = 0; i < calibration->n_layers; i++) {
        const adm_coding *coding = &calibration->layer[i].coding;
        is_used[coding->metric] = true;
        differs |= coding->metric != first->metric || strcmp(coding->thresholds.text, first->thresholds.text) != 0;
    }
    snprintf(text, text_bytes, "%s %s", adm_code_metric_name(first->metric), first->thresholds.text);
    if (!differs) return;
    text[0] = '\0';
    for (adm_code_metric m = 0; m < ADM_N_CODE_METRICS; m++) {
        const size_t used = strlen(text);
        if (is_used[m]) snprintf(text + used, text_bytes - used, "%s%s", used > 0 ? "+" : "", adm_code_metric_name(m));
    }
}

void adm_calibration_name(const adm_calibration *calibration, char *name) {
    char codings[96], number[16];
    uint32_t hash = hash_coding(UINT32_C(2166136261), &calibration->other);
    for (size_t i = 0; i < calibration->n_layers; i++) {
        const adm_calibration_layer *layer = &calibration->layer[i];
        snprintf(number, sizeof number, "%u", layer->number);
        hash = hash_coding(hash_text(hash, number), &layer->coding);
    }
    name_codings(calibration, codings, sizeof codings);
    snprintf(name, ADM_CODING_NAME_BYTES, "%s, calibration %08x", codings, hash);
}

adm_status adm_calibration_check(const adm_calibration *calibration, const char *path, const char *input,
                                 const adm_shape *shape, adm_error *err) {
    const adm_shape *own = &calibration->shape;
    if (own->n_q_heads == shape->n_q_heads && own->n_kv_heads == shape->n_kv_heads && own->head_dim == shape->head_dim)
        return ADM_OK;
    return adm_fail(err, ADM_EINPUT,
                    "%s: made for layers of %u query and %u KV heads of %u dimensions; %s has %u and %u of %u: calibrate on a "
                    "trace of this model",
                    path, own->n_q_heads, own->n_kv_heads, own->head_dim, input, shape->n_q_heads, shape->n_kv_heads,
                    shape->head_dim);
}

void adm_calibration_clear(adm_calibration *calibration) {
    adm_free(&calibration->layer);
    calibration->n_layers = 0;
}
