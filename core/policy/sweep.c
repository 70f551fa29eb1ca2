/* sweep.c: the list of policies on the command line. */
#include "core/policy/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

enum { MAX_CODINGS = 256, MAX_VALUES = 16, MAX_FORCED = 1 << 24 };

/* Part of the command line: not ended by a zero. */
typedef struct text_part {
    const char *at;
    size_t length;
} text_part;

typedef enum setting { METRIC, BITS, HADAMARD, THRESHOLDS, SINKS, RECENT, SELECT, N_SETTINGS } setting;

static const char *const setting_names[N_SETTINGS] = {"metric", "bits", "hadamard", "thresholds", "sinks", "recent", "select"};

/* One item of the list, and the values of each of its settings; none: the default. */
typedef struct item {
    text_part whole;
    adm_policy policy;
    text_part value[N_SETTINGS][MAX_VALUES];
    size_t n_values[N_SETTINGS];
    char number[2][MAX_VALUES][12]; /* values of sinks and of recent that are defaults, as text */
    bool bare; /* it has no settings */
} item;

static bool is_word(text_part part, const char *word) {
    return part.length == strlen(word) && memcmp(part.at, word, part.length) == 0;
}

/* For messages. */
static int shown(text_part part) { return (int)(part.length < 64 ? part.length : 64); }

/* The policy that a piece begins with, up to a colon; ADM_N_POLICIES if none. */
static adm_policy policy_of(text_part piece) {
    const char *colon = memchr(piece.at, ':', piece.length);
    text_part name = {piece.at, colon != NULL ? (size_t)(colon - piece.at) : piece.length};
    adm_policy p = ADM_POLICY_DENSE;
    while (p < ADM_N_POLICIES && !is_word(name, adm_policy_name(p))) p++;
    return p;
}

/* --- Splitting ---------------------------------------------------------------------------------------------------- */

/* The piece from text to the next comma. */
static text_part next_piece(const char *text) { return (text_part){text, strcspn(text, ",")}; }

/* Splits a setting's text into its values: at each `+`, but for one inside a number (1e+5). */
static adm_status split_values(item *it, setting s, text_part text, adm_error *err) {
    if (it->n_values[s] > 0)
        return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' sets %s twice", shown(it->whole), it->whole.at, setting_names[s]);
    for (size_t begin = 0, i = 0; i <= text.length; i++) {
        bool inside_number = i > 0 && i + 1 < text.length && text.at[i - 1] == 'e' && strchr("0123456789", text.at[i + 1]);
        if (i < text.length && (text.at[i] != '+' || inside_number)) continue;
        if (it->n_values[s] == MAX_VALUES)
            return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' has more than %d values of %s", shown(it->whole), it->whole.at,
                            MAX_VALUES, setting_names[s]);
        it->value[s][it->n_values[s]++] = (text_part){text.at + begin, i - begin};
        begin = i + 1;
    }
    return ADM_OK;
}

static adm_status add_setting(item *it, text_part text, adm_error *err) {
    const char *equals = memchr(text.at, '=', text.length);
    if (equals == NULL)
        return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' of '%s' is no setting: write for instance metric=dot", shown(text),
                        text.at, adm_policy_name(it->policy));
    text_part name = {text.at, (size_t)(equals - text.at)};
    setting s = METRIC;
    while (s < N_SETTINGS && !is_word(name, setting_names[s])) s++;
    if (it->policy != ADM_POLICY_ADAMAS && s < SELECT) s = N_SETTINGS;
    if (it->policy == ADM_POLICY_DENSE || it->policy == ADM_POLICY_RANDOM) s = N_SETTINGS;
    if (s == N_SETTINGS)
        return adm_fail(err, ADM_EINPUT,
                        "--policies: '%s' has no setting '%.*s'; adamas has metric, bits, hadamard, "
                        "thresholds, sinks, recent and select, and oracle, quest, streaming and h2o have select",
                        adm_policy_name(it->policy), shown(name), name.at);
    it->bare = false;
    return split_values(it, s, (text_part){equals + 1, text.length - name.length - 1}, err);
}

/* Reads the item that starts at *text, which it moves behind it. */
static adm_status read_item(const char **text, item *it, adm_error *err) {
    text_part piece = next_piece(*text);
    *it = (item){.whole = piece, .policy = policy_of(piece), .bare = true};
    if (it->policy == ADM_N_POLICIES)
        return adm_fail(err, ADM_EINPUT,
                        "--policies: '%.*s' is not known; there are dense, oracle, adamas, quest, "
                        "streaming, h2o, random",
                        shown(piece), piece.at);
    size_t name_length = strlen(adm_policy_name(it->policy));
    text_part setting_text = {piece.at + name_length + 1, 0};
    bool open = piece.length > name_length; /* a setting has begun and may go on behind the comma */
    const char *end = piece.at + piece.length;
    for (;;) {
        text_part next = {end, 0};
        bool more = *end == ',';
        if (more) next = next_piece(end + 1);
        bool starts_item = more && policy_of(next) < ADM_N_POLICIES;
        bool starts_setting = more && !starts_item && memchr(next.at, '=', next.length) != NULL;
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

/* --- Values ------------------------------------------------------------------------------------------------------- */

static adm_status bad_value(setting s, text_part value, const char *allowed, adm_error *err) {
    return adm_fail(err, ADM_EINPUT, "--policies: '%.*s' is no value of %s: use %s", shown(value), value.at, setting_names[s],
                    allowed);
}

static adm_status read_selection(text_part value, adm_selection *selection, adm_error *err) {
    *selection = is_word(value, "group") ? ADM_SELECT_GROUP : ADM_SELECT_HEAD;
    if (is_word(value, "group") || is_word(value, "head")) return ADM_OK;
    return bad_value(SELECT, value, "head or group", err);
}

static adm_status read_forced(setting s, text_part value, uint32_t *n, adm_error *err) {
    *n = 0;
    for (size_t i = 0; i < value.length && *n <= MAX_FORCED; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') return bad_value(s, value, "a whole number", err);
        *n = 10 * *n + (uint32_t)(value.at[i] - '0');
    }
    if (value.length == 0 || *n > MAX_FORCED) return bad_value(s, value, "a whole number from 0 to 16777216", err);
    return ADM_OK;
}

static adm_status apply(adm_coding *coding, setting s, text_part value, adm_error *err) {
    char text[sizeof coding->thresholds.text + 1];
    switch (s) {
    case METRIC:
        for (int m = 0; m < ADM_N_CODE_METRICS; m++)
            if (is_word(value, adm_code_metric_name((adm_code_metric)m))) {
                coding->metric = (adm_code_metric)m;
                return ADM_OK;
            }
        return bad_value(s, value, "l1, xor, l2, sign, dot or asymmetric", err);
    case BITS:
        if (value.length != 1 || *value.at < '1' || *value.at > '0' + ADM_MAX_CODE_BITS)
            return bad_value(s, value, "1, 2 or 3", err);
        coding->bits = (uint32_t)(*value.at - '0');
        return ADM_OK;
    case HADAMARD:
        coding->hadamard = is_word(value, "on");
        return coding->hadamard || is_word(value, "off") ? ADM_OK : bad_value(s, value, "on or off", err);
    case THRESHOLDS:
        snprintf(text, sizeof text, "%.*s", (int)(value.length < sizeof text ? value.length : sizeof text), value.at);
        return adm_threshold_parse(text, &coding->thresholds, err);
    case SINKS: return read_forced(s, value, &coding->n_sinks, err);
    case RECENT: {
        adm_status status = read_forced(s, value, &coding->n_recent, err);
        if (coding->n_recent == 0) coding->n_recent = 1; /* the newest token is always in */
        return status;
    }
    case SELECT: return read_selection(value, &coding->selection, err);
    case N_SETTINGS: break;
    }
    return ADM_OK;
}

/* --- Combinations ------------------------------------------------------------------------------------------------- */

/* A variant that is there already, by whatever way of asking for it, is not added again. */
static adm_status add_coding(adm_sweep *sweep, const adm_coding *coding, adm_error *err) {
    char name[ADM_CODING_NAME_BYTES], other[ADM_CODING_NAME_BYTES];
    adm_coding_name(coding, name);
    for (size_t i = 0; i < sweep->n_codings; i++) {
        adm_coding_name(&sweep->codings[i], other);
        if (strcmp(name, other) == 0) return ADM_OK;
    }
    if (sweep->n_codings == MAX_CODINGS)
        return adm_fail(err, ADM_EINPUT, "--policies: more than %d variants of adamas", MAX_CODINGS);
    sweep->codings[sweep->n_codings++] = *coding;
    return ADM_OK;
}

/* Every combination of the settings from s on. */
static adm_status combine(adm_sweep *sweep, const item *it, setting s, const adm_coding *so_far, adm_error *err) {
    adm_coding coding = *so_far;
    adm_status status = ADM_OK;
    if (s == N_SETTINGS) {
        status = adm_coding_complete(&coding, err);
        return status == ADM_OK ? add_coding(sweep, &coding, err) : status;
    }
    if (it->n_values[s] == 0) return combine(sweep, it, (setting)(s + 1), so_far, err);
    for (size_t i = 0; status == ADM_OK && i < it->n_values[s]; i++) {
        status = apply(&coding, s, it->value[s][i], err);
        if (status == ADM_OK) status = combine(sweep, it, (setting)(s + 1), &coding, err);
    }
    return status;
}

static text_part part_of(const char *text) { return (text_part){text, strlen(text)}; }

/* The thresholds of an item that names none. */
static adm_status default_thresholds(item *it, const adm_sweep_defaults *defaults, adm_error *err) {
    static const char *const both[] = {"calibrated", "fixed:-10,0,10"};
    size_t n = defaults->n_thresholds > 0 ? defaults->n_thresholds : it->bare ? 2 : 1;
    const char *const *specs = defaults->n_thresholds > 0 ? defaults->thresholds : both;
    if (n > MAX_VALUES) return adm_fail(err, ADM_EINPUT, "--thresholds: given more than %d times", MAX_VALUES);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++)
            if (strcmp(specs[i], specs[j]) == 0)
                return adm_fail(err, ADM_EINPUT, "--thresholds: '%s' is given twice", specs[i]);
        it->value[THRESHOLDS][i] = part_of(specs[i]);
    }
    it->n_values[THRESHOLDS] = n;
    return ADM_OK;
}

/* The numbers of sinks or recent tokens of an item that names none. */
static adm_status default_forced(item *it, setting s, const char *option, const uint32_t *numbers, size_t n, adm_error *err) {
    if (it->n_values[s] > 0) return ADM_OK;
    if (n > MAX_VALUES) return adm_fail(err, ADM_EINPUT, "%s: %zu values; a replay compares at most %d", option, n, MAX_VALUES);
    for (size_t i = 0; i < n; i++) {
        char *text = it->number[s - SINKS][i];
        snprintf(text, sizeof it->number[0][0], "%u", numbers[i]);
        it->value[s][i] = part_of(text);
    }
    it->n_values[s] = n;
    return ADM_OK;
}

static adm_status add_item(adm_sweep *sweep, item *it, const adm_sweep_defaults *defaults, adm_error *err) {
    adm_status status = ADM_OK;
    sweep->policy[it->policy] = true;
    if (it->policy == ADM_POLICY_DENSE || it->policy == ADM_POLICY_RANDOM) { /* no head's choice differs from another's */
        sweep->select_head[it->policy] = true;
        return ADM_OK;
    }
    if (it->n_values[SELECT] == 0)
        status = split_values(it, SELECT, part_of(defaults->select ? defaults->select : "head"), err);
    if (status == ADM_OK && it->policy == ADM_POLICY_ADAMAS) {
        if (it->n_values[THRESHOLDS] == 0) status = default_thresholds(it, defaults, err);
        if (status == ADM_OK) status = default_forced(it, SINKS, "--sinks", defaults->sinks, defaults->n_sinks, err);
        if (status == ADM_OK) status = default_forced(it, RECENT, "--recent", defaults->recent, defaults->n_recent, err);
        return status == ADM_OK ? combine(sweep, it, METRIC, &adm_coding_default, err) : status;
    }
    for (size_t i = 0; status == ADM_OK && i < it->n_values[SELECT]; i++) {
        adm_selection selection;
        status = read_selection(it->value[SELECT][i], &selection, err);
        bool *named = selection == ADM_SELECT_GROUP ? sweep->select_group : sweep->select_head;
        named[it->policy] = true;
    }
    return status;
}

adm_status adm_sweep_parse(const char *policies, const adm_sweep_defaults *defaults, adm_sweep *sweep, adm_error *err) {
    *sweep = (adm_sweep){.n_codings = 0};
    item *it = NULL;
    adm_threshold_spec spec;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < defaults->n_thresholds; i++) /* wrong even where nothing takes them */
        status = adm_threshold_parse(defaults->thresholds[i], &spec, err);
    if (status == ADM_OK) status = adm_alloc(&it, 1, sizeof *it, "a policy", err);
    if (status == ADM_OK) status = adm_alloc(&sweep->codings, MAX_CODINGS, sizeof *sweep->codings, "variants of adamas", err);
    for (const char *text = policies; status == ADM_OK; text++) {
        status = read_item(&text, it, err);
        if (status == ADM_OK) status = add_item(sweep, it, defaults, err);
        if (*text == '\0') break;
    }
    adm_free(&it);
    if (status != ADM_OK) adm_sweep_clear(sweep);
    return status;
}

void adm_sweep_clear(adm_sweep *sweep) {
    adm_free(&sweep->codings);
    *sweep = (adm_sweep){.n_codings = 0};
}
