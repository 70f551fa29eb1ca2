/* device.c: what data sheets say of the GPUs that this project meets. */
#include "analysis/cost/device.h"

#include <string.h>

/* Peak of dense FP16 and BF16 tensor-core products (half of what a data sheet says "with sparsity"), memory as the driver
 * reports it, NVLink (PCIe for the L40S) in one direction. Sources: NVIDIA's data sheets of the H200, H100 SXM, A100 80GB SXM,
 * L40S and B200; memory: cudaMemGetInfo() of such devices, B200: the data sheet. */
static const struct {
    const char *part;
    double flops_per_s, memory_bytes, copy_bytes_per_s;
} sheets[] = {
    {"H200", 989.5e12, 150.1e9, 450e9}, {"H100", 989.5e12, 84.9e9, 450e9}, {"A100", 312e12, 84.9e9, 300e9},
    {"L40S", 362e12, 47.7e9, 32e9},     {"B200", 2250e12, 192e9, 900e9},
};

void adm_cost_device_sheet(adm_cost_device *device) {
    for (size_t i = 0; i < sizeof sheets / sizeof sheets[0]; i++) {
        if (strstr(device->name, sheets[i].part) == NULL) continue;
        device->flops_per_s = sheets[i].flops_per_s;
        device->memory_bytes = sheets[i].memory_bytes;
        device->copy_bytes_per_s = sheets[i].copy_bytes_per_s;
        return;
    }
}
