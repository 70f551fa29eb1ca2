/* statement.h: the statements that a store prepares at their first use and keeps. Inside of the store. */
#ifndef ADM_CORE_STORE_STATEMENT_H
#define ADM_CORE_STORE_STATEMENT_H

typedef enum adm_statement {
    ADM_SQL_ADD_RUN,
    ADM_SQL_END_RUN,
    ADM_SQL_RESUME_RUN,
    ADM_SQL_FIND_TRACE,
    ADM_SQL_ADD_TRACE,
    ADM_SQL_FIND_CONFIG,
    ADM_SQL_ADD_CONFIG,
    ADM_SQL_FIND_METRIC,
    ADM_SQL_ADD_METRIC,
    ADM_SQL_ADD_MEASUREMENT,
    ADM_SQL_ADD_SAMPLE,
    ADM_SQL_ADD_CALIBRATION,
    ADM_SQL_ADD_EVENT,
    ADM_SQL_ADD_ACTIVITY,
    ADM_SQL_ADD_CHECK_RUN,
    ADM_SQL_ADD_MARGIN,
    ADM_SQL_ADD_ACKNOWLEDGEMENT,
    ADM_N_STATEMENTS
} adm_statement;

/* A statement's text, or the table (columns.h) whose columns give it. */
typedef struct adm_statement_text {
    const char *sql;
    const struct adm_table *insert_into, *find_in;
} adm_statement_text;

extern const adm_statement_text adm_store_sql[ADM_N_STATEMENTS];

#endif
