/* pack.c: the document as the page carries it. */
#include "analysis/report/pack.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* How many characters a whole number, a text or null takes, about; 0 for other values. */
static size_t length_of(const json_t *value) {
    size_t n = 1;
    if (json_is_string(value)) return json_string_length(value) + 2;
    if (json_is_null(value)) return 4;
    if (!json_is_integer(value)) return 0;
    for (json_int_t left = json_integer_value(value); left / 10 != 0; left /= 10) n++;
    return n;
}

/* The same list as [value, how often in a row, value, how often, ...]. */
static json_t *runs_of(const json_t *at) {
    json_t *runs = json_array();
    for (size_t i = 0, end; i < json_array_size(at); i = end) {
        const json_t *value = json_array_get(at, i);
        for (end = i + 1; json_equal(json_array_get(at, end), value);) end++;
        json_array_append(runs, (json_t *)value);
        json_array_append_new(runs, json_integer((json_int_t)(end - i)));
    }
    return runs;
}

/* A column whose values repeat: {"of": [...], "at": [...]} or {"of": [...], "runs": [...]}; NULL if there are too many
 * different ones, or that would be no shorter. */
static json_t *pack_repeated(const json_t *values) {
    enum { MAX_VALUES = 64 };
    json_t *of = json_array(), *at = json_array(), *packed = NULL, *value, *known, *runs;
    const size_t max_values = json_array_size(values) / 4;
    size_t i, k, before = 0, after = 0;
    json_array_foreach(values, i, value) {
        size_t found = json_array_size(of);
        json_array_foreach(of, k, known) if (json_equal(known, value)) {
            found = k;
            break;
        }
        if (found == json_array_size(of)) json_array_append(of, value);
        json_array_append_new(at, json_integer((json_int_t)found));
        before += length_of(value);
        after += found < 10 ? 1 : 2;
        if (length_of(value) == 0 || json_array_size(of) > max_values || json_array_size(of) > MAX_VALUES) break;
    }
    runs = runs_of(at);
    if (i == json_array_size(values) && json_array_size(runs) < json_array_size(at))
        packed = json_pack("{s:O, s:O}", "of", of, "runs", runs);
    else if (i == json_array_size(values) && after < before) packed = json_pack("{s:O, s:O}", "of", of, "at", at);
    json_decref(runs);
    json_decref(of);
    json_decref(at);
    return packed;
}

static json_t *pack_rows(const json_t *rows);

static json_t *pack_column(const json_t *rows, const char *key) {
    json_t *values = json_array(), *row, *column = NULL;
    size_t i;
    bool same = true, sparse = false, objects = true;
    json_array_foreach(rows, i, row) {
        json_t *value = json_object_get(row, key);
        sparse |= value == NULL;
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
    else column = pack_repeated(values);
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
