/* quiet.c: a loop that is slower when the core is shared. */
#include "core/base/contention.h"

#include "core/base/clock.h"
#include "core/base/minmax.h"

enum { ROUNDS = 2000, FIRST_ROUNDS = 64, START_NS = 10000000 };

/* Six additions a round, none of which waits for another: as many as today's cores begin in a cycle, so that a second thread
 * cannot but take some of their places. */
static void spin(int rounds) {
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
    for (int i = 0; i < rounds; i++) {
        a++, b++, c++, d++, e++, f++;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    }
}

bool adm_quiet_judge(adm_quiet *quiet, uint64_t ns) {
    if (ns < quiet->fastest_ns) quiet->fastest_ns = ns;
    return ns - quiet->fastest_ns <= quiet->fastest_ns / 16;
}

bool adm_quiet_now(adm_quiet *quiet) {
    spin(FIRST_ROUNDS); /* what was timed just now may have driven the loop out of the caches */
    const uint64_t start_ns = adm_clock_ns();
    spin(ROUNDS);
    quiet->last_ns = adm_clock_ns() - start_ns;
    return adm_quiet_judge(quiet, quiet->last_ns);
}

void adm_quiet_start(adm_quiet *quiet) {
    *quiet = (adm_quiet){.fastest_ns = UINT64_MAX};
    for (const uint64_t start_ns = adm_clock_ns(); adm_clock_ns() - start_ns < START_NS;) adm_quiet_now(quiet);
}

bool adm_quiet_spend(adm_quiet *quiet, uint64_t ns) {
    quiet->may_wait_ns -= adm_min(ns, quiet->may_wait_ns);
    return quiet->may_wait_ns > 0;
}

void adm_quiet_wait(adm_quiet *quiet) {
    uint64_t from_ns = adm_clock_ns();
    while (quiet->may_wait_ns > 0 && !adm_quiet_now(quiet)) {
        const uint64_t now_ns = adm_clock_ns();
        adm_quiet_spend(quiet, now_ns - from_ns);
        from_ns = now_ns;
    }
}
