/* requests.c: from a file, or from words, to requests. */
#include "traces/requests/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "traces/requests/clients.h"
#include "traces/requests/csv_rows.h"
#include "traces/requests/json_rows.h"

typedef struct reader {
    adm_lines lines;
    adm_builder builder;
    adm_csv csv;
    adm_json_rows json;
    const char *format;
} reader;

/* The first line decides; of JSON lines it is already a row. */
static adm_status read_line(reader *r, char *line, adm_error *err) {
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    if (r->lines.n_line == 1 && strncmp(line, byte_order_mark, 3) == 0) line += 3;
    if (r->csv.format != NULL) return adm_csv_row(&r->csv, &r->lines, line, &r->builder, err);
    if (r->json.format != NULL || line[0] == '{') return adm_json_row(&r->json, &r->lines, line, &r->builder, &r->format, err);
    return adm_csv_header(&r->csv, &r->lines, line, &r->format, err);
}

static adm_status read_lines(reader *r, adm_error *err) {
    char *line = NULL;
    adm_status status = ADM_OK;
    while (status == ADM_OK && (status = adm_lines_next(&r->lines, &line, err)) == ADM_OK && line != NULL) {
        if (line[0] == '\0' && r->format != NULL) continue; /* as editors leave them at the end */
        status = read_line(r, line, err);
    }
    if (status == ADM_OK && r->lines.n_line == 0)
        return adm_fail(err, ADM_EINPUT, "%s: is empty, so it holds no requests", r->lines.file.label);
    if (status == ADM_OK && r->builder.out->n == 0)
        status = adm_fail(err, ADM_EINPUT, "%s: has a header but no requests", r->lines.file.label);
    return status;
}

adm_status adm_requests_read(const char *path, uint64_t seed, adm_requests **out, adm_requests_source *source, adm_error *err) {
    reader r = {.json = {.seed = seed}};
    adm_requests_source found = {0};
    *out = NULL;
    adm_status status = adm_lines_open(path, &r.lines, err);
    if (status == ADM_OK) status = adm_builder_open(&r.builder, err);
    if (status == ADM_OK) status = read_lines(&r, err);
    if (status == ADM_OK && source != NULL) status = adm_input_xxh128(&r.lines.file, found.xxh128, err);
    if (status == ADM_OK) status = adm_builder_finish(&r.builder, out, err);
    found.format = r.format;
    found.n_skipped = r.json.n_skipped;
    if (status == ADM_OK && source != NULL) *source = found;
    adm_builder_close(&r.builder);
    adm_json_rows_close(&r.json);
    adm_lines_close(&r.lines);
    return status;
}

/* --- Generating ----------------------------------------------------------------------------------------------------- */

static adm_status put_word(json_t *client, const char *word, adm_error *err) {
    static const char *const numbers[] = {"rate",          "cv",           "start",         "duration", "on",       "off",
                                          "prefix_tokens", "input_tokens", "output_tokens", "input_cv", "output_cv"};
    const char *equals = strchr(word, '=');
    if (equals != NULL && strncmp(word, "pattern=", 8) == 0)
        return json_object_set_new(client, "pattern", json_string(equals + 1)) == 0
                   ? ADM_OK
                   : adm_fail(err, ADM_EINPUT, "--generate: the pattern is no text");
    for (size_t i = 0; equals != NULL && i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strlen(numbers[i]) != (size_t)(equals - word) || strncmp(numbers[i], word, (size_t)(equals - word)) != 0) continue;
        char *end;
        const double value = strtod(equals + 1, &end);
        if (end == equals + 1 || *end != '\0' || !(value >= 0 && value <= 1e300))
            return adm_fail(err, ADM_EINPUT, "--generate: %s is not a number of at least 0", word);
        return json_object_set_new(client, numbers[i], json_real(value)) == 0
                   ? ADM_OK
                   : adm_fail(err, ADM_EENVIRONMENT, "out of memory while reading --generate");
    }
    char name[64], meant[ADM_DID_YOU_MEAN_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    return adm_fail(err, ADM_EINPUT,
                    "--generate: '%s' is none of rate=, pattern=, cv=, duration=, start=, on=, off=, input_tokens=, input_cv=, "
                    "output_tokens=, output_cv=, prefix_tokens=%s",
                    word, adm_did_you_mean(name, numbers, sizeof numbers / sizeof *numbers, meant));
}

/* input_cv goes into {"mean": input_tokens, "cv": input_cv}. */
static void join_cv(json_t *client, const char *tokens, const char *cv) {
    json_t *spread = json_incref(json_object_get(client, cv)), *mean = json_incref(json_object_get(client, tokens));
    if (spread != NULL && mean != NULL)
        json_object_set_new(client, tokens, json_pack("{s:O, s:O}", "mean", mean, "cv", spread));
    json_object_del(client, cv);
    json_decref(spread);
    json_decref(mean);
}

static adm_status parse_words(const char *words, json_t *client, adm_error *err) {
    adm_status status = ADM_OK;
    while (status == ADM_OK && *words != '\0') {
        char word[96];
        const size_t n = strcspn(words, ",");
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), words);
        status = put_word(client, word, err);
        words += n + (words[n] == ',');
    }
    join_cv(client, "input_tokens", "input_cv");
    join_cv(client, "output_tokens", "output_cv");
    return status;
}

adm_status adm_requests_generate(const char *words, uint64_t seed, adm_requests **out, adm_error *err) {
    adm_lines lines = {.file = {.label = "--generate", .fd = -1}, .n_line = 1};
    adm_builder builder = {0};
    json_t *client = json_object();
    *out = NULL;
    adm_status status = client == NULL ? adm_fail(err, ADM_EENVIRONMENT, "out of memory while reading --generate")
                                       : parse_words(words, client, err);
    if (status == ADM_OK) status = adm_builder_open(&builder, err);
    if (status == ADM_OK) status = adm_client_row(seed, &lines, client, &builder, err);
    if (status == ADM_OK && builder.out->n == 0)
        status = adm_fail(err, ADM_EINPUT, "--generate: no request comes within its duration");
    if (status == ADM_OK) status = adm_builder_finish(&builder, out, err);
    adm_builder_close(&builder);
    json_decref(client);
    return status;
}
