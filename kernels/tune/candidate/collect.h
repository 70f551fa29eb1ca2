/* collect.h: from file names to candidates, and the rows of the registry that stand next to them. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_COLLECT_H
#define ADM_KERNELS_TUNE_CANDIDATE_COLLECT_H

#include "kernels/tune/candidate/source.h"

enum { ADM_TUNE_MAX_CANDIDATES = 256 };

typedef struct adm_tune_list {
    adm_candidate *c; /* [n], room for ADM_TUNE_MAX_CANDIDATES */
    size_t n;
} adm_tune_list;

/* Appends the rows of the registry that implement the stage by the contract (distances by L1), slowest first. only: the row of
 * that name alone; ADM_EINPUT if there is none; NULL: all that run here. */
adm_status adm_tune_add_rows(adm_tune_list *list, adm_stage stage, bool on_gpu, const char *only, adm_error *err);

/* Appends the GPU rows of the stage whose launch parameters can be chosen (kernels/gpu/ways.h), as candidates with them; only:
 * of the row of that name alone. */
adm_status adm_tune_add_ways(adm_tune_list *list, adm_stage stage, const char *only, adm_error *err);

/* Whether a file can be a candidate, by its kind and its name; ADM_EINPUT says why it cannot. */
adm_status adm_tune_check_file(const char *path, adm_error *err);

/* Appends what a file holds: one candidate of a .c, .cu or .json file, one per implementation of an .so. What cannot be judged
 * is a refused candidate; ADM_EINPUT: not a candidate at all. */
adm_status adm_tune_add_file(adm_tune_list *list, adm_stage stage, const char *path, uint64_t limit_ns, adm_error *err);

/* Appends the candidates of one list to another. */
adm_status adm_tune_append(adm_tune_list *to, const adm_tune_list *from, adm_error *err);

/* "NAME=N": fixes a parameter of every candidate that has it; *found becomes true if one does. ADM_EINPUT: is no such text. */
adm_status adm_tune_set(adm_tune_list *list, const char *setting, bool *found, adm_error *err);

/* What a compiler printed of a candidate that failed, or NULL: it compiled. n_done of n_total are done with. */
typedef void adm_tune_compiled_fn(void *user, const char *output, size_t n_done, size_t n_total);

/* Compiles those that come as source and are not compiled yet, as many at once as there are processors. done: called after each
 * of them; may be NULL. */
void adm_tune_compile(adm_candidate *c, size_t n, const char *arch, adm_tune_scratch *scratch, adm_tune_compiled_fn *done,
                      void *user);

/* The index of the default row among candidates: the last row; n: there is none. */
size_t adm_tune_default_of(const adm_candidate *c, size_t n);

#endif
