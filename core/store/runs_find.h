/* runs_find.h: which runs a user means by a few words.
 *
 *     12   3-9,12   last   last~1   last~9-last   label:NAME   commit:PREFIX   check:UUID:baseline   all
 *
 * `last` is the run that started last, `last~1` the one before; processes that a check added for a few times (run.only_times)
 * are not counted. A bare word that is nothing of this is a label. */
#ifndef ADM_CORE_STORE_RUNS_FIND_H
#define ADM_CORE_STORE_RUNS_FIND_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/store/store.h"

typedef enum adm_runs_taken {
    ADM_RUNS_COMPLETE,   /* what is not complete is refused if named by number, else left out */
    ADM_RUNS_ANY,        /* whatever its status */
    ADM_RUNS_UNFINISHED  /* `last` is the newest that is not complete, as of --resume; a number is taken as it is */
} adm_runs_taken;

/* For the help of commands that take runs. */
#define ADM_RUNS_HELP                                                                                          \
    "RUNS are numbers (3-9,12), last, last~9-last, a label, commit:PREFIX, check:UUID:candidate or all. last " \
    "is the run that started last, not counting processes that a check added for a few open times."

/* taken: ADM_RUNS_COMPLETE or ADM_RUNS_ANY. *ids is freshly allocated, in the order of their start: adm_free(). ADM_EINPUT: no
 * such run, with what there is. */
adm_status adm_runs_find(adm_store *store, const char *named, adm_runs_taken taken, const char *database, int64_t **ids,
                         size_t *n, adm_error *err);

/* "; did you mean 'LABEL'?" of the label that is near to what was typed, or "". Returns `text`. */
const char *adm_runs_meant(adm_store *store, const char *typed, char text[ADM_DID_YOU_MEAN_BYTES]);

/* The one run that these words name. ADM_EINPUT: there is none, or there are several. */
adm_status adm_run_find(adm_store *store, const char *named, adm_runs_taken taken, const char *database, int64_t *id,
                        adm_error *err);

#endif
