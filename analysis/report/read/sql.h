/* sql.h: expressions that several queries of a report share. */
#ifndef ADM_ANALYSIS_REPORT_READ_SQL_H
#define ADM_ANALYSIS_REPORT_READ_SQL_H

/* The name of a line in a chart, as an expression over config c: a policy and all that tells two of its configurations
 * apart, where its variant's name does not say it (that of a replay does, since forced tokens can be swept). */
#define ADM_REPORT_SERIES                                                                                         \
    "trim(c.policy || ' ' || c.variant) || CASE WHEN c.selection = 'group' AND c.variant NOT LIKE '%per group%' " \
    "THEN ', per group' ELSE '' END || "                                                                          \
    "CASE WHEN c.n_sinks > 0 AND c.variant NOT LIKE '%, ' || c.n_sinks || ' sink%' "                              \
    "THEN ', ' || c.n_sinks || ' sinks' ELSE '' END || "                                                          \
    "CASE WHEN c.n_recent > 1 AND c.variant NOT LIKE '%, ' || c.n_recent || ' recent%' "                          \
    "THEN ', ' || c.n_recent || ' recent' ELSE '' END"

/* Metrics of a GPU stage that are not counters, as lists in SQL: what comes with its time, and what NVML says of the
 * device. */
#define ADM_REPORT_TIME_METRICS "'time_ns', 'limit_ratio', 'median_ci_ratio'"
#define ADM_REPORT_NO_PHASE "k.name NOT LIKE 'phase\\_%' ESCAPE '\\'" /* of metric k */
#define ADM_REPORT_DEVICE_METRICS "'sm_clock_hz', 'memory_clock_hz', 'power_w', 'temperature_c', 'throttled_ratio'"

/* Of a row of a joined run, measurement m: the host and GPU that measured it, and the commit where the run has several builds.
 * NULL: the run is not joined, or the row is of several shards. */
#define ADM_REPORT_PLACE                                                                                                  \
    "(SELECT s.host_name || ifnull(', ' || s.gpu_name || ifnull(' ' || substr(s.gpu_uuid, 1, 12), ''), '') || CASE WHEN " \
    "EXISTS (SELECT 1 FROM shard o WHERE o.run_id = s.run_id AND o.sweep_build <> s.sweep_build) THEN ', commit ' || "    \
    "substr(s.git_commit, 1, 10) ELSE '' END FROM shard s WHERE s.run_id = m.run_id AND s.shard = m.of_shard)"

#endif
