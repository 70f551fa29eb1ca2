/* stage_timer.c: how long a stage takes. */
#include "core/replay/stage_timer.h"

#include "core/system/clock.h"

enum {
    MIN_ELEMENTS = 1 << 18, /* in one time: 4 us for the fastest stage, packing */
    MAX_REPEATS = 1024,
    MAX_ATTEMPTS = 16
};

/* Where something else is at work all the time, waiting takes four times as long as the times themselves at most and a second a
 * length, but for what may be waited at once: the chunks of a prompt are few and come first. */
static const uint64_t first_wait_ns = 200000000, max_wait_ns = 1000000000;
enum { WAIT_RATIO = 4 };

void adm_stage_timer_begin(adm_stage_timer *timer) {
    if (timer->contention.fastest_ns == 0) adm_contention_start(&timer->contention);
    timer->contention.may_wait_ns = first_wait_ns;
    timer->wait_left_ns = max_wait_ns;
}

static void grant_wait(adm_stage_timer *timer, uint64_t took_ns) {
    const uint64_t asked_ns = WAIT_RATIO * took_ns,
                   granted_ns = asked_ns < timer->wait_left_ns ? asked_ns : timer->wait_left_ns;
    timer->wait_left_ns -= granted_ns;
    timer->contention.may_wait_ns += granted_ns;
}

/* One time; *alone: nothing else used the core meanwhile. */
static adm_stage_time take(adm_stage_timer *timer, void (*work)(void *user), void *user, size_t n_repeats, bool *alone) {
    adm_contention *contention = &timer->contention;
    adm_contention_wait(contention);
    work(user);
    *alone = adm_contention_none(contention);
    const uint64_t before_ns = contention->last_ns, start_ns = adm_clock_ns();
    for (size_t i = 0; i < n_repeats; i++) work(user);
    const uint64_t took_ns = adm_clock_ns() - start_ns;
    *alone &= adm_contention_none(contention);
    const uint64_t loop_ns = before_ns > contention->last_ns ? before_ns : contention->last_ns;
    if (*alone) grant_wait(timer, took_ns);
    else adm_contention_spend(contention, took_ns);
    return (adm_stage_time){(double)took_ns / (double)n_repeats, (double)loop_ns};
}

adm_stage_time adm_stage_timer_take(adm_stage_timer *timer, void (*work)(void *user), void *user, size_t n_elements) {
    size_t n_repeats = MIN_ELEMENTS / (n_elements > 0 ? n_elements : 1);
    n_repeats = n_repeats < 1 ? 1 : n_repeats > MAX_REPEATS ? MAX_REPEATS : n_repeats;
    adm_stage_time time = {0};
    bool alone = false;
    for (int attempt = 0; !alone && attempt < MAX_ATTEMPTS && (attempt == 0 || timer->contention.may_wait_ns > 0); attempt++)
        time = take(timer, work, user, n_repeats, &alone);
    return time;
}
