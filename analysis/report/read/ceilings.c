/* ceilings.c: how much arithmetic a GPU can do at most: SMs x operations per SM and cycle x clock. */
#include "analysis/report/read/ceilings.h"

#include <stddef.h>
#include <string.h>

/* Per SM and cycle, from the CUDA C++ programming guide (throughput of native arithmetic instructions) and the white papers of
 * A100 and H100: FP32 multiply-adds of the ordinary cores, FP16 multiply-adds of the tensor cores. The longest name first. */
static const struct {
    const char *name;
    int n_sms, fp32_per_cycle, tensor_per_cycle;
} gpus[] = {
    {"H100 PCIe", 114, 128, 2048},
    {"H100", 132, 128, 2048},
    {"H200", 132, 128, 2048},
    {"A100", 108, 64, 1024},
};

adm_ceilings adm_ceilings_of(const char *gpu, double sm_clock_hz) {
    adm_ceilings c = {0};
    for (size_t i = 0; i < sizeof gpus / sizeof gpus[0] && sm_clock_hz > 0; i++) {
        if (strstr(gpu, gpus[i].name) == NULL) continue;
        c.n_sms = gpus[i].n_sms;
        c.fp32_flops_per_s = 2.0 * gpus[i].fp32_per_cycle * gpus[i].n_sms * sm_clock_hz;
        c.tensor_flops_per_s = 2.0 * gpus[i].tensor_per_cycle * gpus[i].n_sms * sm_clock_hz;
        break;
    }
    return c;
}
