/* group.h: a command that consists of commands, as `adamas` and `adamas db` do. */
#ifndef ADM_CORE_CLI_GROUP_H
#define ADM_CORE_CLI_GROUP_H

#include <stddef.h>

#include "core/cli/command.h"

typedef struct adm_group {
    const char *name;  /* "adamas db" */
    const char *about; /* sentences for --help */
    const char *first; /* printed where no command is named; NULL: the help */
    const char *after; /* at the end of the help, or NULL */
    const adm_command *const *commands;
    size_t n_commands;
} adm_group;

/* Runs the command that argv[1] names, under the name "GROUP COMMAND"; answers --help, -h, help [COMMAND], --version and the
 * word that lists commands (options.h). A command that there is not: a sentence with the nearest, and exit code 2. */
int adm_group_run(const adm_group *group, int argc, char **argv);

#endif
