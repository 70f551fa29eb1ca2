/* remove_tree.c: by the kernel's own calls, since opendir() and nftw() allocate. */
#include "core/system/remove_tree.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_LEVELS = 64 };

/* What getdents64() writes; the C library names it nowhere. */
typedef struct entry {
    uint64_t inode;
    int64_t next;
    uint16_t n_bytes;
    uint8_t type;
    char name[];
} entry;

static void empty(int folder, int n_levels);

static void remove_entry(int folder, const char *name, int n_levels) {
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(folder, name, 0) == 0 || n_levels == 0) return;
    int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0) return;
    empty(inner, n_levels - 1);
    close(inner);
    unlinkat(folder, name, AT_REMOVEDIR);
}

static void empty(int folder, int n_levels) {
    _Alignas(entry) char buffer[2048];
    for (long n; (n = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0;)
        for (long at = 0; at < n;) {
            const entry *e = (const entry *)(const void *)(buffer + at);
            at += e->n_bytes;
            remove_entry(folder, e->name, n_levels);
        }
}

void adm_remove_tree(const char *folder) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        empty(fd, MOST_LEVELS);
        close(fd);
    }
    rmdir(folder);
}
