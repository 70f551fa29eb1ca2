/* command_json.c: what every command's --json ends with. */
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cli/command.h"
#include "core/base/json_text.h"
#include "core/base/print.h"
#include "core/system/interrupt.h"
#include "core/system/output_file.h"

adm_status adm_print_json(json_t *document, adm_error *err) {
    if (document == NULL || adm_json_memory_ran_out()) {
        json_decref(document);
        return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering a JSON document");
    }
    int failed = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(document);
    if (failed && adm_reader_has_gone(STDOUT_FILENO)) adm_end_without_reader();
    if (failed && ferror(stdout))
        return adm_fail(err, ADM_EENVIRONMENT, "standard output could not be written, the JSON document is cut short: %s",
                        adm_output_why(stdout, 0));
    if (failed) return adm_fail(err, ADM_EENVIRONMENT, "out of memory: the JSON document is cut short");
    adm_print("\n");
    return ADM_OK;
}
