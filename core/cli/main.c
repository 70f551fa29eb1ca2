/* main.c: the program's front door: finds the subcommand and hands over. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli/command.h"
#include "core/base/version.h"

static const adm_command *const commands[] = {&adm_cmd_replay,   &adm_cmd_profile, &adm_cmd_simulate, &adm_cmd_report,
                                              &adm_cmd_compare,  &adm_cmd_check,   &adm_cmd_history,  &adm_cmd_trace,
                                              &adm_cmd_counters, &adm_cmd_db,      &adm_cmd_doctor};
static const size_t n_commands = sizeof commands / sizeof commands[0];

static void print_help(FILE *to) {
    fputs("Usage: adamas COMMAND [OPTION...]\n\n"
          "Simulates and profiles Adamas sparse attention (arXiv 2510.18413), stage by stage.\n\nCommands:\n",
          to);
    for (size_t i = 0; i < n_commands; i++) fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs(
        "\n`adamas COMMAND --help` explains a command. `adamas --version` prints the version.\n\n"
        "Exit codes: 0 success, 1 regression found, 2 bad usage or input, 3 inconclusive, 4 environment or internal failure,\n"
        "77 skipped because this machine lacks something, 130 interrupted.\n",
        to);
}

/* The command whose name is nearest to a mistyped one: same first letter, most letters in common places. */
static const char *nearest_command(const char *typed) {
    const char *best = NULL;
    size_t best_score = 1;
    for (size_t i = 0; i < n_commands; i++) {
        const char *name = commands[i]->name;
        size_t score = 0;
        for (size_t j = 0; name[j] != '\0' && typed[j] != '\0'; j++) score += name[j] == typed[j];
        if (name[0] == typed[0] && score > best_score) {
            best = name;
            best_score = score;
        }
    }
    return best;
}

int main(int argc, char **argv) {
    argp_err_exit_status = 2;
    static char version[128];
    snprintf(version, sizeof version, "adamas %s (%s%s)", adm_version(), adm_git_commit(),
             adm_git_dirty() == 1 ? ", modified" : "");
    argp_program_version = version;
    /* `adamas ... | head`, and a limit on file sizes, end in a failed write and a sentence, not in a signal. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    adm_interrupt_install();

    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-?") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("%s\n", version);
        return 0;
    }
    for (size_t i = 0; i < n_commands; i++) {
        if (strcmp(name, commands[i]->name) != 0) continue;
        char full_name[64];
        snprintf(full_name, sizeof full_name, "adamas %s", name);
        argv[1] = full_name;
        return commands[i]->run(argc - 1, argv + 1);
    }
    const char *nearest = nearest_command(name);
    fprintf(stderr, "adamas: '%s' is not a command%s%s%s `adamas --help` lists them\n", name,
            nearest ? ": did you mean '" : ";", nearest ? nearest : "", nearest ? "'?" : "");
    return 2;
}
