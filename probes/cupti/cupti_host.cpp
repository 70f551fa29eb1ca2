/* cupti_host.cpp: CUPTI's host interface behind the C header cupti_host.h. C++ only because that interface's header
 * includes <string>; nothing here throws or is a class. */
#include <cstdlib>
#include <cstring>

#include <cupti_profiler_host.h>
#include <cxxabi.h>

#include "core/base/mem.h"
#include "probes/cupti/cupti_host.h"
#include "probes/cupti/cupti_load.h"

struct adm_cupti_host {
    char chip[64];
    const uint8_t *availability;
    CUpti_Profiler_Host_Object *object;
};

/* A parameter block of a CUPTI call, zeroed but for its size. The size is that of 13.0, up to its last field: a library
 * refuses what is longer than its own, and newer headers are longer. */
#define PARAMETERS(type, name, last) \
    type##_Params name = {};         \
    name.structSize = CUPTI_PROFILER_STRUCT_SIZE(type##_Params, last)

/* The function that is declared under this name, found in the loaded library. */
#define FUNCTION(name) reinterpret_cast<decltype(&name)>(adm_cupti_function(#name))

const char *adm_cupti_missing(void) { return nullptr; }

/* The functions of this file are all there or none is. */
static adm_status require(adm_error *err) {
    static const char *const names[] = {"cuptiProfilerHostGetSupportedChips",  "cuptiProfilerHostInitialize",
                                        "cuptiProfilerHostDeinitialize",       "cuptiProfilerHostGetMetricProperties",
                                        "cuptiProfilerHostGetBaseMetrics",     "cuptiProfilerHostConfigAddMetrics",
                                        "cuptiProfilerHostGetConfigImageSize", "cuptiProfilerHostGetConfigImage",
                                        "cuptiProfilerHostGetNumOfPasses",     "cuptiProfilerHostEvaluateToGpuValues"};
    void *functions[sizeof names / sizeof names[0]];
    return adm_cupti_functions(names, functions, sizeof names / sizeof names[0], err);
}

adm_status adm_cupti_chips(const char *const **names, size_t *n, adm_error *err) {
    PARAMETERS(CUpti_Profiler_Host_GetSupportedChips, p, ppChipNames);
    *names = nullptr;
    *n = 0;
    adm_status status = require(err);
    if (status != ADM_OK) return status;
    CUptiResult result = FUNCTION(cuptiProfilerHostGetSupportedChips)(&p);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "listing chips (is libnvperf_host.so beside it?)");
    *names = p.ppChipNames;
    *n = p.numChips;
    return ADM_OK;
}

static adm_status unknown_chip(const char *chip, adm_error *err) {
    const char *const *names;
    char known[512] = "";
    size_t n;
    adm_status status = adm_cupti_chips(&names, &n, err);
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(known);
        if (used + strlen(names[i]) + 3 < sizeof known) strcat(strcat(known, i > 0 ? ", " : ""), names[i]);
    }
    return status != ADM_OK ? status : adm_fail(err, ADM_EINPUT, "CUPTI knows no chip '%.60s'; it knows %s", chip, known);
}

static CUptiResult initialize(adm_cupti_host *host, CUpti_Profiler_Host_Object **object) {
    PARAMETERS(CUpti_Profiler_Host_Initialize, p, pHostObject);
    p.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    p.pChipName = host->chip;
    p.pCounterAvailabilityImage = host->availability;
    CUptiResult result = FUNCTION(cuptiProfilerHostInitialize)(&p);
    *object = p.pHostObject;
    return result;
}

static void deinitialize(CUpti_Profiler_Host_Object *object) {
    PARAMETERS(CUpti_Profiler_Host_Deinitialize, p, pHostObject);
    p.pHostObject = object;
    if (object != nullptr) FUNCTION(cuptiProfilerHostDeinitialize)(&p);
}

adm_status adm_cupti_host_open(const char *chip, const uint8_t *availability, adm_cupti_host **out, adm_error *err) {
    adm_cupti_host *host = nullptr;
    *out = nullptr;
    adm_status status = require(err);
    if (status == ADM_OK && strlen(chip) >= sizeof host->chip) return unknown_chip(chip, err);
    if (status == ADM_OK) status = adm_alloc(&host, 1, sizeof *host, "a chip's metrics", err);
    if (status != ADM_OK) return status;
    strcpy(host->chip, chip);
    host->availability = availability;
    CUptiResult result = initialize(host, &host->object);
    if (result == CUPTI_ERROR_INVALID_CHIP_NAME) status = unknown_chip(chip, err);
    else if (result != CUPTI_SUCCESS) status = adm_cupti_fail(err, result, "opening a chip's metrics");
    if (status == ADM_OK) *out = host;
    else adm_cupti_host_close(&host);
    return status;
}

void adm_cupti_host_close(adm_cupti_host **host) {
    if (*host == nullptr) return;
    deinitialize((*host)->object);
    adm_free(host);
}

adm_status adm_cupti_host_describe(adm_cupti_host *host, const char *metric, adm_cupti_words *words, adm_error *err) {
    PARAMETERS(CUpti_Profiler_Host_GetMetricProperties, p, metricType);
    p.pHostObject = host->object;
    p.pMetricName = metric;
    CUptiResult result = FUNCTION(cuptiProfilerHostGetMetricProperties)(&p);
    if (result == CUPTI_ERROR_INVALID_METRIC_NAME)
        return adm_fail(err, ADM_EINPUT, "%s has no metric %.200s", host->chip, metric);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "describing a metric");
    *words = {p.pDescription, p.pHwUnit, p.pDimUnit};
    return ADM_OK;
}

adm_status adm_cupti_host_metrics(adm_cupti_host *host, int kind, const char *const **names, size_t *n, adm_error *err) {
    PARAMETERS(CUpti_Profiler_Host_GetBaseMetrics, p, numMetrics);
    p.pHostObject = host->object;
    p.metricType = (CUpti_MetricType)kind;
    CUptiResult result = FUNCTION(cuptiProfilerHostGetBaseMetrics)(&p);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "listing metrics");
    *names = p.ppMetricNames;
    *n = p.numMetrics;
    return ADM_OK;
}

static CUptiResult add_metrics(CUpti_Profiler_Host_Object *object, const char *const *metrics, size_t n) {
    PARAMETERS(CUpti_Profiler_Host_ConfigAddMetrics, p, numMetrics);
    p.pHostObject = object;
    p.ppMetricNames = const_cast<const char **>(metrics);
    p.numMetrics = n;
    return FUNCTION(cuptiProfilerHostConfigAddMetrics)(&p);
}

/* Adds metrics to an object and gives its configuration and passes. */
static adm_status schedule(adm_cupti_host *host, CUpti_Profiler_Host_Object *object, const char *const *metrics, size_t n,
                           uint8_t **image, size_t *image_bytes, size_t *n_passes, adm_error *err) {
    PARAMETERS(CUpti_Profiler_Host_GetConfigImageSize, size, configImageSize);
    PARAMETERS(CUpti_Profiler_Host_GetConfigImage, config, pConfigImage);
    PARAMETERS(CUpti_Profiler_Host_GetNumOfPasses, passes, numOfPasses);
    *image = nullptr;
    CUptiResult result = add_metrics(object, metrics, n);
    if (n == 1 && (result == CUPTI_ERROR_INVALID_PARAMETER || result == CUPTI_ERROR_INVALID_METRIC_NAME))
        return adm_fail(err, ADM_EINPUT, "%s cannot collect %.200s", host->chip, metrics[0]);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "scheduling metrics");
    size.pHostObject = config.pHostObject = object;
    result = FUNCTION(cuptiProfilerHostGetConfigImageSize)(&size);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "planning passes");
    adm_status status = adm_alloc(image, size.configImageSize, 1, "a counter configuration", err);
    if (status != ADM_OK) return status;
    config.configImageSize = passes.configImageSize = *image_bytes = size.configImageSize;
    config.pConfigImage = passes.pConfigImage = *image;
    result = FUNCTION(cuptiProfilerHostGetConfigImage)(&config);
    if (result == CUPTI_SUCCESS) result = FUNCTION(cuptiProfilerHostGetNumOfPasses)(&passes);
    if (result == CUPTI_SUCCESS) {
        *n_passes = passes.numOfPasses;
        return ADM_OK;
    }
    adm_free(image);
    return adm_cupti_fail(err, result, "planning passes");
}

adm_status adm_cupti_host_passes(adm_cupti_host *host, const char *const *metrics, size_t n, size_t *n_passes, adm_error *err) {
    CUpti_Profiler_Host_Object *object = nullptr;
    uint8_t *image = nullptr;
    size_t image_bytes;
    CUptiResult result = initialize(host, &object);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, result, "opening a chip's metrics");
    adm_status status = schedule(host, object, metrics, n, &image, &image_bytes, n_passes, err);
    deinitialize(object);
    adm_free(&image);
    return status;
}

adm_status adm_cupti_host_schedule(adm_cupti_host *host, const char *const *metrics, size_t n, uint8_t **image,
                                   size_t *image_bytes, size_t *n_passes, adm_error *err) {
    return schedule(host, host->object, metrics, n, image, image_bytes, n_passes, err);
}

adm_status adm_cupti_host_value(adm_cupti_host *host, const uint8_t *data, size_t data_bytes, size_t range, const char *metric,
                                double *value, adm_error *err) {
    PARAMETERS(CUpti_Profiler_Host_EvaluateToGpuValues, p, pMetricValues);
    p.pHostObject = host->object;
    p.pCounterDataImage = data;
    p.counterDataImageSize = data_bytes;
    p.rangeIndex = range;
    p.ppMetricNames = &metric;
    p.numMetrics = 1;
    p.pMetricValues = value;
    CUptiResult result = FUNCTION(cuptiProfilerHostEvaluateToGpuValues)(&p);
    return result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, result, "evaluating a metric");
}

void adm_readable_name(const char *mangled, char *out, size_t out_bytes) {
    int status = -1;
    char *name = abi::__cxa_demangle(mangled, nullptr, nullptr, &status), *text = name;
    if (text == nullptr) text = const_cast<char *>(mangled);
    if (strncmp(text, "void ", 5) == 0) text += 5;
    if (strncmp(text, "(anonymous namespace)::", 23) == 0) text += 23;
    size_t length = 0;
    int depth = 0; /* of template brackets: a parenthesis inside them is a cast in an argument */
    for (; text[length] != '\0' && !(text[length] == '(' && depth == 0); length++)
        depth += (text[length] == '<') - (text[length] == '>');
    if (length >= out_bytes) length = out_bytes - 1;
    memcpy(out, text, length);
    out[length] = '\0';
    free(name);
}
