/* narrow.c: the open rows of a comparison as an argument of `adamas replay`. */
#include "analysis/regress/compare/narrow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

/* --only-times names stages of the host by length and budget, which tells neither rows of two traces apart nor a GPU's. */
static bool can_be_named(const adm_compare_row *row, const adm_compare_row *first) {
    const char *metric = row->shown->metric->name;
    return row->base != NULL && row->cand != NULL && strcmp(row->shown->source, "host") == 0 &&
           strcmp(row->shown->config->shape, first->shown->config->shape) == 0 &&
           (strcmp(metric, "time_ns") == 0 || strcmp(metric, "encode_ns_per_key") == 0);
}

static void append_row(const adm_compare_row *row, char *text, size_t text_bytes) {
    const adm_series_config *config = row->shown->config;
    const size_t n = strlen(text);
    const bool bulk = strcmp(row->shown->metric->name, "encode_ns_per_key") == 0;
    char budget[24] = "";
    if (config->budget > 0) snprintf(budget, sizeof budget, "/%" PRId64, config->budget);
    snprintf(text + n, text_bytes - n, "%s%s%s@%" PRId64 "%s", n > 0 ? "," : "", row->shown->stage, bulk ? ":bulk" : "",
             config->seq_len, budget);
}

/* The open rows as a list; "" where one of them cannot be named. Release with adm_free(). */
static adm_status list_open(const adm_comparison *c, char **text, adm_error *err) {
    const size_t bytes = 64 * c->n_rows + 1;
    const adm_compare_row *first = NULL;
    adm_status status = adm_alloc(text, bytes, 1, "times that are open", err);
    for (size_t i = 0; status == ADM_OK && i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        if (!row->is_open) continue;
        if (first == NULL) first = row;
        if (!can_be_named(row, first)) {
            (*text)[0] = '\0';
            return ADM_OK;
        }
        append_row(row, *text, bytes);
    }
    return status;
}

adm_status adm_compare_narrow(adm_check *check, const adm_comparison *comparison, bool *narrowed, adm_error *err) {
    char *only = NULL;
    *narrowed = false;
    adm_status status = strcmp(check->arguments[0], "replay") == 0 ? list_open(comparison, &only, err) : ADM_OK;
    bool can = status == ADM_OK && only != NULL && only[0] != '\0';
    adm_free(&check->only);
    check->only = only; /* adm_check_can_run() reads it */
    for (int side = 0; side < 2 && can && status == ADM_OK; side++)
        if (check->program[side] != NULL) status = adm_check_can_run(check, side, &can, err);
    if (!can) adm_free(&check->only);
    *narrowed = can && status == ADM_OK;
    return status;
}
