/* watch.h: `adamas tune --watch`: judges a source file anew whenever it changes; each version is a row of one run. */
#ifndef ADM_KERNELS_TUNE_WATCH_H
#define ADM_KERNELS_TUNE_WATCH_H

#include "kernels/tune/candidate/collect.h"
#include "kernels/tune/record.h"

typedef struct adm_tune_watch {
    adm_stage stage;
    const char *path;
    const char *arch;
    int device;
    bool gpu_is_there;
    size_t n_versions;       /* ends after so many; 0: when interrupted */
    const char *only;        /* the row beside the first version; NULL: the default one */
    const char *const *set;  /* [n_set] "NAME=N": parameters that are fixed in every version */
    size_t n_set;
    bool quiet, json;        /* json: an object per version and line */
    adm_tune_scratch *scratch;
    adm_tune_compiled_fn *compiled; /* shows the compiler's errors */
} adm_tune_watch;

/* Until interrupted. options and record as in a session: should_stop is asked between looks at the file. */
adm_status adm_tune_watch_run(const adm_tune_watch *watch, const adm_tune_options *options, adm_tune_record *record,
                              adm_error *err);

#endif
