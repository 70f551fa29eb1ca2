/* device.h: which CUDA devices there are. device.cu answers in a build with CUDA, none.c in one without. */
#ifndef ADM_KERNELS_GPU_DEVICE_H
#define ADM_KERNELS_GPU_DEVICE_H

#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_device_info {
    char name[256];        /* "NVIDIA H100 80GB HBM3" */
    char uuid[48];         /* "GPU-" and 36 characters, as nvidia-smi prints it */
    char pci[20];          /* "0000:1b:00.0", as sysfs names it; "" where it is not known */
    int compute_major;     /* compute capability, 9.0 for an H100 */
    int compute_minor;
    int n_sms;             /* SMs: streaming multiprocessors */
    uint64_t l2_bytes;     /* level-2 cache */
    uint64_t memory_bytes; /* global memory, all of it */
    double memory_bytes_per_s; /* what memory clock and bus allow, as a datasheet has it; 0: not known */
    int driver_version;    /* the newest CUDA the driver supports, 1000 * major + 10 * minor */
    int runtime_version;   /* the CUDA runtime in this program, likewise */
} adm_device_info;

/* Describes the first `capacity` devices, in CUDA's order, in out [capacity], and sets *n to how many there are, which
 * may be more. *n is 0 on failure.
 * ADM_EUNSUPPORTED, each with its own sentence and cure: built without CUDA, no driver, a driver older than the
 * runtime, no device. ADM_EENVIRONMENT: the CUDA runtime failed in some other way, with its own words. */
ADM_API adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
