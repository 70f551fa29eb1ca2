/* kernel_resources.c: `adamas kernel resources`: registers, shared memory and spills of this build's kernels, as the assembler
 * stated them. Needs no GPU. */
#include "kernels/sass/kernel_resources.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/print.h"
#include "kernels/sass/static.h"

typedef struct resources_command {
    adm_common common;
    const char *stage;
    json_t *rows;
    size_t n;
} resources_command;

enum { KEY_STAGE = 0x6500 };

static const struct argp_option options[] = {
    {"stage", KEY_STAGE, "STAGE", 0, "Only kernels of this stage (default: of every stage)", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    resources_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &c->common; return 0;
    case KEY_STAGE: c->stage = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "kernel resources takes no argument, and '%s' was given", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc = "Shows the registers, static shared memory, stack and spills of every GPU kernel of this build, by architecture.\v"
           "`adamas tune` shows the same of your own kernels, and their occupancy. Without CUDA kernels in the build the exit "
           "code is 77.",
};

static void each_kernel(void *user, const adm_static_kernel *k) {
    resources_command *c = user;
    if (c->stage != NULL && strcmp(c->stage, k->stage) != 0) return;
    if (!c->common.json && c->n == 0)
        adm_print("%-10s %-6s %9s %7s %6s %7s  kernel\n", "stage", "arch", "registers", "shared", "stack", "spilled");
    c->n++;
    if (!c->common.json)
        adm_print("%-10s %-6s %9d %7d %6d %7d  %s\n", k->stage, k->arch, k->registers, k->shared_bytes, k->stack_bytes,
                  k->spill_store_bytes + k->spill_load_bytes, k->kernel);
    else
        json_array_append_new(c->rows,
                              json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i}", "stage", k->stage, "source", k->source,
                                        "kernel", k->kernel, "arch", k->arch, "registers", k->registers, "static_shared_bytes",
                                        k->shared_bytes, "stack_bytes", k->stack_bytes, "spill_store_bytes",
                                        k->spill_store_bytes, "spill_load_bytes", k->spill_load_bytes));
}

static int run(int argc, char **argv) {
    resources_command c = {.rows = json_array()};
    const char *names[ADM_N_STAGES];
    bool found[ADM_N_STAGES] = {false};
    adm_error err = {0};
    adm_argp_parse(&argp, argc, argv, &c);
    adm_stage_names(names);
    adm_status status = c.stage != NULL ? adm_parse_words("--stage", c.stage, names, ADM_N_STAGES, found, &err) : ADM_OK;
    if (status == ADM_OK) status = adm_static_each(each_kernel, &c, &err);
    if (status == ADM_OK && c.n == 0)
        status = adm_fail(&err, ADM_EUNSUPPORTED, "this build has no CUDA kernels%s%s; configure it with a CUDA toolkit",
                          c.stage != NULL ? " of the stage " : "", c.stage != NULL ? c.stage : "");
    if (status == ADM_OK && c.common.json) status = adm_print_json(json_pack("{s:O}", "kernels", c.rows), &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    json_decref(c.rows);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_kernel_resources = {"resources", "registers, shared memory and spills of this build's kernels", run};
