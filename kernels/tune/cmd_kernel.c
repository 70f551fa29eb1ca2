/* cmd_kernel.c: `adamas kernel`: the header for kernels of one's own. */
#include <stdio.h>
#include <string.h>

#include "core/base/embedded.h"
#include "core/cli/command.h"

static void print_help(FILE *to) {
    fputs("Usage: adamas kernel COMMAND [OPTION...]\n\n"
          "  header      print adamas_plugin.h, the one header that a kernel of your own includes\n\n"
          "`adamas kernel COMMAND --help` explains one.\n",
          to);
}

static int print_header(void) {
    adm_error err = {0};
    const adm_embedded_file *header = adm_embedded("kernels/tune/adamas_plugin.h");
    fwrite(header->data, 1, header->n_bytes, stdout);
    return adm_finish_output(&err) == ADM_OK ? 0 : adm_report_error(&err);
}

static int run(int argc, char **argv) {
    const int code = adm_group_options(argc, argv, print_help);
    if (code >= 0) return code;
    if (strcmp(argv[1], "header") == 0 && argc == 2) return print_header();
    fprintf(stderr, "adamas kernel: '%s' is not a command; `adamas kernel --help` lists them\n", argv[1]);
    return 2;
}

const adm_command adm_cmd_kernel = {"kernel", "the header for kernels of your own", run};
