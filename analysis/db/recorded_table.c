/* recorded_table.c: which columns of which tables a recorded file carries, and their values as JSON. */
#include "analysis/db/recorded_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "core/base/mem.h"

const char *const adm_recorded_figures[ADM_RECORDED_N_FIGURES] = {"mean",   "min", "p01", "p05", "p10",
                                                                  "median", "p90", "p95", "p99", "max"};

static bool is_id(const char *column) {
    static const char *const ids[] = {"run_id", "trace_id", "config_id", "metric_id", "event_id", "activity_id"};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        if (strcmp(column, ids[i]) == 0) return true;
    return false;
}

adm_status adm_recorded_table_read(adm_store *store, const char *name, adm_recorded_table *table, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *table = (adm_recorded_table){.name = name};
    adm_status status = adm_query_open(store,
                                       "SELECT name, type, \"notnull\" AND dflt_value IS NULL FROM "
                                       "pragma_table_info(?) ORDER BY cid",
                                       &query, err, "s", name);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        const char *column = adm_query_text(query, 0), *type = adm_query_text(query, 1);
        adm_recorded_column *c = &table->column[table->n_columns];
        if (is_id(column)) continue;
        if (table->n_columns == ADM_RECORDED_MAX_COLUMNS || strlen(column) >= sizeof c->name) {
            status = adm_fail(err, ADM_EINTERNAL, "table %s has more or longer columns than a recorded file is prepared for",
                              name);
            break;
        }
        snprintf(c->name, sizeof c->name, "%s", column);
        c->type = strcmp(type, "INTEGER") == 0 ? 'i' : strcmp(type, "REAL") == 0 ? 'd' : 's';
        c->is_required = adm_query_int(query, 2) != 0;
        table->n_columns++;
    }
    adm_query_close(&query);
    return status;
}

char *adm_recorded_column_list(const adm_recorded_table *table, const char *prefix) {
    char *list;
    size_t size = 1, at = 0;
    for (size_t i = 0; i < table->n_columns; i++) size += strlen(prefix) + strlen(table->column[i].name) + 4;
    if (adm_alloc(&list, size, 1, "a list of columns", NULL) != ADM_OK) return NULL;
    for (size_t i = 0; i < table->n_columns; i++)
        at += (size_t)snprintf(list + at, size - at, "%s%s\"%s\"", i > 0 ? ", " : "", prefix, table->column[i].name);
    return list;
}

json_t *adm_recorded_number(double value) {
    if (value == floor(value) && fabs(value) < 0x1p53) return json_integer((json_int_t)value);
    return isfinite(value) ? json_real(value) : json_null();
}

double adm_recorded_rounded(double value) {
    char digits[32];
    if (value == floor(value)) return value;
    snprintf(digits, sizeof digits, "%.*g", ADM_RECORDED_DIGITS, value);
    return strtod(digits, NULL);
}

json_t *adm_recorded_figure(double value) { return adm_recorded_number(adm_recorded_rounded(value)); }

json_t *adm_recorded_json(const adm_query *query, int column, char type) {
    if (adm_query_is_null(query, column)) return json_null();
    if (type == 'i') return json_integer((json_int_t)adm_query_int(query, column));
    if (type == 's') return adm_rows_string(adm_query_text(query, column));
    return adm_recorded_number(adm_query_double(query, column));
}

bool adm_recorded_value(const json_t *json, char type, adm_value *value) {
    if (json == NULL || json_is_null(json)) {
        value->type = 'n';
        return true;
    }
    value->type = type;
    if (type == 's') value->s = json_string_value(json);
    else if (type == 'i') value->i = (int64_t)json_integer_value(json);
    else value->d = json_number_value(json);
    return type == 's' ? json_is_string(json) : type == 'i' ? json_is_integer(json) : json_is_number(json);
}
