/* trace_text.c: names from trace files on a terminal and in JSON. */
#include "traces/format/trace_text.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"

json_t *adm_trace_json_text(const char *text) {
    if (adm_is_utf8(text)) return json_string(text);
    char *clean;
    if (adm_alloc(&clean, strlen(text) + 4, 1, "text", NULL) != ADM_OK) return NULL;
    json_t *value = json_string(adm_printable(text, clean, strlen(text) + 4));
    adm_free(&clean);
    return value;
}

void adm_trace_print_text(const char *text) { adm_print("%s", text); }
