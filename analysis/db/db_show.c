/* db_show.c: `adamas db show`: a run's provenance as lines for a shell; `adamas db diff`: what differs between two runs. Both
 * read the columns of the table run from the schema, so that a new one is shown without a change here. */
#include "analysis/db/db_show.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "core/base/json_read.h"
#include "core/base/print.h"
#include "core/store/runs_find.h"

typedef struct show_command {
    adm_common common;
    const char *run[2];
    int n_runs, n_wanted;
} show_command;

static error_t parse(int key, char *arg, struct argp_state *state) {
    show_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case ARGP_KEY_ARG:
        if (c->n_runs == c->n_wanted) argp_error(state, "'%s' is one run too many", arg);
        else c->run[c->n_runs++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (c->n_runs < c->n_wanted) argp_error(state, c->n_wanted == 1 ? "name a run" : "name two runs");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};

static adm_status open_run(const show_command *c, adm_store *store, const char *named, adm_query **q, adm_error *err) {
    int64_t id = 0;
    bool row = false;
    adm_status status = adm_run_find(store, named, ADM_RUNS_ANY, c->common.db_path, &id, err);
    if (status == ADM_OK) status = adm_query_open(store, "SELECT * FROM run WHERE run_id = ?", q, err, "i", id);
    if (status == ADM_OK) status = adm_query_next(*q, &row, err);
    if (status == ADM_OK && !row) status = adm_fail(err, ADM_EINPUT, "%s holds no run %" PRId64, c->common.db_path, id);
    return status;
}

enum { VALUE_BYTES = 32 };

/* The value's text, in `number` unless it is one; "" for NULL. */
static const char *value_text(const adm_query *q, int i, char number[VALUE_BYTES]) {
    switch (adm_query_type(q, i)) {
    case 'i': snprintf(number, VALUE_BYTES, "%" PRId64, adm_query_int(q, i)); return number;
    case 'd': snprintf(number, VALUE_BYTES, "%.15g", adm_query_double(q, i)); return number;
    default: return adm_query_text(q, i);
    }
}

static int column(const adm_query *q, const char *name) {
    int i = 0;
    while (i < adm_query_n_columns(q) && strcmp(adm_query_name(q, i), name) != 0) i++;
    return i; /* one that is not there is NULL */
}

/* --- One run ------------------------------------------------------------------------------------------------------ */

/* Prints text as one word of a shell. */
static void print_word(const char *text) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,=@%+-";
    if (text[0] != '\0' && strspn(text, plain) == strlen(text)) {
        adm_print("%s", text);
        return;
    }
    adm_print("'");
    for (const char *quote; (quote = strchr(text, '\'')) != NULL; text = quote + 1)
        adm_print("%.*s'\\''", (int)(quote - text), text);
    adm_print("%s'", text);
}

/* The command line from its JSON. Its first word is what a program is called in its help, such as "adamas replay". */
static adm_status print_command(const char *argv_json, adm_error *err) {
    size_t i;
    adm_json_fault why;
    json_t *word, *list = adm_json_read(argv_json, strlen(argv_json), &why);
    if (list == NULL && why.no_memory) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while reading the run's command");
    json_array_foreach(list, i, word) {
        const char *text = json_is_string(word) ? json_string_value(word) : "?";
        if (i > 0) adm_print(" ");
        if (i == 0 && strncmp(text, "adamas ", 7) == 0) {
            adm_print("adamas ");
            text += 7;
        }
        print_word(text);
    }
    adm_print("\n");
    json_decref(list);
    return ADM_OK;
}

static adm_status print_lines(const adm_query *q, adm_error *err) {
    const char *commit = adm_query_text(q, column(q, "git_commit"));
    char number[VALUE_BYTES];
    for (int i = 0; i < adm_query_n_columns(q); i++) {
        if (adm_query_is_null(q, i) || strcmp(adm_query_name(q, i), "argv") == 0) continue;
        adm_print("%s=", adm_query_name(q, i));
        print_word(value_text(q, i, number));
        adm_print("\n");
    }
    if (strspn(commit, "0123456789abcdef") >= 40)
        adm_print("git checkout %.40s%s\n", commit,
                  adm_query_int(q, column(q, "git_dirty")) == 1 ? "  # and changes that are stored nowhere" : "");
    return print_command(adm_query_text(q, column(q, "argv")), err);
}

static json_t *value_json(const adm_query *q, int i) {
    switch (adm_query_type(q, i)) {
    case 'i': return json_integer(adm_query_int(q, i));
    case 'd': return json_real(adm_query_double(q, i));
    case 'n': return json_null();
    default: return adm_rows_string(adm_query_text(q, i));
    }
}

static adm_status show(const show_command *c, adm_store *store, adm_error *err) {
    adm_query *q = NULL;
    adm_status status = open_run(c, store, c->run[0], &q, err);
    if (status == ADM_OK && c->common.json) {
        json_t *object = json_object();
        for (int i = 0; i < adm_query_n_columns(q); i++) json_object_set_new(object, adm_query_name(q, i), value_json(q, i));
        status = adm_print_json(object, err);
    } else if (status == ADM_OK) {
        status = print_lines(q, err);
    }
    adm_query_close(&q);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- Two runs ----------------------------------------------------------------------------------------------------- */

/* What tells any two runs apart says nothing of their environment. */
static bool is_identity(const char *name) {
    static const char *const names[] = {"run_id", "run_uuid", "started_utc", "finished_utc", "elapsed_ns"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static adm_status print_differences(const show_command *c, const adm_query *a, const adm_query *b, adm_error *err) {
    json_t *rows = json_object();
    char number[2][VALUE_BYTES];
    int n = 0;
    adm_status status = ADM_OK;
    for (int i = 0; status == ADM_OK && i < adm_query_n_columns(a); i++) {
        const char *name = adm_query_name(a, i), *in_a = value_text(a, i, number[0]), *in_b = value_text(b, i, number[1]);
        if (is_identity(name) || (adm_query_is_null(a, i) == adm_query_is_null(b, i) && strcmp(in_a, in_b) == 0)) continue;
        n++;
        if (c->common.json) {
            status = adm_rows_set(rows, name, json_pack("[o, o]", value_json(a, i), value_json(b, i)), err);
            continue;
        }
        adm_print("%-16s %s\n%-16s %s\n", name, adm_query_is_null(a, i) ? "-" : in_a, "", adm_query_is_null(b, i) ? "-" : in_b);
    }
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(rows), err);
    else if (status == ADM_OK && n == 0 && !c->common.quiet) adm_print("no difference but when they ran\n");
    json_decref(rows);
    return status;
}

static adm_status diff(const show_command *c, adm_store *store, adm_error *err) {
    adm_query *q[2] = {NULL, NULL};
    adm_status status = open_run(c, store, c->run[0], &q[0], err);
    if (status == ADM_OK) status = open_run(c, store, c->run[1], &q[1], err);
    if (status == ADM_OK) status = print_differences(c, q[0], q[1], err);
    adm_query_close(&q[0]);
    adm_query_close(&q[1]);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- The commands ------------------------------------------------------------------------------------------------- */

static int run_command(int argc, char **argv, const struct argp *argp, int n_wanted,
                       adm_status (*work)(const show_command *, adm_store *, adm_error *)) {
    show_command c = {.common = ADM_COMMON_DEFAULTS, .n_wanted = n_wanted};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(argp, argc, argv, &c);
    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK) status = work(&c, store, &err);
    adm_store_close(&store);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

static int run_show(int argc, char **argv) {
    static const struct argp argp = {
        .parser = parse,
        .children = children,
        .args_doc = "RUN",
        .doc =
            "Prints where a run comes from as lines for a shell: every column as NAME=VALUE, then the commit to check out and "
            "the command. RUN is a number, last, last~1 or a label that one run has. last is the run that started last, "
            "not counting processes that a check added for a few open times."};
    return run_command(argc, argv, &argp, 1, show);
}

static int run_diff(int argc, char **argv) {
    static const struct argp argp = {
        .parser = parse,
        .children = children,
        .args_doc = "RUN RUN",
        .doc =
            "Prints what differs between the environments of two runs: command line, commit, host, CPU and its settings, GPU, "
            "driver, versions."};
    return run_command(argc, argv, &argp, 2, diff);
}

const adm_command adm_db_show = {"show", "where a run comes from, as lines for a shell", run_show};
const adm_command adm_db_diff = {"diff", "what differs between the environments of two runs", run_diff};
