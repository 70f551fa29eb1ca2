/* fake_cupti.c: a library that answers like CUPTI, and like the CUDA driver where it is asked for the current context, so that
 * counting and tracing can be tried without a GPU: ADAMAS_CUPTI names it, and a copy of it is found as libcuda.so.1.
 *
 *   chip        "FAKE100"; its metrics are all that do not begin with "tma" or hold "gmma"
 *   counting    3 passes; the value of a metric in range i is 1000 * (i + 1) + length of the metric's name, and NaN for
 *               metrics that hold "xu"
 *   tracing     an innermost range has one kernel "_Z4fakev" (ADAMAS_FAKE_CUPTI_KERNELS: so many), 100 ns long, a microsecond
 *               after the last
 *
 * ADAMAS_FAKE_CUPTI=FUNCTION:RESULT makes that function fail with that CUptiResult. ADAMAS_FAKE_CUPTI_LOG names a file to which
 * the calls that matter are appended. Structures are those of the headers; what the program must fill in is checked. */
#include <cuda.h>
#include <cupti.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* the host interface's prototypes are in a C++ header */

enum { N_PASSES = 3, MAX_RANGES = 4096 };

/* --- What the tests see and decide ---------------------------------------------------------------------------------- */

static void note(const char *format, const char *what, size_t number) {
    const char *path = getenv("ADAMAS_FAKE_CUPTI_LOG");
    FILE *log = path != NULL ? fopen(path, "a") : NULL;
    if (log == NULL) return;
    fprintf(log, format, what, number);
    fclose(log);
}

static int result_of(const char *function) {
    const char *asked = getenv("ADAMAS_FAKE_CUPTI");
    size_t length = strlen(function);
    if (asked != NULL && strncmp(asked, function, length) == 0 && asked[length] == ':') return atoi(asked + length + 1);
    return CUPTI_SUCCESS;
}

#define ANSWER()                                                 \
    do {                                                         \
        int result = result_of(__func__);                        \
        if (result != CUPTI_SUCCESS) return (CUptiResult)result; \
    } while (0)

EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = (CUcontext)(uintptr_t)0x1000;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuInit(unsigned flags) {
    (void)flags;
    return CUDA_SUCCESS;
}

EXPORT CUptiResult cuptiGetVersion(uint32_t *version) {
    if (getenv("ADAMAS_FAKE_CUPTI_ABORT") != NULL) abort();
    ANSWER();
    *version = getenv("ADAMAS_FAKE_CUPTI_OLD") != NULL ? 120000 : 130001;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiGetErrorMessage(CUptiResult result, const char **text) {
    static char words[64];
    snprintf(words, sizeof words, "fake error %d", (int)result);
    *text = words;
    return CUPTI_SUCCESS;
}

/* --- The host interface: the structures of cupti_profiler_host.h, whose header is C++ -------------------------------- */

typedef struct host_call {
    size_t size;
    void *private;
} host_call;
typedef struct chips_call {
    host_call call;
    size_t n;
    const char *const *names;
} chips_call;
typedef struct initialize_call {
    host_call call;
    int type;
    const char *chip;
    const uint8_t *availability;
    void *object;
} initialize_call;
typedef struct object_call {
    host_call call;
    void *object;
} object_call;
typedef struct properties_call {
    object_call of;
    const char *metric, *description, *hardware, *unit;
    int type;
} properties_call;
typedef struct metrics_call {
    object_call of;
    int type;
    const char **names;
    size_t n;
} metrics_call;
typedef struct add_call {
    object_call of;
    const char **names;
    size_t n;
} add_call;
typedef struct size_call {
    object_call of;
    size_t bytes;
} size_call;
typedef struct image_call {
    object_call of;
    size_t bytes;
    uint8_t *image;
} image_call;
typedef struct passes_call {
    host_call call;
    size_t bytes;
    uint8_t *image;
    size_t n;
} passes_call;
typedef struct value_call {
    object_call of;
    const uint8_t *data;
    size_t bytes, range;
    const char **names;
    size_t n;
    double *values;
} value_call;

/* ADAMAS_FAKE_CUPTI_LACKS: what the names of further unknown metrics begin with. */
static bool known(const char *metric) {
    const char *lacks = getenv("ADAMAS_FAKE_CUPTI_LACKS");
    if (lacks != NULL && strncmp(metric, lacks, strlen(lacks)) == 0) return false;
    return strncmp(metric, "tma", 3) != 0 && strstr(metric, "gmma") == NULL;
}

EXPORT CUptiResult cuptiProfilerHostGetSupportedChips(chips_call *p) {
    static const char *const names[] = {"FAKE100", "FAKE200"};
    ANSWER();
    if (getenv("ADAMAS_FAKE_CUPTI_HOST") != NULL) dlopen("libnvperf_host.so", RTLD_NOW | RTLD_LOCAL); /* as the real one does */
    p->n = 2;
    p->names = names;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostInitialize(initialize_call *p) {
    ANSWER();
    if (strcmp(p->chip, "FAKE100") != 0 && strcmp(p->chip, "GH100") != 0) return CUPTI_ERROR_INVALID_CHIP_NAME;
    p->object = malloc(1);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostDeinitialize(object_call *p) {
    free(p->object);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostGetMetricProperties(properties_call *p) {
    ANSWER();
    if (!known(p->metric)) return CUPTI_ERROR_INVALID_METRIC_NAME;
    p->description = "a fake metric";
    p->hardware = p->unit = "fake";
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostGetBaseMetrics(metrics_call *p) {
    static const char *names[] = {"fake__cycles"};
    ANSWER();
    p->names = names;
    p->n = 1;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostConfigAddMetrics(add_call *p) {
    ANSWER();
    for (size_t i = 0; i < p->n; i++)
        if (!known(p->names[i])) return CUPTI_ERROR_INVALID_METRIC_NAME;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostGetConfigImageSize(size_call *p) {
    ANSWER();
    p->bytes = 16;
    return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiProfilerHostGetConfigImage(image_call *p) {
    ANSWER();
    memset(p->image, 7, p->bytes);
    return CUPTI_SUCCESS;
}
EXPORT CUptiResult cuptiProfilerHostGetNumOfPasses(passes_call *p) {
    ANSWER();
    p->n = N_PASSES;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerHostEvaluateToGpuValues(value_call *p) {
    ANSWER();
    for (size_t i = 0; i < p->n; i++)
        p->values[i] = strstr(p->names[i], "xu") != NULL ? (double)NAN
                                                         : 1000.0 * (double)(p->range + 1) + (double)strlen(p->names[i]);
    return CUPTI_SUCCESS;
}

/* --- The range profiler --------------------------------------------------------------------------------------------- */

static struct {
    bool enabled, configured, running;
    size_t n_passes, n_ranges;
    int depth;
    char names[MAX_RANGES][24];
} profiler;

EXPORT CUptiResult cuptiProfilerInitialize(CUpti_Profiler_Initialize_Params *p) {
    (void)p;
    ANSWER();
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiDeviceGetChipName(CUpti_Device_GetChipName_Params *p) {
    ANSWER();
    p->pChipName = getenv("ADAMAS_FAKE_CUPTI_CHIP") != NULL ? getenv("ADAMAS_FAKE_CUPTI_CHIP") : "FAKE100";
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiProfilerGetCounterAvailability(CUpti_Profiler_GetCounterAvailability_Params *p) {
    ANSWER();
    p->counterAvailabilityImageSize = 8;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerEnable(CUpti_RangeProfiler_Enable_Params *p) {
    ANSWER();
    if (profiler.enabled || p->ctx != (CUcontext)(uintptr_t)0x1000) return CUPTI_ERROR_INVALID_OPERATION;
    profiler.enabled = true;
    p->pRangeProfilerObject = (CUpti_RangeProfiler_Object *)&profiler;
    note("%s\n", "enable", 0);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerDisable(CUpti_RangeProfiler_Disable_Params *p) {
    (void)p;
    profiler.enabled = profiler.configured = profiler.running = false;
    note("%s\n", "disable", 0);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerGetCounterDataSize(CUpti_RangeProfiler_GetCounterDataSize_Params *p) {
    ANSWER();
    p->counterDataSize = 64;
    return p->numMetrics > 0 && p->maxNumOfRanges <= MAX_RANGES ? CUPTI_SUCCESS : CUPTI_ERROR_INVALID_PARAMETER;
}

EXPORT CUptiResult cuptiRangeProfilerCounterDataImageInitialize(CUpti_RangeProfiler_CounterDataImage_Initialize_Params *p) {
    (void)p;
    ANSWER();
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerSetConfig(CUpti_RangeProfiler_SetConfig_Params *p) {
    ANSWER();
    if (!profiler.enabled || p->range != CUPTI_UserRange || p->replayMode != CUPTI_UserReplay || p->numNestingLevels != 1)
        return CUPTI_ERROR_INVALID_OPERATION;
    profiler.configured = true;
    profiler.n_passes = 0;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerStart(CUpti_RangeProfiler_Start_Params *p) {
    (void)p;
    ANSWER();
    if (!profiler.configured || profiler.running) return CUPTI_ERROR_INVALID_OPERATION;
    profiler.running = true;
    profiler.n_ranges = 0;
    note("%s %zu\n", "pass", profiler.n_passes);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerStop(CUpti_RangeProfiler_Stop_Params *p) {
    ANSWER();
    if (!profiler.running || profiler.depth != 0) return CUPTI_ERROR_INVALID_OPERATION;
    profiler.running = false;
    p->isAllPassSubmitted = ++profiler.n_passes == N_PASSES;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerPushRange(CUpti_RangeProfiler_PushRange_Params *p) {
    ANSWER();
    if (!profiler.running || profiler.depth != 0 || profiler.n_ranges == MAX_RANGES) return CUPTI_ERROR_INVALID_OPERATION;
    profiler.depth++;
    snprintf(profiler.names[profiler.n_ranges++], sizeof profiler.names[0], "%s", p->pRangeName);
    note("push %s %zu\n", p->pRangeName, profiler.n_passes);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerPopRange(CUpti_RangeProfiler_PopRange_Params *p) {
    (void)p;
    ANSWER();
    return --profiler.depth == 0 ? CUPTI_SUCCESS : CUPTI_ERROR_INVALID_OPERATION;
}

EXPORT CUptiResult cuptiRangeProfilerDecodeData(CUpti_RangeProfiler_DecodeData_Params *p) {
    (void)p;
    ANSWER();
    return profiler.running ? CUPTI_ERROR_INVALID_OPERATION : CUPTI_SUCCESS;
}

/* ADAMAS_FAKE_CUPTI_DROP: that many of the last ranges are lost. */
EXPORT CUptiResult cuptiRangeProfilerGetCounterDataInfo(CUpti_RangeProfiler_GetCounterDataInfo_Params *p) {
    const char *drop = getenv("ADAMAS_FAKE_CUPTI_DROP");
    ANSWER();
    p->numTotalRanges = profiler.n_ranges - (drop != NULL ? (size_t)atoi(drop) : 0);
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiRangeProfilerCounterDataGetRangeInfo(CUpti_RangeProfiler_CounterData_GetRangeInfo_Params *p) {
    ANSWER();
    p->rangeName = profiler.names[p->rangeIndex];
    return CUPTI_SUCCESS;
}

/* --- What newer releases have --------------------------------------------------------------------------------------- */

EXPORT CUptiResult cuptiActivityEnableHWTrace(uint8_t enable) {
    ANSWER();
    note("%s %zu\n", "hardware timestamps", enable);
    return CUPTI_SUCCESS;
}

#if CUPTI_API_VERSION < 130400 /* its headers declare neither */
typedef int CUpti_ClockControl_Status;
CUptiResult cuptiClockControlGetStatus(CUcontext context, CUpti_ClockControl_Status *status);
#endif
EXPORT CUptiResult cuptiClockControlGetStatus(CUcontext context, CUpti_ClockControl_Status *status) {
    ANSWER();
    *status = 2;
    return context == (CUcontext)(uintptr_t)0x1000 ? CUPTI_SUCCESS : CUPTI_ERROR_INVALID_PARAMETER;
}

/* --- Activities ------------------------------------------------------------------------------------------------------ */

static struct {
    CUpti_BuffersCallbackRequestFunc request;
    CUpti_BuffersCallbackCompleteFunc complete;
    CUpti_TimestampCallbackFunc now;
    int n_enabled, depth;
    uint64_t stack[16], last_ns;
    uint32_t correlation;
    bool launched[16]; /* whether a range inside this one, or it, had a kernel */
    uint8_t *buffer;
    size_t used, size;
} trace;

EXPORT CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                                  CUpti_BuffersCallbackCompleteFunc complete) {
    ANSWER();
    trace.request = request;
    trace.complete = complete;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc now) {
    ANSWER();
    trace.now = now;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
    (void)kind;
    ANSWER();
    trace.n_enabled++;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
    (void)kind;
    trace.n_enabled--;
    return CUPTI_SUCCESS;
}

static void deliver(void) {
    if (trace.buffer != NULL) trace.complete(NULL, 0, trace.buffer, trace.size, trace.used);
    trace.buffer = NULL;
}

static void put(const void *record, size_t bytes) {
    size_t max = 0;
    if (trace.buffer == NULL || trace.used + bytes > trace.size) {
        deliver();
        trace.request(&trace.buffer, &trace.size, &max);
        trace.used = 0;
    }
    memcpy(trace.buffer + trace.used, record, bytes);
    trace.used += bytes;
}

/* A kernel launched in the range on top of the stack, 100 ns long; with ADAMAS_FAKE_CUPTI_EARLY it starts before the last
 * one ended, as a dependent launch does. */
static void launch_kernel(void) {
    CUpti_ActivityExternalCorrelation link = {.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                              .externalId = trace.stack[trace.depth - 1],
                                              .correlationId = ++trace.correlation};
    uint64_t now = trace.now(), start = now > trace.last_ns + 1000 ? now : trace.last_ns + 1000;
    if (getenv("ADAMAS_FAKE_CUPTI_EARLY") != NULL && trace.last_ns > 0) start = trace.last_ns - 40;
    CUpti_ActivityKernel10 kernel = {.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                     .registersPerThread = 32,
                                     .start = start,
                                     .end = start + 100,
                                     .streamId = 7,
                                     .gridX = 4,
                                     .gridY = 2,
                                     .gridZ = 1,
                                     .blockX = 128,
                                     .blockY = 1,
                                     .blockZ = 1,
                                     .staticSharedMemory = 512,
                                     .dynamicSharedMemory = 64,
                                     .correlationId = trace.correlation,
                                     .name = "_Z4fakev"};
    trace.last_ns = kernel.end;
    put(&link, sizeof link);
    put(&kernel, sizeof kernel);
}

EXPORT CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t id) {
    (void)kind;
    trace.launched[trace.depth] = false;
    trace.stack[trace.depth++] = id;
    return CUPTI_SUCCESS;
}

/* Only innermost ranges launch. */
EXPORT CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t *last) {
    (void)kind;
    if (trace.depth == 0) return CUPTI_ERROR_QUEUE_EMPTY;
    const char *kernels = getenv("ADAMAS_FAKE_CUPTI_KERNELS");
    for (int i = kernels != NULL ? atoi(kernels) : 1; i > 0 && !trace.launched[trace.depth - 1] && trace.n_enabled > 0; i--)
        launch_kernel();
    *last = trace.stack[--trace.depth];
    if (trace.depth > 0) trace.launched[trace.depth - 1] = true;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityFlushAll(uint32_t flag) {
    (void)flag;
    ANSWER();
    deliver();
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext context, uint32_t stream, size_t *dropped) {
    (void)context, (void)stream;
    *dropped = getenv("ADAMAS_FAKE_CUPTI_LOST") != NULL ? 5 : 0;
    return CUPTI_SUCCESS;
}

EXPORT CUptiResult cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, CUpti_Activity **record) {
    uint8_t *next = buffer;
    if (*record != NULL)
        next = (uint8_t *)*record + ((*record)->kind == CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION
                                         ? sizeof(CUpti_ActivityExternalCorrelation)
                                         : sizeof(CUpti_ActivityKernel10));
    if (next >= buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
    *record = (CUpti_Activity *)next;
    return CUPTI_SUCCESS;
}
