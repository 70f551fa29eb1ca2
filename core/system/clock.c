/* clock.c: the host's clocks. */
#include "core/system/clock.h"

#include <stdio.h>
#include <time.h>

uint64_t adm_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void adm_clock_utc(char out[25]) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(out, 25, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + length, 25 - length, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000u);
}
