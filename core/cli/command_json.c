/* cmd_json.c: what every command's --json ends with. */
#include <jansson.h>
#include <stdio.h>

#include "core/cli/command.h"

adm_status adm_print_json(json_t *document, adm_error *err) {
    int failed = document == NULL ? -1 : json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(document);
    if (failed) return adm_fail(err, ADM_EENVIRONMENT, "standard output could not be written: the JSON document is cut short");
    putchar('\n');
    return ADM_OK;
}
