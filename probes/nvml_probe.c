/* nvml_probe.c: device state through NVML. Its header is no part of the toolkit's packages, so the few functions used are
 * declared here as NVML's documentation has them. */
#include "probes/nvml_probe.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/system/clock.h"
#include "core/base/mem.h"

enum { CLOCK_SM = 1, CLOCK_MEMORY = 2, TEMPERATURE_GPU = 0 }; /* nvmlClockType_t, nvmlTemperatureSensors_t */
enum { PERIOD_MS = 20, MAX_STATES = 4096 };

typedef void *nvml_device;

typedef struct nvml_functions {
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error)(int);
    int (*by_uuid)(const char *, nvml_device *);
    int (*clock)(nvml_device, int, unsigned *);                 /* MHz */
    int (*power)(nvml_device, unsigned *);                      /* mW */
    int (*temperature)(nvml_device, int, unsigned *);           /* degrees Celsius */
    int (*reasons)(nvml_device, unsigned long long *);
    int (*mig)(nvml_device, unsigned *, unsigned *);            /* NULL on old drivers */
    int (*power_limit)(nvml_device, unsigned *);                /* mW; likewise */
} nvml_functions;

struct adm_nvml_probe {
    adm_probe probe;
    adm_state_sink *sink;
    void *user;
    void *library;
    nvml_functions nvml;
    nvml_device device; /* NULL: none, `missing` says why */
    char missing[256];

    pthread_t watcher;
    bool watching;           /* the thread runs */
    pthread_mutex_t lock;    /* of all below */
    pthread_cond_t wake;
    bool ends;
    int depth;               /* of open stage ranges */
    size_t n;
    adm_device_state state[MAX_STATES]; /* of the open range */
};

/* --- Reading ------------------------------------------------------------------------------------------------------ */

adm_device_state adm_nvml_probe_read(const adm_nvml_probe *p) {
    adm_device_state state = {adm_clock_ns(), (double)NAN, (double)NAN, (double)NAN, (double)NAN, -1};
    unsigned value;
    unsigned long long reasons;
    if (p->device == NULL) return state;
    if (p->nvml.clock(p->device, CLOCK_SM, &value) == 0) state.sm_clock_hz = value * 1e6;
    if (p->nvml.clock(p->device, CLOCK_MEMORY, &value) == 0) state.memory_clock_hz = value * 1e6;
    if (p->nvml.power(p->device, &value) == 0) state.power_w = value * 1e-3;
    if (p->nvml.temperature(p->device, TEMPERATURE_GPU, &value) == 0) state.temperature_c = value;
    if (p->nvml.reasons(p->device, &reasons) == 0) state.throttle = (int32_t)(reasons & INT32_MAX);
    return state;
}

double adm_nvml_probe_power_limit(const adm_nvml_probe *p, const char **reason) {
    unsigned mw;
    *reason = p->missing;
    if (p->device == NULL) return NAN;
    *reason = "this NVML has no nvmlDeviceGetEnforcedPowerLimit: a newer NVIDIA driver is needed";
    if (p->nvml.power_limit == NULL) return NAN;
    const int result = p->nvml.power_limit(p->device, &mw);
    *reason = result != 0 ? p->nvml.error(result) : NULL;
    return result == 0 ? mw * 1e-3 : (double)NAN;
}

int adm_nvml_probe_mig(const adm_nvml_probe *p) {
    unsigned now, later;
    if (p->device == NULL || p->nvml.mig == NULL || p->nvml.mig(p->device, &now, &later) != 0) return -1;
    return now == 1;
}

void adm_throttle_words(int32_t throttle, char *out, size_t out_bytes) {
    static const struct {
        int32_t bit;
        const char *word;
    } words[] = {{0x04, "power cap"},
                 {0x08, "hardware slowdown"},
                 {0x20, "thermal slowdown"},
                 {0x40, "hardware thermal slowdown"},
                 {0x80, "power brake"},
                 {0x01, "idle"},
                 {0x02, "clocks set by an application"},
                 {0x10, "synchronised boost"},
                 {0x100, "display clocks"}};
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0] && used < out_bytes; i++)
        if (throttle & words[i].bit)
            used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", used > 0 ? ", " : "", words[i].word);
    if (used == 0) snprintf(out, out_bytes, throttle < 0 ? "unknown" : "none");
}

/* Called with the lock held; the last place is kept for the reading after the range. */
static void take(adm_nvml_probe *p, bool is_last) {
    if (p->n + !is_last < MAX_STATES) p->state[p->n++] = adm_nvml_probe_read(p);
}

static void *watch(void *probe) {
    adm_nvml_probe *p = probe;
    pthread_mutex_lock(&p->lock);
    while (!p->ends) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += PERIOD_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        if (p->depth == 0) pthread_cond_wait(&p->wake, &p->lock);
        else pthread_cond_timedwait(&p->wake, &p->lock, &until);
        if (p->depth > 0 && !p->ends && p->n > 0 && adm_clock_ns() - p->state[p->n - 1].at_ns >= PERIOD_MS * 900000ull)
            take(p, false);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* --- The probe ---------------------------------------------------------------------------------------------------- */

static void begin(adm_probe *self, const adm_range *range) {
    adm_nvml_probe *p = (adm_nvml_probe *)self;
    if (range->kind != ADM_RANGE_STAGE) return;
    pthread_mutex_lock(&p->lock);
    if (p->depth++ == 0 && p->device != NULL) {
        p->n = 0;
        take(p, false);
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
}

static void end(adm_probe *self, const adm_range *range) {
    adm_nvml_probe *p = (adm_nvml_probe *)self;
    if (range->kind != ADM_RANGE_STAGE) return;
    pthread_mutex_lock(&p->lock);
    bool outermost = --p->depth == 0;
    if (outermost && p->device != NULL) take(p, true);
    pthread_mutex_unlock(&p->lock); /* the thread adds nothing outside a range */
    if (outermost && p->sink != NULL)
        p->sink(p->user, range, p->state, p->device != NULL ? p->n : 0, p->device != NULL ? NULL : p->missing);
}

static adm_status start(adm_probe *self, adm_error *err) {
    adm_nvml_probe *p = (adm_nvml_probe *)self;
    p->depth = 0;
    p->ends = false;
    if (p->device == NULL) return ADM_OK;
    p->watching = pthread_create(&p->watcher, NULL, watch, p) == 0;
    return p->watching ? ADM_OK : adm_fail(err, ADM_EENVIRONMENT, "no thread to watch the device's state");
}

static adm_status stop(adm_probe *self, adm_error *err) {
    adm_nvml_probe *p = (adm_nvml_probe *)self;
    (void)err;
    if (!p->watching) return ADM_OK;
    pthread_mutex_lock(&p->lock);
    p->ends = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->watcher, NULL);
    p->watching = false;
    return ADM_OK;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static void load(adm_nvml_probe *p, const char *uuid) {
    nvml_functions *f = &p->nvml;
    const struct {
        const char *name, *older;
        void *function;
        bool may_lack;
    } wanted[] = {{"nvmlInit_v2", NULL, &f->init, false},
                  {"nvmlShutdown", NULL, &f->shutdown, false},
                  {"nvmlErrorString", NULL, &f->error, false},
                  {"nvmlDeviceGetHandleByUUID", NULL, &f->by_uuid, false},
                  {"nvmlDeviceGetClockInfo", NULL, &f->clock, false},
                  {"nvmlDeviceGetPowerUsage", NULL, &f->power, false},
                  {"nvmlDeviceGetTemperature", NULL, &f->temperature, false},
                  {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", &f->reasons, false},
                  {"nvmlDeviceGetMigMode", NULL, &f->mig, true},
                  {"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit", &f->power_limit, true}};
    p->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (p->library == NULL) {
        snprintf(p->missing, sizeof p->missing, "NVML (libnvidia-ml.so.1) is not found; it comes with the NVIDIA driver");
        return;
    }
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *function = dlsym(p->library, wanted[i].name);
        if (function == NULL && wanted[i].older != NULL) function = dlsym(p->library, wanted[i].older);
        memcpy(wanted[i].function, &function, sizeof function);
        if (function != NULL || wanted[i].may_lack) continue;
        snprintf(p->missing, sizeof p->missing, "this NVML has no %s: a newer NVIDIA driver is needed", wanted[i].name);
        return;
    }
    int result = f->init();
    if (result != 0) {
        snprintf(p->missing, sizeof p->missing, "NVML does not start: %s", f->error(result));
        return;
    }
    result = f->by_uuid(uuid, &p->device);
    if (result == 0) return;
    p->device = NULL;
    snprintf(p->missing, sizeof p->missing, "NVML does not find the device %.60s: %s", uuid, f->error(result));
    f->shutdown();
}

adm_status adm_nvml_probe_open(const char *uuid, adm_nvml_probe **out, adm_error *err) {
    adm_nvml_probe *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "a device state probe", err);
    if (status != ADM_OK) return status;
    p->probe = (adm_probe){.name = "nvml", .start = start, .begin = begin, .end = end, .stop = stop};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&p->lock, NULL);
    load(p, uuid);
    *out = p;
    return ADM_OK;
}

void adm_nvml_probe_close(adm_nvml_probe **address) {
    adm_nvml_probe *p = *address;
    if (p == NULL) return;
    stop(&p->probe, NULL);
    if (p->device != NULL) p->nvml.shutdown();
    if (p->library != NULL) dlclose(p->library);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    adm_free(address);
}

adm_probe *adm_nvml_probe_of(adm_nvml_probe *probe) { return &probe->probe; }

void adm_nvml_probe_deliver_to(adm_nvml_probe *probe, adm_state_sink *sink, void *user) {
    probe->sink = sink;
    probe->user = user;
}

const char *adm_nvml_probe_missing(const adm_nvml_probe *probe) { return probe->device != NULL ? NULL : probe->missing; }
