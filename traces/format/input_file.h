/* input_file.h: a regular file that somebody else wrote: opened without waiting, read, mapped, hashed. */
#ifndef ADM_TRACES_FORMAT_INPUT_FILE_H
#define ADM_TRACES_FORMAT_INPUT_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "core/base/error.h"

typedef struct adm_input_file {
    char label[256];           /* the path in a form fit for an error sentence: printable, and cut at its front if long */
    int fd;                    /* -1 once closed */
    uint64_t n_bytes;          /* when opened */
    struct timespec modified;  /* when opened */
    const unsigned char *map;  /* [n_bytes] after adm_input_map(), else NULL */
} adm_input_file;

/* Opens for reading; a pipe or a device is refused, never waited for. Overwrites *file, which adm_input_close() takes
 * back whatever the outcome. ADM_EINPUT: not there, not readable, not a regular file; ADM_EENVIRONMENT: no memory or
 * descriptors, or a failing disk. The functions below fail alike. */
adm_status adm_input_open(const char *path, adm_input_file *file, adm_error *err);

/* Unmaps and closes; may be called again. */
void adm_input_close(adm_input_file *file);

/* Reads n bytes at the offset. ADM_EINPUT if the file ends before that. */
adm_status adm_input_read(const adm_input_file *file, void *buffer, size_t n, uint64_t offset, adm_error *err);

/* ADM_EINPUT, with what to do about it, if the file's first bytes show that it is of another kind than its reader expects: a
 * Git LFS pointer, a compressed file, a model, a database. Kinds that are not known pass. */
adm_status adm_input_check_kind(const adm_input_file *file, adm_error *err);

/* Maps the whole file, which must not be empty. Where another process shortens the file, or its disk fails, the lost part
 * reads as zeros from then on (traces/format/map_guard.h): ask adm_input_check_unchanged() after working on the map, before
 * the result is used. */
adm_status adm_input_map(adm_input_file *file, adm_error *err);

/* ADM_EINPUT if the file's size or modification time is no longer what it was when opened, ADM_EENVIRONMENT if a part of
 * its map was lost all the same. */
adm_status adm_input_check_unchanged(const adm_input_file *file, adm_error *err);

/* XXH3-128 of the whole file in lower-case hex, as `xxhsum -H2` prints it. Reads the file once, through its map if it is
 * mapped: adm_input_check_unchanged() then tells whether that was the file. */
adm_status adm_input_xxh128(const adm_input_file *file, char hex[33], adm_error *err);

#endif
