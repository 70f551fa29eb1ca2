/* recorder.c: how what a replay keeps reaches the store. */
#include "core/replay/recorder.h"

#include "core/base/mem.h"
#include "core/replay/code_record.h"

/* A segment's rows come in one batch, so that one row of it means all. */
static adm_status find_stored(adm_recorder *r, adm_error *err) {
    static const char sql[] =
        "SELECT DISTINCT c.seq_len FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
        "WHERE m.run_id = ? AND c.trace_id = ? AND (m.stage IS NULL) = ? AND k.name = ifnull(?, k.name)";
    const adm_session *session = r->record.session;
    const char *counter = session->options.n_counters > 0 ? session->options.counters[0].name : NULL;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(r->record.store, sql, &query, err, "iiis", r->record.run_id, r->record.trace_id,
                                       (int64_t)(counter == NULL), counter);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        for (size_t i = 0; i < session->n_segments; i++)
            if (session->segment[i].seq_len == adm_query_int(query, 0)) r->is_stored[i] = r->thresholds_are_stored = true;
    adm_query_close(&query);
    for (size_t i = 0; session->options.is_elsewhere != NULL && i < session->n_segments; i++)
        r->is_stored[i] |= session->options.is_elsewhere[i];
    return status;
}

adm_status adm_recorder_open(const adm_session *session, adm_store *store, int64_t run_id, adm_recorder *r, adm_error *err) {
    const adm_replay_options *o = &session->options;
    *r = (adm_recorder){.record = {.session = session, .store = store, .run_id = run_id}};
    adm_status status = adm_quality_record_open(session, &r->quality, err);
    if (status == ADM_OK && o->identify_input != NULL) status = o->identify_input(session->trace, err);
    if (status == ADM_OK) status = adm_store_trace(store, session->trace, &r->record.trace_id, err);
    if (status == ADM_OK) status = adm_alloc(&r->is_stored, session->n_segments, sizeof *r->is_stored, "segments", err);
    if (status == ADM_OK) status = find_stored(r, err);
    if (status == ADM_OK && o->timeline) status = adm_event_spool_open(&r->events, err);
    return status;
}

void adm_recorder_close(adm_recorder *r) {
    adm_stage_record_clear(&r->stages);
    adm_quality_record_close(&r->quality);
    adm_event_spool_close(&r->events);
    adm_free(&r->is_stored);
}

adm_status adm_recorder_begin_segment(adm_recorder *r, const adm_segment *segment, adm_error *err) {
    adm_status status = ADM_OK;
    if (adm_session_takes_quality(r->record.session)) status = adm_quality_record_begin(&r->quality, &r->record, segment, err);
    if (status == ADM_OK) status = adm_stage_record_begin(&r->stages, &r->record, segment, err);
    return status == ADM_OK ? adm_store_flush(r->record.store, err) : status;
}

/* What went wrong where nothing could be returned. */
static adm_status sink_failure(const adm_recorder *r, adm_error *err) {
    if (r->stages.status != ADM_OK && err != NULL) *err = r->stages.err;
    return r->stages.status;
}

static adm_status write_event(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns, adm_error *err) {
    const adm_record *record = user;
    return adm_store_event(record->store, record->run_id, range, "host", start_ns, end_ns, err);
}

static adm_status write_events(adm_recorder *r, adm_error *err) {
    return r->events != NULL ? adm_event_spool_each(r->events, write_event, &r->record, err) : ADM_OK;
}

adm_status adm_recorder_end_segment(adm_recorder *r, const adm_segment *segment, const adm_policy_set *set, adm_error *err) {
    const adm_replay_options *o = &r->record.session->options;
    const bool has_quality = adm_session_takes_quality(r->record.session);
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK && o->check_input != NULL) status = o->check_input(r->record.session->trace, err);
    if (status == ADM_OK && has_quality && !r->thresholds_are_stored) {
        status = adm_code_record_thresholds(&r->record, set, err);
        r->thresholds_are_stored = status == ADM_OK;
    }
    if (status == ADM_OK && has_quality) status = adm_quality_record_write(&r->quality, &r->record, segment, err);
    if (status == ADM_OK && has_quality) status = adm_code_record_shares(&r->record, segment, set, err);
    if (status == ADM_OK) status = adm_stage_record_write(&r->stages, &r->record, err);
    if (status == ADM_OK && has_quality) status = write_events(r, err);
    return status == ADM_OK ? adm_store_flush(r->record.store, err) : status;
}

adm_status adm_recorder_end_session(adm_recorder *r, adm_error *err) {
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK) status = write_events(r, err);
    return status == ADM_OK ? adm_store_flush(r->record.store, err) : status;
}
