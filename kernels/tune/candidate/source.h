/* source.h: a .c or .cu file with one function of a stage's contract: its directives, and its compilation into a shared object
 * with the table of adamas_plugin.h. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_SOURCE_H
#define ADM_KERNELS_TUNE_CANDIDATE_SOURCE_H

#include <sys/types.h>

#include "kernels/tune/candidate/candidate.h"

/* A folder for what is compiled; removed at the end, or by the signal that ends the process. */
typedef struct adm_tune_scratch {
    char folder[256];
    int slot; /* of adm_interrupt_remove() */
    uint32_t n_built;
} adm_tune_scratch;

adm_status adm_tune_scratch_open(adm_tune_scratch *scratch, adm_error *err);
void adm_tune_scratch_close(adm_tune_scratch *scratch);

/* Reads the file: its hash, limits, parameters. The candidate's path, stage and on_gpu are given. ADM_EINPUT: no such file, or
 * a directive that cannot be understood, with its line. */
adm_status adm_source_read(adm_candidate *c, adm_error *err);

/* Sets the candidate's hash to that of the file at its path. */
adm_status adm_source_hash(adm_candidate *c, adm_error *err);

/* A compilation under way. */
typedef struct adm_source_build {
    pid_t pid;
    uint64_t start_ns;
    char log[320]; /* the compiler's output */
} adm_source_build;

/* Starts compiling for the chosen parameters; arch: "sm_90" for a .cu file. ADM_EUNSUPPORTED: no compiler. */
adm_status adm_source_start(adm_candidate *c, const char *arch, adm_tune_scratch *scratch, adm_source_build *build,
                            adm_error *err);

/* Waits for it, sets the candidate's library and resources, or refuses it with the first error. *output is what the compiler
 * printed where it failed, to be shown as it is; release with adm_free(). */
void adm_source_finish(adm_candidate *c, adm_source_build *build, char **output);

#endif
