/* target.c: adaptive budgets. */
#include "core/replay/session/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/suggest.h"

static const char *const metrics[] = {[ADM_TARGET_MASS] = "mass", [ADM_TARGET_OUTPUT_REL_L2] = "output_rel_l2"};

adm_status adm_target_parse(const char *text, adm_target *target, adm_error *err) {
    for (int kind = 0; kind < 2; kind++) {
        size_t length = strlen(metrics[kind]);
        if (strncmp(text, metrics[kind], length) != 0 || text[length] != '=') continue;
        char *end;
        double value = strtod(text + length + 1, &end);
        if (end == text + length + 1 || *end != '\0' || !(value > 0 && value <= 1))
            return adm_fail(err, ADM_EINPUT, "--target: '%s': the value must be a number above 0, at most 1", text);
        *target = (adm_target){(adm_target_kind)kind, value};
        return ADM_OK;
    }
    char typed[64], meant[ADM_DID_YOU_MEAN_BYTES];
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(text, "="), text);
    return adm_fail(err, ADM_EINPUT, "--target: '%s' is not known; write mass=X or output_rel_l2=X%s", text,
                    adm_did_you_mean(typed, metrics, 2, meant));
}

void adm_target_name(const adm_target *target, char *name) {
    snprintf(name, ADM_TARGET_NAME_BYTES, "budget_for_%s_%.9g", metrics[target->kind], target->value);
}

const char *adm_target_description(const adm_target *target) {
    static const char *const meaning[] = {
        [ADM_TARGET_MASS] = "Smallest budget with which a head's selection keeps that much softmax mass",
        [ADM_TARGET_OUTPUT_REL_L2] = "Smallest budget with which a head's output_rel_l2 is at most that"};
    return meaning[target->kind];
}
