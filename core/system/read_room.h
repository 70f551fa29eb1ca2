/* read_room.h: files that a user names and that are read whole. */
#ifndef ADM_CORE_SYSTEM_READ_ROOM_H
#define ADM_CORE_SYSTEM_READ_ROOM_H

#include <stddef.h>
#include <stdio.h>

#include "core/base/error.h"

/* fopen() for reading that does not wait until a pipe has a writer: one without is empty. NULL and errno on failure. */
FILE *adm_open_to_read(const char *path);

/* Whose fault an errno of opening or reading is: ADM_EENVIRONMENT for want of memory or descriptors and a disk that fails, else
 * ADM_EINPUT. */
adm_status adm_status_of_read(int error);

/* Bytes to ask fread() for: one more than the file holds, so that growth is seen, and at most one more than may be. Of a pipe
 * the latter. */
size_t adm_read_room_bytes(FILE *file, size_t most_bytes);

#endif
