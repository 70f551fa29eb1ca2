/* statement.c: the text of the store's statements. */
#include "core/store/statement.h"

#include <stddef.h>

#include "core/store/columns.h"

const adm_statement_text adm_store_sql[ADM_N_STATEMENTS] = {
    [ADM_SQL_ADD_RUN] = {.insert_into = &adm_run_table},
    [ADM_SQL_ADD_TRACE] = {.insert_into = &adm_trace_table},
    [ADM_SQL_FIND_CONFIG] = {.find_in = &adm_config_table},
    [ADM_SQL_ADD_CONFIG] = {.insert_into = &adm_config_table},
    [ADM_SQL_ADD_MEASUREMENT] = {.insert_into = &adm_measurement_table},
    [ADM_SQL_END_RUN] = {.sql = "UPDATE run SET status = ?, reason = ?, finished_utc = ?, elapsed_ns = ? WHERE run_id = ?"},
    [ADM_SQL_RESUME_RUN] = {.sql = "UPDATE run SET status = 'running', reason = NULL, finished_utc = NULL WHERE run_id = ?"},
    [ADM_SQL_FIND_TRACE] = {.sql = "SELECT trace_id FROM trace WHERE xxh128 = ?"},
    [ADM_SQL_FIND_METRIC] = {.sql = "SELECT metric_id, unit, better FROM metric WHERE name = ?"},
    [ADM_SQL_ADD_METRIC] = {.sql = "INSERT INTO metric (name, unit, better, description) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_SAMPLE] = {.sql = "INSERT INTO sample (measurement_id, i, value, throttle) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_CALIBRATION] =
        {.sql =
             "INSERT INTO calibration (run_id, trace_id, variant, layer, t0, t1, t2, xxh128) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_EVENT] =
        {.sql = "INSERT INTO event (run_id, config_id, kind, name, variant, step, layer, clock, start_ns, end_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACTIVITY] =
        {.sql = "INSERT INTO activity (run_id, config_id, stage, step, kind, name, stream, start_ns, end_ns, bytes, registers,"
                " static_shared_bytes, dynamic_shared_bytes, grid_x, grid_y, grid_z, block_x, block_y, block_z)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_CHECK_RUN] = {.sql = "INSERT INTO check_run (run_id, check_uuid, side, position, subject)"
                                      " SELECT run_id, ?2, ?3, ?4, ?5 FROM run WHERE run_uuid = ?1"},
    [ADM_SQL_ADD_MARGIN] =
        {.sql =
             "INSERT INTO margin (config_id, source, stage, metric_id, host_name, cpu_model, gpu_name, margin_ratio, n_processes,"
             " measured_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACKNOWLEDGEMENT] =
        {.sql = "INSERT INTO acknowledgement (config_id, source, stage, metric_id, run_uuid, verdict, who, why, made_utc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
};
