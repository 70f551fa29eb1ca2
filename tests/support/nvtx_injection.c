/* nvtx_injection.c: a tool for NVTX, as small as test_nvtx.py needs: a shared library that a program loads when
 * NVTX_INJECTION64_PATH names it, and that writes what it is told to the file named in ADAMAS_NVTX_LOG, a line per call,
 * fields separated by tabs:
 *
 *   domain DOMAIN NAME          category DOMAIN ID NAME         schema DOMAIN ID NAME BYTES FIELD:TYPE:OFFSET,...
 *   push DOMAIN CATEGORY KIND MESSAGE PAYLOAD                   pop DOMAIN            destroy DOMAIN
 *
 * KIND is "registered" where the message is a registered string, else "plain". PAYLOAD is SCHEMA:HEX, =NUMBER or -.
 * With ADAMAS_NVTX_PLAIN set it plays a tool that knows no schemas. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NVTX_NO_IMPL
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#define EXPORTED __attribute__((visibility("default")))

static FILE *out;

/* Handles point at these, which stay until the process ends; the list says so to a leak checker. */
typedef struct named {
    struct named *next;
    char *name;
    uintptr_t number;
} named;

static void *name(const char *text) {
    static named *all;
    named *made = malloc(sizeof *made);
    *made = (named){all, strdup(text), all != NULL ? all->number + 1 : 1};
    all = made;
    return made;
}

static uintptr_t number(const void *handle) { return handle != NULL ? ((const named *)handle)->number : 0; }

static nvtxDomainHandle_t domain_create(const char *text) {
    void *domain = name(text);
    fprintf(out, "domain\t%" PRIuPTR "\t%s\n", number(domain), text);
    return domain;
}

static void domain_destroy(nvtxDomainHandle_t domain) {
    fprintf(out, "destroy\t%" PRIuPTR "\n", number(domain));
    fflush(out);
}

static nvtxStringHandle_t register_string(nvtxDomainHandle_t domain, const char *text) {
    (void)domain;
    return name(text);
}

static void name_category(nvtxDomainHandle_t domain, uint32_t category, const char *text) {
    fprintf(out, "category\t%" PRIuPTR "\t%u\t%s\n", number(domain), category, text);
}

static void print_payload(const nvtxEventAttributes_t *event) {
    const nvtxPayloadData_t *data = (const nvtxPayloadData_t *)(uintptr_t)event->payload.ullValue;
    if (event->payloadType == NVTX_PAYLOAD_TYPE_UNSIGNED_INT64) {
        fprintf(out, "=%" PRIu64 "\n", event->payload.ullValue);
    } else if (event->payloadType == NVTX_PAYLOAD_TYPE_EXT && event->reserved0 == 1) {
        fprintf(out, "%" PRIu64 ":", data->schemaId);
        for (size_t i = 0; i < data->size; i++) fprintf(out, "%02x", ((const unsigned char *)data->payload)[i]);
        fputc('\n', out);
    } else {
        fputs("-\n", out);
    }
}

static int range_push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event) {
    bool registered = event->messageType == NVTX_MESSAGE_TYPE_REGISTERED;
    const char *message = registered ? ((const named *)(const void *)event->message.registered)->name
                          : event->messageType == NVTX_MESSAGE_TYPE_ASCII ? event->message.ascii
                                                                          : "";
    fprintf(out, "push\t%" PRIuPTR "\t%u\t%s\t%s\t", number(domain), event->category, registered ? "registered" : "plain",
            message);
    print_payload(event);
    return 0;
}

static int range_pop(nvtxDomainHandle_t domain) {
    fprintf(out, "pop\t%" PRIuPTR "\n", number(domain));
    return 0;
}

static uint64_t schema_register(nvtxDomainHandle_t domain, const nvtxPayloadSchemaAttr_t *schema) {
    static uint64_t n = NVTX_PAYLOAD_SCHEMA_ID_DYNAMIC_START;
    fprintf(out, "schema\t%" PRIuPTR "\t%" PRIu64 "\t%s\t%zu\t", number(domain), n, schema->name, schema->payloadStaticSize);
    for (size_t i = 0; i < schema->numEntries; i++)
        fprintf(out, "%s%s:%" PRIu64 ":%" PRIu64, i > 0 ? "," : "", schema->entries[i].name, schema->entries[i].type,
                schema->entries[i].offset);
    fputc('\n', out);
    return n++;
}

static bool open_log(void) {
    const char *path = getenv("ADAMAS_NVTX_LOG");
    if (out == NULL && path != NULL) out = fopen(path, "w");
    return out != NULL;
}

/* NVTX calls the two entry points when the program first calls it; 0 means: do without this tool. */
EXPORTED int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned size = 0;
    if (!open_log() || callbacks == NULL || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) ||
        size < NVTX_CBID_CORE2_SIZE)
        return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)domain_create;
    *table[NVTX_CBID_CORE2_DomainDestroy] = (NvtxFunctionPointer)domain_destroy;
    *table[NVTX_CBID_CORE2_DomainRegisterStringA] = (NvtxFunctionPointer)register_string;
    *table[NVTX_CBID_CORE2_DomainNameCategoryA] = (NvtxFunctionPointer)name_category;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)range_push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)range_pop;
    return 1;
}

EXPORTED int InitializeInjectionNvtxExtension(nvtxExtModuleInfo_t *module);
int InitializeInjectionNvtxExtension(nvtxExtModuleInfo_t *module) {
    if (module->moduleId != NVTX_EXT_PAYLOAD_MODULEID || getenv("ADAMAS_NVTX_PLAIN") != NULL || !open_log()) return 0;
    module->segments[0].functionSlots[NVTX3EXT_CBID_nvtxPayloadSchemaRegister] = (intptr_t)schema_register;
    return 1;
}
