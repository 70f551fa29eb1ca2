/* perf_probe.c: counts CPU events of stage ranges through Linux perf events. */
#include "probes/perf_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PER_STAGE " of a stage for one layer of one decode step, all heads, in user space"

static const adm_perf_event host_events[] = {
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, {"cycles", "cycles", "lower", "CPU cycles" PER_STAGE, NULL}},
    {PERF_TYPE_HARDWARE,
     PERF_COUNT_HW_INSTRUCTIONS,
     {"instructions", "instructions", "lower", "Instructions retired" PER_STAGE, NULL}},
    {PERF_TYPE_HARDWARE,
     PERF_COUNT_HW_CACHE_MISSES,
     {"cache_misses", "misses", "lower", "Last-level cache misses (what the CPU counts as such)" PER_STAGE, NULL}},
};

static int open_in_kernel(struct perf_event_attr *attributes, int group_fd) {
    return (int)syscall(SYS_perf_event_open, attributes, 0, -1, group_fd, PERF_FLAG_FD_CLOEXEC);
}

/* The kernel's setting, or -2 where it cannot be read. */
static int paranoid_level(void) {
    int level = -2;
    FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "re");
    if (file == NULL) return level;
    if (fscanf(file, "%d", &level) != 1) level = -2;
    fclose(file);
    return level;
}

static void explain(char *text, size_t text_bytes, const char *name, int error) {
    switch (error) {
    case ENOENT:
    case ENODEV:
    case EOPNOTSUPP:
        snprintf(text, text_bytes,
                 "this machine has no counter of %s (%s): a virtual machine without a virtual PMU has "
                 "none; use a bare machine",
                 name, strerror(error));
        break;
    case EACCES:
    case EPERM:
        snprintf(text, text_bytes,
                 "the kernel does not let this user count %s (%s, kernel.perf_event_paranoid %d): as "
                 "root, sysctl kernel.perf_event_paranoid=1; in a container, also allow perf_event_open",
                 name, strerror(error), paranoid_level());
        break;
    case ENOSYS: snprintf(text, text_bytes, "%s: this kernel, or the container's filter, has no perf_event_open", name); break;
    default: snprintf(text, text_bytes, "%s cannot be counted: %s", name, strerror(error));
    }
}

/* --- The probe ---------------------------------------------------------------------------------------------------- */

static bool read_group(adm_perf_probe *perf, adm_perf_reading *reading) {
    size_t bytes = offsetof(adm_perf_reading, value) + perf->n_open * sizeof reading->value[0];
    return read(perf->leader_fd, reading, bytes) == (ssize_t)bytes && reading->n == perf->n_open;
}

static adm_status start(adm_probe *self, adm_error *err) {
    adm_perf_probe *perf = (adm_perf_probe *)self;
    perf->depth = 0;
    perf->n_unread = 0;
    if (perf->n_open > 0 && ioctl(perf->leader_fd, PERF_EVENT_IOC_ENABLE, PERF_IOC_FLAG_GROUP) != 0)
        return adm_fail(err, ADM_EENVIRONMENT, "host counters could not be switched on: %s", strerror(errno));
    return ADM_OK;
}

static void begin(adm_probe *self, const adm_range *range) {
    adm_perf_probe *perf = (adm_perf_probe *)self;
    if (range->kind != ADM_RANGE_STAGE || perf->n_open == 0 || perf->depth++ > 0) return;
    perf->begun = read_group(perf, &perf->at_begin);
}

static void end(adm_probe *self, const adm_range *range) {
    adm_perf_probe *perf = (adm_perf_probe *)self;
    adm_perf_reading now;
    double value[ADM_PERF_MAX_EVENTS];
    if (range->kind != ADM_RANGE_STAGE || perf->n_open == 0 || --perf->depth > 0) return;
    if (!read_group(perf, &now) || !perf->begun) {
        perf->n_unread++;
        return;
    }
    /* A group that had to share the hardware missed part of the range; scaling so short a range up would be a guess. */
    bool whole = now.running_ns - perf->at_begin.running_ns == now.enabled_ns - perf->at_begin.enabled_ns;
    for (size_t i = 0; i < perf->n_counters; i++) {
        size_t slot = perf->slot[i];
        value[i] = whole && perf->fd[i] >= 0 ? (double)(now.value[slot] - perf->at_begin.value[slot]) : (double)NAN;
    }
    perf->sink(perf->user, range, value);
}

static adm_status stop(adm_probe *self, adm_error *err) {
    adm_perf_probe *perf = (adm_perf_probe *)self;
    if (perf->n_open > 0) ioctl(perf->leader_fd, PERF_EVENT_IOC_DISABLE, PERF_IOC_FLAG_GROUP);
    if (perf->n_unread > 0)
        return adm_fail(err, ADM_EENVIRONMENT, "host counters: %" PRIu64 " stages were not counted: reading failed",
                        perf->n_unread);
    return ADM_OK;
}

static void open_one(adm_perf_probe *perf, size_t i, const adm_perf_event *event, adm_perf_open_fn *open_event) {
    struct perf_event_attr attributes = {.type = event->type,
                                         .size = sizeof attributes,
                                         .config = event->config,
                                         .disabled = perf->n_open == 0,
                                         .exclude_kernel = 1,
                                         .exclude_hv = 1,
                                         .read_format = PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED |
                                                        PERF_FORMAT_TOTAL_TIME_RUNNING};
    perf->counter[i] = event->counter;
    perf->fd[i] = open_event(&attributes, perf->leader_fd);
    if (perf->fd[i] >= 0) {
        if (perf->n_open == 0) perf->leader_fd = perf->fd[i];
        perf->slot[i] = perf->n_open++;
    } else {
        explain(perf->reason[i], sizeof perf->reason[i], event->counter.name, errno);
        perf->counter[i].reason = perf->reason[i];
    }
}

void adm_perf_probe_open(adm_perf_probe *perf, const adm_perf_event *events, size_t n_events, adm_perf_open_fn *open_event) {
    *perf = (adm_perf_probe){.probe = {.name = "perf", .start = start, .begin = begin, .end = end, .stop = stop},
                             .leader_fd = -1};
    if (n_events == 0) {
        events = host_events;
        n_events = sizeof host_events / sizeof host_events[0];
    }
    for (; perf->n_counters < n_events && perf->n_counters < ADM_PERF_MAX_EVENTS; perf->n_counters++)
        open_one(perf, perf->n_counters, &events[perf->n_counters], open_event != NULL ? open_event : open_in_kernel);
}

void adm_perf_probe_deliver_to(adm_perf_probe *perf, adm_counter_sink *sink, void *user) {
    perf->sink = sink;
    perf->user = user;
}

void adm_perf_probe_close(adm_perf_probe *perf) {
    for (size_t i = 0; i < perf->n_counters; i++)
        if (perf->fd[i] >= 0) close(perf->fd[i]);
    perf->n_open = perf->n_counters = 0;
}
