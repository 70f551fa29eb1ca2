/* lines.c: lines out of a growing buffer. */
#include "traces/requests/lines.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"

enum { READ_BYTES = 1 << 16 }; /* at once; of a small file only what it has */

adm_status adm_lines_refuse(const adm_lines *lines, adm_error *err, const char *format, ...) {
    char rest[384];
    va_list args;
    va_start(args, format);
    vsnprintf(rest, sizeof rest, format, args);
    va_end(args);
    return adm_fail(err, ADM_EINPUT, "%s: line %" PRIu64 ": %s", lines->file.label, lines->n_line, rest);
}

const char *adm_shown(const char *text, char out[ADM_SHOWN_BYTES]) { return adm_printable(text, out, ADM_SHOWN_BYTES); }

/* Room for chunk_bytes more behind what is there. */
static adm_status make_room(adm_lines *l, adm_error *err) {
    memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
    l->end -= l->begin;
    l->begin = 0;
    if (l->capacity - l->end >= l->chunk_bytes) return ADM_OK;
    char *larger;
    const size_t capacity = 2 * l->capacity;
    adm_status status = adm_alloc(&larger, capacity + 1, 1, "a buffer for lines", err);
    if (status != ADM_OK) return status;
    memcpy(larger, l->buffer, l->end);
    adm_free(&l->buffer);
    l->buffer = larger;
    l->capacity = capacity;
    return ADM_OK;
}

static adm_status fill(adm_lines *l, adm_error *err) {
    adm_status status = make_room(l, err);
    size_t n = l->chunk_bytes;
    if (status != ADM_OK) return status;
    if (l->inflate != NULL) {
        status = adm_inflate_read(l->inflate, l->buffer + l->end, l->chunk_bytes, &n, err);
        l->at_end = n < l->chunk_bytes;
    } else {
        const uint64_t rest = l->file.n_bytes - l->at;
        if (n > rest) n = (size_t)rest;
        status = adm_input_read(&l->file, l->buffer + l->end, n, l->at, err);
        l->at_end = n == rest;
    }
    l->at += n;
    l->end += n;
    return status;
}

adm_status adm_lines_next(adm_lines *l, char **line, adm_error *err) {
    *line = NULL;
    char *lf = NULL;
    for (size_t seen = 0;;) {
        lf = memchr(l->buffer + l->begin + seen, '\n', l->end - l->begin - seen);
        seen = l->end - l->begin;
        if (lf != NULL || l->at_end || seen > ADM_LINE_MAX_BYTES) break;
        adm_status status = fill(l, err);
        if (status != ADM_OK) return status;
    }
    if (lf == NULL && l->begin == l->end) return ADM_OK;
    l->n_line++;
    size_t length = (lf != NULL ? (size_t)(lf - l->buffer) : l->end) - l->begin;
    if (length > ADM_LINE_MAX_BYTES)
        return adm_lines_refuse(l, err, "is longer than %d bytes, the limit of a line", ADM_LINE_MAX_BYTES);
    *line = l->buffer + l->begin;
    l->begin += length + (lf != NULL);
    const char *nul = memchr(*line, '\0', length);
    if (nul != NULL)
        return adm_lines_refuse(l, err, "holds a NUL at byte %zu, so this is not a text file", (size_t)(nul - *line) + 1);
    if (length > 0 && (*line)[length - 1] == '\r') length--;
    (*line)[length] = '\0';
    return ADM_OK;
}

adm_status adm_lines_open(const char *path, adm_lines *l, adm_error *err) {
    unsigned char magic[2] = {0};
    *l = (adm_lines){.chunk_bytes = READ_BYTES};
    adm_status status = adm_input_open(path, &l->file, err);
    if (status == ADM_OK && l->file.n_bytes >= 2) status = adm_input_read(&l->file, magic, 2, 0, err);
    const bool packed = magic[0] == 0x1f && magic[1] == 0x8b;
    if (status == ADM_OK && !packed) status = adm_input_check_kind(&l->file, err);
    if (status == ADM_OK && packed) status = adm_inflate_open(&l->file, &l->inflate, err);
    if (status == ADM_OK && !packed && l->file.n_bytes < READ_BYTES) l->chunk_bytes = (size_t)l->file.n_bytes + 1;
    l->capacity = 2 * l->chunk_bytes;
    if (status == ADM_OK) status = adm_alloc(&l->buffer, l->capacity + 1, 1, "a buffer for lines", err);
    return status;
}

void adm_lines_close(adm_lines *l) {
    adm_inflate_close(&l->inflate);
    adm_free(&l->buffer);
    adm_input_close(&l->file);
}
