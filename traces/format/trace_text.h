/* trace_text.h: names from trace files, such as paths and metadata, made fit for a terminal and for JSON. */
#ifndef ADM_TRACES_FORMAT_TRACE_TEXT_H
#define ADM_TRACES_FORMAT_TRACE_TEXT_H

#include <jansson.h>

/* A string value; bytes that are not UTF-8, as a path may hold, become '?'. NULL without memory. */
json_t *adm_trace_json_text(const char *text);

/* Prints the text on standard output; characters that drive a terminal become visible ones. */
void adm_trace_print_text(const char *text);

#endif
