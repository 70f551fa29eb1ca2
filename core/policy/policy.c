/* policy.c: the table of selection policies, and what they have in common. */
#include "core/policy/policy.h"

#include <stdio.h>
#include <string.h>

/* One row a policy, in the order of help and messages: core/policy/NAME.c defines adm_policy_NAME. */
#define POLICIES(ROW) \
    ROW(dense)        \
    ROW(oracle)       \
    ROW(adamas)       \
    ROW(quest)        \
    ROW(streaming)    \
    ROW(h2o)          \
    ROW(accumulated)  \
    ROW(random)

#define DECLARE(name) extern const adm_policy adm_policy_##name;
#define ADDRESS(name) &adm_policy_##name,

POLICIES(DECLARE)

static const adm_policy *const rows[] = {POLICIES(ADDRESS)};

const adm_policy *adm_policy_at(size_t i) { return i < sizeof rows / sizeof *rows ? rows[i] : NULL; }

const adm_policy *adm_policy_find(const char *name) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i]->name, name) == 0) return rows[i];
    return NULL;
}

/* --- Settings ------------------------------------------------------------------------------------------------------ */

adm_status adm_read_selection(adm_variant *variant, const char *value, adm_error *err) {
    const bool group = strcmp(value, "group") == 0;
    (void)err;
    variant->selection = group ? ADM_SELECT_GROUP : ADM_SELECT_HEAD;
    return group || strcmp(value, "head") == 0 ? ADM_OK : ADM_EINPUT;
}

adm_status adm_read_number(const char *value, uint32_t *number) {
    enum { LARGEST = 1 << 24 };
    uint32_t n = 0;
    for (const char *at = value; *at != '\0'; at++) {
        if (*at < '0' || *at > '9') return ADM_EINPUT;
        n = 10 * n + (uint32_t)(*at - '0');
        if (n > LARGEST) return ADM_EINPUT;
    }
    *number = n;
    return value[0] != '\0' ? ADM_OK : ADM_EINPUT;
}

void adm_variant_name(const adm_variant *variant, char *name) {
    char text[ADM_DESCRIPTION_BYTES];
    variant->policy->describe(variant, text);
    snprintf(name, ADM_VARIANT_NAME_BYTES, "%s%s", text, variant->selection == ADM_SELECT_GROUP ? ", per group" : "");
}

/* --- What stands in for a function that a row lacks ------------------------------------------------------------------- */

size_t adm_policy_min_budget(const adm_variant *variant) {
    return variant->policy->min_budget != NULL ? variant->policy->min_budget(variant) : 1;
}

const void *adm_policy_key(const adm_policy_keys *keys, const adm_shape *shape, size_t kv_head, size_t token) {
    const size_t row_bytes = shape->head_dim * adm_dtype_bytes(keys->dtype);
    return (const unsigned char *)keys->k + (kv_head * keys->stride + token) * row_bytes;
}
