/* read_room.c: a small file needs little room, and a pipe is not waited for. */
#include "core/system/read_room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

FILE *adm_open_to_read(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return NULL;
    const int flags = fcntl(fd, F_GETFL); /* its content is waited for, as ever */
    FILE *file = flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 ? fdopen(fd, "rb") : NULL;
    if (file == NULL) {
        const int error = errno;
        close(fd);
        errno = error;
    }
    return file;
}

adm_status adm_status_of_read(int error) {
    return error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO ? ADM_EENVIRONMENT : ADM_EINPUT;
}

size_t adm_read_room_bytes(FILE *file, size_t most_bytes) {
    struct stat info;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size > most_bytes) return most_bytes + 1;
    return (size_t)info.st_size + 1;
}
