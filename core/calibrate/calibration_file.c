/* calibration_file.c: calibrations from and to JSON. The file is foreign: every member is checked. */
#include "core/calibrate/calibration_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json_read.h"
#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/system/read_room.h"

enum { MAX_LAYERS = 65536 };

/* --- The file's text ------------------------------------------------------------------------------------------------ */

static adm_status read_text(const char *path, const char *shown, char **text, size_t *n_bytes, adm_error *err) {
    FILE *file = adm_open_to_read(path);
    *text = NULL;
    if (file == NULL) return adm_fail(err, adm_status_of_read(errno), "%s: cannot be opened: %s", shown, strerror(errno));
    const size_t room = adm_read_room_bytes(file, ADM_CALIBRATION_MAX_BYTES);
    adm_status status = adm_alloc(text, room, 1, "a calibration", err);
    if (status == ADM_OK) {
        *n_bytes = fread(*text, 1, room, file);
        if (ferror(file)) status = adm_fail(err, adm_status_of_read(errno), "%s: cannot be read: %s", shown, strerror(errno));
        else if (*n_bytes > ADM_CALIBRATION_MAX_BYTES)
            status = adm_fail(err, ADM_EINPUT, "%s: larger than %d bytes, so no calibration", shown, ADM_CALIBRATION_MAX_BYTES);
    }
    fclose(file);
    return status;
}

/* --- Members -------------------------------------------------------------------------------------------------------- */

static adm_status get_text(const json_t *object, const char *name, const char *shown, const char *where, const char **value,
                           adm_error *err) {
    *value = json_string_value(json_object_get(object, name));
    return *value != NULL ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s: %s has no text \"%s\"", shown, where, name);
}

static adm_status get_count(const json_t *object, const char *name, json_int_t max, const char *shown, const char *where,
                            uint32_t *value, adm_error *err) {
    const json_t *number = json_object_get(object, name);
    const json_int_t n = json_integer_value(number);
    *value = 0;
    if (!json_is_integer(number) || n < 0 || n > max)
        return adm_fail(err, ADM_EINPUT, "%s: %s has no \"%s\" that is a whole number from 0 to %lld", shown, where, name,
                        (long long)max);
    *value = (uint32_t)n;
    return ADM_OK;
}

/* An optional text; one that does not fit is cut. */
static void copy_text(const json_t *object, const char *name, char *text, size_t text_bytes) {
    const char *value = json_string_value(json_object_get(object, name));
    snprintf(text, text_bytes, "%s", value != NULL ? value : "");
}

static adm_status read_coding(const json_t *object, const char *shown, const char *where, adm_coding *coding, adm_error *err) {
    const char *metric = NULL, *thresholds = NULL;
    adm_error own = {0};
    adm_status status = get_text(object, "metric", shown, where, &metric, err);
    if (status == ADM_OK) status = get_text(object, "thresholds", shown, where, &thresholds, err);
    if (status != ADM_OK) return status;
    status = adm_calibration_coding_of(metric, thresholds, coding, &own);
    return status == ADM_OK ? ADM_OK : adm_fail(err, status, "%s: %s: %.500s", shown, where, own.text);
}

static adm_status read_shape(const json_t *document, const char *shown, adm_shape *shape, adm_error *err) {
    const json_t *object = json_object_get(document, "shape");
    adm_error own = {0};
    adm_status status = get_count(object, "n_q_heads", UINT32_MAX, shown, "\"shape\"", &shape->n_q_heads, err);
    if (status == ADM_OK) status = get_count(object, "n_kv_heads", UINT32_MAX, shown, "\"shape\"", &shape->n_kv_heads, err);
    if (status == ADM_OK) status = get_count(object, "head_dim", UINT32_MAX, shown, "\"shape\"", &shape->head_dim, err);
    if (status != ADM_OK) return status;
    status = adm_shape_check(shape, &own);
    return status == ADM_OK ? ADM_OK : adm_fail(err, status, "%s: \"shape\": %.500s", shown, own.text);
}

static int by_number(const void *a, const void *b) {
    const uint32_t x = ((const adm_calibration_layer *)a)->number, y = ((const adm_calibration_layer *)b)->number;
    return (x > y) - (x < y);
}

static adm_status read_layers(const json_t *document, const char *shown, adm_calibration *c, adm_error *err) {
    const json_t *layers = json_object_get(document, "layers");
    const size_t n = json_array_size(layers);
    char where[32];
    if (!json_is_array(layers) || n > MAX_LAYERS)
        return adm_fail(err, ADM_EINPUT, "%s: has no list \"layers\" of at most %d", shown, MAX_LAYERS);
    adm_status status = adm_alloc(&c->layer, n, sizeof *c->layer, "layers of a calibration", err);
    for (; status == ADM_OK && c->n_layers < n; c->n_layers++) {
        adm_calibration_layer *layer = &c->layer[c->n_layers];
        const json_t *object = json_array_get(layers, c->n_layers);
        snprintf(where, sizeof where, "\"layers\"[%zu]", c->n_layers);
        status = get_count(object, "layer", UINT16_MAX, shown, where, &layer->number, err);
        if (status == ADM_OK) status = read_coding(object, shown, where, &layer->coding, err);
    }
    if (status != ADM_OK) return status;
    qsort(c->layer, n, sizeof *c->layer, by_number);
    for (size_t i = 1; i < n; i++)
        if (c->layer[i].number == c->layer[i - 1].number)
            return adm_fail(err, ADM_EINPUT, "%s: \"layers\" has layer %u twice", shown, c->layer[i].number);
    return ADM_OK;
}

static adm_status read_document(const json_t *document, const char *shown, adm_calibration *c, adm_error *err) {
    const char *format = json_string_value(json_object_get(document, "format"));
    if (format == NULL || strcmp(format, ADM_CALIBRATION_FORMAT) != 0)
        return adm_fail(err, ADM_EINPUT, "%s: no calibration: its \"format\" is %s%.40s, not " ADM_CALIBRATION_FORMAT, shown,
                        format != NULL ? "" : "missing", format != NULL ? format : "");
    copy_text(document, "model", c->model, sizeof c->model);
    copy_text(document, "weights_sha256", c->weights_sha256, sizeof c->weights_sha256);
    adm_status status = read_shape(document, shown, &c->shape, err);
    if (status == ADM_OK) status = read_coding(json_object_get(document, "default"), shown, "\"default\"", &c->other, err);
    return status == ADM_OK ? read_layers(document, shown, c, err) : status;
}

adm_status adm_calibration_read(const char *path, adm_calibration *calibration, adm_error *err) {
    char shown[256], *text = NULL;
    size_t n_bytes = 0;
    adm_json_fault where;
    *calibration = (adm_calibration){.n_layers = 0};
    adm_printable(path, shown, sizeof shown);
    adm_status status = read_text(path, shown, &text, &n_bytes, err);
    if (status == ADM_OK) {
        json_t *document = adm_json_read(text, n_bytes, &where);
        if (document == NULL && where.no_memory)
            status = adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while reading it", shown);
        else if (document == NULL)
            status = adm_fail(err, ADM_EINPUT, "%s: no JSON: line %d: %s", shown, where.line, where.text);
        else status = read_document(document, shown, calibration, err);
        json_decref(document);
    }
    adm_free(&text);
    return status;
}

/* --- Writing -------------------------------------------------------------------------------------------------------- */

static json_t *coding_as_json(const adm_coding *coding) {
    return json_pack("{s:s, s:s}", "metric", adm_code_metric_name(coding->metric), "thresholds", coding->thresholds.text);
}

adm_status adm_calibration_to_json(const adm_calibration *c, json_t *document, adm_error *err) {
    json_t *layers = json_array();
    int failed = 0;
    for (size_t i = 0; i < c->n_layers; i++) {
        json_t *layer = json_pack("{s:I}", "layer", (json_int_t)c->layer[i].number),
               *coding = coding_as_json(&c->layer[i].coding);
        failed |= json_object_update(layer, coding) | json_array_append_new(layers, layer);
        json_decref(coding);
    }
    failed |= json_object_set_new(document, "format", json_string(ADM_CALIBRATION_FORMAT));
    failed |= json_object_set_new(document, "model", json_string(c->model));
    failed |= json_object_set_new(document, "weights_sha256", json_string(c->weights_sha256));
    failed |= json_object_set_new(document, "shape",
                                  json_pack("{s:I, s:I, s:I}", "n_q_heads", (json_int_t)c->shape.n_q_heads, "n_kv_heads",
                                            (json_int_t)c->shape.n_kv_heads, "head_dim", (json_int_t)c->shape.head_dim));
    failed |= json_object_set_new(document, "default", coding_as_json(&c->other));
    failed |= json_object_set_new(document, "layers", layers);
    return failed ? adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing a calibration") : ADM_OK;
}
