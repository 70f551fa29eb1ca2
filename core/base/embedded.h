/* embedded.h: files that the program carries inside itself, by their path below the top level. configure.py lists them in
 * EMBEDDED, and embed.S holds their bytes. */
#ifndef ADM_CORE_BASE_EMBEDDED_H
#define ADM_CORE_BASE_EMBEDDED_H

#include <stddef.h>

typedef struct adm_embedded_file {
    const char *path;
    const char *name; /* the file's name without its suffix: "basic" of probes/sets/basic.metrics */
    const char *data; /* [n_bytes] and a NUL */
    size_t n_bytes;
} adm_embedded_file;

/* NULL if the program does not carry it. */
const adm_embedded_file *adm_embedded(const char *path);

/* The i-th file, from 0, whose path begins with `folder`, in the order of EMBEDDED; NULL if there are fewer. For lists such as
 * the metric sets. */
const adm_embedded_file *adm_embedded_in(const char *folder, size_t i);

#endif
