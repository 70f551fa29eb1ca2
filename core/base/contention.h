/* quiet.h: whether this core works for us alone.
 *
 * Two hardware threads share a core's execution units and its caches. What runs on the other one, of this machine or, on a
 * virtual one, of somebody else's, makes ours slower by half, for tens of microseconds to seconds, and no counter says so: it is
 * no stolen time, and no context switch. A loop that keeps the execution units busy does tell: measured on a virtual machine of
 * two processors (AMD EPYC of family 25), 970 to 990 ns alone, 1,400 to 1,550 ns beside another. So whoever times something
 * lets the loop run before and after, and takes the time again if it was slow. The decision does not look at the time itself.
 * What the loop took belongs beside a stored time: company that stays for a whole process shows only against other processes. */
#ifndef ADM_CORE_BASE_CONTENTION_H
#define ADM_CORE_BASE_CONTENTION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct adm_quiet {
    uint64_t fastest_ns;   /* of all loops so far */
    uint64_t last_ns;      /* the last loop */
    uint64_t may_wait_ns;  /* the caller's to set: what waiting and taking again may still cost */
} adm_quiet;

/* Finds out how fast the loop is, in 10 ms; nothing may be waited yet. So long because what started a process is often still busy
 * beside it: measured, a tenth of the processes met it for the first 3 ms, and took that for normal. */
void adm_quiet_start(adm_quiet *quiet);

/* Runs the loop once, about a microsecond: true if nothing else used the core. */
bool adm_quiet_now(adm_quiet *quiet);

/* The decision of adm_quiet_now() on a loop that took `ns`: slower than the fastest by at most a sixteenth. Clocks that tick
 * every 10 ns are well inside that. */
bool adm_quiet_judge(adm_quiet *quiet, uint64_t ns);

/* Returns once the core is quiet, or when no waiting is left. */
void adm_quiet_wait(adm_quiet *quiet);

/* Takes `ns` off what may still be waited; false when nothing is left. */
bool adm_quiet_spend(adm_quiet *quiet, uint64_t ns);

#endif
