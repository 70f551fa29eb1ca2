/* options.h: what can be said of a command line before argp parses it, from the same tables of options. */
#ifndef ADM_CORE_CLI_OPTIONS_H
#define ADM_CORE_CLI_OPTIONS_H

#include <argp.h>
#include <stdio.h>

#include "core/base/error.h"

/* The word that has a command list its options for the manual and for completion; no option of any table. */
#define ADM_LIST_OPTIONS "--list-options"

/* Refuses an option that is in no table, with the nearest that is, and a LIST that is given twice. Changes -h to -?, where no
 * table has a -h. ADM_EINPUT names what was typed. Reads argv as argp will: options may stand behind arguments, "--" ends them,
 * long options may be shortened and may carry "=VALUE", short ones may be joined. */
adm_status adm_options_check(const struct argp *argp, int argc, char **argv, adm_error *err);

/* For an option that makes the command another one, such as `tune --show`: refuses every option that is given and is neither
 * `mode` nor in `allowed`, both without dashes; the list ends in NULL. After argp has parsed argv. */
adm_status adm_options_only(const struct argp *argp, int argc, char **argv, const char *mode, const char *const *allowed,
                            adm_error *err);

/* Writes a table of tab-separated lines: "usage ARGS_DOC", "doc TEXT", "after TEXT" and, for each option, "option --NAME -C ARG
 * TEXT" with empty fields for what there is not. A line break in a text is written as "\n". */
void adm_options_print(const struct argp *argp, FILE *to);

#endif
