/* pack.c: the document as the page carries it. */
#include "analysis/report/pack.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* Shorter lists stay rows, for they are read by people too. */
enum { MIN_ROWS = 24 };

/* Five digits: more than any measurement here has, and a third of what a double takes to write in full. */
static json_t *pack_real(double value) {
    char digits[32];
    if (value == floor(value) && fabs(value) < 1e15) return json_integer((json_int_t)value);
    snprintf(digits, sizeof digits, "%.5g", value);
    const double rounded = strtod(digits, NULL);
    return rounded == floor(rounded) && fabs(rounded) < 1e15 ? json_integer((json_int_t)rounded) : json_real(rounded);
}

static json_t *pack_value(const json_t *value);

static bool all_objects(const json_t *rows) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (!json_is_object(row)) return false;
    return true;
}

/* A digit for each of the values that a column repeats: unpack.js has the same. */
static const char repeat_digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
enum { MAX_REPEATED = sizeof repeat_digits - 1 };

/* A column whose values repeat: {"of": [...], "at": "..."}, or NULL if there are too many different ones. */
static json_t *pack_repeated(const json_t *values) {
    json_t *of = json_array(), *value, *known, *column = NULL;
    const size_t n = json_array_size(values), max_values = n / 4 < MAX_REPEATED ? n / 4 : MAX_REPEATED;
    char *at = NULL;
    size_t i, k;
    adm_error unsaid; /* the column stays a list then */
    bool fits = adm_alloc(&at, n + 1, sizeof *at, "a column of the report's data", &unsaid) == ADM_OK;
    json_array_foreach(values, i, value) {
        size_t found = json_array_size(of);
        json_array_foreach(of, k, known) if (json_equal(known, value)) {
            found = k;
            break;
        }
        if (found == json_array_size(of)) json_array_append(of, value);
        fits = fits && json_array_size(of) <= max_values;
        if (!fits) break;
        at[i] = repeat_digits[found];
    }
    if (fits) column = json_pack("{s:O, s:s#}", "of", of, "at", at, (int)n);
    adm_free(&at);
    json_decref(of);
    return column;
}

static json_t *pack_rows(const json_t *rows);

static json_t *pack_column(const json_t *rows, const char *key) {
    json_t *values = json_array(), *row, *column = NULL;
    size_t i;
    bool same = true, sparse = false, repeated = true, objects = true;
    json_array_foreach(rows, i, row) {
        json_t *value = json_object_get(row, key);
        sparse |= value == NULL;
        repeated &= !json_is_array(value) && !json_is_object(value);
        objects &= json_is_object(value);
        json_array_append_new(values, value != NULL ? pack_value(value) : json_null());
        same &= json_equal(json_array_get(values, i), json_array_get(values, 0));
    }
    if (objects && json_array_size(rows) > 0) {
        json_t *inner = json_array();
        json_array_foreach(rows, i, row) json_array_append(inner, json_object_get(row, key));
        column = pack_rows(inner);
        json_decref(inner);
    } else if (same) column = json_pack("{s:O}", "all", json_array_get(values, 0));
    else if (repeated) column = pack_repeated(values);
    if (column == NULL) column = json_incref(values);
    json_decref(values);
    return sparse && !objects ? json_pack("{s:o}", "sparse", column) : column;
}

static json_t *pack_rows(const json_t *rows) {
    json_t *columns = json_object(), *row, *value;
    const char *key;
    size_t i;
    json_array_foreach(rows, i, row) json_object_foreach(row, key, value) if (json_object_get(columns, key) == NULL)
        json_object_set_new(columns, key, pack_column(rows, key));
    return json_pack("{s:I, s:o}", "packed", (json_int_t)json_array_size(rows), "columns", columns);
}

static json_t *pack_value(const json_t *value) {
    const char *key;
    size_t i;
    json_t *inside, *out;
    if (json_is_real(value)) return pack_real(json_real_value(value));
    if (json_is_array(value) && json_array_size(value) >= MIN_ROWS && all_objects(value)) return pack_rows(value);
    if (json_is_array(value)) {
        out = json_array();
        json_array_foreach(value, i, inside) json_array_append_new(out, pack_value(inside));
        return out;
    }
    if (!json_is_object(value)) return json_incref((json_t *)value);
    out = json_object();
    json_object_foreach((json_t *)value, key, inside) json_object_set_new(out, key, pack_value(inside));
    return out;
}

/* Lists that only tables show, and members of others that no chart reads. */
static const struct {
    const char *list, *member;
} left_out[] = {
    {"advice", NULL},
    {"best", NULL},
    {"checks", NULL},
    {"check_rows", NULL},
    {"claims", NULL},
    {"differences", NULL},
    {"sketches", NULL},
    {"verdict", NULL},
    {"quality", "min"},
    {"quality", "p01"},
    {"quality", "p99"},
    {"quality", "max"},
    {"units", "min"},
    {"units", "max"},
    {"units", "cold_l2_ratio"},
    {"units", "floor_ns"},
    {"units", "throttled_ratio"},
    {"configs", "config_id"},
    {"runs", "argv"},
    {"runs", "os"},
    {"runs", "run_uuid"},
    {"runs", "cpu_model"},
    {"runs", "compiler"},
    {"runs", "gpu_uuid"},
    {"runs", "finished_utc"},
    {"runs", "samples"},
    {"runs", "git_commit"},
};

static void leave_out(json_t *packed) {
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
        json_t *list = json_object_get(packed, left_out[i].list), *row;
        size_t r;
        if (left_out[i].member == NULL) json_object_del(packed, left_out[i].list);
        else if (json_is_object(list)) json_object_del(json_object_get(list, "columns"), left_out[i].member);
        else json_array_foreach(list, r, row) json_object_del(row, left_out[i].member);
    }
}

adm_status adm_report_pack(const json_t *document, json_t **packed, adm_error *err) {
    *packed = pack_value(document);
    if (*packed != NULL) leave_out(*packed);
    return *packed != NULL ? ADM_OK : adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing the report's data");
}
