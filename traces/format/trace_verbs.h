/* trace_verbs.h: what the files of `adamas trace` share. For cmd_trace*.c alone. */
#ifndef ADM_TRACES_FORMAT_TRACE_VERBS_H
#define ADM_TRACES_FORMAT_TRACE_VERBS_H

#include <jansson.h>

#include "core/cli/command.h"

typedef struct adm_trace_options {
    adm_common common;
    uint64_t max_steps; /* 0: all */
    size_t n_paths;
    char **paths;       /* borrowed from argv */
} adm_trace_options;

/* A string value; what is not UTF-8, as a path may be, is shown as '?'. NULL without memory. */
json_t *adm_trace_json_text(const char *text);

/* Prints text from outside, made fit for a terminal. */
void adm_trace_print_text(const char *text);

/* `import` of one file: prints its summary, or appends it to the document. */
adm_status adm_trace_import_one(const char *path, const adm_trace_options *options, json_t *document, adm_error *err);

/* `gen`: the whole command; returns the exit code. */
int adm_trace_gen(int argc, char **argv);

#endif
