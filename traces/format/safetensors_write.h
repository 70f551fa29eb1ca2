/* safetensors_write.h: writes a .safetensors file front to back, in as little memory as its caller likes.
 *
 *   create: | length | header |                     all shapes are known before the first value
 *   write:                    | tensor data, in the order given |
 *   finish: on the disk, then renamed to PATH       until here PATH is what it was (core/system/output_file.h)
 *
 * safetensors.h describes the format, and reads it. */
#ifndef ADM_TRACES_FORMAT_SAFETENSORS_WRITE_H
#define ADM_TRACES_FORMAT_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/trace.h"

typedef struct adm_st_writer adm_st_writer;

typedef struct adm_st_entry {
    const char *name;    /* UTF-8, each once */
    const char *dtype;   /* "F16", "BF16", "F32", "I32" or "I64" */
    size_t n_dims;       /* 0 to 4 */
    uint64_t shape[4];
} adm_st_entry;

/* Creates a temporary file beside `path`, reserves its space where the file system can, and writes the header. Nothing
 * is borrowed after the return. *out ends in adm_st_finish() or adm_st_discard(), or is NULL on failure. ADM_EINPUT:
 * a path that cannot be written, or is there and not a regular file; ADM_EENVIRONMENT: the disk is full (the sentence
 * says what is needed and what is free) or failing, or no memory; ADM_EINTERNAL: entries that break the format. */
adm_status adm_st_create(const char *path, const adm_st_entry *entries, size_t n_entries, const adm_trace_meta *meta,
                         size_t n_meta, adm_st_writer **out, adm_error *err);

/* Appends n bytes of tensor data. After a failure only adm_st_discard() is of use. */
adm_status adm_st_write(adm_st_writer *writer, const void *data, size_t n, adm_error *err);

/* Whole file in bytes, header included. */
uint64_t adm_st_file_bytes(const adm_st_writer *writer);

/* Puts the file in place and nulls *writer, whatever the outcome; on failure the temporary file is gone and `path` is
 * as it was. ADM_EINTERNAL if less or more was written than the entries call for. */
adm_status adm_st_finish(adm_st_writer **writer, adm_error *err);

/* Removes the temporary file and nulls; NULL is fine. */
void adm_st_discard(adm_st_writer **writer);

#endif
