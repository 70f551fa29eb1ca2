/* print.h: the one way in which commands print. Every %s is foreign text and is made printable (printable.h): a name from a
 * file or a database cannot drive the terminal, nor begin a line of its own. The format is ours, newlines included.
 *
 * tests/project/test_output.py refuses printf() and its kin elsewhere. */
#ifndef ADM_CORE_BASE_PRINT_H
#define ADM_CORE_BASE_PRINT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/base/api.h"

void adm_print(const char *format, ...) ADM_PRINTF(1, 2); /* to standard output */
void adm_print_to(FILE *to, const char *format, ...) ADM_PRINTF(2, 3);

/* Foreign text of several lines, such as what a compiler said: newlines and tabs stay. */
void adm_print_lines(FILE *to, const char *text);

#endif
