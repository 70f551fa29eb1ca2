/* git.h: asking git, with its own reason where it refuses. */
#ifndef ADM_ANALYSIS_REGRESS_GIT_H
#define ADM_ANALYSIS_REGRESS_GIT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

/* Runs git in this folder: argv[0] is "git", the last is NULL. `input` (NULL: none) is its standard input; *out is what it
 * wrote to its standard output, NUL-terminated: adm_free(). No shell is involved. ADM_EINPUT with git's own words if it
 * refuses, ADM_EENVIRONMENT if it cannot be run at all. */
adm_status adm_git(char *const argv[], const char *input, char **out, adm_error *err);

/* The same for one line of output, without its newline; longer lines are cut. */
adm_status adm_git_line(char *const argv[], char *out, size_t out_bytes, adm_error *err);

/* Whether the repository around this folder is a shallow clone. */
bool adm_git_is_shallow(void);

#endif
