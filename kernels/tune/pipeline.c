/* pipeline.c: the rows of a host pipeline, chosen and checked; see pipeline.h. */
#include "kernels/tune/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "kernels/registry.h"
#include "kernels/tune/host/host_session.h"

const adm_host_impl **adm_pipeline_slot(adm_host_pipeline *p, adm_stage stage) {
    switch (stage) {
    case ADM_STAGE_HADAMARD: return &p->hadamard;
    case ADM_STAGE_BUCKET: return &p->bucket;
    case ADM_STAGE_PACK: return &p->pack;
    case ADM_STAGE_DISTANCE: return &p->distance;
    case ADM_STAGE_TOPK: return &p->topk;
    case ADM_STAGE_ATTENTION: return &p->attention;
    case ADM_STAGE_DENSE: return &p->dense;
    default: return NULL;
    }
}

static bool is_contract(const adm_host_impl *row) { return row->stage != ADM_STAGE_DISTANCE || strcmp(row->metric, "l1") == 0; }

/* All names of rows, each once, for a sentence. */
static void list_names(char *out, size_t bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *row = adm_registry_at(i);
        bool known = !is_contract(row);
        for (size_t k = 0; k < i && !known; k++)
            known = is_contract(adm_registry_at(k)) && strcmp(adm_registry_at(k)->name, row->name) == 0;
        if (!known && used < bytes) used += (size_t)snprintf(out + used, bytes - used, "%s%s", used > 0 ? ", " : "", row->name);
    }
}

static adm_status choose_one(const char *stage, size_t stage_bytes, const char *name, size_t name_bytes, adm_host_pipeline *p,
                             adm_error *err) {
    char names[256], text[64];
    bool found = false, runs = false;
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *row = adm_registry_at(i);
        if (strlen(row->name) != name_bytes || memcmp(row->name, name, name_bytes) != 0 || !is_contract(row)) continue;
        const char *of = adm_stage_name(row->stage);
        if (stage_bytes > 0 && (strlen(of) != stage_bytes || memcmp(of, stage, stage_bytes) != 0)) continue;
        found = true;
        if (!adm_host_impl_available(row)) continue;
        runs = true;
        *adm_pipeline_slot(p, row->stage) = row;
    }
    snprintf(text, sizeof text, "%.*s", (int)name_bytes, name);
    if (found && runs) return ADM_OK;
    if (found) return adm_fail(err, ADM_EUNSUPPORTED, "--implementation: this processor cannot run '%s'", text);
    list_names(names, sizeof names);
    return adm_fail(err, ADM_EINPUT, "--implementation: no stage%s%.*s has a row '%s'; the names are %s",
                    stage_bytes > 0 ? " " : "", (int)stage_bytes, stage, text, names);
}

adm_status adm_pipeline_choose(const char *names, adm_host_pipeline *p, adm_error *err) {
    adm_status status = ADM_OK;
    for (const char *at = names;;) {
        const size_t length = strcspn(at, ","), stage = strcspn(at, "=,");
        const bool has_stage = stage < length;
        status = choose_one(at, has_stage ? stage : 0, has_stage ? at + stage + 1 : at, has_stage ? length - stage - 1 : length,
                            p, err);
        if (status != ADM_OK || at[length] == '\0') return status;
        at += length + 1;
    }
}

adm_status adm_pipeline_check(adm_host_pipeline *p, uint32_t head_dims, uint32_t dtypes, uint64_t seed,
                              adm_pipeline_fault faults[ADM_PIPELINE_STAGES], size_t *n_faults, adm_error *err) {
    *n_faults = 0;
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_DENSE; stage++) {
        const adm_host_impl **row = adm_pipeline_slot(p, stage);
        if (row == NULL || *row == NULL || strcmp((*row)->name, "reference") == 0) continue;
        const adm_host_config config = {.stage = stage,
                                        .shape = {1, 1, 64},
                                        .dtype = ADM_F32,
                                        .n_tokens = 4097,
                                        .rule = {64, 0, 0},
                                        .head_dims = head_dims,
                                        .dtypes = dtypes};
        adm_error why = {0};
        const adm_status status = adm_host_row_check(*row, &config, seed, &why);
        if (status == ADM_OK) continue;
        if (status != ADM_EINTERNAL) return adm_fail(err, status, "%s", why.text);
        adm_pipeline_fault *fault = &faults[(*n_faults)++];
        fault->row = *row;
        snprintf(fault->reason, sizeof fault->reason, "%s '%s' is wrong: %.600s", adm_stage_name(stage), (*row)->name,
                 why.text);
        *row = adm_registry_find(stage, "reference");
    }
    return ADM_OK;
}
