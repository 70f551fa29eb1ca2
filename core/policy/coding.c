/* coding.c: the variants of adamas: what goes together. */
#include "core/policy/coding.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/contract/asym4.h"

const adm_coding adm_coding_default = {.metric = ADM_METRIC_L1, .bits = 2, .hadamard = true, .n_recent = 1};

const char *adm_code_metric_name(adm_code_metric metric) {
    static const char *const names[ADM_N_CODE_METRICS] = {"l1", "xor", "l2", "sign", "dot", "asymmetric", "asym4"};
    return metric < ADM_N_CODE_METRICS ? names[metric] : "?";
}

uint32_t adm_code_distance(adm_code_metric metric, uint32_t bits, uint32_t a, uint32_t b) {
    const int m = (1 << bits) - 1, x = (int)a, y = (int)b;
    switch (metric) {
    case ADM_METRIC_L1: return (uint32_t)abs(x - y);
    case ADM_METRIC_XOR: return a ^ b;
    case ADM_METRIC_L2: return (uint32_t)((x - y) * (x - y));
    case ADM_METRIC_SIGN: return (a ^ b) >> (bits - 1);
    case ADM_METRIC_DOT: return (uint32_t)(m * m - (2 * x - m) * (2 * y - m)) / 2;
    case ADM_METRIC_ASYMMETRIC:
    case ADM_METRIC_ASYM4:
    case ADM_N_CODE_METRICS: break;
    }
    return 0;
}

uint32_t adm_code_distance_max(adm_code_metric metric, uint32_t bits) {
    return adm_code_distance(metric, bits, 0, (1u << bits) - 1); /* the ends of the range, with each of them */
}

static bool multiplies(adm_code_metric metric) { return metric == ADM_METRIC_DOT || metric == ADM_METRIC_ASYMMETRIC; }

/* Keys of asym4 are centred and scaled, so `calibrated` means that, and no other thresholds go with it. */
static adm_status complete_asym4(adm_coding *coding, adm_error *err) {
    adm_threshold_spec *spec = &coding->thresholds;
    const bool is_calibrated = spec->kind == ADM_THRESHOLDS_LAYER && spec->n_values == 0;
    if (coding->bits != 2)
        return adm_fail(err, ADM_EINPUT, "metric asym4: codes of %u bit%s are not possible: use 2 bits", coding->bits,
                        coding->bits > 1 ? "s" : "");
    if (!is_calibrated && spec->kind != ADM_THRESHOLDS_SCALED)
        return adm_fail(err, ADM_EINPUT, "metric asym4: thresholds '%s' do not go with it: use calibrated or scaled[:tau]",
                        spec->text);
    spec->kind = ADM_THRESHOLDS_SCALED;
    return ADM_OK;
}

adm_status adm_coding_complete(adm_coding *coding, adm_error *err) {
    adm_threshold_spec *spec = &coding->thresholds;
    const uint32_t n = (1u << coding->bits) - 1;
    adm_status status = coding->metric == ADM_METRIC_ASYM4 ? complete_asym4(coding, err) : ADM_OK;
    if (status != ADM_OK) return status;
    if (spec->n_values == 0 && spec->kind == ADM_THRESHOLDS_SCALED) spec->n_values = adm_threshold_scaled(1, spec->value);
    if (spec->n_values == 0) {
        adm_threshold_defaults(coding->bits, multiplies(coding->metric), spec->value);
        spec->n_values = n;
    }
    if (spec->n_values != n)
        return adm_fail(err, ADM_EINPUT, "thresholds '%s': %u given, but codes of %u bit%s have %u", spec->text, spec->n_values,
                        coding->bits, coding->bits > 1 ? "s" : "", n);
    return ADM_OK;
}

adm_status adm_coding_check(const adm_coding *coding, const adm_shape *shape, adm_error *err) {
    uint32_t n_queries = adm_coding_queries(coding, shape);
    uint32_t max = adm_coding_max_distance(coding, shape->head_dim, n_queries);
    if (max <= UINT16_MAX) return ADM_OK;
    return adm_fail(err, ADM_EUNSUPPORTED,
                    "adamas with metric %s, %u bits and a selection per group: distances of %u query "
                    "heads sum to up to %u, and the maximum is 65535: select per head",
                    adm_code_metric_name(coding->metric), coding->bits, n_queries, max);
}

bool adm_coding_is_contract(const adm_coding *coding) {
    return coding->calibration == NULL && coding->metric == ADM_METRIC_L1 && coding->bits == 2 && coding->hadamard &&
           coding->selection == ADM_SELECT_HEAD && coding->thresholds.kind <= ADM_THRESHOLDS_LAYER;
}

bool adm_coding_same_codes(const adm_coding *a, const adm_coding *b) {
    return a->bits == b->bits && a->hadamard == b->hadamard && a->thresholds.kind == b->thresholds.kind &&
           memcmp(a->thresholds.value, b->thresholds.value, a->thresholds.n_values * sizeof(float)) == 0;
}

uint32_t adm_coding_queries(const adm_coding *coding, const adm_shape *shape) {
    return coding->selection == ADM_SELECT_GROUP ? shape->n_q_heads / shape->n_kv_heads : 1;
}

uint32_t adm_coding_max_distance(const adm_coding *coding, uint32_t head_dim, uint32_t n_queries) {
    if (coding->metric == ADM_METRIC_ASYMMETRIC) return UINT16_MAX;
    if (coding->metric == ADM_METRIC_ASYM4) return adm_asym4_max_distance(head_dim) * n_queries;
    return adm_code_distance_max(coding->metric, coding->bits) * head_dim * n_queries;
}
