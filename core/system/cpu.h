/* cpu.h: what the processor that runs us can do, asked at run time. The rows of the registry (registry.h) name these as
 * their condition; one binary serves every machine of an architecture, and nothing
 * is compiled with -march. NEON needs no question: every aarch64 processor has it. */
#ifndef ADM_CORE_SYSTEM_CPU_H
#define ADM_CORE_SYSTEM_CPU_H

#include <stdbool.h>

#include "core/base/api.h"

/* x86-64 with AVX2, F16C and FMA, and an operating system that saves the registers: 2013 and later. */
ADM_API bool adm_cpu_has_avx2(void);

/* All of that and AVX-512 F, BW, VL, VPOPCNTDQ and BITALG: Ice Lake, Zen 4 and later. */
ADM_API bool adm_cpu_has_avx512(void);

/* Made by Intel: for what one maker's memory system gains by and another's loses by. */
ADM_API bool adm_cpu_is_intel(void);

/* What the functions of such rows are compiled for, each by attribute. */
#if defined(__x86_64__)
#define ADM_AVX2 __attribute__((target("avx2,f16c,fma")))
#define ADM_AVX512 __attribute__((target("avx2,f16c,fma,avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx512bitalg")))
#endif

#endif
