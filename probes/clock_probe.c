/* clock_probe.c: times ranges on the host's monotonic clock. */
#include "probes/clock_probe.h"

#include <inttypes.h>

#include "core/system/clock.h"

static adm_status start(adm_probe *self, adm_error *err) {
    adm_clock_probe *clock = (adm_clock_probe *)self;
    (void)err;
    clock->depth = 0;
    clock->n_too_deep = 0;
    return ADM_OK;
}

static void begin(adm_probe *self, const adm_range *range) {
    adm_clock_probe *clock = (adm_clock_probe *)self;
    (void)range;
    int depth = clock->depth++;
    if (depth < ADM_CLOCK_PROBE_DEPTH) clock->start_ns[depth] = adm_clock_ns(); /* last: nothing of ours is timed */
}

static void end(adm_probe *self, const adm_range *range) {
    uint64_t end_ns = adm_clock_ns(); /* first, for the same reason */
    adm_clock_probe *clock = (adm_clock_probe *)self;
    int depth = --clock->depth;
    if (depth >= ADM_CLOCK_PROBE_DEPTH || depth < 0) {
        clock->n_too_deep++;
        return;
    }
    clock->sink(clock->user, range, clock->start_ns[depth], end_ns);
}

static adm_status stop(adm_probe *self, adm_error *err) {
    const adm_clock_probe *clock = (const adm_clock_probe *)self;
    if (clock->n_too_deep > 0)
        return adm_fail(err, ADM_EINTERNAL, "clock probe: %" PRIu64 " ranges were nested deeper than %d and not timed",
                        clock->n_too_deep, ADM_CLOCK_PROBE_DEPTH);
    return ADM_OK;
}

void adm_clock_probe_init(adm_clock_probe *clock, adm_range_sink *sink, void *user) {
    *clock = (adm_clock_probe){
        .probe = {.name = "clock", .start = start, .begin = begin, .end = end, .stop = stop},
        .sink = sink,
        .user = user,
    };
}
