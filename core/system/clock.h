/* clock.h: the host's clocks. */
#ifndef ADM_CORE_SYSTEM_CLOCK_H
#define ADM_CORE_SYSTEM_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Monotonic time in nanoseconds, from an unspecified start; never steps back. About 20 ns a call on x86-64 Linux. */
uint64_t adm_clock_ns(void);

/* Writes the current UTC time as "2026-01-31T12:34:56.789Z" (24 characters and a NUL). */
void adm_clock_utc(char out[25]);

#ifdef __cplusplus
}
#endif

#endif
