/* activity_probe.c: CUPTI's activity records, joined with the ranges in which they were launched.
 *
 * CUPTI fills buffers of ours and hands them back in a thread of its own; what is kept of a record is a `kept`:
 *
 *     buffer (1 MiB) -> | kernel | correlation | runtime call | kernel | ... |
 *                           |          `-> link {correlation id, range number}
 *                           `-> kept {kind, times, figures, correlation id}          joined and sorted by stop() */
#include "probes/cupti/activity_probe.h"

#include <cupti.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "probes/cupti/cupti_host.h"
#include "probes/cupti/cupti_load.h"

enum { BUFFER_BYTES = 1 << 20, MAX_KEPT = 1 << 17, MAX_NAMES = 512, NAME_BYTES = 200 };

typedef struct kept {
    adm_activity activity; /* name: as CUPTI gave it */
    uint32_t correlation;
    size_t range;          /* 1 + its number; 0: none */
} kept;

typedef struct link {
    uint32_t correlation;
    uint64_t range;
} link;

typedef struct name {
    const char *mangled;
    char readable[NAME_BYTES];
} name;

struct adm_activity_probe {
    adm_probe probe;
    adm_activity_sink *sink;
    void *user;
    adm_range *range;  /* [n_ranges] those begun, in that order */
    kept *kept;
    link *link;
    name *name;        /* [n_names], made while delivering */
    size_t n_ranges, n_kept, n_links, n_names;
    uint64_t n_dropped;
    pthread_mutex_t lock; /* of kept, link and n_dropped: CUPTI's thread writes them */
};

/* The functions used, in the order of `names`. */
typedef struct activity_functions {
    CUptiResult (*register_callbacks)(CUpti_BuffersCallbackRequestFunc, CUpti_BuffersCallbackCompleteFunc);
    CUptiResult (*register_timestamp)(CUpti_TimestampCallbackFunc);
    CUptiResult (*enable)(CUpti_ActivityKind);
    CUptiResult (*disable)(CUpti_ActivityKind);
    CUptiResult (*flush)(uint32_t);
    CUptiResult (*next)(uint8_t *, size_t, CUpti_Activity **);
    CUptiResult (*dropped)(CUcontext, uint32_t, size_t *);
    CUptiResult (*push)(CUpti_ExternalCorrelationKind, uint64_t);
    CUptiResult (*pop)(CUpti_ExternalCorrelationKind, uint64_t *);
} activity_functions;

static const char *const names[] = {"cuptiActivityRegisterCallbacks",
                                    "cuptiActivityRegisterTimestampCallback",
                                    "cuptiActivityEnable",
                                    "cuptiActivityDisable",
                                    "cuptiActivityFlushAll",
                                    "cuptiActivityGetNextRecord",
                                    "cuptiActivityGetNumDroppedRecords",
                                    "cuptiActivityPushExternalCorrelationId",
                                    "cuptiActivityPopExternalCorrelationId"};
_Static_assert(sizeof names / sizeof names[0] == sizeof(activity_functions) / sizeof(void *), "a name a function");

static const CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_RUNTIME, /* without calls there are no correlations */
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* CUPTI's callbacks carry no pointer of ours and are registered once a process. */
static activity_functions cupti;
static bool registered;
static adm_activity_probe *active;

/* --- Buffers: called in CUPTI's threads --------------------------------------------------------------------------- */

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *max_records) {
    *max_records = 0; /* as many as fit */
    *buffer = malloc(BUFFER_BYTES);
    *size = *buffer != NULL ? BUFFER_BYTES : 0;
}

static uint64_t CUPTIAPI now(void) { return adm_clock_ns(); }

static kept *keep(adm_activity_probe *p, adm_activity_kind kind, uint32_t correlation, uint64_t start, uint64_t end,
                  uint32_t stream) {
    if (p->n_kept == MAX_KEPT || start == 0 || end < start) { /* 0: CUPTI could not tell */
        p->n_dropped++;
        return NULL;
    }
    kept *k = &p->kept[p->n_kept++];
    *k = (kept){.activity = {.kind = kind, .start_ns = start, .end_ns = end, .stream = stream}, .correlation = correlation};
    return k;
}

static const char *direction(uint8_t kind) {
    static const char *const words[] = {[CUPTI_ACTIVITY_MEMCPY_KIND_HTOD] = "HtoD", [CUPTI_ACTIVITY_MEMCPY_KIND_DTOH] = "DtoH",
                                        [CUPTI_ACTIVITY_MEMCPY_KIND_HTOA] = "HtoA", [CUPTI_ACTIVITY_MEMCPY_KIND_ATOH] = "AtoH",
                                        [CUPTI_ACTIVITY_MEMCPY_KIND_ATOA] = "AtoA", [CUPTI_ACTIVITY_MEMCPY_KIND_ATOD] = "AtoD",
                                        [CUPTI_ACTIVITY_MEMCPY_KIND_DTOA] = "DtoA", [CUPTI_ACTIVITY_MEMCPY_KIND_DTOD] = "DtoD",
                                        [CUPTI_ACTIVITY_MEMCPY_KIND_HTOH] = "HtoH", [CUPTI_ACTIVITY_MEMCPY_KIND_PTOP] = "PtoP"};
    return kind < sizeof words / sizeof words[0] && words[kind] != NULL ? words[kind] : "copy";
}

static void take_kernel(adm_activity_probe *p, const CUpti_ActivityKernel10 *r) {
    kept *k = keep(p, ADM_ACTIVITY_KERNEL, r->correlationId, r->start, r->end, r->streamId);
    if (k == NULL) return;
    k->activity.name = r->name;
    k->activity.registers = r->registersPerThread;
    k->activity.static_shared_bytes = (uint32_t)r->staticSharedMemory;
    k->activity.dynamic_shared_bytes = (uint32_t)r->dynamicSharedMemory;
    const int32_t grid[3] = {r->gridX, r->gridY, r->gridZ}, block[3] = {r->blockX, r->blockY, r->blockZ};
    for (int i = 0; i < 3; i++) {
        k->activity.grid[i] = (uint32_t)grid[i];
        k->activity.block[i] = (uint32_t)block[i];
    }
}

static void take_record(adm_activity_probe *p, const CUpti_Activity *record) {
    const CUpti_ActivityExternalCorrelation *correlation = (const void *)record;
    const CUpti_ActivityMemcpy6 *copy = (const void *)record;
    const CUpti_ActivityMemset4 *set = (const void *)record;
    kept *k;
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: take_kernel(p, (const void *)record); break;
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION:
        if (p->n_links < MAX_KEPT) p->link[p->n_links++] = (link){correlation->correlationId, correlation->externalId};
        break;
    case CUPTI_ACTIVITY_KIND_MEMCPY:
        k = keep(p, ADM_ACTIVITY_MEMCPY, copy->correlationId, copy->start, copy->end, copy->streamId);
        if (k == NULL) break;
        k->activity.name = direction(copy->copyKind);
        k->activity.bytes = copy->bytes;
        break;
    case CUPTI_ACTIVITY_KIND_MEMSET:
        k = keep(p, ADM_ACTIVITY_MEMSET, set->correlationId, set->start, set->end, set->streamId);
        if (k == NULL) break;
        k->activity.name = "memset";
        k->activity.bytes = set->bytes;
        break;
    default: break; /* runtime calls */
    }
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid_size) {
    CUpti_Activity *record = NULL;
    (void)context, (void)stream, (void)size;
    adm_activity_probe *p = active;
    if (p != NULL) {
        pthread_mutex_lock(&p->lock);
        while (cupti.next(buffer, valid_size, &record) == CUPTI_SUCCESS) take_record(p, record);
        pthread_mutex_unlock(&p->lock);
    }
    free(buffer);
}

/* --- Ranges ------------------------------------------------------------------------------------------------------- */

static void begin(adm_probe *self, const adm_range *range) {
    adm_activity_probe *p = (adm_activity_probe *)self;
    if (active != p) return;
    uint64_t number = 0; /* none: too many ranges */
    if (p->n_ranges < MAX_KEPT) {
        p->range[p->n_ranges] = *range;
        number = ++p->n_ranges;
    }
    cupti.push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, number);
}

static void end(adm_probe *self, const adm_range *range) {
    uint64_t last;
    (void)range;
    if (active == (adm_activity_probe *)self) cupti.pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
}

/* --- Start -------------------------------------------------------------------------------------------------------- */

static adm_status prepare(adm_error *err) {
    void *functions[sizeof names / sizeof names[0]];
    if (registered) return ADM_OK;
    adm_status status = adm_cupti_functions(names, functions, sizeof names / sizeof names[0], err);
    if (status != ADM_OK) return status;
    memcpy(&cupti, functions, sizeof functions);
    CUptiResult result = cupti.register_timestamp(now);
    if (result == CUPTI_SUCCESS) result = cupti.register_callbacks(give_buffer, take_buffer);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "preparing a trace");
    registered = true;
    return ADM_OK;
}

static void disable(int n) {
    while (n-- > 0) cupti.disable(kinds[n]);
}

static adm_status start(adm_probe *self, adm_error *err) {
    adm_activity_probe *p = (adm_activity_probe *)self;
    if (active != NULL) return adm_fail(err, ADM_EINTERNAL, "a second GPU trace was started");
    p->n_ranges = p->n_kept = p->n_links = 0;
    p->n_dropped = 0;
    adm_status status = prepare(err);
    if (status != ADM_OK) return status;
    for (int i = 0; i < N_KINDS; i++) {
        CUptiResult result = cupti.enable(kinds[i]);
        if (result == CUPTI_SUCCESS) continue;
        disable(i);
        return adm_cupti_fail(err, (int)result, "starting a trace");
    }
    active = p;
    return ADM_OK;
}

/* --- Stop --------------------------------------------------------------------------------------------------------- */

static int by_correlation(const void *a, const void *b) {
    uint32_t x = ((const link *)a)->correlation, y = ((const link *)b)->correlation;
    return (x > y) - (x < y);
}

/* Those without a range last. */
static int by_range_and_start(const void *a, const void *b) {
    const kept *x = a, *y = b;
    size_t i = x->range - 1, j = y->range - 1;
    if (i != j) return i < j ? -1 : 1;
    return (x->activity.start_ns > y->activity.start_ns) - (x->activity.start_ns < y->activity.start_ns);
}

static void join(adm_activity_probe *p) {
    qsort(p->link, p->n_links, sizeof *p->link, by_correlation);
    for (size_t i = 0; i < p->n_kept; i++) {
        const link key = {.correlation = p->kept[i].correlation};
        const link *found = bsearch(&key, p->link, p->n_links, sizeof *p->link, by_correlation);
        if (found != NULL && found->range <= p->n_ranges) p->kept[i].range = (size_t)found->range;
    }
    qsort(p->kept, p->n_kept, sizeof *p->kept, by_range_and_start);
}

static const char *readable(adm_activity_probe *p, const char *mangled) {
    if (mangled == NULL) return "?";
    for (size_t i = 0; i < p->n_names; i++)
        if (p->name[i].mangled == mangled) return p->name[i].readable;
    if (p->n_names == MAX_NAMES) return mangled;
    name *n = &p->name[p->n_names++];
    n->mangled = mangled;
    adm_readable_name(mangled, n->readable, sizeof n->readable);
    return n->readable;
}

static adm_status deliver(adm_activity_probe *p, adm_error *err) {
    adm_activity *list = NULL;
    adm_status status = adm_alloc(&list, p->n_kept, sizeof *list, "GPU activities", err);
    if (status != ADM_OK) return status;
    p->n_names = 0;
    for (size_t i = 0; i < p->n_kept; i++) {
        list[i] = p->kept[i].activity;
        if (list[i].kind == ADM_ACTIVITY_KERNEL) list[i].name = readable(p, list[i].name);
    }
    size_t at = 0;
    for (size_t r = 1; r <= p->n_ranges; r++) {
        size_t first = at;
        while (at < p->n_kept && p->kept[at].range == r) at++;
        p->sink(p->user, &p->range[r - 1], list + first, at - first);
    }
    if (at < p->n_kept) p->sink(p->user, NULL, list + at, p->n_kept - at);
    adm_free(&list);
    return ADM_OK;
}

static adm_status stop(adm_probe *self, adm_error *err) {
    adm_activity_probe *p = (adm_activity_probe *)self;
    size_t n_dropped = 0;
    if (active != p) return ADM_OK;
    CUptiResult result = cupti.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    disable(N_KINDS);
    if (cupti.dropped(NULL, 0, &n_dropped) != CUPTI_SUCCESS) n_dropped = 0;
    pthread_mutex_lock(&p->lock);
    active = NULL;
    p->n_dropped += n_dropped;
    join(p);
    pthread_mutex_unlock(&p->lock);
    if (result != CUPTI_SUCCESS) return adm_cupti_fail(err, (int)result, "collecting a trace");
    return deliver(p, err);
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

adm_status adm_activity_probe_open(adm_activity_probe **out, adm_error *err) {
    adm_activity_probe *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "an activity probe", err);
    if (status != ADM_OK) return status;
    p->probe = (adm_probe){.name = "activity", .start = start, .begin = begin, .end = end, .stop = stop};
    pthread_mutex_init(&p->lock, NULL);
    status = adm_alloc(&p->range, MAX_KEPT, sizeof *p->range, "traced ranges", err);
    if (status == ADM_OK) status = adm_alloc(&p->kept, MAX_KEPT, sizeof *p->kept, "GPU activities", err);
    if (status == ADM_OK) status = adm_alloc(&p->link, MAX_KEPT, sizeof *p->link, "correlations of a trace", err);
    if (status == ADM_OK) status = adm_alloc(&p->name, MAX_NAMES, sizeof *p->name, "kernel names", err);
    if (status == ADM_OK) *out = p;
    else adm_activity_probe_close(&p);
    return status;
}

void adm_activity_probe_close(adm_activity_probe **address) {
    adm_activity_probe *p = *address;
    if (p == NULL) return;
    if (active == p) stop(&p->probe, NULL);
    pthread_mutex_destroy(&p->lock);
    adm_free(&p->range);
    adm_free(&p->kept);
    adm_free(&p->link);
    adm_free(&p->name);
    adm_free(address);
}

adm_probe *adm_activity_probe_of(adm_activity_probe *probe) { return &probe->probe; }

void adm_activity_probe_deliver_to(adm_activity_probe *probe, adm_activity_sink *sink, void *user) {
    probe->sink = sink;
    probe->user = user;
}

uint64_t adm_activity_probe_dropped(const adm_activity_probe *probe) { return probe->n_dropped; }
