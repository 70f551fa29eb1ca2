/* embedded.c: finds the files of embed.S. */
#include "core/base/embedded.h"

#include <string.h>

extern const adm_embedded_file adm_embedded_table[], adm_embedded_table_end[];

const adm_embedded_file *adm_embedded(const char *path) {
    for (const adm_embedded_file *file = adm_embedded_table; file < adm_embedded_table_end; file++)
        if (strcmp(file->path, path) == 0) return file;
    return NULL;
}

const adm_embedded_file *adm_embedded_in(const char *folder, size_t i) {
    const size_t length = strlen(folder);
    for (const adm_embedded_file *file = adm_embedded_table; file < adm_embedded_table_end; file++)
        if (strncmp(file->path, folder, length) == 0 && i-- == 0) return file;
    return NULL;
}
