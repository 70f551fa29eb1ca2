/* nccl.c: finding NCCL. */
#include "kernels/step/sharded/nccl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* POSIX has dlsym() give functions as object pointers. */
static bool find(const adm_nccl *nccl, const char *name, void *function) {
    void *found = dlsym(nccl->library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

adm_status adm_nccl_open(adm_nccl *nccl, adm_error *err) {
    const char *named = getenv("ADAMAS_NCCL");
    *nccl = (adm_nccl){0};
    nccl->library = dlopen(named != NULL ? named : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (nccl->library == NULL)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "NCCL is not found (%s): install it, or name its libnccl.so.2 in ADAMAS_NCCL (PyTorch's wheels bring one "
            "in nvidia/nccl/lib)",
            dlerror());
    const bool is_whole =
        find(nccl, "ncclGetVersion", &nccl->get_version) && find(nccl, "ncclGetUniqueId", &nccl->get_unique_id) &&
        find(nccl, "ncclCommInitRank", &nccl->comm_init_rank) && find(nccl, "ncclCommDestroy", &nccl->comm_destroy) &&
        find(nccl, "ncclAllReduce", &nccl->all_reduce) && find(nccl, "ncclGetErrorString", &nccl->get_error_string);
    if (is_whole && nccl->get_version(&nccl->version) == 0 && nccl->version >= 20000) return ADM_OK;
    adm_nccl_close(nccl);
    return adm_fail(err, ADM_EUNSUPPORTED, "%s is no NCCL 2", named != NULL ? named : "libnccl.so.2");
}

void adm_nccl_close(adm_nccl *nccl) {
    if (nccl->library != NULL) dlclose(nccl->library);
    *nccl = (adm_nccl){0};
}

adm_status adm_nccl_status(const adm_nccl *nccl, int result, const char *doing, adm_error *err) {
    if (result == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "NCCL: %s failed: %s", doing, nccl->get_error_string(result));
}
