/* csv_rows.c: a header and rows of numbers. */
#include "traces/requests/csv_rows.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "traces/requests/numbers.h"

enum { MAX_COLUMNS = 32 };
enum { COLUMN_TIME, COLUMN_INPUT, COLUMN_OUTPUT, COLUMN_TOTAL };

struct adm_csv_format {
    const char *name;
    const char *column[ADM_CSV_ROLES]; /* NULL: the format has none */
    bool has_dates;                    /* else seconds */
};

static const struct adm_csv_format formats[] = {
    {"azure", {"TIMESTAMP", "ContextTokens", "GeneratedTokens", NULL}, true},
    {"burstgpt", {"Timestamp", "Request tokens", "Response tokens", "Total tokens"}, false},
    {"vidur", {"arrived_at", "num_prefill_tokens", "num_decode_tokens", NULL}, false},
};

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

/* Whether the header names every column of the format; finds them. */
static bool fits(adm_csv *csv, const struct adm_csv_format *format, char *const *columns, size_t n) {
    for (int role = 0; role < ADM_CSV_ROLES; role++) {
        if (format->column[role] == NULL) continue;
        size_t i = 0;
        while (i < n && strcmp(columns[i], format->column[role]) != 0) i++;
        if (i == n) return false;
        csv->role_column[role] = i;
    }
    csv->format = format;
    csv->n_columns = n;
    return true;
}

adm_status adm_csv_header(adm_csv *csv, const adm_lines *lines, char *line, const char **format, adm_error *err) {
    char *columns[MAX_COLUMNS], quote[ADM_SHOWN_BYTES];
    adm_shown(line, quote);
    const size_t n = split(line, columns);
    if (n > MAX_COLUMNS) return adm_lines_refuse(lines, err, "has %zu columns, the limit is %d", n, MAX_COLUMNS);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (!fits(csv, &formats[i], columns, n)) continue;
        *format = formats[i].name;
        return ADM_OK;
    }
    return adm_lines_refuse(lines, err,
                            "'%s' begins none of the known request traces: a CSV of Azure (TIMESTAMP,ContextTokens,"
                            "GeneratedTokens), BurstGPT (Timestamp,...,Request tokens,...) or vidur (arrived_at,...), or JSON "
                            "lines such as Mooncake's (`adamas trace import --help` lists them)",
                            quote);
}

static adm_status read_time(const adm_csv *csv, const adm_lines *lines, const char *text, uint64_t *ns, adm_error *err) {
    char quote[ADM_SHOWN_BYTES];
    const char *name = csv->format->column[COLUMN_TIME];
    if (csv->format->has_dates) {
        if (adm_read_date(text, ns)) return ADM_OK;
        return adm_lines_refuse(lines, err, "%s '%s' is not a time such as 2023-11-16 18:15:46.6805900, from 1970 to 2099",
                                name, adm_shown(text, quote));
    }
    if (adm_read_seconds(text, ns)) return ADM_OK;
    return adm_lines_refuse(lines, err, "%s '%s' is not a number of seconds from 0 to %" PRIu64, name, adm_shown(text, quote),
                            adm_max_seconds);
}

adm_status adm_csv_row(const adm_csv *csv, const adm_lines *lines, char *line, adm_builder *builder, adm_error *err) {
    char *columns[MAX_COLUMNS], quote[ADM_SHOWN_BYTES];
    const char *const *name = csv->format->column;
    const size_t n = split(line, columns);
    uint64_t ns = 0, tokens[ADM_CSV_ROLES] = {0};
    if (n != csv->n_columns)
        return adm_lines_refuse(lines, err, "has %zu columns, the header has %zu; it begins '%s'", n, csv->n_columns,
                                adm_shown(columns[0], quote));
    adm_status status = read_time(csv, lines, columns[csv->role_column[COLUMN_TIME]], &ns, err);
    for (int role = COLUMN_INPUT; role < ADM_CSV_ROLES && status == ADM_OK; role++) {
        const uint64_t max = role == COLUMN_TOTAL ? 2ull * ADM_REQUESTS_MAX_TOKENS : ADM_REQUESTS_MAX_TOKENS;
        if (name[role] == NULL || adm_read_whole(columns[csv->role_column[role]], max, &tokens[role])) continue;
        status = adm_lines_refuse(lines, err, "%s '%s' is not a whole number of tokens from 0 to %" PRIu64, name[role],
                                  adm_shown(columns[csv->role_column[role]], quote), max);
    }
    if (status == ADM_OK && name[COLUMN_TOTAL] != NULL && tokens[COLUMN_TOTAL] != tokens[COLUMN_INPUT] + tokens[COLUMN_OUTPUT])
        status = adm_lines_refuse(lines, err, "%s is %" PRIu64 ", but %s and %s are %" PRIu64 " and %" PRIu64,
                                  name[COLUMN_TOTAL], tokens[COLUMN_TOTAL], name[COLUMN_INPUT], name[COLUMN_OUTPUT],
                                  tokens[COLUMN_INPUT], tokens[COLUMN_OUTPUT]);
    if (status != ADM_OK) return status;
    return adm_builder_add(builder, lines, &(adm_row_request){ns, 0, tokens[COLUMN_INPUT], tokens[COLUMN_OUTPUT], -1}, err);
}
