/* main.c: the program's front door: finds the subcommand and hands over. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>

#include "core/base/json_text.h"
#include "core/base/print.h"
#include "core/base/version.h"
#include "core/cli/group.h"
#include "core/store/file/open.h"

static const adm_command *const commands[] = {
    &adm_cmd_replay, &adm_cmd_calibrate, &adm_cmd_profile, &adm_cmd_tune,    &adm_cmd_kernel, &adm_cmd_explain,
    &adm_cmd_decode, &adm_cmd_simulate,  &adm_cmd_report,  &adm_cmd_compare, &adm_cmd_check,  &adm_cmd_history,
    &adm_cmd_trace,  &adm_cmd_counters,  &adm_cmd_db,      &adm_cmd_doctor,  &adm_cmd_words};

static const adm_group program = {
    .name = "adamas",
    .about = "Simulates and profiles Adamas sparse attention (arXiv 2510.18413), stage by stage.",
    .first = "adamas: name a command. Three to try first:\n"
             "  adamas doctor                           what this machine has and lacks\n"
             "  adamas replay TRACE.safetensors         what a budget costs in accuracy, and each stage's time on the host\n"
             "  adamas profile --dry-run                what would be timed on a GPU\n"
             "`adamas --help` lists all commands.\n",
    .after =
        "`adamas --version` prints the version.\n\n"
        "Exit codes: 0 success, 1 regression found, 2 bad usage or input, 3 inconclusive, 4 environment or internal failure,\n"
        "77 skipped because this machine lacks something, 130 interrupted.\n",
    .commands = commands,
    .n_commands = sizeof commands / sizeof commands[0],
};

/* A database may be large, or hostile: who waits is told what for. */
static void tell_slow(const char *path, double seconds) {
    adm_print_to(stderr, "adamas: %s: still at work after %.0f s\n", path, seconds);
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
    if (!adm_check_output_at_exit()) return 4;
    adm_store_on_slow(tell_slow);
    adm_json_watch_memory();

    const int code = adm_group_run(&program, argc, argv);
    if (code != 0 || !adm_json_memory_ran_out()) return code;
    adm_print_to(stderr, "adamas: out of memory: what was written lacks parts\n");
    return 4;
}
