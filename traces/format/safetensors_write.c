/* safetensors_write.c: writes a .safetensors file front to back, and puts it in place when it is whole. */
#include "traces/format/safetensors_write.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/json_text.h"
#include "core/base/mem.h"
#include "core/system/output_file.h"
#include "core/base/printable.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "tensors are written as they lie in memory");

struct adm_st_writer {
    adm_output output;
    char *path;               /* the output borrows it */
    int fd;                   /* of the output */
    char label[256];          /* the path, fit for a sentence */
    uint64_t n_bytes, n_done; /* of the whole file */
};

static const struct {
    char name[8];
    uint64_t bytes;
} dtypes[] = {{"F16", 2}, {"BF16", 2}, {"F32", 4}, {"I32", 4}, {"I64", 8}};

/* --- The header --------------------------------------------------------------------------------------------------- */

/* False if the dtype is unknown or the size leaves 63 bits. */
static bool entry_bytes(const adm_st_entry *e, uint64_t *n_bytes) {
    *n_bytes = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(e->dtype, dtypes[i].name) == 0) *n_bytes = dtypes[i].bytes;
    if (*n_bytes == 0 || e->n_dims > 4) return false;
    for (size_t i = 0; i < e->n_dims; i++)
        if (__builtin_mul_overflow(*n_bytes, e->shape[i], n_bytes)) return false;
    return *n_bytes <= INT64_MAX;
}

static int add_entry(json_t *header, const adm_st_entry *e, uint64_t *at) {
    uint64_t n_bytes, end;
    if (!entry_bytes(e, &n_bytes) || __builtin_add_overflow(*at, n_bytes, &end) || end > INT64_MAX) return -1;
    json_t *shape = json_array();
    int failed = json_object_get(header, e->name) != NULL;
    for (size_t i = 0; i < e->n_dims; i++) failed |= json_array_append_new(shape, json_integer((json_int_t)e->shape[i]));
    failed |= json_object_set_new(
        header, e->name,
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", e->dtype, "shape", shape, "data_offsets", (json_int_t)*at, (json_int_t)end));
    *at = end;
    return failed;
}

/* The header's text, padded with spaces so that data begins at a multiple of 8; *data_bytes is what must follow it. */
static adm_status make_header(const adm_st_writer *w, const adm_st_entry *entries, size_t n_entries, const adm_trace_meta *meta,
                              size_t n_meta, char **text, uint64_t *data_bytes, adm_error *err) {
    json_t *header = json_object(), *pairs = json_object();
    int failed = 0;
    *text = NULL;
    *data_bytes = 0;
    for (size_t i = 0; i < n_meta; i++) failed |= json_object_set_new(pairs, meta[i].key, json_string(meta[i].value));
    failed |= json_object_set_new(header, "__metadata__", pairs);
    for (size_t i = 0; i < n_entries; i++) failed |= add_entry(header, &entries[i], data_bytes);
    char *dumped = NULL;
    adm_status status = failed
                            ? adm_fail(err, ADM_EINTERNAL, "%s: the header of %zu tensors cannot be made", w->label, n_entries)
                            : adm_json_text(header, JSON_COMPACT, "the header of a safetensors file", &dumped, err);
    json_decref(header);
    if (status != ADM_OK) return status;
    size_t length = strlen(dumped), padded = (length + 7) / 8 * 8;
    status = adm_alloc(text, padded + 1, 1, "the header of a safetensors file", err);
    if (status == ADM_OK) {
        memset(*text, ' ', padded);
        memcpy(*text, dumped, length);
    }
    adm_free(&dumped);
    return status;
}

/* --- The file ----------------------------------------------------------------------------------------------------- */

static adm_status fail_write(const adm_st_writer *w, int error, adm_error *err) {
    struct statvfs disk;
    if ((error == ENOSPC || error == EDQUOT) && fstatvfs(w->fd, &disk) == 0)
        return adm_fail(err, ADM_EENVIRONMENT,
                        "%s: the disk is full: the file needs %" PRIu64 " bytes, %" PRIu64 " are written and %" PRIu64
                        " are free; the file is not left behind",
                        w->label, w->n_bytes, w->n_done, (uint64_t)disk.f_bavail * disk.f_frsize);
    return adm_fail(err, ADM_EENVIRONMENT, "%s: cannot be written at byte %" PRIu64 " of %" PRIu64 ": %s", w->label, w->n_done,
                    w->n_bytes, strerror(error));
}

/* A full disk is found before the work, not after it; not every file system can tell, and those are tried anyway. */
static adm_status reserve(const adm_st_writer *w, adm_error *err) {
    while (fallocate(w->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)w->n_bytes) != 0) {
        if (errno == EINTR) continue;
        return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? fail_write(w, errno, err) : ADM_OK;
    }
    return ADM_OK;
}

/* --- Public ------------------------------------------------------------------------------------------------------- */

adm_status adm_st_write(adm_st_writer *w, const void *data, size_t n, adm_error *err) {
    if (n > w->n_bytes - w->n_done)
        return adm_fail(err, ADM_EINTERNAL, "%s: was announced with %" PRIu64 " bytes, more are written", w->label, w->n_bytes);
    for (const char *from = data; n > 0;) {
        ssize_t put = write(w->fd, from, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_write(w, errno, err);
        from += put;
        n -= (size_t)put;
        w->n_done += (uint64_t)put;
    }
    return ADM_OK;
}

static adm_status open_file(adm_st_writer *w, adm_error *err) {
    struct stat there;
    if (stat(w->path, &there) == 0 && !S_ISREG(there.st_mode))
        return adm_fail(err, ADM_EINPUT, "%s: is there and is not a regular file, so it is not replaced", w->label);
    adm_status status = adm_output_open(&w->output, "-o", w->path, err);
    if (status == ADM_OK) w->fd = fileno(w->output.file);
    return status;
}

adm_status adm_st_create(const char *path, const adm_st_entry *entries, size_t n_entries, const adm_trace_meta *meta,
                         size_t n_meta, adm_st_writer **out, adm_error *err) {
    adm_st_writer *w = NULL;
    char *text = NULL;
    uint64_t data_bytes, length;
    size_t path_bytes = strlen(path) + 1;
    *out = NULL;
    adm_status status = adm_alloc(&w, 1, sizeof *w, "a file to write", err);
    if (status != ADM_OK) return status;
    adm_printable(path, w->label, sizeof w->label);
    status = adm_alloc(&w->path, path_bytes, 1, "a path", err);
    if (status != ADM_OK) goto done;
    memcpy(w->path, path, path_bytes);
    status = make_header(w, entries, n_entries, meta, n_meta, &text, &data_bytes, err);
    if (status == ADM_OK) status = open_file(w, err);
    if (status != ADM_OK) goto done;
    length = strlen(text);
    w->n_bytes = sizeof length + length + data_bytes;
    status = reserve(w, err);
    if (status == ADM_OK) status = adm_st_write(w, &length, sizeof length, err);
    if (status == ADM_OK) status = adm_st_write(w, text, length, err);
done:
    adm_free(&text);
    if (status != ADM_OK) adm_st_discard(&w);
    *out = w;
    return status;
}

uint64_t adm_st_file_bytes(const adm_st_writer *w) { return w->n_bytes; }

adm_status adm_st_finish(adm_st_writer **writer, adm_error *err) {
    adm_st_writer *w = *writer;
    adm_status status = ADM_OK;
    if (w->n_done != w->n_bytes)
        status = adm_fail(err, ADM_EINTERNAL, "%s: %" PRIu64 " of %" PRIu64 " bytes were written", w->label, w->n_done,
                          w->n_bytes);
    else if (fsync(w->fd) != 0 && errno != EINVAL) /* EINVAL: a pipe keeps nothing */ status = fail_write(w, errno, err);
    else status = adm_output_commit(&w->output, err);
    adm_st_discard(writer);
    return status;
}

void adm_st_discard(adm_st_writer **writer) {
    if (*writer == NULL) return;
    adm_output_discard(&(*writer)->output);
    adm_free(&(*writer)->path);
    adm_free(writer);
}
