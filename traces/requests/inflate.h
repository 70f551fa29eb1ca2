/* inflate.h: unpacks gzip (RFC 1952, RFC 1951) piece by piece, from bytes that may be made to do harm. Checksums are checked; a
 * file of several members reads as one. */
#ifndef ADM_TRACES_REQUESTS_INFLATE_H
#define ADM_TRACES_REQUESTS_INFLATE_H

#include "traces/format/input_file.h"

typedef struct adm_inflate adm_inflate;

/* The file is borrowed, and begins with a gzip header. Release with adm_inflate_close(). ADM_EINPUT: the header is bad. */
adm_status adm_inflate_open(const adm_input_file *file, adm_inflate **out, adm_error *err);
void adm_inflate_close(adm_inflate **inflate);

/* Unpacks up to `bytes` bytes; *n is smaller only at the end. ADM_EINPUT: the data are damaged or cut short. */
adm_status adm_inflate_read(adm_inflate *inflate, void *buffer, size_t bytes, size_t *n, adm_error *err);

#endif
