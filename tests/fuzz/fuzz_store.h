/* fuzz_store.h: database files of the fuzzers, in memory where the machine has /dev/shm; removed when the process ends well. */
#ifndef ADM_TESTS_FUZZ_FUZZ_STORE_H
#define ADM_TESTS_FUZZ_FUZZ_STORE_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/store/store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_memory.h"

/* Valid until the process ends; one per name. */
static inline const char *fuzz_store_path(const char *name) {
    static struct {
        const char *name;
        char path[128];
    } made[8];
    size_t i = 0;
    if (made[0].name == NULL) fuzz_use_pool();
    while (made[i].name != NULL && strcmp(made[i].name, name) != 0) i++;
    if (made[i].name == NULL) {
        const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
        made[i].name = name;
        snprintf(made[i].path, sizeof made[i].path, "%.80s/adamas-fuzz-%d-%s.db", folder, (int)getpid(), name);
    }
    return made[i].path;
}

static inline void fuzz_store_put(const char *path, const char *suffix, const uint8_t *data, size_t size) {
    char name[160];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    close(fd);
}

static inline void fuzz_store_remove(const char *path) {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char name[160];
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

#endif
