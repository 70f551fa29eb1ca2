/* group.c: finds a command and hands over. */
#include "core/cli/group.h"

#include <stdio.h>
#include <string.h>

#include "core/base/printable.h"
#include "core/cli/options.h"
#include "core/base/suggest.h"

enum { MAX_COMMANDS = 64 };

static void print_help(const adm_group *group, FILE *to) {
    fprintf(to, "Usage: %s COMMAND [OPTION...]\n\n%s\n\nCommands:\n", group->name, group->about);
    for (size_t i = 0; i < group->n_commands; i++)
        if (group->commands[i]->summary != NULL)
            fprintf(to, "  %-10s %s\n", group->commands[i]->name, group->commands[i]->summary);
    fprintf(to, "\n`%s COMMAND --help` explains a command.\n", group->name);
    if (group->after != NULL) fprintf(to, "%s", group->after);
}

static const adm_command *find(const adm_group *group, const char *name) {
    for (size_t i = 0; i < group->n_commands; i++)
        if (strcmp(group->commands[i]->name, name) == 0) return group->commands[i];
    return NULL;
}

static int refuse(const adm_group *group, const char *typed) {
    const char *names[MAX_COMMANDS];
    char shown[80], meant[ADM_DID_YOU_MEAN_BYTES];
    adm_error err;
    for (size_t i = 0; i < group->n_commands && i < MAX_COMMANDS; i++)
        names[i] = group->commands[i]->summary != NULL ? group->commands[i]->name : NULL;
    adm_did_you_mean(typed, names, group->n_commands < MAX_COMMANDS ? group->n_commands : MAX_COMMANDS, meant);
    adm_fail(&err, ADM_EINPUT, "'%s' is not a command of `%s`%s%s `%s --help` lists them",
             adm_printable(typed, shown, sizeof shown), group->name, meant, meant[0] != '\0' ? "" : ";", group->name);
    return adm_report_error(&err);
}

/* argv[0] is the command's name, argv[argc] NULL. */
static int hand_over(const adm_group *group, const adm_command *command, int argc, char **argv) {
    char full_name[64];
    snprintf(full_name, sizeof full_name, "%s %s", group->name, command->name);
    argv[0] = full_name;
    return command->run(argc, argv);
}

static int explain(const adm_group *group, int argc, char **argv) {
    if (argc < 3) {
        print_help(group, stdout);
        return 0;
    }
    const adm_command *command = find(group, argv[2]);
    char help[] = "--help", *words[] = {argv[2], argc > 3 ? argv[3] : help, help, NULL};
    return command != NULL ? hand_over(group, command, argc > 3 ? 3 : 2, words) : refuse(group, argv[2]);
}

int adm_group_run(const adm_group *group, int argc, char **argv) {
    if (argc < 2) {
        if (group->first != NULL) fputs(group->first, stderr);
        else print_help(group, stderr);
        return 2;
    }
    const char *word = argv[1];
    if (strcmp(word, "help") == 0) return explain(group, argc, argv);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-?") == 0 || strcmp(word, "-h") == 0) return explain(group, 1, argv);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("%s\n", argp_program_version);
        return 0;
    }
    if (strcmp(word, ADM_LIST_OPTIONS) == 0) {
        printf("doc\t%s\n", group->about);
        for (size_t i = 0; i < group->n_commands; i++)
            if (group->commands[i]->summary != NULL)
                printf("command\t%s\t%s\n", group->commands[i]->name, group->commands[i]->summary);
        return 0;
    }
    const adm_command *command = find(group, word);
    return command != NULL ? hand_over(group, command, argc - 1, argv + 1) : refuse(group, word);
}
