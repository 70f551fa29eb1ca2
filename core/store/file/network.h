/* network.h: one writer per database on a network file system. Inside of the store.
 *
 * SQLite's locks and shared memory do not reach other hosts on such a file system (sqlite.org/useovernet.html): two writers
 * there damage the file. So the first to open a database for writing leaves NAME-writer beside it, with its host and process
 * number, and a second is refused while it is there. */
#ifndef ADM_CORE_STORE_FILE_NETWORK_H
#define ADM_CORE_STORE_FILE_NETWORK_H

#include <stdbool.h>

#include "core/base/error.h"

/* "NFS", "Lustre", ... of the folder that the file is in; NULL: a local one, or one that cannot be told. */
const char *adm_network_name(const char *path);

/* Claims the database for this process. *claimed is false on a local file system, where SQLite's own locks do. ADM_EINPUT:
 * another process has it, with its host and number and the cure. A claim left by a process of this host that is gone is taken
 * over. */
adm_status adm_network_claim(const char *path, bool *claimed, adm_error *err);
void adm_network_release(const char *path);

#endif
