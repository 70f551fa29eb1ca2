/* safetensors.c: opens, checks and maps a .safetensors file. Every number in the header is checked before it is used. */
#include "traces/format/safetensors.h"

#include <ctype.h>
#include <endian.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json_read.h"
#include "core/base/mem.h"
#include "traces/format/input_file.h"
#include "core/base/printable.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "tensors are read as they lie in the file");
_Static_assert(sizeof(size_t) == 8, "sizes in a header are 64 bits");

enum { LENGTH_BYTES = 8 };

struct adm_safetensors {
    adm_input_file file;
    json_t *header;            /* owns all names and texts */
    const unsigned char *data; /* the byte that offset 0 means, inside file.map */
    size_t data_bytes;
    size_t n_tensors;
    adm_st_tensor *tensor;     /* by name */
    size_t n_meta;
    adm_trace_meta *meta;
};

static const struct {
    char name[12];
    unsigned bits;
} dtypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

/* --- The header --------------------------------------------------------------------------------------------------- */

/* At least as many values as the JSON has: what the parser can be made to allocate is known before it starts. */
static size_t count_values(const char *text, size_t n) {
    size_t count = 1;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"') in_string = !in_string;
        else if (in_string) i += c == '\\';
        else count += c == ',' || c == '[' || c == '{';
    }
    return count;
}

static adm_status parse_header(adm_safetensors *st, const char *text, size_t n, adm_error *err) {
    size_t n_values = count_values(text, n);
    if (n_values > ADM_ST_MAX_VALUES)
        return adm_fail(err, ADM_EINPUT, "%s: the header holds about %zu JSON values, the limit is %d", st->file.label,
                        n_values, ADM_ST_MAX_VALUES);
    adm_json_fault fault;
    st->header = adm_json_read(text, n, &fault);
    if (st->header == NULL && fault.no_memory)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while parsing a header of %zu bytes", st->file.label, n);
    if (st->header == NULL)
        return adm_fail(err, ADM_EINPUT, "%s: the header is not valid JSON at byte %zu of %zu: %s", st->file.label, fault.at, n,
                        fault.text);
    if (!json_is_object(st->header))
        return adm_fail(err, ADM_EINPUT, "%s: the header is a JSON array, it must be an object", st->file.label);
    return ADM_OK;
}

enum { HEAD_BYTES = 48 };

/* What is not even the beginning of a header: other kinds of file by name, and text by its beginning. */
static adm_status check_kind(const adm_safetensors *st, adm_error *err) {
    adm_status status = adm_input_check_kind(&st->file, err);
    char head[HEAD_BYTES + 1] = {0}, shown[64];
    size_t n = st->file.n_bytes < HEAD_BYTES ? (size_t)st->file.n_bytes : HEAD_BYTES;
    if (status == ADM_OK) status = adm_input_read(&st->file, head, n, 0, err);
    if (status != ADM_OK) return status;
    /* Eight characters of ASCII would be a length of more than 10^17 bytes. */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)head[i];
        if ((i < LENGTH_BYTES && c >= 0x7f) || (c < ' ' && !isspace(c))) return ADM_OK;
    }
    if (n < LENGTH_BYTES) return ADM_OK;
    head[strcspn(head, "\r\n")] = '\0';
    return adm_fail(err, ADM_EINPUT, "%s: is no safetensors file but text, which begins with '%s'", st->file.label,
                    adm_printable(head, shown, sizeof shown));
}

/* Where the length in the first bytes cannot be: whether a header follows it at all. */
static const char *no_header_remark(const adm_safetensors *st) {
    char first = '\0';
    if (st->file.n_bytes > LENGTH_BYTES && adm_input_read(&st->file, &first, 1, LENGTH_BYTES, NULL) == ADM_OK && first == '{')
        return "";
    return "; is it a safetensors file? No header begins after the first 8 bytes";
}

/* Reads the header and leaves st->data at the first byte behind it. */
static adm_status read_header(adm_safetensors *st, adm_error *err) {
    const char *label = st->file.label;
    uint64_t n_bytes = st->file.n_bytes, n = 0;
    if (n_bytes < LENGTH_BYTES)
        return adm_fail(err, ADM_EINPUT,
                        "%s: has %" PRIu64 " bytes, but a safetensors file starts with %d bytes of "
                        "header length",
                        label, n_bytes, LENGTH_BYTES);
    adm_status status = check_kind(st, err);
    if (status == ADM_OK) status = adm_input_read(&st->file, &n, sizeof n, 0, err);
    if (status != ADM_OK) return status;
    if (n > ADM_ST_MAX_HEADER_BYTES)
        return adm_fail(err, ADM_EINPUT, "%s: says that its header has %" PRIu64 " bytes, the limit is %d%s", label, n,
                        ADM_ST_MAX_HEADER_BYTES, no_header_remark(st));
    if (n > n_bytes - LENGTH_BYTES)
        return adm_fail(err, ADM_EINPUT,
                        "%s: says that its header has %" PRIu64 " bytes, but only %" PRIu64 " bytes follow in the file", label,
                        n, n_bytes - LENGTH_BYTES);
    char *text = NULL;
    status = adm_alloc(&text, n, 1, "the header of a safetensors file", err);
    if (status == ADM_OK) status = adm_input_read(&st->file, text, n, LENGTH_BYTES, err);
    if (status == ADM_OK) status = parse_header(st, text, n, err);
    adm_free(&text);
    if (status == ADM_OK) status = adm_input_map(&st->file, err);
    if (status != ADM_OK) return status;
    st->data = st->file.map + LENGTH_BYTES + n;
    st->data_bytes = n_bytes - LENGTH_BYTES - n;
    return ADM_OK;
}

/* --- One tensor --------------------------------------------------------------------------------------------------- */

static adm_status fail_tensor(const adm_safetensors *st, const char *name, adm_error *err, const char *format, ...)
    ADM_PRINTF(4, 5);

static adm_status fail_tensor(const adm_safetensors *st, const char *name, adm_error *err, const char *format, ...) {
    char shown[96], rest[256];
    va_list args;
    va_start(args, format);
    vsnprintf(rest, sizeof rest, format, args);
    va_end(args);
    return adm_fail(err, ADM_EINPUT, "%s: tensor '%s' %s", st->file.label, adm_printable(name, shown, sizeof shown), rest);
}

static bool natural(const json_t *value, uint64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static adm_status read_dtype(const adm_safetensors *st, const json_t *entry, adm_st_tensor *t, unsigned *bits, adm_error *err) {
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (text == NULL) return fail_tensor(st, t->name, err, "has no dtype, which must be a string such as \"F16\"");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(text, dtypes[i].name) != 0) continue;
        t->dtype = dtypes[i].name;
        *bits = dtypes[i].bits;
        return ADM_OK;
    }
    char shown[32];
    return fail_tensor(st, t->name, err, "has the dtype '%s', which is none of the format's 22",
                       adm_printable(text, shown, sizeof shown));
}

/* The bytes that shape and dtype call for, with every step checked for overflow. */
static adm_status read_shape(const adm_safetensors *st, const json_t *entry, unsigned bits, adm_st_tensor *t, uint64_t *n_bytes,
                             adm_error *err) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return fail_tensor(st, t->name, err, "has no shape, which must be an array");
    uint64_t n_bits = bits;
    bool is_empty = false, overflows = false;
    t->n_dims = json_array_size(shape);
    for (size_t i = 0; i < t->n_dims; i++) {
        uint64_t dim;
        if (!natural(json_array_get(shape, i), &dim))
            return fail_tensor(st, t->name, err, "has a shape whose dimension %zu is not a whole number of 0 or more", i);
        if (i < ADM_ST_DIMS_KEPT) t->shape[i] = dim;
        is_empty |= dim == 0;
        overflows |= __builtin_mul_overflow(n_bits, dim, &n_bits);
    }
    if (is_empty) n_bits = 0;
    else if (overflows) return fail_tensor(st, t->name, err, "has a shape whose product overflows, the limit is 2^64 bits");
    if (n_bits % 8 != 0) return fail_tensor(st, t->name, err, "has %" PRIu64 " bits, which are no whole bytes", n_bits);
    *n_bytes = n_bits / 8;
    return ADM_OK;
}

static adm_status read_tensor(const adm_safetensors *st, const char *name, const json_t *entry, adm_st_tensor *t,
                              adm_error *err) {
    t->name = name;
    if (!json_is_object(entry)) return fail_tensor(st, name, err, "is not described by a JSON object");
    unsigned bits = 0;
    uint64_t n_bytes = 0, begin, end;
    adm_status status = read_dtype(st, entry, t, &bits, err);
    if (status == ADM_OK) status = read_shape(st, entry, bits, t, &n_bytes, err);
    if (status != ADM_OK) return status;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &begin) ||
        !natural(json_array_get(offsets, 1), &end))
        return fail_tensor(st, name, err, "has no data_offsets, which must be two whole numbers of 0 or more");
    if (end < begin)
        return fail_tensor(st, name, err, "ends at byte %" PRIu64 " of the data, before its begin at %" PRIu64, end, begin);
    if (end > st->data_bytes)
        return fail_tensor(st, name, err,
                           "ends at byte %" PRIu64 " of the data, but the file has only %zu bytes of "
                           "data; is it truncated?",
                           end, st->data_bytes);
    if (end - begin != n_bytes)
        return fail_tensor(st, name, err, "has %" PRIu64 " bytes in the file, but its shape and dtype %s call for %" PRIu64,
                           end - begin, t->dtype, n_bytes);
    t->data = st->data + begin;
    t->n_bytes = (size_t)n_bytes;
    return ADM_OK;
}

/* --- All tensors -------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const adm_st_tensor *)a)->name, ((const adm_st_tensor *)b)->name);
}

static int by_position(const void *a, const void *b) {
    const adm_st_tensor *x = *(const adm_st_tensor *const *)a, *y = *(const adm_st_tensor *const *)b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* In order of their positions, the tensors must touch without overlap and fill the data: the format forbids holes, in which
 * something could hide. */
static adm_status check_layout(const adm_safetensors *st, adm_error *err) {
    const adm_st_tensor **order = NULL;
    adm_status status = adm_alloc(&order, st->n_tensors, sizeof *order, "the order of tensors", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < st->n_tensors; i++) order[i] = &st->tensor[i];
    qsort(order, st->n_tensors, sizeof *order, by_position);
    size_t next = 0;
    for (size_t i = 0; i < st->n_tensors && status == ADM_OK; i++) {
        size_t begin = (size_t)((const unsigned char *)order[i]->data - st->data);
        char shown[96];
        if (begin < next)
            status = fail_tensor(st, order[i]->name, err,
                                 "begins at byte %zu of the data and overlaps tensor '%s', "
                                 "which ends at byte %zu",
                                 begin, adm_printable(order[i - 1]->name, shown, sizeof shown), next);
        else if (begin > next)
            status = fail_tensor(st, order[i]->name, err,
                                 "begins at byte %zu of the data and leaves %zu bytes before "
                                 "it that belong to no tensor",
                                 begin, begin - next);
        next = begin + order[i]->n_bytes;
    }
    if (status == ADM_OK && next != st->data_bytes)
        status = adm_fail(err, ADM_EINPUT, "%s: %zu bytes after the last tensor belong to no tensor", st->file.label,
                          st->data_bytes - next);
    adm_free(&order);
    return status;
}

static adm_status read_metadata(adm_safetensors *st, const json_t *metadata, adm_error *err) {
    if (metadata == NULL || json_is_null(metadata)) return ADM_OK;
    if (!json_is_object(metadata))
        return adm_fail(err, ADM_EINPUT, "%s: __metadata__ must be a JSON object of strings", st->file.label);
    adm_status status = adm_alloc(&st->meta, json_object_size(metadata), sizeof *st->meta, "metadata", err);
    if (status != ADM_OK) return status;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        char shown[96];
        if (!json_is_string(value))
            return adm_fail(err, ADM_EINPUT, "%s: __metadata__ '%s' is not a string, as the format wants all metadata",
                            st->file.label, adm_printable(key, shown, sizeof shown));
        st->meta[st->n_meta++] = (adm_trace_meta){.key = key, .value = json_string_value(value)};
    }
    return ADM_OK;
}

static adm_status read_tensors(adm_safetensors *st, adm_error *err) {
    adm_status status = adm_alloc(&st->tensor, json_object_size(st->header), sizeof *st->tensor, "tensors", err);
    if (status != ADM_OK) return status;
    const char *name;
    json_t *entry;
    json_object_foreach(st->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        status = read_tensor(st, name, entry, &st->tensor[st->n_tensors], err);
        if (status != ADM_OK) return status;
        st->n_tensors++;
    }
    qsort(st->tensor, st->n_tensors, sizeof *st->tensor, by_name);
    return check_layout(st, err);
}

/* --- Public ------------------------------------------------------------------------------------------------------- */

adm_status adm_safetensors_open(const char *path, adm_safetensors **out, adm_error *err) {
    *out = NULL;
    adm_safetensors *st = NULL;
    adm_status status = adm_alloc(&st, 1, sizeof *st, "a safetensors file", err);
    if (status != ADM_OK) return status;
    status = adm_input_open(path, &st->file, err);
    if (status == ADM_OK) status = read_header(st, err);
    if (status == ADM_OK) status = read_metadata(st, json_object_get(st->header, "__metadata__"), err);
    if (status == ADM_OK) status = read_tensors(st, err);
    if (status != ADM_OK) adm_safetensors_close(&st);
    *out = st;
    return status;
}

void adm_safetensors_close(adm_safetensors **st) {
    adm_safetensors *s = *st;
    if (s == NULL) return;
    adm_input_close(&s->file);
    json_decref(s->header);
    adm_free(&s->tensor);
    adm_free(&s->meta);
    adm_free(st);
}

const adm_input_file *adm_safetensors_file(const adm_safetensors *st) { return &st->file; }

size_t adm_safetensors_count(const adm_safetensors *st) { return st->n_tensors; }

const adm_st_tensor *adm_safetensors_tensor(const adm_safetensors *st, size_t i) { return &st->tensor[i]; }

const adm_st_tensor *adm_safetensors_find(const adm_safetensors *st, const char *name) {
    adm_st_tensor key = {.name = name};
    return bsearch(&key, st->tensor, st->n_tensors, sizeof *st->tensor, by_name);
}

size_t adm_safetensors_metadata(const adm_safetensors *st, const adm_trace_meta **pairs) {
    *pairs = st->meta;
    return st->n_meta;
}
