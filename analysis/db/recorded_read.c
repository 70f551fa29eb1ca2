/* recorded_read.c: checking a recorded file's values for their position and type. The file is from outside: nothing of it
 * is taken for granted. */
#include "analysis/db/recorded_read.h"
#include "core/base/json_read.h"
#include "core/system/read_room.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE_BYTES = 256 << 20 };

adm_status adm_recorded_refuse(const adm_recorded_file *file, adm_error *err, const char *format, ...) {
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return adm_fail(err, ADM_EINPUT, "%s%s%s: %s", file->path, file->position[0] ? ": " : "", file->position, what);
}

/* --- The file ------------------------------------------------------------------------------------------------------- */

static adm_status check_format(const adm_recorded_file *file, adm_error *err) {
    const char *format = json_string_value(json_object_get(file->document, "format"));
    if (format == NULL || strncmp(format, "adamas-runs/", 12) != 0)
        return adm_recorded_refuse(file, err, "it is no file of recorded runs: its format must be '" ADM_RECORDED_FORMAT "'");
    if (strcmp(format, ADM_RECORDED_FORMAT) != 0)
        return adm_recorded_refuse(
            file, err, "its format is '%.40s', and this program reads '" ADM_RECORDED_FORMAT "': use a newer adamas", format);
    return ADM_OK;
}

adm_status adm_recorded_load(adm_recorded_file *file, const char *path, adm_error *err) {
    struct stat info;
    adm_json_fault why;
    *file = (adm_recorded_file){.path = path};
    FILE *stream = adm_open_to_read(path);
    if (stream == NULL) return adm_fail(err, adm_status_of_read(errno), "%s cannot be read: %s", path, strerror(errno));
    adm_status status = ADM_OK;
    if (fstat(fileno(stream), &info) != 0 || !S_ISREG(info.st_mode))
        status = adm_fail(err, ADM_EINPUT, "%s is not a regular file", path);
    else if (info.st_size > MAX_FILE_BYTES)
        status = adm_fail(err, ADM_EINPUT, "%s has %lld MiB, and a file of recorded runs at most %d", path,
                          (long long)info.st_size >> 20, MAX_FILE_BYTES >> 20);
    if (status == ADM_OK) file->document = adm_json_read_file(stream, (size_t)info.st_size, &why);
    if (status == ADM_OK && file->document == NULL && why.no_memory)
        status = adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while reading it", path);
    else if (status == ADM_OK && file->document == NULL && why.error != 0)
        status = adm_fail(err, adm_status_of_read(why.error), "%s cannot be read: %s", path, why.text);
    else if (status == ADM_OK && file->document == NULL)
        status = adm_fail(err, ADM_EINPUT, "%s is no file of recorded runs: line %d: %s", path, why.line, why.text);
    fclose(stream);
    return status == ADM_OK ? check_format(file, err) : status;
}

/* --- Values --------------------------------------------------------------------------------------------------------- */

static const char *type_name(char type) { return type == 'i' ? "a whole number" : type == 'd' ? "a number" : "a text"; }

adm_status adm_recorded_field(const adm_recorded_file *file, const json_t *json, const adm_recorded_column *column,
                              adm_value *value, adm_error *err) {
    if (!adm_recorded_value(json, column->type, value))
        return adm_recorded_refuse(file, err, "'%s' must be %s", column->name, type_name(column->type));
    if (value->type == 'n' && column->is_required) return adm_recorded_refuse(file, err, "'%s' is missing", column->name);
    return ADM_OK;
}

adm_status adm_recorded_list(const adm_recorded_file *file, const json_t *object, const char *key, const json_t **list,
                             adm_error *err) {
    *list = json_object_get(object, key);
    return json_is_array(*list) ? ADM_OK : adm_recorded_refuse(file, err, "the list '%s' is missing", key);
}

adm_status adm_recorded_object(const adm_recorded_file *file, const json_t *object, const adm_recorded_table *table,
                               adm_value *values, adm_error *err) {
    if (!json_is_object(object)) return adm_recorded_refuse(file, err, "a row of '%s' must be an object", table->name);
    adm_status status = ADM_OK;
    size_t n_found = 0;
    for (size_t i = 0; i < table->n_columns && status == ADM_OK; i++) {
        const json_t *field = json_object_get(object, table->column[i].name);
        n_found += field != NULL;
        status = adm_recorded_field(file, field, &table->column[i], &values[i], err);
    }
    if (status == ADM_OK && n_found != json_object_size(object))
        status = adm_recorded_refuse(file, err, "it has fields that this program does not know: use a newer adamas");
    return status;
}

adm_status adm_recorded_order_read(const adm_recorded_file *file, const adm_recorded_table *table, const char *first,
                                   adm_recorded_order *order, adm_error *err) {
    char key[64];
    const json_t *names;
    bool found[ADM_RECORDED_MAX_COLUMNS] = {false};
    snprintf(key, sizeof key, "%s_columns", table->name);
    order->n = 0;
    if (json_object_get(file->document, key) == NULL) return ADM_OK; /* written before the schema had the table */
    adm_status status = adm_recorded_list(file, file->document, key, &names, err);
    if (status != ADM_OK) return status;
    const char *name = json_string_value(json_array_get(names, 0));
    if (name == NULL || strcmp(name, first) != 0) return adm_recorded_refuse(file, err, "%s must begin with '%s'", key, first);
    order->n = json_array_size(names) - 1;
    for (size_t i = 0; i < order->n; i++) {
        size_t c = 0;
        name = json_string_value(json_array_get(names, i + 1));
        while (c < table->n_columns && (name == NULL || strcmp(table->column[c].name, name) != 0)) c++;
        if (c == table->n_columns || found[c])
            return adm_recorded_refuse(file, err, "%s names '%s', which this program does not know there: use a newer adamas",
                                       key, name != NULL ? name : "no text");
        found[c] = true;
        order->at[i] = c;
    }
    for (size_t c = 0; c < table->n_columns; c++)
        if (table->column[c].is_required && !found[c])
            return adm_recorded_refuse(file, err, "%s lacks '%s'", key, table->column[c].name);
    return ADM_OK;
}

adm_status adm_recorded_array(const adm_recorded_file *file, const json_t *row, const adm_recorded_table *table,
                              const adm_recorded_order *order, const json_t **first, adm_value *values, adm_error *err) {
    if (json_array_size(row) == 0 || json_array_size(row) > order->n + 1)
        return adm_recorded_refuse(file, err, "it has %zu values, and %s_columns names %zu", json_array_size(row), table->name,
                                   order->n + 1);
    adm_status status = ADM_OK;
    *first = json_array_get(row, 0);
    for (size_t i = 0; i < table->n_columns; i++) values[i].type = 'n';
    for (size_t i = 0; i < order->n && status == ADM_OK; i++)
        status = adm_recorded_field(file, json_array_get(row, i + 1), &table->column[order->at[i]], &values[order->at[i]], err);
    return status;
}
