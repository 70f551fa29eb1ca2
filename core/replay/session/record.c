/* record.c: where a replay's measurements go. */
#include "core/replay/session/record.h"

#include "core/policy/adamas.h"

adm_config adm_record_config(const adm_record *r, const adm_segment *segment, const char *policy, const char *variant,
                             uint32_t budget) {
    return (adm_config){.trace_id = r->trace_id,
                        .policy = policy,
                        .variant = variant,
                        .shape = r->session->trace->shape,
                        .dtype = r->session->layer[0]->k_dtype,
                        .seq_len = segment->seq_len,
                        .budget = budget,
                        .batch = 1,
                        .n_sinks = -1,
                        .n_recent = -1,
                        .cache = "warm",
                        .launch = "host"};
}

adm_status adm_record_row(const adm_record *r, const adm_segment *segment, const adm_variant *row, uint32_t budget,
                          int64_t *config_id, adm_error *err) {
    char variant[ADM_VARIANT_NAME_BYTES];
    const adm_coding *coding = adm_adamas_coding(row);
    adm_variant_name(row, variant);
    adm_config config = adm_record_config(r, segment, row->policy->name, variant, budget);
    config.cache = NULL; /* quality does not depend on it */
    if (coding != NULL) {
        config.n_sinks = (int32_t)coding->n_sinks;
        config.n_recent = (int32_t)coding->n_recent;
    }
    if (coding != NULL || row->selection == ADM_SELECT_GROUP) config.selection = adm_selection_name(row->selection);
    return adm_store_config(r->store, &config, config_id, err);
}

adm_status adm_record_put(const adm_record *r, int64_t config_id, const char *stage, const adm_metric *metric, int32_t layer,
                          int32_t head, const adm_distribution *distribution, const double *samples, adm_error *err) {
    const adm_measurement m = {.run_id = r->run_id,
                               .config_id = config_id,
                               .source = "host",
                               .stage = stage,
                               .layer = layer,
                               .head = head,
                               .metric = metric,
                               .distribution = distribution,
                               .status = "ok",
                               .samples = samples,
                               .n_samples = samples != NULL ? distribution->n : 0};
    return adm_store_measurement(r->store, &m, err);
}

adm_status adm_record_skip(const adm_record *r, int64_t config_id, const char *stage, const adm_metric *metric,
                           const char *reason, adm_error *err) {
    const adm_measurement m = {.run_id = r->run_id,
                               .config_id = config_id,
                               .source = "host",
                               .stage = stage,
                               .layer = -1,
                               .head = -1,
                               .metric = metric,
                               .status = "skipped",
                               .reason = reason};
    return adm_store_measurement(r->store, &m, err);
}
