/* requests.c: imports request traces. Each number is read digit by digit, so none is rounded, infinite or negative. */
#include "traces/requests/requests.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "traces/format/input_file.h"

enum { READ_BYTES = 1 << 16, MAX_COLUMNS = 32, MOONCAKE_BLOCK_TOKENS = 512 };

static const uint64_t ns_per_s = 1000000000;
static const uint64_t max_seconds = 4102444800; /* the year 2100, and as a span 130 years */

enum { COLUMN_TIME, COLUMN_INPUT, COLUMN_OUTPUT, COLUMN_TOTAL, N_ROLES };

typedef struct csv_format {
    adm_requests_format format;
    const char *column[N_ROLES]; /* NULL: the format has none */
} csv_format;

static const csv_format csv_formats[] = {
    {ADM_REQUESTS_AZURE, {"TIMESTAMP", "ContextTokens", "GeneratedTokens", NULL}},
    {ADM_REQUESTS_BURSTGPT, {"Timestamp", "Request tokens", "Response tokens", "Total tokens"}},
};

typedef struct reader {
    adm_input_file file;
    adm_requests *out;
    size_t capacity;
    uint64_t n_line, at;            /* lines given out; bytes of the file that the buffer has seen */
    uint64_t latest_ns;             /* the latest arrival so far, not yet counted from the first */
    char *buffer;                   /* [buffer_bytes + 1], one more for a NUL after a line */
    size_t buffer_bytes, begin, end;
    const csv_format *csv;          /* NULL: Mooncake */
    size_t n_columns, role_column[N_ROLES];
} reader;

static adm_status fail_line(const reader *r, adm_error *err, const char *format, ...) ADM_PRINTF(3, 4);

static adm_status fail_line(const reader *r, adm_error *err, const char *format, ...) {
    char rest[384];
    va_list args;
    va_start(args, format);
    vsnprintf(rest, sizeof rest, format, args);
    va_end(args);
    return adm_fail(err, ADM_EINPUT, "%s: line %" PRIu64 ": %s", r->file.label, r->n_line, rest);
}

enum { SHOWN_BYTES = 64 };

static const char *shown(const char *text, char out[SHOWN_BYTES]) { return adm_printable(text, out, SHOWN_BYTES); }

/* --- Lines -------------------------------------------------------------------------------------------------------- */

static adm_status fill(reader *r, adm_error *err) {
    memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
    r->end -= r->begin;
    r->begin = 0;
    uint64_t rest = r->file.n_bytes - r->at;
    size_t n = r->buffer_bytes - r->end;
    if (n > rest) n = (size_t)rest;
    adm_status status = adm_input_read(&r->file, r->buffer + r->end, n, r->at, err);
    r->at += n;
    r->end += n;
    return status;
}

/* The next line without its end, NUL-terminated, borrowed until the next call; *line is NULL after the last. */
static adm_status next_line(reader *r, char **line, adm_error *err) {
    *line = NULL;
    char *lf = memchr(r->buffer + r->begin, '\n', r->end - r->begin);
    if (lf == NULL && r->at < r->file.n_bytes) {
        adm_status status = fill(r, err);
        if (status != ADM_OK) return status;
        lf = memchr(r->buffer, '\n', r->end);
    }
    if (lf == NULL && r->begin == r->end) return ADM_OK;
    r->n_line++;
    size_t length = (lf != NULL ? (size_t)(lf - r->buffer) : r->end) - r->begin;
    if (length > ADM_REQUESTS_MAX_LINE_BYTES)
        return fail_line(r, err, "is longer than %d bytes, the limit of a line", ADM_REQUESTS_MAX_LINE_BYTES);
    *line = r->buffer + r->begin;
    r->begin += length + (lf != NULL);
    const char *nul = memchr(*line, '\0', length);
    if (nul != NULL) return fail_line(r, err, "holds a NUL at byte %zu, so this is not a text file", (size_t)(nul - *line) + 1);
    if (length > 0 && (*line)[length - 1] == '\r') length--;
    (*line)[length] = '\0';
    return ADM_OK;
}

/* --- Numbers ------------------------------------------------------------------------------------------------------ */

/* Takes up to `most_digits` digits and moves *text behind them; false if there is none or one too many. */
static bool take_digits(const char **text, int most_digits, uint64_t *value) {
    int n = 0;
    for (*value = 0; **text >= '0' && **text <= '9'; (*text)++, n++) {
        if (n == most_digits) return false;
        *value = *value * 10 + (uint64_t)(**text - '0');
    }
    return n > 0;
}

/* "" or ".5" up to nine digits, in nanoseconds. */
static bool take_fraction(const char **text, uint64_t *ns) {
    *ns = 0;
    if (**text != '.') return true;
    const char *begin = ++*text;
    if (!take_digits(text, 9, ns)) return false;
    for (ptrdiff_t n = *text - begin; n < 9; n++) *ns *= 10;
    return true;
}

static bool take_character(const char **text, char c) {
    if (**text != c) return false;
    ++*text;
    return true;
}

/* Exactly n digits, then the character after them ('\0' stays). */
static bool take_field(const char **text, int n, char after, uint64_t min, uint64_t max, uint64_t *value) {
    const char *begin = *text;
    if (!take_digits(text, n, value) || *text - begin != n || *value < min || *value > max) return false;
    return after == '\0' || take_character(text, after);
}

/* Days from 1970-01-01 in the Gregorian calendar to a day from then on; false for a 30th of February. */
static bool days_of(uint64_t year, uint64_t month, uint64_t day, uint64_t *days) {
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    uint64_t length = (uint64_t)before[month] - before[month - 1] + (month == 2 && leap);
    if (day > length) return false;
    uint64_t y = year - 1; /* complete years before this one */
    uint64_t leap_days = (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    *days = (year - 1970) * 365 + leap_days + before[month - 1] + (month > 2 && leap) + day - 1;
    return true;
}

/* "2023-11-16 18:15:46.6805900", optionally with "+00:00" or "Z" behind. */
static adm_status read_date(const reader *r, const char *text, uint64_t *ns, adm_error *err) {
    const char *t = text;
    char quote[SHOWN_BYTES];
    uint64_t year, month, day, hour, minute, second, fraction, days;
    bool good = take_field(&t, 4, '-', 1970, 2099, &year) && take_field(&t, 2, '-', 1, 12, &month) &&
                take_field(&t, 2, '\0', 1, 31, &day) && (take_character(&t, ' ') || take_character(&t, 'T')) &&
                take_field(&t, 2, ':', 0, 23, &hour) && take_field(&t, 2, ':', 0, 59, &minute) &&
                take_field(&t, 2, '\0', 0, 59, &second) && take_fraction(&t, &fraction) &&
                (*t == '\0' || strcmp(t, "Z") == 0 || strcmp(t, "+00:00") == 0) && days_of(year, month, day, &days);
    if (!good)
        return fail_line(r, err, "TIMESTAMP '%s' is not a time such as 2023-11-16 18:15:46.6805900, from 1970 to 2099",
                         shown(text, quote));
    *ns = (((days * 24 + hour) * 60 + minute) * 60 + second) * ns_per_s + fraction;
    return ADM_OK;
}

/* Seconds, whole or with up to nine decimals. */
static adm_status read_seconds(const reader *r, const char *text, uint64_t *ns, adm_error *err) {
    const char *t = text;
    char quote[SHOWN_BYTES];
    uint64_t seconds, fraction;
    if (!take_digits(&t, 10, &seconds) || !take_fraction(&t, &fraction) || *t != '\0' || seconds > max_seconds)
        return fail_line(r, err, "Timestamp '%s' is not a number of seconds from 0 to %" PRIu64, shown(text, quote),
                         max_seconds);
    *ns = seconds * ns_per_s + fraction;
    return ADM_OK;
}

/* Some published files write whole numbers as 12.0. */
static adm_status read_tokens(const reader *r, const char *name, const char *text, uint64_t most, uint64_t *value,
                              adm_error *err) {
    const char *t = text;
    char quote[SHOWN_BYTES];
    bool good = take_digits(&t, 19, value);
    if (good && *t == '.') good = t[1 + strspn(t + 1, "0")] == '\0' && t[1] == '0';
    else good = good && *t == '\0';
    if (good && *value <= most) return ADM_OK;
    return fail_line(r, err, "%s '%s' is not a whole number of tokens from 0 to %" PRIu64, name, shown(text, quote), most);
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

static adm_status add(reader *r, uint64_t arrival_ns, uint64_t input, uint64_t output, adm_error *err) {
    adm_requests *out = r->out;
    if (out->n == ADM_REQUESTS_MAX) return fail_line(r, err, "holds one request more than %d, the limit", ADM_REQUESTS_MAX);
    if (out->n == r->capacity) {
        adm_request *larger;
        size_t capacity = r->capacity == 0 ? 1024 : 2 * r->capacity;
        adm_status status = adm_alloc(&larger, capacity, sizeof *larger, "requests", err);
        if (status != ADM_OK) return status;
        if (out->n > 0) memcpy(larger, out->request, out->n * sizeof *larger);
        adm_free(&out->request);
        out->request = larger;
        r->capacity = capacity;
    }
    out->request[out->n++] = (adm_request){arrival_ns, (uint32_t)input, (uint32_t)output};
    out->n_early += arrival_ns < r->latest_ns;
    if (arrival_ns > r->latest_ns) r->latest_ns = arrival_ns;
    return ADM_OK;
}

/* Cuts a line at its commas; the columns beyond MAX_COLUMNS are counted and not kept. */
static size_t split(char *line, char *columns[MAX_COLUMNS]) {
    size_t n = 0;
    for (char *c = line; c != NULL; n++) {
        char *comma = strchr(c, ',');
        if (n < MAX_COLUMNS) columns[n] = c;
        if (comma != NULL) *comma++ = '\0';
        c = comma;
    }
    return n;
}

static adm_status read_csv_row(reader *r, char *line, adm_error *err) {
    char *columns[MAX_COLUMNS], quote[SHOWN_BYTES];
    size_t n = split(line, columns);
    if (n != r->n_columns)
        return fail_line(r, err, "has %zu columns, the header has %zu; it begins '%s'", n, r->n_columns,
                         shown(columns[0], quote));
    const char *text[N_ROLES];
    for (int role = 0; role < N_ROLES; role++) text[role] = r->csv->column[role] != NULL ? columns[r->role_column[role]] : NULL;
    uint64_t ns = 0, tokens[N_ROLES] = {0};
    adm_status status = r->csv->format == ADM_REQUESTS_AZURE ? read_date(r, text[COLUMN_TIME], &ns, err)
                                                             : read_seconds(r, text[COLUMN_TIME], &ns, err);
    for (int role = COLUMN_INPUT; role < N_ROLES && status == ADM_OK; role++) {
        const uint64_t most = role == COLUMN_TOTAL ? 2ull * ADM_REQUESTS_MAX_TOKENS : ADM_REQUESTS_MAX_TOKENS;
        if (text[role] != NULL) status = read_tokens(r, r->csv->column[role], text[role], most, &tokens[role], err);
    }
    if (status != ADM_OK) return status;
    const char *const *name = r->csv->column;
    if (text[COLUMN_TOTAL] != NULL && tokens[COLUMN_TOTAL] != tokens[COLUMN_INPUT] + tokens[COLUMN_OUTPUT])
        return fail_line(r, err, "%s is %" PRIu64 ", but %s and %s are %" PRIu64 " and %" PRIu64, name[COLUMN_TOTAL],
                         tokens[COLUMN_TOTAL], name[COLUMN_INPUT], name[COLUMN_OUTPUT], tokens[COLUMN_INPUT],
                         tokens[COLUMN_OUTPUT]);
    return add(r, ns, tokens[COLUMN_INPUT], tokens[COLUMN_OUTPUT], err);
}

static adm_status json_number(const reader *r, const json_t *row, const char *key, uint64_t most, uint64_t *value,
                              adm_error *err) {
    const json_t *item = json_object_get(row, key);
    if (item == NULL) return fail_line(r, err, "has no \"%s\"", key);
    if (!json_is_integer(item)) return fail_line(r, err, "\"%s\" is not a whole number; it must be 0 to %" PRIu64, key, most);
    json_int_t number = json_integer_value(item);
    if (number < 0 || (uint64_t)number > most)
        return fail_line(r, err, "\"%s\" is %" JSON_INTEGER_FORMAT ", it must be 0 to %" PRIu64, key, number, most);
    *value = (uint64_t)number;
    return ADM_OK;
}

static adm_status read_json_row(reader *r, char *line, adm_error *err) {
    json_error_t why;
    uint64_t ms, input, output;
    json_t *row = json_loads(line, JSON_REJECT_DUPLICATES, &why);
    char quote[SHOWN_BYTES];
    if (row == NULL && json_error_code(&why) == json_error_out_of_memory)
        return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while parsing line %" PRIu64, r->file.label, r->n_line);
    if (row == NULL) return fail_line(r, err, "is not valid JSON at byte %d: %s", why.position, shown(why.text, quote));
    adm_status status = json_is_object(row) ? json_number(r, row, "timestamp", max_seconds * 1000, &ms, err)
                                            : fail_line(r, err, "is JSON, but not an object");
    if (status == ADM_OK) status = json_number(r, row, "input_length", ADM_REQUESTS_MAX_TOKENS, &input, err);
    if (status == ADM_OK) status = json_number(r, row, "output_length", ADM_REQUESTS_MAX_TOKENS, &output, err);
    const json_t *ids = json_object_get(row, "hash_ids");
    if (status == ADM_OK && !json_is_array(ids))
        status = fail_line(r, err, ids == NULL ? "has no \"hash_ids\"" : "\"hash_ids\" is not an array");
    if (status == ADM_OK) {
        uint64_t n_blocks = (input + MOONCAKE_BLOCK_TOKENS - 1) / MOONCAKE_BLOCK_TOKENS;
        if (json_array_size(ids) != n_blocks)
            status = fail_line(
                r, err, "has %zu hash_ids, but an input_length of %" PRIu64 " calls for %" PRIu64 ", one for every %d tokens",
                json_array_size(ids), input, n_blocks, MOONCAKE_BLOCK_TOKENS);
    }
    if (status == ADM_OK) status = add(r, ms * 1000000, input, output, err);
    json_decref(row);
    return status;
}

/* --- The file ----------------------------------------------------------------------------------------------------- */

/* Whether the header names every column of the format; finds them. */
static bool fits(reader *r, const csv_format *format, char *const *columns, size_t n) {
    for (int role = 0; role < N_ROLES; role++) {
        if (format->column[role] == NULL) continue;
        size_t i = 0;
        while (i < n && strcmp(columns[i], format->column[role]) != 0) i++;
        if (i == n) return false;
        r->role_column[role] = i;
    }
    r->csv = format;
    r->n_columns = n;
    return true;
}

/* The first line decides; a Mooncake file's is already a row. */
static adm_status read_first_line(reader *r, char *line, adm_error *err) {
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    char *columns[MAX_COLUMNS], quote[SHOWN_BYTES];
    if (strncmp(line, byte_order_mark, 3) == 0) line += 3;
    if (line[0] == '{') {
        r->out->format = ADM_REQUESTS_MOONCAKE;
        return read_json_row(r, line, err);
    }
    shown(line, quote);
    size_t n = split(line, columns);
    if (n > MAX_COLUMNS) return fail_line(r, err, "has %zu columns, the limit is %d", n, MAX_COLUMNS);
    for (size_t i = 0; i < sizeof csv_formats / sizeof csv_formats[0]; i++) {
        if (!fits(r, &csv_formats[i], columns, n)) continue;
        r->out->format = csv_formats[i].format;
        return ADM_OK;
    }
    return fail_line(r, err,
                     "'%s' begins none of the known request traces: an Azure CSV (TIMESTAMP,ContextTokens,"
                     "GeneratedTokens), a BurstGPT CSV (Timestamp,...,Request tokens,Response tokens,Total tokens) or "
                     "Mooncake JSON lines",
                     quote);
}

static adm_status read_rows(reader *r, adm_error *err) {
    char *line;
    adm_status status = adm_input_check_kind(&r->file, err);
    if (status == ADM_OK) status = next_line(r, &line, err);
    if (status == ADM_OK && line == NULL)
        return adm_fail(err, ADM_EINPUT, "%s: is empty, so it holds no requests", r->file.label);
    if (status == ADM_OK) status = read_first_line(r, line, err);
    while (status == ADM_OK && (status = next_line(r, &line, err)) == ADM_OK && line != NULL) {
        if (line[0] == '\0') continue; /* as editors leave them at the end */
        status = r->csv != NULL ? read_csv_row(r, line, err) : read_json_row(r, line, err);
    }
    if (status == ADM_OK && r->out->n == 0)
        status = adm_fail(err, ADM_EINPUT, "%s: has a header but no requests", r->file.label);
    return status;
}

/* Merges two ascending halves; of equal arrivals the left one's come first, which qsort() would not promise. */
static void merge_sort(adm_request *a, adm_request *spare, size_t n) {
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half;
    merge_sort(a, spare, half);
    merge_sort(a + half, spare, n - half);
    memcpy(spare, a, n * sizeof *a);
    for (size_t k = 0; k < n; k++)
        a[k] = j == n || (i < half && spare[i].arrival_ns <= spare[j].arrival_ns) ? spare[i++] : spare[j++];
}

static adm_status put_in_order(adm_requests *out, adm_error *err) {
    adm_request *spare = NULL;
    if (out->n_early > 0) {
        adm_status status = adm_alloc(&spare, out->n, sizeof *spare, "requests to sort", err);
        if (status != ADM_OK) return status;
        merge_sort(out->request, spare, out->n);
        adm_free(&spare);
    }
    uint64_t first = out->request[0].arrival_ns;
    for (size_t i = 0; i < out->n; i++) out->request[i].arrival_ns -= first;
    return ADM_OK;
}

const char *adm_requests_format_name(adm_requests_format format) {
    static const char *const names[] = {"azure", "burstgpt", "mooncake"};
    return names[format];
}

adm_status adm_requests_read(const char *path, adm_requests **out, adm_error *err) {
    reader r = {.buffer_bytes = ADM_REQUESTS_MAX_LINE_BYTES + READ_BYTES};
    *out = NULL;
    adm_status status = adm_input_open(path, &r.file, err);
    if (r.file.n_bytes < r.buffer_bytes) r.buffer_bytes = (size_t)r.file.n_bytes;
    if (status == ADM_OK) status = adm_alloc(&r.out, 1, sizeof *r.out, "requests", err);
    if (status == ADM_OK) status = adm_alloc(&r.buffer, r.buffer_bytes + 1, 1, "a buffer for lines", err);
    if (status == ADM_OK) status = read_rows(&r, err);
    if (status == ADM_OK) status = put_in_order(r.out, err);
    if (status != ADM_OK) adm_requests_free(&r.out);
    adm_free(&r.buffer);
    adm_input_close(&r.file);
    *out = r.out;
    return status;
}

void adm_requests_free(adm_requests **requests) {
    if (*requests == NULL) return;
    adm_free(&(*requests)->request);
    adm_free(requests);
}
