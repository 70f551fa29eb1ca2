/* session.h: candidates of one stage, from their files to their verdicts: compiled, searched, judged beside rows of the
 * registry. What `adamas tune` holds once, `profile` and `replay` hold for every configuration.
 *
 *   adm_tune_session_add()       files and rows -> list[0] host, list[1] GPU
 *   adm_tune_session_prepare()   the device is looked for; sources are compiled, parameters searched
 *   adm_tune_session_judge()     verdicts and times; repeated for another configuration after adm_tune_session_forget() */
#ifndef ADM_KERNELS_TUNE_SESSION_H
#define ADM_KERNELS_TUNE_SESSION_H

#include "core/cli/command.h"
#include "kernels/tune/candidate/collect.h"
#include "kernels/tune/gpu/gpu_judge.h"

typedef struct adm_tune_session {
    adm_stage stage;
    adm_tune_options options;
    int device;                /* number */
    const char *arch;          /* of .cu files; NULL: the device's, or where there is none sm_90 */
    bool no_search;            /* each parameter has its first value */
    bool quiet;
    bool shows_progress;       /* of compiling, searching and judging; others show their own */

    adm_device_info gpu;       /* its name is "no GPU" where there is none */
    adm_error no_gpu;          /* why */
    bool has_looked;           /* for the device */
    adm_tune_list list[2];     /* host, GPU: the rows first */
    adm_tune_result *result[2];
    bool judged[2];
    uint64_t seed;             /* of the inputs; 0: not drawn yet */
    uint64_t compile_ns; /* wall time of compilers so far */
    adm_tune_scratch scratch;
    adm_progress progress;
    uint64_t n_parts_done, n_parts; /* of what it shows */
} adm_tune_session;

/* Release also after a failure. */
void adm_tune_session_close(adm_tune_session *session);

/* Appends the candidates of a file, each to the list of its side. */
adm_status adm_tune_session_add(adm_tune_session *session, const char *path, adm_error *err);

/* "NAME=N": fixes a parameter of every candidate that has it. ADM_EINPUT: none has. */
adm_status adm_tune_session_set(adm_tune_session *session, const char *setting, adm_error *err);

/* Compiles, with the compiler's errors shown on stderr, and replaces candidates with parameters by their best settings. */
adm_status adm_tune_session_prepare(adm_tune_session *session, adm_error *err);

/* Judges both sides on session->options. Without a GPU its candidates are refused with that reason. */
adm_status adm_tune_session_judge(adm_tune_session *session, adm_error *err);

/* Drops the results, so that the same candidates can be judged again. */
void adm_tune_session_forget(adm_tune_session *session);

/* What .cu files are compiled for. */
void adm_tune_session_arch(const adm_tune_session *session, char *out, size_t bytes);

/* Looks for the device, once. */
void adm_tune_session_find_gpu(adm_tune_session *session);

/* A compiler's words, as they are; user: NULL. */
void adm_tune_show_errors(void *user, const char *output, size_t n_done, size_t n_total);

#endif
