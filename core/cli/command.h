/* command.h: what a subcommand is, and what every subcommand's command line has in common.
 *
 * A room's cmd_x.c defines `const adm_command adm_cmd_x` and core/cli/main.c lists it. Parsing is glibc's argp: --help,
 * --usage and --version come with it, and a bad option exits with 2. */
#ifndef ADM_CORE_CLI_COMMAND_H
#define ADM_CORE_CLI_COMMAND_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"
#include "core/system/interrupt.h"
#include "core/cli/number.h"

typedef struct adm_command {
    const char *name;
    const char *summary;                /* one line for `adamas --help`; NULL: not for people to type, so not listed */
    int (*run)(int argc, char **argv);  /* argv[0] is "adamas NAME"; returns the exit code */
} adm_command;

extern const adm_command adm_cmd_replay, adm_cmd_calibrate, adm_cmd_profile, adm_cmd_report, adm_cmd_compare, adm_cmd_check,
    adm_cmd_history, adm_cmd_trace, adm_cmd_counters, adm_cmd_db, adm_cmd_doctor, adm_cmd_words, adm_cmd_tune, adm_cmd_simulate,
    adm_cmd_kernel, adm_cmd_explain, adm_cmd_decode;

/* Options that every command which has them spells the same way. Give adm_argp_db or adm_argp_output as a child of the
 * command's own argp, and set state->child_inputs[i] to an adm_common in its ARGP_KEY_INIT. */
typedef struct adm_common {
    const char *db_path; /* --db FILE, default adamas.db */
    bool quiet;          /* --quiet: no progress, no summary */
    bool json;           /* --json: one JSON document on stdout instead of text */
} adm_common;

#define ADM_COMMON_DEFAULTS {.db_path = "adamas.db"}

extern const struct argp adm_argp_db;     /* --db FILE */
extern const struct argp adm_argp_output; /* --quiet, --json */

/* For ARGP_KEY_INIT: the inputs of n children, in their order. Returns 0. */
error_t adm_give_inputs(struct argp_state *state, size_t n, void *const *inputs);

/* Parses a subcommand's arguments. An option that is in no table, a list given twice and what argp rejects end the
 * process with exit code 2, running out of memory with 4. */
void adm_argp_parse(const struct argp *argp, int argc, char **argv, void *input);

/* The command line as a JSON array of strings, for a run's row; bytes that are not UTF-8 become '?'. Release with
 * adm_free(); NULL when out of memory. */
char *adm_argv_json(int argc, char **argv);

/* Prints a document and takes it; NULL is one that memory ran out for. ASCII only: names from a file then cannot drive a
 * terminal. ADM_EENVIRONMENT if it is cut short. */
struct json_t;
adm_status adm_print_json(struct json_t *document, adm_error *err);

/* Flushes standard output; ADM_EENVIRONMENT if anything written to it was lost. Every command that prints ends so. */
adm_status adm_finish_output(adm_error *err);

/* The program's end looks at standard output once more, for what the command did not: exit code 4 if anything was lost. False
 * when out of memory. */
bool adm_check_output_at_exit(void);

/* Prints "adamas: <sentence>" on stderr and returns the exit code of its status. */
int adm_report_error(const adm_error *err);

/* Parses "dense,adamas": sets found[i] for every word that is names[i]. ADM_EINPUT names the wrong word and the known. */
adm_status adm_parse_words(const char *option, const char *text, const char *const *names, size_t n_names, bool *found,
                           adm_error *err);

/* The same for one word, whose place in names is written to *index; NULL leaves *index as it is. */
adm_status adm_parse_word(const char *option, const char *text, const char *const *names, size_t n_names, size_t *index,
                          adm_error *err);

/* An option that was given and would change nothing, and why: "--cap-ms", "with --check-only". */
typedef struct adm_idle_option {
    bool is_idle;
    const char *option, *why;
} adm_idle_option;

/* ADM_EINPUT for the first of a list that is idle: "--cap-ms does nothing with --check-only: leave it out". */
adm_status adm_refuse_idle(const adm_idle_option *list, size_t n, adm_error *err);

/* Says so on stderr, unless quiet, and goes on: for what belongs to a configuration that a script gives to many commands, and
 * for a command line that is tried with --check-only first. */
void adm_note_idle(const adm_idle_option *list, size_t n, bool quiet);

/* --- Progress -----------------------------------------------------------------------------------------------------
 * On a terminal a line that is drawn anew: what is done, how far it is, and when it will end. Elsewhere, in a log, one line at
 * the end of what took long. There is no colour in it, so NO_COLOR changes nothing. */

enum { ADM_PROGRESS_LOG_S = 30 };

typedef struct adm_progress {
    const char *what;
    uint64_t n_total, n_done, start_ns, last_ns;
    bool on, logs;
} adm_progress;

/* Shows nothing if quiet. n_total 0: how much there is to do is not known yet, and is set before the first step. */
void adm_progress_start(adm_progress *progress, const char *what, uint64_t n_total, bool quiet);
void adm_progress_step(adm_progress *progress, uint64_t n_done);
/* Clears the line, so that something else can be printed; the next step draws it anew. */
void adm_progress_hide(adm_progress *progress);
void adm_progress_end(adm_progress *progress);

#endif
