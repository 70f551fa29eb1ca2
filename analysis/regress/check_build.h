/* check_build.h: the program that a user names as one side of a check: an executable, or a git ref to build. */
#ifndef ADM_ANALYSIS_REGRESS_CHECK_BUILD_H
#define ADM_ANALYSIS_REGRESS_CHECK_BUILD_H

#include "core/base/error.h"

typedef struct adm_check_program {
    char path[4096];    /* of the executable */
    char subject[160];  /* as the user named it, with the commit of a git ref */
} adm_check_program;

/* A program, or a git ref that is built in a work tree under build/check of the checkout that holds the present folder; a
 * finished build is reused. on_build (may be NULL) is called before a build begins. ADM_EINPUT: neither;
 * ADM_EENVIRONMENT: the build failed, with the name of its log. */
adm_status adm_check_resolve(const char *named, void (*on_build)(const char *subject, const char *folder),
                             adm_check_program *out, adm_error *err);

#endif
