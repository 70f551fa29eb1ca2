/* json_read.h: JSON texts from outside as jansson's values. In place of jansson's own parser, whose lexer ends the process when
 * an allocation fails at the wrong moment, and tells others as bad input. */
#ifndef ADM_CORE_BASE_JSON_READ_H
#define ADM_CORE_BASE_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { ADM_JSON_MAX_DEPTH = 500, ADM_JSON_MAX_NUMBER_CHARS = 127 };

/* Why a text is no JSON. */
typedef struct adm_json_fault {
    bool no_memory; /* it may be JSON: memory ran out */
    int error; /* errno, where the file could not be opened or read; else 0 */
    size_t at; /* byte, from 0 */
    int line; /* from 1 */
    char text[96]; /* "a value is expected"; made of our own words */
} adm_json_fault;

/* One object or array, with white space around it. RFC 8259, and stricter: a key that comes twice in an object, a \u0000,
 * invalid UTF-8, a number that a 64-bit integer or a double does not hold, and deep nesting are faults. The text needs no NUL.
 * NULL on failure; release with json_decref(). */
json_t *adm_json_read(const char *text, size_t n, adm_json_fault *fault);

/* The same for the next n bytes of a file; fewer are a fault. */
json_t *adm_json_read_file(FILE *file, size_t n, adm_json_fault *fault);

/* The same for a whole file, which must be a regular one of at most so many bytes; if it cannot be opened, line is 0. */
json_t *adm_json_read_path(const char *path, size_t most_bytes, adm_json_fault *fault);

#endif
