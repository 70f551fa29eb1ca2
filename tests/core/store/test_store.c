/* test_store.c: what the store writes is what one reads back, in rows, views and text. Faults are in
 * test_store_faults.c. */
#include "tests/support/store_fixture.h"

#include <jansson.h>

#include <math.h>

#include "core/system/clock.h"
#include "core/base/embedded.h"
#include "core/system/hostinfo.h"
#include "core/store/file/migrate.h"
#include "core/base/version.h"

static void fresh_file(void **state) {
    fixture *f = *state;
    adm_store *store;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    assert_string_equal(RAW("PRAGMA journal_mode"), "wal");
    adm_store_close(&store);
    assert_null(store);
    adm_store_close(&store);

    assert_string_equal(RAW("PRAGMA journal_mode"), "delete");
    assert_int_equal(atoll(RAW("PRAGMA application_id")), ADM_APPLICATION_ID);
    assert_int_equal(atoll(RAW("PRAGMA user_version")), adm_schema_version());
    char beside[300];
    snprintf(beside, sizeof beside, "%s-wal", f->db);
    assert_int_not_equal(access(beside, F_OK), 0);
    snprintf(beside, sizeof beside, "%s-shm", f->db);
    assert_int_not_equal(access(beside, F_OK), 0);

    OK(adm_store_open(f->db, ADM_STORE_READ, &store, &f->err));
    adm_run_info run = some_run();
    int64_t run_id;
    FAILS(ADM_EINTERNAL, adm_store_begin_run(store, &run, &run_id, &f->err), f->db, "reading only");
    adm_store_close(&store);
}

static void a_run_has_its_provenance(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_run_info run = some_run();
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info_host(&run, &host);
    int64_t run_id;
    char before[25];
    adm_clock_utc(before);
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_store_begin_run(store, &run, &run_id, &f->err));
    assert_string_equal(RAW("SELECT status FROM run"), "running"); /* another connection sees it already */
    assert_string_equal(RAW("SELECT finished_utc FROM run"), "NULL");
    usleep(2000);
    OK(adm_store_end_run(store, run_id, "complete", NULL, &f->err));
    FAILS(ADM_EINTERNAL, adm_store_end_run(store, run_id, "bogus", NULL, &f->err), "CHECK");
    FAILS(ADM_EINTERNAL, adm_store_end_run(store, 99, "complete", NULL, &f->err), "no run 99");
    adm_store_close(&store);

    assert_string_equal(RAW("SELECT status FROM run"), "complete");
    assert_true(atoll(RAW("SELECT elapsed_ns FROM run")) >= 2000000);
    assert_true(strcmp(RAW("SELECT started_utc FROM run"), before) >= 0);
    assert_string_equal(RAW("SELECT finished_utc >= started_utc AND length(finished_utc) = 24 FROM run"), "1");
    const char *h = "[0-9a-f]";
    char pattern[400] = "";
    for (int i = 0; i < 36; i++)
        strcat(pattern, i == 8 || i == 13 || i == 18 || i == 23 ? "-" : i == 14 ? "4" : i == 19 ? "[89ab]" : h);
    char sql[500];
    snprintf(sql, sizeof sql, "SELECT run_uuid GLOB '%s' FROM run", pattern);
    assert_string_equal(RAW(sql), "1");
    assert_string_equal(RAW("SELECT tool_version FROM run"), adm_version());
    assert_string_equal(RAW("SELECT git_commit FROM run"), adm_git_commit());
    assert_string_equal(RAW("SELECT ifnull(git_dirty, -1) FROM run"), adm_git_dirty() < 0   ? "-1"
                                                                      : adm_git_dirty() > 0 ? "1"
                                                                                            : "0");
    assert_string_equal(RAW("SELECT compiler FROM run"), adm_compiler());
    assert_string_equal(RAW("SELECT host_name FROM run"), host.host_name);
    assert_string_equal(RAW("SELECT os FROM run"), host.os);
    assert_string_equal(RAW("SELECT cpu_model FROM run"), host.cpu_model);
    assert_int_equal(atoll(RAW("SELECT n_cpus FROM run")), host.n_cpus);
    assert_int_equal(atoll(RAW("SELECT memory_bytes FROM run")), host.memory_bytes);
    assert_string_equal(RAW("SELECT label || command || seed || gpu_reason FROM run"), "a runreplay7the run used no GPU");
    assert_string_equal(RAW("SELECT argv ->> 1 FROM run"), "replay");
    assert_string_equal(RAW("SELECT count(*) FROM run WHERE gpu_name IS NULL AND sm_clock_hz IS NULL"), "1");
}

static void one_identity_one_row(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    adm_config base = some_config(s.trace_id), changed[17];
    for (int i = 0; i < 17; i++) changed[i] = base;
    changed[0].trace_id = 0;
    changed[1].policy = "oracle";
    changed[2].variant = "xor";
    changed[3].shape.n_q_heads = 6;
    changed[4].shape.n_kv_heads = 1;
    changed[5].shape.head_dim = 128;
    changed[6].dtype = ADM_BF16;
    changed[7].seq_len = 1024;
    changed[8].budget = 0;
    changed[9].batch = 2;
    changed[10].n_sinks = 0;
    changed[11].n_recent = 0;
    changed[12].selection = "head";
    changed[13].cache = "cold";
    changed[14].launch = "graph";
    changed[15].page_size = 16;
    changed[16].batch_lens = "4096,0";
    int64_t id, first[17];
    for (int again = 0; again < 2; again++) {
        OK(adm_store_config(s.store, &base, &id, &f->err));
        assert_int_equal(id, s.config_id);
        for (int i = 0; i < 17; i++) {
            OK(adm_store_config(s.store, &changed[i], &id, &f->err));
            if (again) assert_int_equal(id, first[i]);
            for (int j = 0; j < i; j++) assert_int_not_equal(id, first[j]);
            first[i] = id;
        }
        adm_trace trace = some_trace();
        trace.name = "renamed.safetensors"; /* the hash is its identity */
        OK(adm_store_trace(s.store, &trace, &id, &f->err));
        assert_int_equal(id, s.trace_id);
        trace.xxh128[0] = again ? '8' : '9';
        OK(adm_store_trace(s.store, &trace, &id, &f->err));
        assert_int_equal(id, s.trace_id + 1 + again);
        OK(adm_store_flush(s.store, &f->err));
        adm_store_close(&s.store);
        OK(adm_store_open(f->db, ADM_STORE_WRITE, &s.store, &f->err));
    }
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT count(*) FROM config"), "18");
    assert_string_equal(RAW("SELECT count(*) FROM config WHERE trace_id IS NULL OR budget IS NULL"), "2");
    assert_string_equal(RAW("SELECT count(*) FROM config WHERE n_sinks = 0 OR n_recent = 0"), "2");
}

static void write_quality(fixture *f, const session *s, const adm_metric *metric, const double *head_means) {
    adm_distribution d = some_distribution;
    adm_measurement m = some_measurement(s->run_id, s->config_id);
    m.stage = NULL;
    m.metric = metric;
    m.distribution = &d;
    OK(adm_store_measurement(s->store, &m, &f->err));
    for (int i = 0; i < 4; i++) {
        m.layer = i / 2;
        m.head = i % 2;
        d.mean = head_means[i];
        OK(adm_store_measurement(s->store, &m, &f->err));
    }
}

static void views(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    adm_metric lower = {"kl", "nats", "lower", "-"}, none = {"ties", "tokens", "none", "-"};
    const double means[4] = {0.7, 0.2, 0.9, 0.4};
    write_quality(f, &s, &recall_metric, means);
    write_quality(f, &s, &lower, means);
    write_quality(f, &s, &none, means);
    adm_measurement m = some_measurement(s.run_id, s.config_id);
    OK(adm_store_measurement(s.store, &m, &f->err));
    m.layer = 0; /* not in the view */
    OK(adm_store_measurement(s.store, &m, &f->err));
    m = some_measurement(s.run_id, s.config_id);
    m.stage = "attention";
    m.distribution = NULL;
    m.status = "skipped";
    m.reason = "no GPU";
    m.source = "gpu";
    OK(adm_store_measurement(s.store, &m, &f->err));
    OK(adm_store_end_run(s.store, s.run_id, "complete", NULL, &f->err));
    adm_store_close(&s.store);

    assert_string_equal(
        RAW("SELECT group_concat(name) FROM pragma_table_info('stage_summary')"),
        "run_id,label,source,stage,variant,q_heads,kv_heads,head_dim,seq_len,budget,batch,metric,unit,n,median,p10,p90,"
        "status,reason,dtype,selection,cache,launch,page_size,batch_lens,trace,config_id,"
        "host,gpu,gpu_uuid,shard");
    assert_string_equal(RAW("SELECT group_concat(name) FROM pragma_table_info('quality_summary')"),
                        "run_id,label,trace,policy,variant,seq_len,budget,metric,n,mean,p50,p95,p99,worst,host,shard");
    assert_string_equal(RAW("SELECT count(*) FROM stage_summary"), "2");
    assert_string_equal(
        RAW("SELECT concat FROM (SELECT printf('%d|%s|%s|%s|%s|%d|%d|%d|%d|%d|%d|%s|%s|%d|%g|%g|%g|%s|%s', run_id, label,"
            " source, stage, variant, q_heads, kv_heads, head_dim, seq_len, budget, batch, metric, unit, n, median, p10,"
            " p90, status, ifnull(reason, '-')) AS concat FROM stage_summary WHERE stage = 'topk')"),
        "1|a run|host|topk|l1|9|3|64|4096|64|1|time_ns|ns|12|0.51|0.1|0.9|ok|-");
    assert_string_equal(RAW("SELECT printf('%s|%s|%s|%s|%s|%s|%s', dtype, ifnull(selection, '-'), ifnull(cache, '-'), launch,"
                            " ifnull(page_size, '-'), ifnull(batch_lens, '-'), trace) FROM stage_summary"),
                        "F16|-|-|host|-|-|t.safetensors");
    assert_string_equal(RAW("SELECT printf('%s|%s|%d|%s', status, reason, n, ifnull(median, 'NULL')) FROM stage_summary"
                            " WHERE stage = 'attention'"),
                        "skipped|no GPU|0|NULL");
    assert_string_equal(RAW("SELECT count(*) FROM quality_summary"), "3");
    assert_string_equal(
        RAW("SELECT printf('%d|%s|%s|%s|%s|%d|%d|%s|%d|%g|%g|%g|%g|%g', run_id, label, trace, policy, variant, seq_len,"
            " budget, metric, n, mean, p50, p95, p99, worst) FROM quality_summary WHERE metric = 'recall'"),
        "1|a run|t.safetensors|adamas|l1|4096|64|recall|12|0.5|0.51|0.95|0.98|0.2");
    assert_string_equal(RAW("SELECT group_concat(worst) FROM quality_summary WHERE metric <> 'recall'"), "0.9,0.9");
}

/* A file of the first schema keeps its rows, and takes new ones. */
static void a_file_of_version_1_is_brought_up_to_date(void **state) {
    fixture *f = *state;
    char pragma[100];
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d; PRAGMA user_version = 1", ADM_APPLICATION_ID);
    raw_exec(f->db, adm_embedded("core/store/schema/1.sql")->data);
    raw_exec(f->db, pragma);
    raw_exec(f->db, "INSERT INTO config (policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, batch, launch)"
                    " VALUES ('adamas', 'l1', 9, 3, 64, 'F16', 4096, 1, 'host')");
    adm_store *store;
    char newest[32];
    snprintf(newest, sizeof newest, "reads version %d:", adm_schema_version());
    FAILS(ADM_EINPUT, adm_store_open(f->db, ADM_STORE_READ, &store, &f->err), "schema version 1", newest);
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    adm_config config = some_config(0);
    config.budget = 0;
    int64_t id;
    OK(adm_store_config(store, &config, &id, &f->err));
    assert_int_equal(id, 1); /* the old row */
    config.page_size = 16;
    OK(adm_store_config(store, &config, &id, &f->err));
    assert_int_equal(id, 2);
    OK(adm_store_flush(store, &f->err));
    adm_store_close(&store);
    assert_string_equal(RAW("SELECT group_concat(ifnull(page_size, '-')) FROM config"), "-,16");
    assert_string_equal(RAW("SELECT count(*) FROM stage_summary"), "0");
    assert_string_equal(RAW("SELECT count(*) FROM check_run, margin, acknowledgement"), "0"); /* there, and empty */
    assert_string_equal(RAW("SELECT count(*) FROM sqlite_schema WHERE name = 'measurement_overall'"), "0");
}

static void figures_are_in_their_columns(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    OK(write_layers(&s, 3, 1, &f->err));
    OK(adm_store_flush(s.store, &f->err));
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT printf('%d|%s|%d|%s|%g|%g|%g|%g|%g|%g|%g|%g|%g|%g', n, stage, layer, ifnull(head,"
                            " 'NULL'), mean, min, p01, p05, p10, median, p90, p95, p99, max) FROM measurement"),
                        "12|topk|3|NULL|0.5|0.01|0.02|0.05|0.1|0.51|0.9|0.95|0.98|0.99");
    assert_string_equal(RAW("SELECT group_concat(i || '=' || value) FROM (SELECT * FROM sample ORDER BY i)"),
                        "0=3.0,1=1.0,2=2.0");
}

static void an_unflushed_batch_is_gone(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    OK(write_layers(&s, 0, 3, &f->err));
    OK(adm_store_flush(s.store, &f->err));
    OK(write_layers(&s, 3, 4, &f->err));
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT count(*) FROM measurement"), "3");

    OK(begin_session(f->db, &s, &f->err));
    OK(write_layers(&s, 0, 4, &f->err));
    OK(adm_store_end_run(s.store, s.run_id, "failed", "NaN in K", &f->err));
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT count(*) FROM measurement"), "3");
    assert_string_equal(RAW("SELECT status || ': ' || reason FROM run WHERE run_id = 2"), "failed: NaN in K");

    OK(begin_session(f->db, &s, &f->err));
    OK(write_layers(&s, 0, 4, &f->err));
    OK(adm_store_end_run(s.store, s.run_id, "complete", NULL, &f->err));
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT count(*) FROM measurement"), "7");
}

/* Tries a measurement that must be refused with two good ones before it in the batch; neither may stay. */
static void refused_with(adm_status status, fixture *f, const session *s, const adm_measurement *m, const char *fragment) {
    adm_measurement good = some_measurement(s->run_id, s->config_id);
    for (good.layer = 50; good.layer < 52; good.layer++) OK(adm_store_measurement(s->store, &good, &f->err));
    FAILS(status, adm_store_measurement(s->store, m, &f->err), m->metric->name, fragment);
    OK(adm_store_flush(s->store, &f->err));
    assert_string_equal(RAW("SELECT count(*) FROM measurement"), "1");
}

static void refused(fixture *f, const session *s, const adm_measurement *m, const char *fragment) {
    refused_with(ADM_EINTERNAL, f, s, m, fragment);
}

static void what_a_measurement_must_not_be(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    const adm_measurement good = some_measurement(s.run_id, s.config_id);
    OK(adm_store_measurement(s.store, &good, &f->err));
    OK(adm_store_flush(s.store, &f->err));

    adm_measurement m = good;
    refused(f, &s, &m, "UNIQUE"); /* the same again: layer and head are NULL both times */
    const double wrong[3] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t which = 0; which < 10; which++) {
        double figures[10];
        memcpy(figures, &some_distribution.mean, sizeof figures);
        figures[which] = wrong[which % 3];
        adm_distribution d = {.n = 12};
        memcpy(&d.mean, figures, sizeof figures);
        m = good;
        m.layer = 0;
        m.distribution = &d;
        refused(f, &s, &m, which % 3 == 0 ? "nan" : "inf");
    }
    const double samples[3] = {1, 2, (double)NAN};
    m.distribution = &some_distribution;
    m.samples = samples;
    m.n_samples = 3;
    refused(f, &s, &m, "sample 2 of 3");
    m = good;
    m.layer = 0;
    const adm_distribution empty = {0};
    m.distribution = &empty;
    refused(f, &s, &m, "no values");
    m.distribution = NULL;
    refused(f, &s, &m, "CHECK"); /* ok, but no figures */
    m.status = "skipped";
    refused(f, &s, &m, "CHECK"); /* skipped, but no reason */
    m.reason = "no GPU";
    m.distribution = &some_distribution;
    refused(f, &s, &m, "CHECK"); /* skipped, but figures */
    m = good;
    m.config_id = 77;
    refused(f, &s, &m, "FOREIGN KEY");
    m = good;
    m.stage = "sorting";
    refused(f, &s, &m, "CHECK");
    adm_metric other = time_metric;
    other.unit = "s";
    m = good;
    m.layer = 0;
    m.metric = &other;
    refused_with(ADM_EINPUT, f, &s, &m, "in ns"); /* who made the database said so */
    adm_store_close(&s.store);
}

static void text_survives(void **state) {
    fixture *f = *state;
    static const char *const hard[] = {"</script><script>alert(1)</script>",
                                       "'; DROP TABLE run; --",
                                       "\"double\" 'single' `back`",
                                       "line\nline\ttab\x01",
                                       "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
                                       "%s%n%d",
                                       "back\\slash",
                                       "",
                                       "NULL"};
    adm_store *store;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        adm_run_info run = some_run();
        run.label = run.host_name = hard[i];
        adm_trace trace = some_trace();
        adm_trace_meta meta[2] = {{"a \"key\"", hard[i]}, {hard[i], "value"}};
        trace.name = trace.model = hard[i];
        trace.meta = meta;
        trace.n_meta = 2;
        trace.xxh128[0] = (char)('a' + i);
        int64_t run_id, trace_id;
        OK(adm_store_begin_run(store, &run, &run_id, &f->err));
        OK(adm_store_trace(store, &trace, &trace_id, &f->err));
        OK(adm_store_end_run(store, run_id, "interrupted", hard[i], &f->err));
        OK(adm_store_trace(store, &trace, &trace_id, &f->err)); /* it was rolled back with the interrupted run */
        OK(adm_store_flush(store, &f->err));

        adm_query *query;
        bool row;
        OK(adm_query_open(store,
                          "SELECT label, host_name, reason, name, model, metadata FROM run, trace"
                          " WHERE run_id = ?1 AND trace_id = ?2",
                          &query, &f->err, "ii", run_id, trace_id));
        OK(adm_query_next(query, &row, &f->err));
        assert_true(row);
        for (int column = 0; column < 5; column++) assert_string_equal(adm_query_text(query, column), hard[i]);
        json_t *metadata = json_loads(adm_query_text(query, 5), 0, NULL);
        assert_string_equal(json_string_value(json_object_get(metadata, "a \"key\"")), hard[i]);
        assert_string_equal(json_string_value(json_object_get(metadata, hard[i])), "value");
        json_decref(metadata);
        adm_query_close(&query);
    }
    adm_store_close(&store);
}

static void text_that_is_not_utf8_is_repaired(void **state) {
    fixture *f = *state;
    static const char *const pairs[][2] = {
        {"caf\xe9", "caf\xef\xbf\xbd"},                                          /* Latin-1 */
        {"a\xc0\xaf", "a\xef\xbf\xbd\xef\xbf\xbd"},                              /* overlong '/' */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                /* surrogate */
        {"\xf4\x90\x80\x80z", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"}, /* above U+10FFFF */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                                /* cut short */
        {"\xef\xbf\xbf \xf4\x8f\xbf\xbf", "\xef\xbf\xbf \xf4\x8f\xbf\xbf"}};     /* the last of each length: valid */
    adm_store *store;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        adm_run_info run = some_run();
        run.label = pairs[i][0];
        int64_t run_id;
        OK(adm_store_begin_run(store, &run, &run_id, &f->err));
        char sql[100];
        snprintf(sql, sizeof sql, "SELECT label FROM run WHERE run_id = %d", (int)run_id);
        assert_string_equal(RAW(sql), pairs[i][1]);
    }
    adm_store_close(&store);
}

static void thresholds_and_ranges(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    const float fixed[3] = {-10, 0, 10}, other[3] = {-1.5f, 0.25f, 2};
    const float broken[3] = {0, 1, (float)NAN};
    OK(adm_store_calibration(s.store, s.run_id, s.trace_id, "fixed:-10,0,10", 10, fixed, &f->err));
    OK(adm_store_calibration(s.store, s.run_id, s.trace_id, "fixed:-10,0,10", 20, fixed, &f->err));
    OK(adm_store_calibration(s.store, s.run_id, s.trace_id, "calibrated", 10, other, &f->err));
    adm_range range = {
        .kind = ADM_RANGE_STAGE, .stage = ADM_STAGE_TOPK, .variant = "simd", .config_id = s.config_id, .step = 5, .layer = 10};
    OK(adm_store_event(s.store, s.run_id, &range, "host", 1000, 1500, &f->err));
    range = (adm_range){.kind = ADM_RANGE_SESSION, .variant = "t.safetensors", .step = -1, .layer = -1};
    OK(adm_store_event(s.store, s.run_id, &range, "host", 900, 2000, &f->err));
    OK(adm_store_flush(s.store, &f->err));
    FAILS(ADM_EINTERNAL, adm_store_event(s.store, s.run_id, &range, "host", 2, 1, &f->err), "CHECK");
    FAILS(ADM_EINTERNAL, adm_store_calibration(s.store, s.run_id, s.trace_id, "calibrated", 11, broken, &f->err), "nan");
    adm_store_close(&s.store);

    assert_string_equal(RAW("SELECT group_concat(layer || ':' || t0 || ',' || t1 || ',' || t2, ' ') FROM calibration"
                            " WHERE variant = 'calibrated'"),
                        "10:-1.5,0.25,2.0");
    assert_string_equal(RAW("SELECT count(DISTINCT xxh128) FROM calibration"), "2");
    /* python3 -c "import struct,sys; sys.stdout.buffer.write(struct.pack('<3f',-10,0,10))" | xxhsum -H2 */
    assert_string_equal(RAW("SELECT xxh128 FROM calibration WHERE layer = 20"), "0ce809c8377f3421b5db1b126c3a20ae");
    assert_string_equal(RAW("SELECT printf('%s %s %s %d %d %d %d', kind, name, variant, step, layer, start_ns, end_ns)"
                            " FROM event WHERE event_id = 1"),
                        "stage topk simd 5 10 1000 1500");
    assert_string_equal(RAW("SELECT printf('%s %s |%s|', kind, name, variant) FROM event WHERE event_id = 2 AND step IS NULL"
                            " AND layer IS NULL AND config_id IS NULL"),
                        "session t.safetensors ||");
}

static void reading(void **state) {
    fixture *f = *state;
    adm_store *store;
    adm_query *query;
    bool row;
    OK(adm_store_open(f->db, ADM_STORE_WRITE, &store, &f->err));
    OK(adm_query_open(store, "SELECT ?1, ?2, ?3, ?4 UNION ALL SELECT 2, 0.5, 'x', 'y'; ", &query, &f->err, "idss", INT64_MIN,
                      0.1, "text", NULL));
    OK(adm_query_next(query, &row, &f->err));
    assert_true(row);
    assert_true(adm_query_int(query, 0) == INT64_MIN);
    assert_true(adm_query_double(query, 1) == 0.1);
    assert_string_equal(adm_query_text(query, 2), "text");
    assert_true(adm_query_is_null(query, 3) && !adm_query_is_null(query, 2));
    assert_string_equal(adm_query_text(query, 3), "");
    OK(adm_query_next(query, &row, &f->err));
    assert_int_equal(adm_query_int(query, 0), 2);
    OK(adm_query_next(query, &row, &f->err));
    assert_false(row);
    adm_query_close(&query);
    adm_query_close(&query);

    FAILS(ADM_EINTERNAL, adm_query_open(store, "SELECT ?", &query, &f->err, ""), "1 parameters");
    assert_null(query);
    FAILS(ADM_EINTERNAL, adm_query_open(store, "SELECT ?", &query, &f->err, "x", 1), "\"x\"");
    FAILS(ADM_EINTERNAL, adm_query_open(store, "DELETE FROM run", &query, &f->err, ""), "one SELECT");
    FAILS(ADM_EINTERNAL, adm_query_open(store, "SELECT 1; SELECT 2", &query, &f->err, ""), "one SELECT");
    FAILS(ADM_EINTERNAL, adm_query_open(store, " ", &query, &f->err, ""), "one SELECT");
    FAILS(ADM_EINTERNAL, adm_query_open(store, "SELECT no_such_column", &query, &f->err, ""), "no such column");
    adm_store_close(&store);
}

static void activities_and_throttled_samples(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    const adm_range range = {.kind = ADM_RANGE_STAGE,
                             .stage = ADM_STAGE_DISTANCE,
                             .variant = "planes",
                             .config_id = s.config_id,
                             .step = 3,
                             .layer = -1};
    adm_activity activity = {.kind = ADM_ACTIVITY_KERNEL,
                             .name = "distance<128>",
                             .start_ns = 50,
                             .end_ns = 90,
                             .stream = 7,
                             .registers = 40,
                             .static_shared_bytes = 1024,
                             .grid = {264, 1, 2},
                             .block = {256, 1, 1}};
    OK(adm_store_activity(s.store, s.run_id, &range, &activity, &f->err));
    activity = (adm_activity){.kind = ADM_ACTIVITY_MEMCPY, .name = "DtoH", .start_ns = 95, .end_ns = 95, .bytes = 4096};
    OK(adm_store_activity(s.store, s.run_id, NULL, &activity, &f->err));
    const double samples[3] = {7, 8, 9};
    const int32_t throttle[3] = {-1, 0, 4};
    adm_measurement m = some_measurement(s.run_id, s.config_id);
    m.samples = samples;
    m.n_samples = 3;
    m.throttle = throttle;
    OK(adm_store_measurement(s.store, &m, &f->err));
    m.layer = 0;
    m.throttle = NULL;
    OK(adm_store_measurement(s.store, &m, &f->err));
    OK(adm_store_flush(s.store, &f->err));
    activity.end_ns = 94;
    FAILS(ADM_EINTERNAL, adm_store_activity(s.store, s.run_id, NULL, &activity, &f->err), "CHECK");
    adm_store_close(&s.store);

    assert_string_equal(
        RAW("SELECT printf('%d %s %d %s %s %d %d %d %s %d %d %d %d/%d/%d %d/%d/%d', config_id, stage, step, kind,"
            " name, stream, start_ns, end_ns, bytes IS NULL, registers, static_shared_bytes,"
            " dynamic_shared_bytes, grid_x, grid_y, grid_z, block_x, block_y, block_z) FROM activity"
            " WHERE activity_id = 1"),
        "1 distance 3 kernel distance<128> 7 50 90 1 40 1024 0 264/1/2 256/1/1");
    assert_string_equal(RAW("SELECT count(*) FROM activity WHERE activity_id = 2 AND config_id IS NULL AND stage IS NULL AND"
                            " step IS NULL AND name = 'DtoH' AND bytes = 4096 AND registers IS NULL AND block_z IS NULL"),
                        "1");
    assert_string_equal(RAW("SELECT group_concat(ifnull(throttle, 'NULL')) FROM sample"), "NULL,0,4,NULL,NULL,NULL");
}

/* Copies the rows of a table of the database `from` into `to`, whose table may have fewer columns. */
static void copy_rows(const char *from, const char *to, const char *table) {
    char sql[5000], columns[4096];
    snprintf(sql, sizeof sql, "SELECT group_concat(name) FROM pragma_table_info('%s')", table);
    snprintf(columns, sizeof columns, "%s", raw_text(to, sql));
    snprintf(sql, sizeof sql, "ATTACH '%s' AS new; INSERT INTO %s SELECT %s FROM new.%s", from, table, columns, table);
    raw_exec(to, sql);
}

/* A file as version 2 left it: its rows stay, and what version 3 has can be written. */
static void version_2_is_migrated(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    char *uuid = strdup(RAW("SELECT run_uuid FROM run"));
    adm_store_close(&s.store);
    char old[300], sql[900];
    snprintf(old, sizeof old, "%s/old.db", f->folder);
    raw_exec(old, adm_embedded("core/store/schema/1.sql")->data);
    raw_exec(old, adm_embedded("core/store/schema/2.sql")->data);
    copy_rows(f->db, old, "run");
    copy_rows(f->db, old, "trace");
    copy_rows(f->db, old, "config");
    snprintf(sql, sizeof sql,
             "PRAGMA application_id = %d; PRAGMA user_version = 2; INSERT INTO metric VALUES (1, 'm', 'ns', 'lower', '');"
             "INSERT INTO measurement (measurement_id, run_id, config_id, source, metric_id, n, median, status)"
             " VALUES (5, 1, 1, 'host', 1, 1, 2.5, 'ok'); INSERT INTO sample VALUES (5, 0, 2.5)",
             ADM_APPLICATION_ID);
    raw_exec(old, sql);

    adm_store *store;
    FAILS(ADM_EINPUT, adm_store_open(old, ADM_STORE_READ, &store, &f->err), "schema version 2", "brings it up to date");
    OK(adm_store_open(old, ADM_STORE_WRITE, &store, &f->err));
    const adm_activity activity = {.kind = ADM_ACTIVITY_MEMSET, .name = "memset", .start_ns = 1, .end_ns = 2, .bytes = 8};
    OK(adm_store_activity(store, 1, NULL, &activity, &f->err));
    OK(adm_store_flush(store, &f->err));
    adm_store_close(&store);
    assert_int_equal(atoll(raw_text(old, "PRAGMA user_version")), adm_schema_version());
    assert_string_equal(raw_text(old, "SELECT run_uuid FROM run"), uuid);
    assert_string_equal(raw_text(old, "SELECT value || ' ' || ifnull(throttle, 'NULL') FROM sample"), "2.5 NULL");
    assert_string_equal(raw_text(old, "SELECT count(*) FROM activity"), "1");
    assert_string_equal(raw_text(old, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), "0");
    free(uuid);
}

/* No limit on time, which belongs to the machine; the figure is printed. */
static void a_hundred_thousand(void **state) {
    fixture *f = *state;
    session s;
    OK(begin_session(f->db, &s, &f->err));
    adm_measurement m = some_measurement(s.run_id, s.config_id);
    uint64_t start_ns = adm_clock_ns();
    for (int i = 0; i < 100000; i++) {
        m.layer = i / 100;
        m.head = i % 100;
        OK(adm_store_measurement(s.store, &m, &f->err));
        if (i % 1000 == 999) OK(adm_store_flush(s.store, &f->err));
    }
    uint64_t end_ns = adm_clock_ns();
    adm_store_close(&s.store);
    assert_string_equal(RAW("SELECT count(*) FROM measurement"), "100000");
    print_message("# 100000 measurements in 100 batches: %.2f s\n", (double)(end_ns - start_ns) * 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(fresh_file),
        STORE_TEST(a_run_has_its_provenance),
        STORE_TEST(one_identity_one_row),
        STORE_TEST(views),
        STORE_TEST(a_file_of_version_1_is_brought_up_to_date),
        STORE_TEST(figures_are_in_their_columns),
        STORE_TEST(an_unflushed_batch_is_gone),
        STORE_TEST(what_a_measurement_must_not_be),
        STORE_TEST(text_survives),
        STORE_TEST(text_that_is_not_utf8_is_repaired),
        STORE_TEST(thresholds_and_ranges),
        STORE_TEST(activities_and_throttled_samples),
        STORE_TEST(version_2_is_migrated),
        STORE_TEST(reading),
        STORE_TEST(a_hundred_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
