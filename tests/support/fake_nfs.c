/* fake_nfs.c: preloaded, it has every folder whose path contains FAKE_NFS be on NFS, as statfs(2) says it. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

__attribute__((visibility("default"))) int statfs(const char *path, struct statfs *info) {
    int (*real)(const char *, struct statfs *);
    void *found = dlsym(RTLD_NEXT, "statfs");
    const char *part = getenv("FAKE_NFS");
    memcpy(&real, &found, sizeof real);
    const int result = real(path, info);
    if (result == 0 && part != NULL && strstr(path, part) != NULL) info->f_type = 0x6969;
    return result;
}
