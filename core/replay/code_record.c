/* code_record.c: what a replay stores of adamas's codes. */
#include "core/replay/code_record.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/policy/adamas.h"

static const adm_metric entropy_metric = {"bucket_entropy_bits", "bits", "higher",
                                          "Entropy of the key codes; 2 bits when all four occur equally often"};
static const adm_metric occupancy_metric[ADM_CODES] = {
    {"bucket_occupancy_0", "ratio", "none", "Share of key codes that are 0 (below the first threshold)"},
    {"bucket_occupancy_1", "ratio", "none", "Share of key codes that are 1"},
    {"bucket_occupancy_2", "ratio", "none", "Share of key codes that are 2"},
    {"bucket_occupancy_3", "ratio", "none", "Share of key codes that are 3 (above the third threshold)"},
    {"bucket_occupancy_4", "ratio", "none", "Share of key codes that are 4"},
    {"bucket_occupancy_5", "ratio", "none", "Share of key codes that are 5"},
    {"bucket_occupancy_6", "ratio", "none", "Share of key codes that are 6"},
    {"bucket_occupancy_7", "ratio", "none", "Share of key codes that are 7 (above the last threshold)"},
};

/* --- Thresholds ---------------------------------------------------------------------------------------------------- */

/* Whether a row before `row` has its thresholds stored under the same name, and differs in forced tokens alone. */
static bool is_stored_before(const adm_session *session, size_t row) {
    const adm_coding *coding = adm_adamas_coding(&session->row[row]);
    for (size_t i = 0; adm_coding_is_contract(coding) && i < row; i++) {
        const adm_coding *other = adm_adamas_coding(&session->row[i]);
        if (other != NULL && adm_coding_is_contract(other) && strcmp(other->thresholds.text, coding->thresholds.text) == 0)
            return true;
    }
    return false;
}

/* A variant of the contract goes by what it was asked for, others by their full names. */
static adm_status write_row(const adm_record *record, const adm_policy_set *set, size_t row, adm_error *err) {
    const adm_session *session = record->session;
    const adm_coding *coding = adm_adamas_coding(&session->row[row]);
    char name[ADM_VARIANT_NAME_BYTES];
    size_t variant;
    const adm_policy_state *state = adm_policy_set_state(set, row, &variant);
    adm_status status = ADM_OK;
    adm_variant_name(&session->row[row], name);
    for (size_t layer = 0; status == ADM_OK && layer < session->n_layers; layer++)
        status = adm_store_calibration(
            record->store, record->run_id, record->trace_id, adm_coding_is_contract(coding) ? coding->thresholds.text : name,
            (int32_t)session->layer[layer]->index, adm_adamas_thresholds(state, variant, layer), err);
    return status;
}

adm_status adm_code_record_thresholds(const adm_record *record, const adm_policy_set *set, adm_error *err) {
    const adm_session *session = record->session;
    adm_status status = ADM_OK;
    for (size_t row = 0; status == ADM_OK && row < session->n_rows; row++) {
        const adm_coding *coding = adm_adamas_coding(&session->row[row]);
        if (coding == NULL || coding->calibration != NULL || coding->bits != 2) continue;
        if (coding->thresholds.kind >= ADM_THRESHOLDS_CHANNEL) continue;
        if (!is_stored_before(session, row)) status = write_row(record, set, row, err);
    }
    return status;
}

/* --- Shares -------------------------------------------------------------------------------------------------------- */

/* One metric of the codes of the keys cached so far: a value a layer and KV head, and all of them pooled. code: whose share, or
 * -1 for the entropy. values [n_layers][n_kv_heads]. counts
 * [n_layers]: those of each layer. */
static adm_status write_metric(const adm_record *record, int64_t config_id, const uint64_t *const *counts, int code,
                               double *values, adm_error *err) {
    const adm_session *session = record->session;
    const adm_metric *metric = code >= 0 ? &occupancy_metric[code] : &entropy_metric;
    const size_t n_kv = session->trace->shape.n_kv_heads, n_pooled = session->n_layers * n_kv;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_pooled; i++) {
        const uint64_t *count = counts[i / n_kv] + i % n_kv * ADM_CODES;
        double all = 0, entropy = 0;
        for (int c = 0; c < ADM_CODES; c++) all += (double)count[c];
        for (int c = 0; c < ADM_CODES; c++)
            if (count[c] > 0) entropy -= (double)count[c] / all * log2((double)count[c] / all);
        values[i] = code >= 0 ? (double)count[code] / all : entropy;
        double one = values[i];
        adm_distribution distribution = adm_distribution_of(&one, 1);
        status = adm_record_put(record, config_id, NULL, metric, (int32_t)session->layer[i / n_kv]->index, (int32_t)(i % n_kv),
                                &distribution, NULL, err);
    }
    if (status != ADM_OK) return status;
    adm_distribution pooled = adm_distribution_of(values, n_pooled);
    return adm_record_put(record, config_id, NULL, metric, -1, -1, &pooled, NULL, err);
}

static adm_status write_shares(const adm_record *record, const adm_segment *segment, const adm_policy_set *set, size_t row,
                               const uint64_t **counts, double *values, adm_error *err) {
    const adm_coding *coding = adm_adamas_coding(&record->session->row[row]);
    int64_t config_id;
    size_t variant;
    const adm_policy_state *state = adm_policy_set_state(set, row, &variant);
    adm_status status = adm_record_row(record, segment, &record->session->row[row], 0, &config_id, err);
    for (size_t layer = 0; layer < record->session->n_layers; layer++)
        counts[layer] = adm_adamas_code_counts(state, variant, layer);
    for (int code = -1; status == ADM_OK && code < 1 << coding->bits; code++)
        status = write_metric(record, config_id, counts, code, values, err);
    return status;
}

adm_status adm_code_record_shares(const adm_record *record, const adm_segment *segment, const adm_policy_set *set,
                                  adm_error *err) {
    const adm_session *session = record->session;
    double *values = NULL;
    const uint64_t **counts = NULL;
    adm_status status = adm_alloc(&values, session->n_layers * session->trace->shape.n_kv_heads, sizeof *values, "code shares",
                                  err);
    if (status == ADM_OK) status = adm_alloc(&counts, session->n_layers, sizeof *counts, "code shares", err);
    for (size_t row = 0; status == ADM_OK && row < session->n_rows; row++)
        if (adm_adamas_coding(&session->row[row]) != NULL)
            status = write_shares(record, segment, set, row, counts, values, err);
    adm_free(&values);
    adm_free(&counts);
    return status;
}
