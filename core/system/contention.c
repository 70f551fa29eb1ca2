/* contention.c: a loop that is slower on a contended core. */
#include "core/system/contention.h"

#include "core/system/clock.h"
#include "core/base/minmax.h"

enum { ROUNDS = 2000, FIRST_ROUNDS = 64, START_NS = 10000000 };

/* Six additions a round, none of which waits for another: as many as today's cores begin in a cycle, so that a second thread
 * must take some of their slots in the pipeline. */
static void spin(int rounds) {
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
    for (int i = 0; i < rounds; i++) {
        a++, b++, c++, d++, e++, f++;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    }
}

bool adm_contention_judge(adm_contention *contention, uint64_t ns) {
    if (ns < contention->fastest_ns) contention->fastest_ns = ns;
    return ns - contention->fastest_ns <= contention->fastest_ns / 16;
}

bool adm_contention_none(adm_contention *contention) {
    spin(FIRST_ROUNDS); /* what was timed just now may have driven the loop out of the caches */
    const uint64_t start_ns = adm_clock_ns();
    spin(ROUNDS);
    contention->last_ns = adm_clock_ns() - start_ns;
    return adm_contention_judge(contention, contention->last_ns);
}

void adm_contention_start(adm_contention *contention) {
    *contention = (adm_contention){.fastest_ns = UINT64_MAX};
    for (const uint64_t start_ns = adm_clock_ns(); adm_clock_ns() - start_ns < START_NS;) adm_contention_none(contention);
}

bool adm_contention_spend(adm_contention *contention, uint64_t ns) {
    contention->may_wait_ns -= adm_min(ns, contention->may_wait_ns);
    return contention->may_wait_ns > 0;
}

void adm_contention_wait(adm_contention *contention) {
    uint64_t from_ns = adm_clock_ns();
    while (contention->may_wait_ns > 0 && !adm_contention_none(contention)) {
        const uint64_t now_ns = adm_clock_ns();
        adm_contention_spend(contention, now_ns - from_ns);
        from_ns = now_ns;
    }
}
