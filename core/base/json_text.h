/* json_text.h: jansson's values as text. In place of json_dumps(), which leaves a key out, and says nothing, if its buffer
 * cannot grow at that moment (2.14). */
#ifndef ADM_CORE_BASE_JSON_TEXT_H
#define ADM_CORE_BASE_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>

#include "core/base/error.h"

/* *text is the value, ended by NUL; flags are those of json_dumps(). `what` names it in the error. A value that is NULL,
 * because it could not be made, is an error too. On failure *text is NULL and the status ADM_EENVIRONMENT. Release with
 * adm_free(). */
adm_status adm_json_text(const json_t *value, size_t flags, const char *what, char **text, adm_error *err);

/* From now on every allocation of the JSON library in this process is watched; whether one failed since. A value that memory
 * did not suffice for is left out of its array or object, and nobody asks there: a document then lacks parts. */
void adm_json_watch_memory(void);
bool adm_json_memory_ran_out(void);

/* For what writes a document into a file: ADM_EENVIRONMENT, with the file's name, if it lacks parts. */
adm_status adm_json_check_memory(const char *path, adm_error *err);

#endif
