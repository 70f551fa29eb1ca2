/* error.h: how a function says that it failed, and which exit code that becomes.
 *
 * A fallible function returns an adm_status and takes, last, an adm_error with room for one sentence: what failed,
 * the value, the limit, a hint. Library code never prints and never exits; the program prints the sentence once. */
#ifndef ADM_CORE_BASE_ERROR_H
#define ADM_CORE_BASE_ERROR_H

#include "core/base/api.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adm_status {
    ADM_OK = 0,
    ADM_EINPUT,        /* the user's option, file or value is wrong */
    ADM_EUNSUPPORTED,  /* this machine, build or shape lacks something: callers skip with the reason */
    ADM_EENVIRONMENT,  /* memory, disk, locks, the operating system */
    ADM_EINTERRUPTED,  /* the user asked to stop */
    ADM_EINTERNAL      /* a promise of our own was broken */
} adm_status;

/* The sentence ends without a full stop or newline. It is always NUL-terminated; an over-long one is cut with "...". */
typedef struct adm_error {
    adm_status status;
    char text[768];
} adm_error;

/* Writes the sentence and the status into *err (err may be NULL) and returns the status, so that a failing function
 * can end with `return adm_fail(err, ADM_EINPUT, "...", ...)`. It is made printable (core/base/printable.h), so
 * that a hostile file name or header cannot drive the terminal. */
adm_status adm_fail(adm_error *err, adm_status status, const char *format, ...) ADM_PRINTF(3, 4);

/* Puts the option that a failure is about before its sentence: "--counters: there is no metric set 'foo'". Returns status. */
adm_status adm_fail_of(adm_error *err, adm_status status, const char *option);

/* The process exit code of a status, as the command line documents it: 0, 2 (input), 77 (unsupported), 130
 * (interrupted, as a shell reports SIGINT), 4 (the rest). */
int adm_exit_code(adm_status status);

#ifdef __cplusplus
}
#endif

#endif
