/* stage_timer.h: how long a stage takes. Each time is taken
 *
 *   warm   right after a run of the same work. Inside a step, a stage finds in the caches what the stage before left of its
 *          bytes, which depends on where in memory a process happens to lie: the same program's packing took 1.1 ns a key in
 *          one process and 2.4 in the next, its distances up to 20% longer
 *   long   work that takes less than some microseconds is repeated inside one time: clocks tick every 10 ns or so
 *   alone  with the loop of core/system/contention.h before and after it; if that says that the core was contended, the time is
 *          taken again while waiting is left. A time on a contended core is kept all the same; what the loop took is stored
 *          beside it
 *
 * so a figure is that of the code on data in the caches that it fits, and a sample is independent of what it came out as. */
#ifndef ADM_CORE_REPLAY_STAGE_TIMER_H
#define ADM_CORE_REPLAY_STAGE_TIMER_H

#include <stddef.h>

#include "core/system/contention.h"

typedef struct adm_stage_timer {
    adm_contention contention;
    uint64_t wait_left_ns; /* that may still be granted for waiting in this segment */
} adm_stage_timer;

typedef struct adm_stage_time {
    double ns, loop_ns; /* what the work took, and the slower of the two loops beside it */
} adm_stage_time;

/* Before the first time of a segment. */
void adm_stage_timer_begin(adm_stage_timer *timer);

/* Times work(user), which goes through about n_elements elements and may be run as often as one likes. */
adm_stage_time adm_stage_timer_take(adm_stage_timer *timer, void (*work)(void *user), void *user, size_t n_elements);

#endif
