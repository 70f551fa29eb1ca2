/* probe.h: how what observes a stage attaches to what runs it.
 *
 * Whoever runs a stage writes one pair of lines:
 *
 *     adm_probes_begin(probes, &range);
 *     ... the stage ...
 *     adm_probes_end(probes, &range);
 *
 * and never learns what is attached: a clock today, NVTX or CUPTI tomorrow. Ranges nest (session > step > layer >
 * stage). Probes begin in the order they were attached and end in the reverse order, so the last one attached is the
 * innermost: attach the clock last, and its figures hold none of the others' cost. With nothing attached a pair costs
 * one load and one branch each. */
#ifndef ADM_CORE_CONTRACT_PROBE_H
#define ADM_CORE_CONTRACT_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/stage.h"

typedef enum adm_range_kind { ADM_RANGE_SESSION, ADM_RANGE_STEP, ADM_RANGE_LAYER, ADM_RANGE_STAGE } adm_range_kind;

/* What is being bracketed. Strings are borrowed and live as long as the session. */
typedef struct adm_range {
    adm_range_kind kind;
    adm_stage stage;     /* for ADM_RANGE_STAGE */
    const char *part;    /* likewise, of a whole model's step: what is no stage, such as "qkv"; NULL: the stage itself */
    const char *variant; /* the implementation that runs, or the session's name */
    int64_t config_id;   /* the database's config row; 0 if none */
    int32_t step;        /* index of the decode step in its session; -1 outside one (prompt encoding) */
    int32_t layer;       /* the model's layer number; -1 outside one */
    uint32_t seq_len;    /* tokens attended over; 0 if it does not apply */
    uint32_t budget;     /* 0 where the stage does not depend on one */
    double model_bytes, model_write_bytes, model_flops; /* compulsory work, for a probe that compares; 0: not given */
    double timed_ns;     /* median duration of the same work, timed without that probe; 0: not given */
} adm_range;

/* One observer. A probe embeds this struct first and fills it in; begin and end must not fail and must not allocate
 * without bound: what went wrong is reported by stop(). */
typedef struct adm_probe adm_probe;
struct adm_probe {
    const char *name;
    adm_status (*start)(adm_probe *self, adm_error *err); /* a collection starts; may be NULL */
    void (*begin)(adm_probe *self, const adm_range *range);
    void (*end)(adm_probe *self, const adm_range *range);
    adm_status (*pass)(adm_probe *self, bool *again, adm_error *err); /* see adm_probes_pass(); may be NULL */
    adm_status (*stop)(adm_probe *self, adm_error *err); /* a collection ends, results are delivered; may be NULL */
};

enum { ADM_MAX_PROBES = 8 };

/* The probes attached to one session, used by one thread. Zero-initialise; the probes are borrowed. */
typedef struct adm_probes {
    adm_probe *probe[ADM_MAX_PROBES];
    int n_probes;
} adm_probes;

/* Attaches a probe; ADM_EINTERNAL when ADM_MAX_PROBES are attached. */
adm_status adm_probes_attach(adm_probes *probes, adm_probe *probe, adm_error *err);

/* Starts every probe's collection; if one fails, those already started are stopped and its error is returned. */
adm_status adm_probes_start(adm_probes *probes, adm_error *err);

/* Ends one pass over the work. Hardware counters are few: a collection may need the same ranges, in the same order and
 * with the same work inside, several times. Sets *again if a probe wants one more pass before stop(). Whoever runs the work
 * puts its state back, and the caches into the same state, before every pass. */
adm_status adm_probes_pass(adm_probes *probes, bool *again, adm_error *err);

/* Stops every probe's collection, last attached first, and returns the first error. */
adm_status adm_probes_stop(adm_probes *probes, adm_error *err);

static inline void adm_probes_begin(adm_probes *probes, const adm_range *range) {
    for (int i = 0; i < probes->n_probes; i++) probes->probe[i]->begin(probes->probe[i], range);
}

static inline void adm_probes_end(adm_probes *probes, const adm_range *range) {
    for (int i = probes->n_probes; i-- > 0;) probes->probe[i]->end(probes->probe[i], range);
}

/* Where a timing probe delivers a finished range; times are adm_clock_ns() values. Called inside end(), after the
 * clock was read. */
typedef void adm_range_sink(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns);

/* One of the things that a counting probe counts. Strings live as long as the probe; a reason may differ from range to
 * range, and is then right inside the sink's call. */
typedef struct adm_counter {
    const char *name, *unit, *better, *description; /* its row in the table metric, see adm_metric in core/store/store.h */
    const char *reason;                             /* why it cannot count here, and the cure; NULL: it counts */
} adm_counter;

/* Where a counting probe delivers a finished stage: value[i] is what its i-th counter saw, NAN where it has a reason or
 * was not counting all the time. Called inside end(), after the counters were read. Counting disturbs timing, so a
 * counting probe and a clock are never attached to one session. */
typedef void adm_counter_sink(void *user, const adm_range *range, const double *value);

typedef enum adm_activity_kind { ADM_ACTIVITY_KERNEL, ADM_ACTIVITY_MEMCPY, ADM_ACTIVITY_MEMSET } adm_activity_kind;

/* One thing that a GPU did, as a tracing probe saw it. */
typedef struct adm_activity {
    adm_activity_kind kind;
    const char *name;            /* the kernel's, readable; of a copy its direction; borrowed for the call */
    uint64_t start_ns, end_ns;   /* of the GPU's clock, converted to that of adm_clock_ns() */
    uint32_t stream;
    uint64_t bytes;              /* of a copy or set */
    uint32_t registers, static_shared_bytes, dynamic_shared_bytes, grid[3], block[3]; /* of a kernel */
} adm_activity;

/* Where a tracing probe delivers what ran inside one range: all of it, in the order of its start. range NULL: what
 * was launched outside every range. Called inside stop(), ranges in the order in which they began. */
typedef void adm_activity_sink(void *user, const adm_range *range, const adm_activity *activity, size_t n);

/* A device at one moment; NAN: the device does not tell. */
typedef struct adm_device_state {
    uint64_t at_ns;              /* adm_clock_ns() */
    double sm_clock_hz, memory_clock_hz, power_w, temperature_c;
    int32_t throttle;            /* NVML's clock event reasons; -1: the device does not tell */
} adm_device_state;

/* Reasons that slow the device down: power cap, thermal and hardware slowdowns, power brake. The others (idle, a clock
 * that was asked for, synchronised boards) do not. */
enum { ADM_THROTTLED = 0x04 | 0x08 | 0x20 | 0x40 | 0x80 };

/* Where a watching probe delivers what it saw of a device: state[0] before the range, the last after it, those between
 * during it; n >= 2, or 0 with the reason. Called inside end(). */
typedef void adm_state_sink(void *user, const adm_range *range, const adm_device_state *state, size_t n, const char *reason);

#endif
