/* pipeline.c: the rows of a host pipeline, chosen and checked; see pipeline.h. */
#include "kernels/tune/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "core/base/suggest.h"
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

/* Says what there is: no such stage, or all names of its rows, each once. stage: "" for any. */
static adm_status no_row(const char *stage, const char *name, adm_error *err) {
    enum { MAX_NAMES = 64 };
    const char *names[MAX_NAMES], *stages[ADM_N_STAGES];
    char option[96];
    size_t n = 0, n_stages = 0;
    bool is_stage = stage[0] == '\0';
    for (size_t i = 0; i < adm_registry_count(); i++) {
        const adm_host_impl *row = adm_registry_at(i);
        const char *of = adm_stage_name(row->stage);
        size_t k = 0;
        while (k < n_stages && stages[k] != of) k++;
        if (k == n_stages) stages[n_stages++] = of;
        if (!is_contract(row) || (stage[0] != '\0' && strcmp(stage, of) != 0)) continue;
        is_stage = true;
        for (k = 0; k < n && strcmp(names[k], row->name) != 0;) k++;
        if (k == n && n < MAX_NAMES) names[n++] = row->name;
    }
    if (!is_stage) return adm_refuse_word("--implementation", stage, stages, n_stages, err);
    snprintf(option, sizeof option, "--implementation%s%s", stage[0] != '\0' ? ": " : "", stage);
    return adm_refuse_word(option, name, names, n, err);
}

static adm_status choose_one(const char *stage, size_t stage_bytes, const char *name, size_t name_bytes, adm_host_pipeline *p,
                             adm_error *err) {
    char text[64], of_stage[64];
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
    snprintf(of_stage, sizeof of_stage, "%.*s", (int)stage_bytes, stage);
    return no_row(of_stage, text, err);
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
