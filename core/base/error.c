/* error.c: the one place where an error sentence is formatted. */
#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

adm_status adm_fail(adm_error *err, adm_status status, const char *format, ...) {
    if (err == NULL) return status;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    err->status = status;
    if (length < 0) snprintf(err->text, sizeof err->text, "(an error message could not be formatted)");
    if (length >= (int)sizeof err->text) memcpy(err->text + sizeof err->text - 4, "...", 4);
    for (unsigned char *c = (unsigned char *)err->text; *c; c++)
        if (*c < 0x20 || *c == 0x7f) *c = '?';
    return status;
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
