/* cmd_db.c: `adamas db`: what is done with a database as such; the table of its commands. */
#include <stdio.h>
#include <string.h>

#include "analysis/db/db_create.h"
#include "analysis/db/db_export.h"
#include "analysis/db/db_gc.h"
#include "analysis/db/db_import.h"
#include "analysis/db/db_list.h"
#include "analysis/db/db_merge.h"
#include "analysis/db/db_show.h"

static const adm_command *const verbs[] = {&adm_db_list,   &adm_db_show,   &adm_db_diff,  &adm_db_create,
                                           &adm_db_export, &adm_db_import, &adm_db_merge, &adm_db_gc};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *to) {
    fputs("Usage: adamas db COMMAND [OPTION...]\n\nWorks on a database of runs.\n\nCommands:\n", to);
    for (size_t i = 0; i < N_VERBS; i++) fprintf(to, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    fputs("\n`adamas db COMMAND --help` explains a command.\n", to);
}

static int run(int argc, char **argv) {
    int exit_code = adm_group_options(argc, argv, print_help);
    if (exit_code >= 0) return exit_code;
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(argv[1], verbs[i]->name) != 0) continue;
        char full_name[32];
        snprintf(full_name, sizeof full_name, "adamas db %s", verbs[i]->name);
        argv[1] = full_name;
        return verbs[i]->run(argc - 1, argv + 1);
    }
    adm_error err;
    adm_fail(&err, ADM_EINPUT, "'db %s' is not a command; `adamas db --help` lists them", argv[1]);
    return adm_report_error(&err);
}

const adm_command adm_cmd_db = {"db", "list, show, export, import, merge and prune runs", run};
