/* error.c: the one place where an error sentence is formatted. */
#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/printable.h"

adm_status adm_fail(adm_error *err, adm_status status, const char *format, ...) {
    if (err == NULL) return status;
    va_list args;
    va_start(args, format);
    char sentence[2 * sizeof err->text]; /* may hold err->text itself as an argument */
    int length = vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    err->status = status;
    adm_printable(length < 0 ? "(an error message could not be formatted)" : sentence, err->text, sizeof err->text);
    return status;
}

adm_status adm_fail_of(adm_error *err, adm_status status, const char *option) {
    return status == ADM_OK || err == NULL ? status : adm_fail(err, status, "%s: %s", option, err->text);
}

int adm_exit_code(adm_status status) {
    switch (status) {
    case ADM_OK: return 0;
    case ADM_EINPUT: return 2;
    case ADM_EUNSUPPORTED: return 77;
    case ADM_EINTERRUPTED: return 130;
    case ADM_EENVIRONMENT:
    case ADM_EINTERNAL: break;
    }
    return 4;
}
