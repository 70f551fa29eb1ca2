/* version.c: which build this is; the one file that is compiled again when the commit changes. */
#include "core/base/version.h"

#include <stddef.h>

/* Generated: ADM_VERSION, ADM_GIT_COMMIT ("" outside a checkout), ADM_GIT_DIRTY, ADM_GIT_COMMIT_UTC,
 * ADM_CONFIGURED_CUDA, ADM_CONFIGURED_ARCH. */
#include "build/gen/version.h"

const char *adm_version(void) { return ADM_VERSION; }

const char *adm_git_commit(void) { return ADM_GIT_COMMIT[0] != '\0' ? ADM_GIT_COMMIT : "unknown"; }

const char *adm_git_commit_utc(void) { return ADM_GIT_COMMIT_UTC[0] != '\0' ? ADM_GIT_COMMIT_UTC : NULL; }

int adm_git_dirty(void) { return ADM_GIT_COMMIT[0] != '\0' ? ADM_GIT_DIRTY : -1; }

const char *adm_configured_cuda(void) { return ADM_CONFIGURED_CUDA; }

const char *adm_configured_arch(void) { return ADM_CONFIGURED_ARCH; }

#ifdef __clang__
const char *adm_compiler(void) { return __VERSION__; } /* says "Clang" itself */
#else
const char *adm_compiler(void) { return "gcc " __VERSION__; }
#endif
