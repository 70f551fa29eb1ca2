/* identity.h: what makes runs on several machines one sweep: --shard, and the hashes of grid, parts, inputs and build. */
#ifndef ADM_CORE_FLEET_IDENTITY_H
#define ADM_CORE_FLEET_IDENTITY_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/fleet/shard.h"

enum { ADM_HASH_BYTES = 33 }; /* XXH3-128 in lower-case hexadecimal, and its NUL */

typedef struct adm_fleet {
    const char *shard_text; /* of --shard, borrowed; NULL: not given */
    const char *program;    /* a hash of the calling program, borrowed; NULL: the running file's */
    bool dry_run;           /* --dry-run */
    adm_shard shard;        /* count 0: no sweep */
    char grid[ADM_HASH_BYTES], parts[ADM_HASH_BYTES], inputs[ADM_HASH_BYTES], id[ADM_HASH_BYTES];
    char build[128];
} adm_fleet;

/* --shard, and --shard with --dry-run; a child of a command's argp, whose input is an adm_fleet. */
extern const struct argp adm_argp_shard, adm_argp_shard_and_dry_run;

/* Reads --shard and hashes the grid: the command and its options by their full names, in any order. `apart` names those that
 * do not change what is measured, NULL at the end; --shard, --dry-run, --db, --label, --threads and what argp and the output
 * have are always apart. Of a FILE its name counts, without folders. argv is the command line as it was typed. */
adm_status adm_fleet_read(adm_fleet *sweep, const char *command, const struct argp *argp, const char *const *apart, int argc,
                          char **argv, adm_error *err);

/* Adds to the grid the name of a file that is no option's value; and says how items are divided (part[n], of
 * adm_shard_split()). */
void adm_fleet_add_name(adm_fleet *sweep, const char *path);
void adm_fleet_add_text(adm_fleet *sweep, const char *text); /* to the grid, as it is */
void adm_fleet_add_parts(adm_fleet *sweep, const uint32_t *part, size_t n);

/* Adds to the inputs: the hash of one, or a file's content. NULL is no input. */
void adm_fleet_add_input(adm_fleet *sweep, const char *hash);
adm_status adm_fleet_add_file(adm_fleet *sweep, const char *path, adm_error *err);

/* Sets build and id from what was added. Inside of this room: adm_fleet_begin() does it. */
void adm_fleet_identify(adm_fleet *sweep);

#endif
