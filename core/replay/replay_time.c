/* replay_time.c: how long a stage takes. Each time is taken
 *
 *   warm       right behind a run of the same work. In its place in a step, a stage finds in the caches what the stage before left
 *              of its bytes, which depends on where in memory a process happens to lie: the same program's packing took 1.1 ns a
 *              key in one process and 2.4 in the next, its distances up to 20% longer
 *   long       work that takes less than some microseconds is repeated inside one time: clocks tick every 10 ns or so
 *   alone      with the loop of core/base/contention.h before and behind it; if that says that something else used the core, the time is
 *              taken again while waiting is left. A time taken in company all the same is kept; what the loop took is stored beside it
 *
 * so a figure is that of the code on data in the caches that it fits, and a sample is independent of what it came out as. */
#include "core/base/clock.h"
#include "core/replay/replay_internal.h"

enum {
    FEWEST_ELEMENTS = 1 << 18, /* in one time: 4 us for the fastest stage, packing */
    MOST_REPEATS = 1024,
    MOST_ATTEMPTS = 16,
    ENOUGH_CHUNKS = 256,       /* times of bulk encoding a length: the chunks after those are not timed */
    CHUNK_TIMES = 4
};

/* Where something else is at work all the time, waiting takes four times as long as the times themselves at most and a second a
 * length, but for what may be waited at once: the chunks of a prompt are few and come first. */
static const uint64_t first_wait_ns = 200000000, most_wait_ns = 1000000000;
enum { WAIT_RATIO = 4 };

void adm_replay_time_begin(adm_replay *r) {
    if (r->quiet.fastest_ns == 0) adm_quiet_start(&r->quiet);
    r->quiet.may_wait_ns = first_wait_ns;
    r->wait_left_ns = most_wait_ns;
}

static void grant_wait(adm_replay *r, uint64_t took_ns) {
    const uint64_t asked_ns = WAIT_RATIO * took_ns, granted_ns = asked_ns < r->wait_left_ns ? asked_ns : r->wait_left_ns;
    r->wait_left_ns -= granted_ns;
    r->quiet.may_wait_ns += granted_ns;
}

/* One time; *alone: nothing else used the core meanwhile. */
static adm_stage_time take(adm_replay *r, const adm_stage_work *work, const adm_stage_task *t, size_t n_repeats, bool *alone) {
    adm_quiet_wait(&r->quiet);
    work->run(r, t);
    *alone = adm_quiet_now(&r->quiet);
    const uint64_t before_ns = r->quiet.last_ns, start_ns = adm_clock_ns();
    for (size_t i = 0; i < n_repeats; i++) work->run(r, t);
    const uint64_t took_ns = adm_clock_ns() - start_ns;
    *alone &= adm_quiet_now(&r->quiet);
    const uint64_t loop_ns = before_ns > r->quiet.last_ns ? before_ns : r->quiet.last_ns;
    if (*alone) grant_wait(r, took_ns);
    else adm_quiet_spend(&r->quiet, took_ns);
    return (adm_stage_time){(double)took_ns / (double)n_repeats, (double)loop_ns};
}

adm_stage_time adm_replay_time_stage(adm_replay *r, adm_stage_times *times, const adm_stage_work *work,
                                     const adm_stage_task *t) {
    const bool bulk = t->n_rows > 0;
    size_t n_repeats = FEWEST_ELEMENTS / (work->n_elements > 0 ? work->n_elements : 1);
    n_repeats = n_repeats < 1 ? 1 : n_repeats > MOST_REPEATS ? MOST_REPEATS : n_repeats;
    adm_stage_time time = {0};
    for (int i = 0; i < (bulk ? CHUNK_TIMES : 1) && !(bulk && times->n >= ENOUGH_CHUNKS); i++) {
        bool alone = false;
        for (int attempt = 0; !alone && attempt < MOST_ATTEMPTS && (attempt == 0 || r->quiet.may_wait_ns > 0); attempt++)
            time = take(r, work, t, n_repeats, &alone);
        adm_replay_keep_time(r, times, bulk ? time.ns / (double)t->n_rows : time.ns, time.loop_ns);
    }
    return time;
}
