/* fake_nvperf.c: a library that stands in for libnvperf_host.so, of CUDA 12.8 in a folder with "12" in its name and else of
 * 13.0. It knows its version and nothing else. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct version_call {
    size_t size;
    void *private;
    uint64_t api;
    uint32_t version[3], release[3];
} version_call;

int NVPW_QueryVersionNumber(version_call *call);

__attribute__((visibility("default"))) int NVPW_QueryVersionNumber(version_call *call) {
    Dl_info own;
    if (call->size != sizeof *call || call->api != 0x1e128b6f001423fc) return 8;
    const bool old = dladdr((void *)(uintptr_t)NVPW_QueryVersionNumber, &own) != 0 && strstr(own.dli_fname, "12") != NULL;
    call->version[0] = call->release[0] = old ? 2024 : 2025;
    call->version[1] = call->release[1] = old ? 5 : 4;
    return 0;
}
