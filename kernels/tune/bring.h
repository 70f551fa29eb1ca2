/* bring.h: `--candidate [STAGE=]FILE`: kernels of one's own in commands other than tune. The file says which stage it is of: a
 * source by the function it defines, a manifest by its "stage", a shared object by its table. */
#ifndef ADM_KERNELS_TUNE_BRING_H
#define ADM_KERNELS_TUNE_BRING_H

#include <argp.h>

#include "core/cli/command.h"
#include "core/fleet/fleet.h"
#include "kernels/tune/session.h"

enum { ADM_BRING_MAX_FILES = 32 };

/* Zero-initialise; an input of adm_argp_grid. */
typedef struct adm_bring {
    const char *file[ADM_BRING_MAX_FILES];
    size_t n_files;
    const char *set[ADM_TUNE_MAX_PARAMETERS];
    size_t n_set;
} adm_bring;

/* The children of a command that measures a grid: --shard and --dry-run, --db, --quiet and --json, --candidate [STAGE=]FILE and
 * --set NAME=N. */
extern const struct argp_child adm_argp_grid[];

/* For its ARGP_KEY_INIT. Returns 0. */
error_t adm_give_grid_inputs(struct argp_state *state, adm_fleet *fleet, adm_common *common, adm_bring *bring);

/* Sets the stages [ADM_N_STAGES] that a --candidate is of, and the path in it. ADM_EINPUT: none, or a source with functions of
 * several. */
adm_status adm_bring_stages(const char *given, bool *stages, const char **path, adm_error *err);

/* Makes the files part of what a sweep is: each one's stages, and its content. */
adm_status adm_bring_add_inputs(const adm_bring *bring, adm_fleet *sweep, adm_error *err);

/* A session per stage that the files are of, with their candidates added and parameters set: not prepared yet. Release each
 * with adm_tune_session_close(), and then the array. */
adm_status adm_bring_sessions(const adm_bring *bring, const adm_tune_options *options, adm_tune_session **sessions, size_t *n,
                              adm_error *err);

#endif
