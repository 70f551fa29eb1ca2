/* trace_verbs.h: the verbs of `adamas trace` that have files of their own, cmd_trace_import.c and cmd_trace_gen.c. */
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

/* `import` of one file: prints its summary, or appends it to the document. */
adm_status adm_trace_import_one(const char *path, const adm_trace_options *options, json_t *document, adm_error *err);

/* `gen`: the whole command; returns the exit code. */
int adm_trace_gen(int argc, char **argv);

#endif
