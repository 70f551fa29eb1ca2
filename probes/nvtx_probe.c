/* nvtx_probe.c: shows ranges to an attached tool through NVTX (header-only, from the CUDA toolkit). */
#include "probes/nvtx_probe.h"

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>
#include <stdbool.h>
#include <stddef.h>

/* Category ids: 1 + stage, and after them one a kind of enclosing range. 0 is NVTX's "none". */
enum { FIRST_STAGE = 1, FIRST_KIND = FIRST_STAGE + ADM_N_STAGES };

static const struct {
    const char *name, *category;
} kinds[ADM_RANGE_STAGE] = {
    [ADM_RANGE_SESSION] = {"session", "session"},
    [ADM_RANGE_STEP] = {"step", "decode step"},
    [ADM_RANGE_LAYER] = {"layer", "layer"},
};

static uint64_t register_schema(nvtxDomainHandle_t domain) {
    static const nvtxPayloadSchemaEntry_t entries[] = {
        {.type = NVTX_PAYLOAD_ENTRY_TYPE_UINT32,
         .name = "seq_len",
         .description = "tokens attended over",
         .offset = offsetof(adm_nvtx_payload, seq_len)},
        {.type = NVTX_PAYLOAD_ENTRY_TYPE_UINT32,
         .name = "budget",
         .description = "tokens selected; 0: does not apply",
         .offset = offsetof(adm_nvtx_payload, budget)},
        {.type = NVTX_PAYLOAD_ENTRY_TYPE_INT32,
         .name = "layer",
         .description = "the model's layer; -1: outside one",
         .offset = offsetof(adm_nvtx_payload, layer)},
        {.type = NVTX_PAYLOAD_ENTRY_TYPE_INT32,
         .name = "step",
         .description = "decode step; -1: outside one",
         .offset = offsetof(adm_nvtx_payload, step)},
    };
    const nvtxPayloadSchemaAttr_t schema = {
        .fieldMask = NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NAME | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_TYPE |
                     NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NUM_ENTRIES |
                     NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_STATIC_SIZE,
        .name = "adamas range",
        .type = NVTX_PAYLOAD_SCHEMA_TYPE_STATIC,
        .entries = entries,
        .numEntries = sizeof entries / sizeof entries[0],
        .payloadStaticSize = sizeof(adm_nvtx_payload)};
    return nvtxPayloadSchemaRegister(domain, &schema);
}

static adm_status start(adm_probe *self, adm_error *err) {
    adm_nvtx_probe *nvtx = (adm_nvtx_probe *)self;
    (void)err;
    nvtxDomainHandle_t domain = nvtxDomainCreateA("adamas");
    nvtx->domain = domain;
    if (domain == NULL) return ADM_OK;
    for (adm_stage stage = 0; stage < ADM_N_STAGES; stage++) {
        nvtx->stage_name[stage] = nvtxDomainRegisterStringA(domain, adm_stage_name(stage));
        nvtxDomainNameCategoryA(domain, FIRST_STAGE + stage, adm_stage_name(stage));
    }
    for (adm_range_kind kind = 0; kind < ADM_RANGE_STAGE; kind++) {
        nvtx->kind_name[kind] = nvtxDomainRegisterStringA(domain, kinds[kind].name);
        nvtxDomainNameCategoryA(domain, FIRST_KIND + kind, kinds[kind].category);
    }
    nvtx->schema = register_schema(domain);
    return ADM_OK;
}

static nvtxStringHandle_t name_of(const adm_nvtx_probe *nvtx, const adm_range *range) {
    if (range->kind == ADM_RANGE_STAGE) return nvtx->stage_name[range->stage];
    if (range->kind == ADM_RANGE_SESSION && range->variant != NULL && range->variant[0] != '\0')
        return nvtxDomainRegisterStringA(nvtx->domain, range->variant); /* once a session */
    return nvtx->kind_name[range->kind];
}

static void push(const adm_nvtx_probe *nvtx, const adm_range *range) {
    const adm_nvtx_payload payload = {range->seq_len, range->budget, range->layer, range->step};
    const nvtxPayloadData_t data = {nvtx->schema, sizeof payload, &payload};
    bool is_stage = range->kind == ADM_RANGE_STAGE;
    nvtxEventAttributes_t event = {.version = NVTX_VERSION,
                                   .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
                                   .category = is_stage ? FIRST_STAGE + (uint32_t)range->stage
                                                        : FIRST_KIND + (uint32_t)range->kind,
                                   .messageType = NVTX_MESSAGE_TYPE_REGISTERED,
                                   .message.registered = name_of(nvtx, range)};
    if (is_stage && range->part != NULL) { /* there are a dozen of them, and only whole models have any */
        event.messageType = NVTX_MESSAGE_TYPE_ASCII;
        event.message.ascii = range->part;
    }
    if (nvtx->schema != 0) {
        event.payloadType = NVTX_PAYLOAD_TYPE_EXT;
        event.reserved0 = 1; /* payloads in `data` */
        event.payload.ullValue = (uint64_t)(uintptr_t)&data;
    } else {
        event.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
        event.payload.ullValue = (uint64_t)range->seq_len << 32 | range->budget;
    }
    nvtxDomainRangePushEx(nvtx->domain, &event);
}

static void begin(adm_probe *self, const adm_range *range) {
    const adm_nvtx_probe *nvtx = ((const adm_nvtx_probe *)self)->owner;
    if (nvtx->domain != NULL) push(nvtx, range);
}

static void end(adm_probe *self, const adm_range *range) {
    const adm_nvtx_probe *nvtx = ((const adm_nvtx_probe *)self)->owner;
    (void)range;
    if (nvtx->domain != NULL) nvtxDomainRangePop(nvtx->domain);
}

static adm_status stop(adm_probe *self, adm_error *err) {
    adm_nvtx_probe *nvtx = (adm_nvtx_probe *)self;
    (void)err;
    if (nvtx->domain != NULL) nvtxDomainDestroy(nvtx->domain); /* and its strings */
    nvtx->domain = NULL;
    return ADM_OK;
}

void adm_nvtx_probe_init(adm_nvtx_probe *nvtx) {
    *nvtx = (adm_nvtx_probe){.probe = {.name = "nvtx", .start = start, .begin = begin, .end = end, .stop = stop},
                             .owner = nvtx};
}

void adm_nvtx_probe_share(const adm_nvtx_probe *nvtx, adm_nvtx_probe *out) {
    *out = (adm_nvtx_probe){.probe = {.name = "nvtx", .begin = begin, .end = end}, .owner = nvtx};
}

const char *adm_nvtx_missing(void) { return NULL; }
