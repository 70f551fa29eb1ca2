/* contention.h: whether something else uses this core.
 *
 * Two hardware threads share a core's execution units and its caches. What runs on the other one, of this machine or, on a
 * virtual one, of somebody else's, makes ours slower by half, for tens of microseconds to seconds, and no counter says so: it
 * is neither stolen time nor a context switch. A loop that keeps the execution units busy does tell: measured on a virtual
 * machine with two processors (AMD EPYC, family 25), 970 to 990 ns alone, 1,400 to 1,550 ns on a contended core. So whoever
 * times something runs the loop before and after, and takes the time again if it was slow. The decision does not look at the
 * time itself. What the loop took belongs beside a stored time: contention that lasts for a whole process shows only against
 * other processes. */
#ifndef ADM_CORE_SYSTEM_CONTENTION_H
#define ADM_CORE_SYSTEM_CONTENTION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct adm_contention {
    uint64_t fastest_ns;  /* of all loops so far */
    uint64_t last_ns;     /* the last loop */
    uint64_t may_wait_ns; /* the caller's to set: what waiting and taking again may still cost */
} adm_contention;

/* Finds out how fast the loop is, in 10 ms; nothing may be waited yet. So long because what started a process is often still
 * busy on the same core: measured, a tenth of the processes saw it for the first 3 ms, and took that for normal. */
void adm_contention_start(adm_contention *contention);

/* Runs the loop once, about a microsecond: true if the core is ours alone. */
bool adm_contention_none(adm_contention *contention);

/* The decision of adm_contention_none() on a loop that took `ns`: slower than the fastest by at most a sixteenth. Clocks that
 * tick every 10 ns are well inside that. */
bool adm_contention_judge(adm_contention *contention, uint64_t ns);

/* Returns once the core is ours alone, or when no waiting is left. */
void adm_contention_wait(adm_contention *contention);

/* Takes `ns` off what may still be waited; false when nothing is left. */
bool adm_contention_spend(adm_contention *contention, uint64_t ns);

#endif
