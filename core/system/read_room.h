/* read_room.h: how much room a file needs that is read whole. */
#ifndef ADM_CORE_SYSTEM_READ_ROOM_H
#define ADM_CORE_SYSTEM_READ_ROOM_H

#include <stddef.h>
#include <stdio.h>

/* Bytes to ask fread() for: one more than the file holds, so that growth is seen, and at most one more than may be. Of a pipe
 * the latter. */
size_t adm_read_room_bytes(FILE *file, size_t most_bytes);

#endif
