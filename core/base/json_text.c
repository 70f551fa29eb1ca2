/* json_text.c: a value's text is measured, and then written into memory of that size: no buffer grows on the way. */
#include "core/base/json_text.h"

#include <stdlib.h>

#include "core/base/mem.h"

static bool memory_ran_out;

static void *allocate(size_t n_bytes) {
    void *memory = malloc(n_bytes);
    memory_ran_out |= memory == NULL;
    return memory;
}

void adm_json_watch_memory(void) { json_set_alloc_funcs(allocate, free); }

bool adm_json_memory_ran_out(void) { return memory_ran_out; }

adm_status adm_json_check_memory(const char *path, adm_error *err) {
    if (!memory_ran_out) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory: what was to be written lacks parts", path);
}

adm_status adm_json_text(const json_t *value, size_t flags, const char *what, char **text, adm_error *err) {
    *text = NULL;
    size_t length = value != NULL ? json_dumpb(value, NULL, 0, flags) : 0; /* 0: memory ran out */
    if (length == 0) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing %s", what);
    adm_status status = adm_alloc(text, length + 1, 1, what, err);
    if (status != ADM_OK) return status;
    if (json_dumpb(value, *text, length, flags) != length) {
        adm_free(text);
        return adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing %s", what);
    }
    (*text)[length] = '\0';
    return ADM_OK;
}
