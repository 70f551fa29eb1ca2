/* counter_probe.c: GPU counters through CUPTI's Range Profiler; the order of its calls is that of start() and stop(). */
#include "probes/cupti/counter_probe.h"

#include <cuda.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "probes/cupti/counter_list.h"
#include "probes/cupti/cupti_load.h"

/* The functions used, in the order of `names`. */
typedef struct range_profiler {
    CUptiResult (*initialize)(CUpti_Profiler_Initialize_Params *);
    CUptiResult (*chip_name)(CUpti_Device_GetChipName_Params *);
    CUptiResult (*availability)(CUpti_Profiler_GetCounterAvailability_Params *);
    CUptiResult (*enable)(CUpti_RangeProfiler_Enable_Params *);
    CUptiResult (*disable)(CUpti_RangeProfiler_Disable_Params *);
    CUptiResult (*data_size)(CUpti_RangeProfiler_GetCounterDataSize_Params *);
    CUptiResult (*data_initialize)(CUpti_RangeProfiler_CounterDataImage_Initialize_Params *);
    CUptiResult (*set_config)(CUpti_RangeProfiler_SetConfig_Params *);
    CUptiResult (*start)(CUpti_RangeProfiler_Start_Params *);
    CUptiResult (*stop)(CUpti_RangeProfiler_Stop_Params *);
    CUptiResult (*push)(CUpti_RangeProfiler_PushRange_Params *);
    CUptiResult (*pop)(CUpti_RangeProfiler_PopRange_Params *);
    CUptiResult (*decode)(CUpti_RangeProfiler_DecodeData_Params *);
    CUptiResult (*data_info)(CUpti_RangeProfiler_GetCounterDataInfo_Params *);
    CUptiResult (*range_info)(CUpti_RangeProfiler_CounterData_GetRangeInfo_Params *);
} range_profiler;

static const char *const names[] = {"cuptiProfilerInitialize",
                                    "cuptiDeviceGetChipName",
                                    "cuptiProfilerGetCounterAvailability",
                                    "cuptiRangeProfilerEnable",
                                    "cuptiRangeProfilerDisable",
                                    "cuptiRangeProfilerGetCounterDataSize",
                                    "cuptiRangeProfilerCounterDataImageInitialize",
                                    "cuptiRangeProfilerSetConfig",
                                    "cuptiRangeProfilerStart",
                                    "cuptiRangeProfilerStop",
                                    "cuptiRangeProfilerPushRange",
                                    "cuptiRangeProfilerPopRange",
                                    "cuptiRangeProfilerDecodeData",
                                    "cuptiRangeProfilerGetCounterDataInfo",
                                    "cuptiRangeProfilerCounterDataGetRangeInfo"};
_Static_assert(sizeof names / sizeof names[0] == sizeof(range_profiler) / sizeof(void *), "a name a function");

struct adm_counter_probe {
    adm_probe probe;
    adm_counter_list list;
    adm_counter_sink *sink;
    void *user;
    int device;
    size_t most_ranges;

    range_profiler cupti;
    adm_counter_plan *plan;              /* made by the first start() */
    uint8_t *availability;
    CUpti_RangeProfiler_Object *object;  /* NULL: the profiler is off */
    uint8_t *data;                       /* CUPTI's image of what was counted */
    size_t data_bytes;
    adm_range *range;                    /* [most_ranges] those of the first pass */
    size_t n_ranges, n_seen, n_passes;   /* of the first pass; of this one; passes begun */
    int depth;                           /* of open stage ranges */
    int failure;                         /* the first CUptiResult of a push or pop that went wrong */
};

/* A parameter block of a CUPTI call. The size is that of 13.0, up to its last field, whatever the headers of the build: a
 * library refuses what is longer than its own. So cacheControlMode of 13.4, which comes after it, stays off. */
#define PARAMETERS(type, last, ...) {.structSize = CUPTI_PROFILER_STRUCT_SIZE(type##_Params, last), __VA_ARGS__}

/* --- Ranges ------------------------------------------------------------------------------------------------------- */

static void begin(adm_probe *self, const adm_range *range) {
    adm_counter_probe *p = (adm_counter_probe *)self;
    if (range->kind != ADM_RANGE_STAGE || p->depth++ > 0 || p->object == NULL || p->n_seen == p->most_ranges) return;
    char name[24];
    snprintf(name, sizeof name, "%zu", p->n_seen);
    if (p->n_passes == 1) p->range[p->n_seen] = *range;
    CUpti_RangeProfiler_PushRange_Params push = PARAMETERS(CUpti_RangeProfiler_PushRange, pRangeName,
                                                           .pRangeProfilerObject = p->object, .pRangeName = name);
    CUptiResult result = p->cupti.push(&push);
    if (p->failure == 0) p->failure = (int)result;
}

static void end(adm_probe *self, const adm_range *range) {
    adm_counter_probe *p = (adm_counter_probe *)self;
    if (range->kind != ADM_RANGE_STAGE || --p->depth > 0 || p->object == NULL) return;
    if (p->n_seen < p->most_ranges) {
        CUpti_RangeProfiler_PopRange_Params pop = PARAMETERS(CUpti_RangeProfiler_PopRange, pRangeProfilerObject,
                                                             .pRangeProfilerObject = p->object);
        CUptiResult result = p->cupti.pop(&pop);
        if (p->failure == 0) p->failure = (int)result;
    }
    p->n_seen++;
}

/* --- Passes ------------------------------------------------------------------------------------------------------- */

static void switch_off(adm_counter_probe *p) {
    CUpti_RangeProfiler_Disable_Params disable = PARAMETERS(CUpti_RangeProfiler_Disable, pRangeProfilerObject,
                                                            .pRangeProfilerObject = p->object);
    if (p->object != NULL) p->cupti.disable(&disable);
    p->object = NULL;
}

static adm_status start_pass(adm_counter_probe *p, adm_error *err) {
    CUpti_RangeProfiler_Start_Params begun = PARAMETERS(CUpti_RangeProfiler_Start, pRangeProfilerObject,
                                                        .pRangeProfilerObject = p->object);
    CUptiResult result = p->cupti.start(&begun);
    p->n_seen = 0;
    p->n_passes++;
    return result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, (int)result, "starting a pass");
}

static adm_status pass(adm_probe *self, bool *again, adm_error *err) {
    adm_counter_probe *p = (adm_counter_probe *)self;
    CUpti_RangeProfiler_Stop_Params ended = PARAMETERS(CUpti_RangeProfiler_Stop, isAllPassSubmitted,
                                                       .pRangeProfilerObject = p->object);
    *again = false;
    if (p->object == NULL) return ADM_OK;
    CUptiResult result = p->cupti.stop(&ended);
    if (p->n_passes == 1) p->n_ranges = p->n_seen;
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "ending a pass");
    if (p->failure != 0) return adm_cupti_fail(err, p->failure, "bracketing a range");
    if (p->n_seen > p->most_ranges)
        return adm_fail(err, ADM_EINTERNAL, "%zu ranges in a pass of a counter collection with room for %zu", p->n_seen,
                        p->most_ranges);
    if (p->n_seen != p->n_ranges)
        return adm_fail(err, ADM_EINTERNAL, "pass %zu of a counter collection had %zu ranges, the first one %zu", p->n_passes,
                        p->n_seen, p->n_ranges);
    if (ended.isAllPassSubmitted) return ADM_OK;
    if (p->n_passes > 4 * p->plan->n_passes + 8)
        return adm_fail(err, ADM_EENVIRONMENT, "CUPTI planned %zu passes and asks for more after %zu", p->plan->n_passes,
                        p->n_passes);
    *again = true;
    return start_pass(p, err);
}

/* --- Start -------------------------------------------------------------------------------------------------------- */

static adm_status ask_availability(adm_counter_probe *p, CUcontext context, adm_error *err) {
    CUpti_Profiler_GetCounterAvailability_Params ask = PARAMETERS(CUpti_Profiler_GetCounterAvailability,
                                                                  pCounterAvailabilityImage, .ctx = context);
    CUptiResult result = p->cupti.availability(&ask);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "asking which counters are available");
    adm_status status = adm_alloc(&p->availability, ask.counterAvailabilityImageSize, 1, "counter availability", err);
    if (status != ADM_OK) return status;
    ask.pCounterAvailabilityImage = p->availability;
    result = p->cupti.availability(&ask);
    return result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, (int)result, "asking which counters are available");
}

/* What depends on the device alone: once. */
static adm_status make_plan(adm_counter_probe *p, CUcontext context, adm_error *err) {
    CUpti_Profiler_Initialize_Params initialize = PARAMETERS(CUpti_Profiler_Initialize, pPriv, .pPriv = NULL);
    CUpti_Device_GetChipName_Params chip = PARAMETERS(CUpti_Device_GetChipName, pChipName, .deviceIndex = (size_t)p->device);
    if (p->plan != NULL) return ADM_OK;
    void *functions[sizeof names / sizeof names[0]];
    adm_status status = adm_cupti_functions(names, functions, sizeof names / sizeof names[0], err);
    if (status != ADM_OK) return status;
    memcpy(&p->cupti, functions, sizeof functions);
    CUptiResult result = p->cupti.initialize(&initialize);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "starting the profiler");
    result = p->cupti.chip_name(&chip);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "asking for the chip's name");
    if (p->availability == NULL) status = ask_availability(p, context, err);
    if (status == ADM_OK) status = adm_counter_plan_open(p->list.set, chip.pChipName, p->availability, &p->plan, err);
    if (status == ADM_EINPUT && err != NULL) err->status = status = ADM_EUNSUPPORTED; /* a chip that nobody typed */
    if (status == ADM_OK && p->plan->n_hardware == 0)
        status = adm_fail(err, ADM_EUNSUPPORTED, "%s has none of the metrics of the set %.100s", p->plan->chip,
                          p->list.set->name);
    return status;
}

/* A fresh image for the counts of one collection. */
static adm_status make_data(adm_counter_probe *p, adm_error *err) {
    CUpti_RangeProfiler_GetCounterDataSize_Params size =
        PARAMETERS(CUpti_RangeProfiler_GetCounterDataSize, counterDataSize, .pRangeProfilerObject = p->object,
                   .pMetricNames = p->plan->hardware, .numMetrics = p->plan->n_hardware, .maxNumOfRanges = p->most_ranges,
                   .maxNumRangeTreeNodes = (uint32_t)p->most_ranges);
    CUptiResult result = p->cupti.data_size(&size);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "sizing the counts");
    adm_free(&p->data);
    adm_status status = adm_alloc(&p->data, size.counterDataSize, 1, "GPU counts", err);
    if (status != ADM_OK) return status;
    p->data_bytes = size.counterDataSize;
    CUpti_RangeProfiler_CounterDataImage_Initialize_Params initialize =
        PARAMETERS(CUpti_RangeProfiler_CounterDataImage_Initialize, pCounterData, .pRangeProfilerObject = p->object,
                   .counterDataSize = p->data_bytes, .pCounterData = p->data);
    result = p->cupti.data_initialize(&initialize);
    return result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, (int)result, "preparing the counts");
}

static adm_status configure(adm_counter_probe *p, adm_error *err) {
    CUpti_RangeProfiler_SetConfig_Params config =
        PARAMETERS(CUpti_RangeProfiler_SetConfig, targetNestingLevel, .pRangeProfilerObject = p->object,
                   .configSize = p->plan->image_bytes, .pConfig = p->plan->image, .counterDataImageSize = p->data_bytes,
                   .pCounterDataImage = p->data, .range = CUPTI_UserRange, .replayMode = CUPTI_UserReplay,
                   .maxRangesPerPass = p->most_ranges, .numNestingLevels = 1, .minNestingLevel = 1, .passIndex = 0,
                   .targetNestingLevel = 1);
    CUptiResult result = p->cupti.set_config(&config);
    return result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, (int)result, "configuring the counters");
}

static adm_status start(adm_probe *self, adm_error *err) {
    adm_counter_probe *p = (adm_counter_probe *)self;
    p->n_passes = p->n_ranges = p->n_seen = 0;
    p->depth = p->failure = 0;
    adm_status status = adm_cupti_load(err);
    if (status != ADM_OK) return status;
    CUcontext context = adm_cuda_context();
    if (context == NULL) return adm_fail(err, ADM_EUNSUPPORTED, "GPU counters need a CUDA context, and the driver has none");
    status = make_plan(p, context, err);
    if (status != ADM_OK) return status;
    CUpti_RangeProfiler_Enable_Params enable = PARAMETERS(CUpti_RangeProfiler_Enable, pRangeProfilerObject, .ctx = context);
    CUptiResult result = p->cupti.enable(&enable);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "switching the counters on");
    p->object = enable.pRangeProfilerObject;
    status = make_data(p, err);
    if (status == ADM_OK) status = configure(p, err);
    if (status == ADM_OK) status = start_pass(p, err);
    if (status != ADM_OK) switch_off(p);
    return status;
}

/* --- Stop --------------------------------------------------------------------------------------------------------- */

typedef struct place {
    adm_counter_probe *probe;
    size_t index; /* of the range in CUPTI's data */
} place;

static double read_value(void *user, const char *metric) {
    const place *at = user;
    double value = (double)NAN;
    adm_status status = adm_cupti_host_value(at->probe->plan->host, at->probe->data, at->probe->data_bytes, at->index, metric,
                                             &value, NULL);
    return status == ADM_OK ? value : (double)NAN;
}

/* Delivers every range of the decoded data; *n of them. */
static adm_status deliver(adm_counter_probe *p, size_t *n, adm_error *err) {
    CUpti_RangeProfiler_GetCounterDataInfo_Params info = PARAMETERS(CUpti_RangeProfiler_GetCounterDataInfo, numTotalRanges,
                                                                    .pCounterDataImage = p->data,
                                                                    .counterDataImageSize = p->data_bytes);
    CUptiResult result = p->cupti.data_info(&info);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "reading the counts");
    for (size_t i = 0; i < info.numTotalRanges; i++) {
        CUpti_RangeProfiler_CounterData_GetRangeInfo_Params range =
            PARAMETERS(CUpti_RangeProfiler_CounterData_GetRangeInfo, rangeName, .pCounterDataImage = p->data,
                       .counterDataImageSize = p->data_bytes, .rangeIndex = i, .rangeDelimiter = "/");
        result = p->cupti.range_info(&range);
        if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "reading the counts of a range");
        size_t index = strtoul(range.rangeName, NULL, 10); /* the name that begin() gave */
        if (index >= p->n_ranges) continue;
        place at = {p, i};
        adm_counter_list_deliver(&p->list, &p->range[index], p->plan->collected,
                                 (const char(*)[ADM_REASON_BYTES])p->plan->reason, read_value, &at, p->sink, p->user);
        ++*n;
    }
    return ADM_OK;
}

static adm_status stop(adm_probe *self, adm_error *err) {
    adm_counter_probe *p = (adm_counter_probe *)self;
    CUpti_RangeProfiler_DecodeData_Params decode = PARAMETERS(CUpti_RangeProfiler_DecodeData, numOfRangeDropped,
                                                              .pRangeProfilerObject = p->object);
    if (p->object == NULL) return ADM_OK;
    size_t n_delivered = 0;
    CUptiResult result = p->cupti.decode(&decode);
    adm_status status = result == CUPTI_SUCCESS ? ADM_OK : adm_cupti_fail(err, (int)result, "decoding the counts");
    if (status == ADM_OK) status = deliver(p, &n_delivered, err);
    switch_off(p);
    if (status == ADM_OK && n_delivered < p->n_ranges)
        status = adm_fail(err, ADM_EENVIRONMENT, "CUPTI dropped %zu of %zu ranges of a counter collection",
                          p->n_ranges - n_delivered, p->n_ranges);
    return status;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

adm_status adm_counter_probe_open(const char *set, int device, size_t most_ranges, adm_counter_probe **out, adm_error *err) {
    adm_counter_probe *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "a counter probe", err);
    if (status != ADM_OK) return status;
    p->probe = (adm_probe){.name = "counters", .start = start, .begin = begin, .end = end, .pass = pass, .stop = stop};
    p->device = device;
    p->most_ranges = most_ranges;
    status = adm_counter_list_open(&p->list, set, err);
    if (status == ADM_OK) status = adm_alloc(&p->range, most_ranges, sizeof *p->range, "counted ranges", err);
    if (status == ADM_OK) *out = p;
    else adm_counter_probe_close(&p);
    return status;
}

void adm_counter_probe_close(adm_counter_probe **address) {
    adm_counter_probe *p = *address;
    if (p == NULL) return;
    switch_off(p);
    adm_counter_plan_close(&p->plan);
    adm_counter_list_close(&p->list);
    adm_free(&p->availability);
    adm_free(&p->data);
    adm_free(&p->range);
    adm_free(address);
}

adm_probe *adm_counter_probe_of(adm_counter_probe *probe) { return &probe->probe; }

const adm_counter *adm_counter_probe_counters(const adm_counter_probe *probe, size_t *n) {
    *n = probe->list.set->n;
    return probe->list.counter;
}

void adm_counter_probe_deliver_to(adm_counter_probe *probe, adm_counter_sink *sink, void *user) {
    probe->sink = sink;
    probe->user = user;
}

size_t adm_counter_probe_passes(const adm_counter_probe *probe) { return probe->n_passes; }
