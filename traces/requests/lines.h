/* lines.h: a text file, plain or gzip, line by line. */
#ifndef ADM_TRACES_REQUESTS_LINES_H
#define ADM_TRACES_REQUESTS_LINES_H

#include <stdbool.h>

#include "traces/requests/inflate.h"

enum {
    ADM_LINE_MAX_BYTES = 1 << 24, /* a session of a coding agent is one line */
    ADM_SHOWN_BYTES = 64
};

typedef struct adm_lines {
    adm_input_file file;
    adm_inflate *inflate;  /* NULL: the file is plain text */
    uint64_t n_line;       /* lines given out */
    uint64_t at;           /* bytes of the text that the buffer has seen */
    bool at_end;
    char *buffer;          /* [capacity + 1], one more for a NUL after a line */
    size_t capacity, begin, end, chunk_bytes;
} adm_lines;

/* Opens by content. adm_lines_close() takes it back whatever the outcome. ADM_EINPUT: no such file, or one of another kind. */
adm_status adm_lines_open(const char *path, adm_lines *lines, adm_error *err);
void adm_lines_close(adm_lines *lines);

/* The next line without its end (LF or CRLF), NUL-terminated, borrowed until the next call; *line is NULL after the last.
 * ADM_EINPUT: a NUL in it, or more than ADM_LINE_MAX_BYTES. */
adm_status adm_lines_next(adm_lines *lines, char **line, adm_error *err);

/* ADM_EINPUT with the file and the line before the sentence. */
adm_status adm_lines_refuse(const adm_lines *lines, adm_error *err, const char *format, ...) ADM_PRINTF(3, 4);

/* Text from the file, fit for a sentence. */
const char *adm_shown(const char *text, char out[ADM_SHOWN_BYTES]);

#endif
