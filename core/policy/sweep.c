/* sweep.c: the list of policies on the command line. */
#include "core/policy/sweep.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/base/suggest.h"

enum { MAX_VARIANTS = 512, MAX_VALUES = 16, MAX_SETTINGS = 16, VALUE_BYTES = 66 };

/* Part of the command line: not ended by a zero. */
typedef struct text_part {
    const char *at;
    size_t length;
} text_part;

/* One item of the list, and the values of each of its policy's settings. */
typedef struct item {
    text_part whole;
    const adm_policy *policy;
    text_part value[MAX_SETTINGS][MAX_VALUES];
    size_t n_values[MAX_SETTINGS];
    bool alone; /* it has no settings */
} item;

static text_part part_of(const char *text) { return (text_part){text, strlen(text)}; }

static bool is_word(text_part part, const char *word) {
    return part.length == strlen(word) && memcmp(part.at, word, part.length) == 0;
}

/* For messages. */
static int shown(text_part part) { return (int)(part.length < 64 ? part.length : 64); }

/* The policy that a word begins with, up to a colon, or NULL. */
static const adm_policy *policy_of(text_part word) {
    const char *colon = memchr(word.at, ':', word.length);
    const text_part name = {word.at, colon != NULL ? (size_t)(colon - word.at) : word.length};
    const adm_policy *policy;
    for (size_t i = 0; (policy = adm_policy_at(i)) != NULL; i++)
        if (is_word(name, policy->name)) return policy;
    return NULL;
}

static size_t n_settings(const adm_policy *policy) {
    size_t n = 0;
    while (policy->settings != NULL && policy->settings[n].name != NULL) n++;
    return n;
}

/* --- Lists for messages ----------------------------------------------------------------------------------------------- */

static void append_text(char *text, size_t text_bytes, const char *format, ...) ADM_PRINTF(3, 4);

static void append_text(char *text, size_t text_bytes, const char *format, ...) {
    const size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, text_bytes - used, format, args);
    va_end(args);
}

void adm_sweep_policies(char *text, size_t text_bytes) {
    const adm_policy *policy;
    text[0] = '\0';
    for (size_t i = 0; (policy = adm_policy_at(i)) != NULL; i++)
        append_text(text, text_bytes, "%s%s", i > 0 ? ", " : "", policy->name);
}

/* What was meant by a part, of the names in a list such as "l1, xor or dot"; "" for prose such as "a whole number". */
static const char *meant_of(text_part part, const char *list, char meant[ADM_DID_YOU_MEAN_BYTES]) {
    enum { MAX_WORDS = 16 };
    char words[256], typed[65];
    const char *known[MAX_WORDS];
    size_t n = 0;
    snprintf(words, sizeof words, "%s", list);
    snprintf(typed, sizeof typed, "%.*s", shown(part), part.at);
    for (char *at = words; n < MAX_WORDS;) {
        char *end = strpbrk(at, ", ");
        if (end != NULL) *end = '\0';
        const bool is_name = strlen(at) > 1 && strcmp(at, "or") != 0 && strcmp(at, "and") != 0;
        if (strcmp(at, "a") == 0) break;
        if (is_name) known[n++] = at; /* a digit or letter is one edit from any other */
        if (end == NULL) break;
        at = end + 1 + strspn(end + 1, " ");
    }
    return adm_did_you_mean(typed, known, n, meant);
}

static adm_status no_setting(const adm_policy *policy, text_part name, adm_error *err) {
    char known[256] = "none", meant[ADM_DID_YOU_MEAN_BYTES];
    const size_t n = n_settings(policy);
    for (size_t s = 0; s < n; s++) {
        if (s == 0) known[0] = '\0';
        append_text(known, sizeof known, "%s%s", s == 0 ? "" : s + 1 < n ? ", " : " and ", policy->settings[s].name);
    }
    return adm_fail(err, ADM_EINPUT, "--policies: '%s' has no setting '%.*s'; it has %s%s", policy->name, shown(name), name.at,
                    known, meant_of(name, known, meant));
}

static adm_status no_policy(text_part word, adm_error *err) {
    enum { MAX_NAMES = 32 };
    const char *names[MAX_NAMES];
    const adm_policy *policy;
    char typed[64];
    size_t n = 0;
    while (n < MAX_NAMES && (policy = adm_policy_at(n)) != NULL) names[n++] = policy->name;
    snprintf(typed, sizeof typed, "%.*s", (int)adm_min(strcspn(word.at, ":,"), sizeof typed - 1), word.at);
    return adm_refuse_word("--policies", typed, names, n, err);
}

/* --- Splitting -------------------------------------------------------------------------------------------------------- */

static text_part next_word(const char *text) { return (text_part){text, strcspn(text, ",")}; }

/* Splits a setting's text into its values: at each `+`, but for one inside a number (1e+5). */
static adm_status split_values(item *it, size_t s, text_part text, adm_error *err) {
    for (size_t begin = 0, i = 0; i <= text.length; i++) {
        bool inside_number = i > 0 && i + 1 < text.length && text.at[i - 1] == 'e' && strchr("0123456789", text.at[i + 1]);
        if (i < text.length && (text.at[i] != '+' || inside_number)) continue;
        if (it->n_values[s] == MAX_VALUES)
            return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' has more than %d values of %s", shown(it->whole), it->whole.at,
                            MAX_VALUES, it->policy->settings[s].name);
        it->value[s][it->n_values[s]++] = (text_part){text.at + begin, i - begin};
        begin = i + 1;
    }
    return ADM_OK;
}

static adm_status add_setting(item *it, text_part text, adm_error *err) {
    const char *equals = memchr(text.at, '=', text.length);
    if (equals == NULL)
        return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' of '%s' is no setting: write for instance select=group",
                        shown(text), text.at, it->policy->name);
    const text_part name = {text.at, (size_t)(equals - text.at)};
    const size_t n = n_settings(it->policy);
    size_t s = 0;
    while (s < n && !is_word(name, it->policy->settings[s].name)) s++;
    if (s == n) return no_setting(it->policy, name, err);
    it->alone = false;
    if (it->n_values[s] > 0)
        return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' sets %s twice", shown(it->whole), it->whole.at,
                        it->policy->settings[s].name);
    return split_values(it, s, (text_part){equals + 1, text.length - name.length - 1}, err);
}

/* Reads the item that starts at *text, which it moves behind it. */
static adm_status read_item(const char **text, item *it, adm_error *err) {
    const text_part word = next_word(*text);
    *it = (item){.whole = word, .policy = policy_of(word), .alone = true};
    if (it->policy == NULL) return no_policy(word, err);
    const size_t name_length = strlen(it->policy->name);
    text_part setting_text = {word.at + name_length + 1, 0};
    bool open = word.length > name_length; /* a setting has begun and may go on behind the comma */
    const char *end = word.at + word.length;
    for (;;) {
        text_part next = {end, 0};
        const bool more = *end == ',';
        if (more) next = next_word(end + 1);
        const bool starts_item = more && policy_of(next) != NULL;
        const bool starts_setting = more && !starts_item && memchr(next.at, '=', next.length) != NULL;
        if (more && !starts_item && !starts_setting && open) { /* goes on with the value before it */
            end = next.at + next.length;
            continue;
        }
        setting_text.length = open ? (size_t)(end - setting_text.at) : 0;
        it->whole.length = (size_t)(end - it->whole.at);
        if (open) {
            adm_status status = add_setting(it, setting_text, err);
            if (status != ADM_OK) return status;
        }
        if (!starts_setting) break;
        setting_text = next;
        end = next.at + next.length;
        open = true;
    }
    *text = end;
    return ADM_OK;
}

/* --- Values ----------------------------------------------------------------------------------------------------------- */

/* option: where the value comes from. */
static adm_status read_value(const adm_setting *setting, adm_variant *variant, const char *option, text_part value,
                             adm_error *err) {
    char meant[ADM_DID_YOU_MEAN_BYTES];
    char text[VALUE_BYTES]; /* what is longer is no value, and thresholds say so */
    adm_error own = {0};
    snprintf(text, sizeof text, "%.*s", (int)(value.length < sizeof text ? value.length : sizeof text), value.at);
    adm_status status = setting->read(variant, text, &own);
    if (status == ADM_OK) return ADM_OK;
    if (own.text[0] == '\0')
        return adm_fail(err, status, "%s: '%.*s' is no value of %s: use %s%s", option, shown(value), value.at, setting->name,
                        setting->values, meant_of(value, setting->values, meant));
    return adm_fail(err, status, "%s: %s", option, own.text);
}

/* The values of settings that the item does not name: those of an option, or of the policy's row. */
static adm_status add_unset(item *it, const adm_sweep_default *defaults, size_t n_defaults, uint32_t *taken, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t d = 0; d < n_defaults; d++) /* metrics are compared with each other, not also by thresholds */
        it->alone = it->alone && !(strcmp(defaults[d].setting, "metric") == 0 && defaults[d].n > 0);
    for (size_t s = 0; status == ADM_OK && s < n_settings(it->policy); s++) {
        const adm_setting *setting = &it->policy->settings[s];
        if (it->n_values[s] > 0) continue;
        for (size_t d = 0; d < n_defaults; d++) {
            if (strcmp(defaults[d].setting, setting->name) != 0) continue;
            *taken |= UINT32_C(1) << d;
            for (size_t i = 0; status == ADM_OK && i < defaults[d].n; i++)
                status = split_values(it, s, part_of(defaults[d].values[i]), err);
        }
        if (it->n_values[s] == 0)
            status = split_values(
                it, s, part_of(it->alone && setting->unset_alone != NULL ? setting->unset_alone : setting->unset), err);
    }
    return status;
}

/* Values of an option are wrong even where nothing takes them. */
static adm_status check_default(const adm_sweep_default *given, adm_error *err) {
    adm_status status = ADM_OK;
    const adm_policy *policy;
    if (given->n > MAX_VALUES)
        return adm_fail(err, ADM_EINPUT, "%s: %zu values; at most %d are compared", given->option, given->n, MAX_VALUES);
    for (size_t i = 0; i < given->n; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(given->values[i], given->values[j]) == 0)
                return adm_fail(err, ADM_EINPUT, "%s: '%s' is given twice", given->option, given->values[i]);
    for (size_t i = 0; (policy = adm_policy_at(i)) != NULL; i++)
        for (size_t s = 0; s < n_settings(policy); s++) {
            if (strcmp(policy->settings[s].name, given->setting) != 0) continue;
            item it = {.policy = policy};
            for (size_t v = 0; status == ADM_OK && v < given->n; v++)
                status = split_values(&it, s, part_of(given->values[v]), err);
            for (size_t v = 0; status == ADM_OK && v < it.n_values[s]; v++)
                status = read_value(&policy->settings[s], &(adm_variant){.policy = policy}, given->option, it.value[s][v], err);
            return status;
        }
    return ADM_OK;
}

/* --- Combinations ----------------------------------------------------------------------------------------------------- */

/* A variant that is there already, by whatever way of asking for it, is not added again. */
static adm_status add_variant(adm_sweep *sweep, const adm_variant *variant, adm_error *err) {
    char name[ADM_VARIANT_NAME_BYTES], other[ADM_VARIANT_NAME_BYTES];
    adm_variant_name(variant, name);
    for (size_t i = 0; i < sweep->n_variants; i++) {
        if (sweep->variant[i].policy != variant->policy) continue;
        adm_variant_name(&sweep->variant[i], other);
        if (strcmp(name, other) == 0) return ADM_OK;
    }
    if (sweep->n_variants == MAX_VARIANTS) return adm_fail(err, ADM_EINPUT, "--policies: more than %d variants", MAX_VARIANTS);
    sweep->variant[sweep->n_variants++] = *variant;
    return ADM_OK;
}

/* Every combination of the settings from s on. */
static adm_status combine(adm_sweep *sweep, const item *it, size_t s, const adm_variant *so_far, adm_error *err) {
    adm_variant variant = *so_far;
    adm_status status = ADM_OK;
    if (s == n_settings(it->policy)) {
        if (it->policy->complete != NULL) status = it->policy->complete(&variant, err);
        return status == ADM_OK ? add_variant(sweep, &variant, err) : status;
    }
    for (size_t i = 0; status == ADM_OK && i < it->n_values[s]; i++) {
        status = read_value(&it->policy->settings[s], &variant, "--policies", it->value[s][i], err);
        if (status == ADM_OK) status = combine(sweep, it, s + 1, &variant, err);
    }
    return status;
}

/* In the order of the rows; variants of one policy keep theirs. */
static void sort_by_row(adm_sweep *sweep, adm_variant *sorted) {
    const adm_policy *policy;
    size_t n = 0;
    for (size_t i = 0; (policy = adm_policy_at(i)) != NULL; i++)
        for (size_t v = 0; v < sweep->n_variants; v++)
            if (sweep->variant[v].policy == policy) sorted[n++] = sweep->variant[v];
    adm_free(&sweep->variant);
    sweep->variant = sorted;
}

adm_status adm_sweep_parse(const char *policies, const adm_sweep_default *defaults, size_t n_defaults, adm_sweep *sweep,
                           adm_error *err) {
    *sweep = (adm_sweep){.n_variants = 0};
    item *it = NULL;
    adm_variant *sorted = NULL;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_defaults; i++) status = check_default(&defaults[i], err);
    if (status == ADM_OK) status = adm_alloc(&it, 1, sizeof *it, "a policy", err);
    if (status == ADM_OK) status = adm_alloc(&sweep->variant, MAX_VARIANTS, sizeof *sweep->variant, "variants", err);
    for (const char *text = policies; status == ADM_OK; text++) {
        status = read_item(&text, it, err);
        if (status == ADM_OK) status = add_unset(it, defaults, n_defaults, &sweep->taken, err);
        if (status == ADM_OK) status = combine(sweep, it, 0, &(adm_variant){.policy = it->policy}, err);
        if (*text == '\0') break;
    }
    adm_free(&it);
    if (status == ADM_OK) status = adm_alloc(&sorted, sweep->n_variants, sizeof *sorted, "variants", err);
    if (status == ADM_OK) sort_by_row(sweep, sorted);
    else adm_sweep_clear(sweep);
    return status;
}

adm_status adm_sweep_add(adm_sweep *sweep, const adm_variant *variant, adm_error *err) {
    adm_sweep grown = {.n_variants = sweep->n_variants, .taken = sweep->taken};
    adm_variant *sorted = NULL;
    adm_status status = adm_alloc(&grown.variant, MAX_VARIANTS, sizeof *grown.variant, "variants", err);
    if (status != ADM_OK) return status;
    memcpy(grown.variant, sweep->variant, sweep->n_variants * sizeof *sweep->variant);
    status = add_variant(&grown, variant, err);
    if (status == ADM_OK) status = adm_alloc(&sorted, grown.n_variants, sizeof *sorted, "variants", err);
    if (status != ADM_OK) {
        adm_sweep_clear(&grown);
        return status;
    }
    sort_by_row(&grown, sorted);
    adm_sweep_clear(sweep);
    *sweep = grown;
    return ADM_OK;
}

void adm_sweep_clear(adm_sweep *sweep) {
    adm_free(&sweep->variant);
    *sweep = (adm_sweep){.n_variants = 0};
}
