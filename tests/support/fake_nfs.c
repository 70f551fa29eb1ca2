/* fake_nfs.c: preloaded, it has every folder whose path contains FAKE_NFS be on NFS, as statfs(2) says it. A process that is
 * about to write into a file whose path contains FAKE_NFS_KILLS is killed. */
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

__attribute__((visibility("default"))) int statfs(const char *path, struct statfs *info) {
    int (*real)(const char *, struct statfs *);
    void *found = dlsym(RTLD_NEXT, "statfs");
    const char *part = getenv("FAKE_NFS");
    memcpy(&real, &found, sizeof real);
    const int result = real(path, info);
    if (result == 0 && part != NULL && strstr(path, part) != NULL) info->f_type = 0x6969;
    return result;
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t n) {
    ssize_t (*real)(int, const void *, size_t);
    void *found = dlsym(RTLD_NEXT, "write");
    const char *part = getenv("FAKE_NFS_KILLS");
    char link[32], path[PATH_MAX] = "";
    memcpy(&real, &found, sizeof real);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (part != NULL && readlink(link, path, sizeof path - 1) > 0 && strstr(path, part) != NULL) raise(SIGKILL);
    return real(fd, data, n);
}
