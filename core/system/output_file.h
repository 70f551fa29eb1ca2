/* output_file.h: a file that a command writes for the user: there whole or not at all.
 *
 *   open: a file without a name --write--> commit: named FILE.part-XXXXXX, renamed to FILE
 *                               `-------> discard, a signal, kill -9: gone
 *
 * kill -9 between naming and renaming leaves the part, which is whole.
 * Where the file system has no nameless files (O_TMPFILE), it is FILE.part-XXXXXX from the beginning: a signal removes it, and
 * only kill -9 leaves it behind. What is no regular file, a pipe or a device, cannot be replaced and is written directly. So is
 * standard output, where the path is "-"; what the program prints there afterwards goes to standard error instead. */
#ifndef ADM_CORE_SYSTEM_OUTPUT_FILE_H
#define ADM_CORE_SYSTEM_OUTPUT_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/base/error.h"

typedef struct adm_output {
    FILE *file;       /* write here */
    const char *path; /* borrowed */
    char *part;       /* its name in the making; NULL: written directly */
    bool is_nameless; /* so far; `part` means nothing then */
    int slot;         /* of adm_interrupt_remove(), or -1 */
} adm_output;

/* ADM_EINPUT, beginning with the option ("--output"), if the path is empty or a folder; with the path if it cannot be
 * written. After a failure there is nothing to discard. */
adm_status adm_output_open(adm_output *output, const char *option, const char *path, adm_error *err);

/* Ends the output: the file is there. ADM_EENVIRONMENT if anything written was lost; the file is then as it was. */
adm_status adm_output_commit(adm_output *output, adm_error *err);

/* Why a file that has failed cannot be written: the reason of a flush that failed just now, or that of another byte, which the
 * failed file then holds; stdio forgets what an earlier write said. */
const char *adm_output_why(FILE *file, int flush_errno);

/* Ends it without a file. Does nothing after a commit, and on a zero-initialised output. */
void adm_output_discard(adm_output *output);

#endif
