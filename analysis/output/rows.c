/* rows.c: rows of a query as JSON. */
#include "analysis/output/rows.h"

#include <math.h>
#include <string.h>

#include "core/base/json_read.h"
#include "core/base/mem.h"
#include "core/base/printable.h"

json_t *adm_rows_string(const char *text) {
    json_t *string = json_string(text);
    if (string != NULL) return string;
    char *clean;
    size_t size = strlen(text) + 4;
    if (adm_alloc(&clean, size, 1, "a text that is not UTF-8", NULL) != ADM_OK) return NULL;
    string = json_string(adm_printable(text, clean, size));
    adm_free(&clean);
    return string;
}

json_t *adm_rows_number(const adm_query *query, int column) {
    /* JSON has no infinity; SQLite has no NaN. */
    double value = adm_query_double(query, column);
    return !adm_query_is_null(query, column) && isfinite(value) ? json_real(value) : json_null();
}

static json_t *value_of(const adm_query *query, int column, char type) {
    if (adm_query_is_null(query, column)) return json_null();
    if (type == 'i') return json_integer((json_int_t)adm_query_int(query, column));
    if (type == 'd') return adm_rows_number(query, column);
    const char *text = adm_query_text(query, column);
    adm_json_fault why = {.no_memory = false};
    json_t *parsed = type == 'j' ? adm_json_read(text, strlen(text), &why) : NULL;
    if (why.no_memory) return NULL;
    return parsed != NULL ? parsed : adm_rows_string(text);
}

json_t *adm_rows_object(const adm_query *query, const adm_rows_column *columns, size_t n_columns) {
    json_t *row = json_object();
    for (size_t i = 0; i < n_columns; i++)
        if (json_object_set_new(row, columns[i].name, value_of(query, (int)i, columns[i].type)) != 0) {
            json_decref(row);
            return NULL;
        }
    return row;
}

json_t *adm_rows_whole(const adm_query *query, const char *json_column) {
    json_t *row = json_object();
    for (int i = 0; i < adm_query_n_columns(query); i++) {
        const char *name = adm_query_name(query, i);
        char type = name != NULL && strcmp(name, json_column) == 0 ? 'j' : adm_query_type(query, i);
        if (name == NULL || json_object_set_new(row, name, value_of(query, i, type)) != 0) {
            json_decref(row);
            return NULL;
        }
    }
    return row;
}

adm_status adm_rows_append(json_t *array, json_t *value, adm_error *err) {
    if (json_array_append_new(array, value) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
}

adm_status adm_rows_set(json_t *object, const char *key, json_t *value, adm_error *err) {
    if (json_object_set_new(object, key, value) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
}

adm_status adm_rows_read(adm_query **query, const adm_rows_column *columns, size_t n_columns, int session, json_t *array,
                         adm_error *err) {
    bool there = false;
    adm_status status;
    while ((status = adm_query_next(*query, &there, err)) == ADM_OK && there) {
        json_t *row = adm_rows_object(*query, columns, n_columns);
        if (row != NULL && session >= 0) status = adm_rows_set(row, "session", json_integer(session), err);
        if (status != ADM_OK) json_decref(row);
        else status = adm_rows_append(array, row, err);
        if (status != ADM_OK) break;
    }
    adm_query_close(query);
    return status;
}
