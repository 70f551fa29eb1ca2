/* fake_nvml.c: a library that answers like NVML for one device of any UUID, so that what a profile stores of a device's state
 * can be tried without a driver: a copy of it is found as libnvidia-ml.so.1.
 *
 *   clocks 1,980 and 2,619 MHz, 300 W drawn of 700, 45 degrees Celsius, nothing held down
 *
 * ADAMAS_FAKE_NVML_LIMIT_MW: another power limit, in mW; "none": the device does not tell. */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* nvml.h is no part of the toolkit's packages */

enum { SUCCESS = 0, NOT_SUPPORTED = 3, CLOCK_SM = 1 };

EXPORT int nvmlInit_v2(void) { return SUCCESS; }
EXPORT int nvmlShutdown(void) { return SUCCESS; }
EXPORT const char *nvmlErrorString(int result) { return result == NOT_SUPPORTED ? "Not Supported" : "Unknown Error"; }

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    static int the_device;
    (void)uuid;
    *device = &the_device;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz) {
    (void)device;
    *mhz = clock == CLOCK_SM ? 1980 : 2619;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) {
    (void)device;
    *mw = 300000;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
    (void)device, (void)sensor;
    *celsius = 45;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    (void)device;
    *reasons = 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) {
    const char *asked = getenv("ADAMAS_FAKE_NVML_LIMIT_MW");
    (void)device;
    if (asked != NULL && strcmp(asked, "none") == 0) return NOT_SUPPORTED;
    *mw = asked != NULL ? (unsigned)strtoul(asked, NULL, 10) : 700000;
    return SUCCESS;
}
