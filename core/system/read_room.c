/* read_room.c: a small file needs little room. */
#include "core/system/read_room.h"

#include <stdint.h>
#include <sys/stat.h>

size_t adm_read_room_bytes(FILE *file, size_t most_bytes) {
    struct stat info;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size > most_bytes) return most_bytes + 1;
    return (size_t)info.st_size + 1;
}
