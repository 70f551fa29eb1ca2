/* cpu.c: run-time detection. The compiler's builtin also asks whether the operating system saves the wide registers. */
#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdatomic.h>

/* Clang's builtin learned this name late. Asked once: a hypervisor takes some 10 us to answer, and rows are chosen in loops. */
static bool has_f16c(void) {
    enum { UNKNOWN, NO, YES };
    static atomic_int known = UNKNOWN;
    int has = atomic_load_explicit(&known, memory_order_relaxed);
    if (has == UNKNOWN) {
        unsigned a, b, c, d;
        has = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) ? YES : NO;
        atomic_store_explicit(&known, has, memory_order_relaxed);
    }
    return has == YES;
}

bool adm_cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && has_f16c() && __builtin_cpu_supports("fma"); }

bool adm_cpu_has_avx512(void) {
    return adm_cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq") &&
           __builtin_cpu_supports("avx512bitalg");
}

bool adm_cpu_is_intel(void) { return __builtin_cpu_is("intel"); }

#else

bool adm_cpu_has_avx2(void) { return false; }
bool adm_cpu_has_avx512(void) { return false; }
bool adm_cpu_is_intel(void) { return false; }

#endif
