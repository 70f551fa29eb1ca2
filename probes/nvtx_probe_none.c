/* nvtx_probe_none.c: the NVTX probe of a build without NVTX's headers. */
#include "probes/nvtx_probe.h"

static void ignore(adm_probe *self, const adm_range *range) {
    (void)self;
    (void)range;
}

void adm_nvtx_probe_init(adm_nvtx_probe *nvtx) {
    *nvtx = (adm_nvtx_probe){.probe = {.name = "nvtx", .begin = ignore, .end = ignore}};
}

void adm_nvtx_probe_share(const adm_nvtx_probe *nvtx, adm_nvtx_probe *out) {
    (void)nvtx;
    adm_nvtx_probe_init(out);
}

const char *adm_nvtx_missing(void) {
    return "this program was built without NVTX: install the CUDA toolkit 13 with its NVTX headers, run ./configure.py "
           "and build again";
}
