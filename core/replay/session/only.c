/* only.c: a few of the times of a replay. */
#include "core/replay/session/only.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/suggest.h"

static bool depends_on_budget(adm_stage stage) {
    return stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
}

static bool is_encoding(adm_stage stage) {
    return stage == ADM_STAGE_HADAMARD || stage == ADM_STAGE_BUCKET || stage == ADM_STAGE_PACK;
}

/* A number of 1 to UINT32_MAX; *at moves behind it. */
static bool read_number(const char **at, uint32_t *number) {
    char *end;
    if (**at < '1' || **at > '9') return false;
    errno = 0;
    const unsigned long long value = strtoull(*at, &end, 10);
    if (errno != 0 || value > UINT32_MAX) return false;
    *number = (uint32_t)value;
    *at = end;
    return true;
}

/* STAGE[:bulk][@LENGTH[/BUDGET]], up to a comma or the end. */
static bool read_one(const char **at, adm_only *only) {
    const size_t length = strcspn(*at, ":@/,");
    adm_stage stage = 0;
    while (stage < ADM_N_STAGES &&
           (strlen(adm_stage_name(stage)) != length || strncmp(adm_stage_name(stage), *at, length) != 0))
        stage++;
    if (stage == ADM_N_STAGES) return false;
    *only = (adm_only){.stage = stage};
    *at += length;
    if (strncmp(*at, ":bulk", 5) == 0) {
        only->bulk = true;
        *at += 5;
    }
    if (only->bulk && !is_encoding(stage)) return false;
    if (**at == '@') {
        ++*at;
        if (!read_number(at, &only->seq_len)) return false;
        if (**at == '/') {
            ++*at;
            if (!depends_on_budget(stage) || !read_number(at, &only->budget)) return false;
        }
    }
    return **at == ',' || **at == '\0';
}

/* The stage that a word that is none was meant to begin with. */
static const char *meant_of(const char *from, char meant[ADM_DID_YOU_MEAN_BYTES]) {
    const char *stages[ADM_N_STAGES];
    char typed[64];
    adm_stage_names(stages);
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(from, ":@/,"), from);
    for (int s = 0; s < ADM_N_STAGES; s++)
        if (strcmp(typed, stages[s]) == 0) typed[0] = '\0'; /* it is the rest that is wrong */
    return adm_did_you_mean(typed, stages, ADM_N_STAGES, meant);
}

adm_status adm_only_parse(const char *text, adm_only **only, size_t *n, adm_error *err) {
    char meant[ADM_DID_YOU_MEAN_BYTES];
    size_t capacity = 1;
    *n = 0;
    for (const char *at = text; *at != '\0'; at++) capacity += *at == ',';
    adm_status status = adm_alloc(only, capacity, sizeof **only, "times to take", err);
    for (const char *at = text; status == ADM_OK;) {
        const char *from = at;
        if (!read_one(&at, &(*only)[*n])) {
            status = adm_fail(err, ADM_EINPUT,
                              "--only-times: '%.*s' is none of topk, topk@LENGTH, topk@LENGTH/BUDGET, pack:bulk@LENGTH and the "
                              "like%s",
                              (int)strcspn(from, ","), from, meant_of(from, meant));
            break;
        }
        ++*n;
        if (*at == '\0') break;
        at++;
    }
    if (status != ADM_OK) adm_free(only);
    return status;
}

bool adm_only_wants(const adm_only *only, size_t n, adm_stage stage, bool bulk, uint32_t seq_len, uint32_t budget) {
    for (size_t i = 0; i < n; i++) {
        const adm_only *o = &only[i];
        const bool is_part = o->stage == ADM_STAGE_STEP && stage != ADM_STAGE_DENSE && !bulk;
        if ((o->stage != stage && !is_part) || o->bulk != bulk || (o->seq_len != 0 && o->seq_len != seq_len)) continue;
        if (o->budget == 0 || o->budget == budget || !depends_on_budget(stage)) return true;
    }
    return n == 0;
}
