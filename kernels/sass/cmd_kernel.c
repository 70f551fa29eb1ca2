/* cmd_kernel.c: `adamas kernel`: what a kernel of one's own needs, and what compiled kernels are made of. */
#include <stdio.h>

#include "core/base/embedded.h"
#include "core/cli/group.h"
#include "kernels/sass/kernel_resources.h"

static error_t parse_nothing(int key, char *arg, struct argp_state *state) {
    if (key == ARGP_KEY_ARG) argp_error(state, "kernel header takes no argument, and '%s' was given", arg);
    return key == ARGP_KEY_ARG ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp header_argp = {
    .parser = parse_nothing,
    .doc =
        "Prints adamas_plugin.h, the one header that a kernel of your own includes. `adamas tune` gives it to the compiler by "
        "itself; redirect it into a file to build a shared object, or to read the contract of every stage.",
};

static int print_header(int argc, char **argv) {
    adm_error err = {0};
    adm_argp_parse(&header_argp, argc, argv, NULL);
    const adm_embedded_file *header = adm_embedded("kernels/tune/candidate/adamas_plugin.h");
    fwrite(header->data, 1, header->n_bytes, stdout);
    return adm_finish_output(&err) == ADM_OK ? 0 : adm_report_error(&err);
}

static const adm_command header_command = {"header", "print adamas_plugin.h, which a kernel of your own includes",
                                           print_header};

static const adm_command *const verbs[] = {&header_command, &adm_kernel_resources, &adm_kernel_sass};

static const adm_group group = {
    .name = "adamas kernel",
    .about = "What a kernel of your own needs, and what compiled kernels are made of.",
    .commands = verbs,
    .n_commands = sizeof verbs / sizeof verbs[0],
};

static int run(int argc, char **argv) { return adm_group_run(&group, argc, argv); }

const adm_command adm_cmd_kernel = {"kernel", "the header for kernels of your own, and what kernels are made of", run};
