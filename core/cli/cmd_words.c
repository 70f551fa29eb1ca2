/* cmd_words.c: `adamas words KIND`: the values that an option takes, one per line, for the completion of a shell. */
#include <stdio.h>
#include <string.h>

#include "core/base/embedded.h"
#include "core/base/print.h"
#include "core/base/suggest.h"
#include "core/cli/command.h"
#include "core/contract/stage.h"
#include "core/policy/policy.h"
#include "core/store/file/query.h"
#include "core/store/store.h"

typedef struct words_command {
    adm_common common;
    const char *kind;
} words_command;

/* The first column of a query on the database; nothing where there is no database. */
static adm_status print_column(const words_command *c, const char *sql, adm_error *err) {
    adm_store *store = NULL;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_READ, &store, err);
    if (status == ADM_EINPUT) return ADM_OK; /* no database has no words */
    if (status == ADM_OK) status = adm_query_open(store, sql, &query, err, "");
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        adm_print("%s\n", adm_query_text(query, 0));
    }
    adm_query_close(&query);
    adm_store_close(&store);
    return status;
}

static adm_status print_words(const words_command *c, adm_error *err) {
    if (strcmp(c->kind, "policies") == 0) {
        for (size_t i = 0; adm_policy_at(i) != NULL; i++) adm_print("%s\n", adm_policy_at(i)->name);
    } else if (strcmp(c->kind, "stages") == 0) {
        for (int stage = 0; stage < ADM_N_STAGES; stage++) adm_print("%s\n", adm_stage_name((adm_stage)stage));
    } else if (strcmp(c->kind, "sets") == 0) {
        const adm_embedded_file *set;
        for (size_t i = 0; (set = adm_embedded_in("probes/sets/", i)) != NULL; i++) adm_print("%s\n", set->name);
    } else if (strcmp(c->kind, "metrics") == 0) {
        return print_column(c, "SELECT name FROM metric ORDER BY name", err);
    } else if (strcmp(c->kind, "labels") == 0) {
        return print_column(
            c, "SELECT label FROM run WHERE label IS NOT NULL GROUP BY label ORDER BY max(run_id) DESC LIMIT 200", err);
    } else {
        static const char *const kinds[] = {"policies", "stages", "sets", "metrics", "labels"};
        return adm_refuse_word("words", c->kind, kinds, 5, err);
    }
    return ADM_OK;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    words_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &c->common; return 0;
    case ARGP_KEY_ARG:
        if (c->kind != NULL) argp_error(state, "words takes one kind, and '%s' is a second", arg);
        c->kind = arg;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "say which: policies, stages, sets, metrics or labels"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .parser = parse,
        .children = children,
        .args_doc = "KIND",
        .doc = "Prints the values that options take, one per line: policies, stages, sets (of counters), and the metrics and "
               "labels that the database holds. Shells complete with it."};
    words_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = print_words(&c, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_words = {"words", NULL, run};
