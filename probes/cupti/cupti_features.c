/* cupti_features.c: asks CUPTI for what newer releases have. The functions are looked up by name and declared here, because
 * the headers of the build may be older than the library. */
#include "probes/cupti/cupti_features.h"

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "probes/cupti/cupti_load.h"

enum { VERSION, TIMESTAMPS, CACHE_CONTROL, CLOCKS };

static const adm_counter facts[ADM_CUPTI_N_FACTS] = {
    [VERSION] = {"cupti_version", "1", "none", "CUPTI's release as it says it, 130001 for 13.0 Update 1", NULL},
    [TIMESTAMPS] = {"hardware_timestamps", "1", "none", "1: a timeline's kernel times come from the hardware (HES)", NULL},
    [CACHE_CONTROL] = {"cupti_cache_control", "1", "none",
                       "What CUPTI resets between counter passes, 0: nothing. The L2 is flushed or warmed before every range "
                       "by the profile itself, which a reset once a pass cannot replace",
                       NULL},
    [CLOCKS] = {"clock_lock_status", "1", "none",
                "Whether somebody has locked the GPU's clocks, by the driver: 1 nobody, 2 to a fixed level, 3 to a floor, "
                "4 boost is on, 5 boost is off",
                NULL},
};

static void lack(adm_cupti_features *f, int which, const char *why) {
    snprintf(f->reason[which], sizeof f->reason[which], "%.300s", why);
    f->fact[which].reason = f->reason[which];
    f->value[which] = (double)NAN;
}

static void have(adm_cupti_features *f, int which, double value) {
    f->fact[which].reason = NULL;
    f->value[which] = value;
}

static void lack_function(adm_cupti_features *f, int which, const char *function, const char *since) {
    char why[160];
    const unsigned version = adm_cupti_version();
    snprintf(why, sizeof why, "CUPTI %u.%u has no %s, which came with %s", version / 10000, version / 100 % 100, function,
             since);
    lack(f, which, why);
}

/* HES can be switched on once the driver is initialised and before a context exists. */
static bool initialize_driver(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* stays: the runtime uses it next */
    int (*initialize)(unsigned) = driver != NULL ? (int (*)(unsigned))dlsym(driver, "cuInit") : NULL;
    return initialize != NULL && initialize(0) == 0;
}

static void enable_timestamps(adm_cupti_features *f) {
    adm_error why = {0};
    int (*enable)(uint8_t) = (int (*)(uint8_t))adm_cupti_function("cuptiActivityEnableHWTrace");
    if (enable == NULL) {
        lack_function(f, TIMESTAMPS, "cuptiActivityEnableHWTrace", "12.8");
    } else if (!initialize_driver()) {
        lack(f, TIMESTAMPS, "the CUDA driver cannot be initialised");
    } else {
        const int result = enable(1);
        if (result == 0) {
            have(f, TIMESTAMPS, 1);
            return;
        }
        adm_cupti_fail(&why, result, "asking for hardware timestamps, which Blackwell and later GPUs have");
        lack(f, TIMESTAMPS, why.text);
    }
}

void adm_cupti_features_prepare(bool wanted, adm_cupti_features *f) {
    adm_error why = {0};
    *f = (adm_cupti_features){0};
    for (int i = 0; i < ADM_CUPTI_N_FACTS; i++) {
        f->fact[i] = facts[i];
        lack(f, i, "there was no CUDA context to ask about");
    }
    if (adm_cupti_load(&why) != ADM_OK) {
        for (int i = 0; i < ADM_CUPTI_N_FACTS; i++) lack(f, i, why.text);
        return;
    }
    have(f, VERSION, adm_cupti_version());
    if (wanted) enable_timestamps(f);
    else lack(f, TIMESTAMPS, "not asked for");
}

/* cuptiClockControlGetStatus() changes nothing. */
static void read_clocks(adm_cupti_features *f, void *context) {
    adm_error why = {0};
    int status = 0;
    int (*get_status)(void *, int *) = (int (*)(void *, int *))adm_cupti_function("cuptiClockControlGetStatus");
    if (get_status == NULL) {
        lack_function(f, CLOCKS, "cuptiClockControlGetStatus", "13.4");
        return;
    }
    const int result = get_status(context, &status);
    if (result == 0) {
        have(f, CLOCKS, status);
        return;
    }
    adm_cupti_fail(&why, result, "reading whether clocks are locked");
    lack(f, CLOCKS, why.text);
}

void adm_cupti_features_read(adm_cupti_features *f) {
    void *context = adm_cuda_context();
    if (adm_cupti_version() == 0 || context == NULL) return;
    if (adm_cupti_version() >= 130400) have(f, CACHE_CONTROL, 0);
    else lack_function(f, CACHE_CONTROL, "cacheControlMode", "13.4");
    read_clocks(f, context);
}
