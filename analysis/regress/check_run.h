/* check_run.h: running two programs alternately, a fresh process each time, and collecting their runs.
 *
 *   position   0 1 2 3 4 5 6 7 ...
 *   program    A B B A A B B A ...     a drift of the machine reaches both sides alike
 *
 * Each side writes into a database of its own in a folder that goes away; its runs are then merged into the user's. */
#ifndef ADM_ANALYSIS_REGRESS_CHECK_RUN_H
#define ADM_ANALYSIS_REGRESS_CHECK_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/regress/check_build.h"
#include "core/base/error.h"
#include "core/store/store.h"

typedef struct adm_check {
    const adm_check_program *program[2]; /* baseline NULL: only the candidate runs */
    char **arguments;                    /* of the command to measure: "replay", ...; not ended by NULL */
    int n_arguments;
    char *only;                          /* of --only-times, which is added to them; NULL: the whole command */
    char folder[1024];                   /* scratch; "" before adm_check_start() */
    int slot;                            /* a signal removes the folder */
    int lock;                            /* held in it for as long as the check runs */
    char uuid[37];
    size_t n_run[2];                     /* processes that ended well, by side */
    size_t n_merged[2];
    size_t position;                     /* the next process */
    int64_t order[2][1024];              /* position of each process of a side */
} adm_check;

/* Makes the scratch folder, and removes those that killed checks left behind. adm_check_end() removes it, also after a
 * failure. */
adm_status adm_check_start(adm_check *check, adm_error *err);
void adm_check_end(adm_check *check);

/* Runs the next process. ADM_EENVIRONMENT: it crashed or failed, with side, number and its last words; ADM_EINPUT and
 * ADM_EUNSUPPORTED: it said so itself (exit codes 2 and 77); ADM_EINTERRUPTED. */
adm_status adm_check_next(adm_check *check, adm_error *err);

/* Whether the program of a side takes the command with check->only; it says so without running it. ADM_EINTERRUPTED. */
adm_status adm_check_can_run(const adm_check *check, int side, bool *can, adm_error *err);

/* Merges the runs so far into a store open for writing, with their positions in the check. */
adm_status adm_check_merge(adm_check *check, adm_store *store, adm_error *err);

enum { ADM_CHECK_MAX_PROCESSES = 1024 };

#endif
