/* adamas.c: the tokens whose codes are nearest to the query's: Adamas, arXiv 2510.18413, and variants of it
 * (core/policy/coding.h).
 *
 *   coding of a variant and layer                  the variant's own, or what a calibration says of the layer
 *   book   [n_variants][n_layers]                  thresholds, learnt from the prompt
 *   packed [n_held_heads][n_tokens][row_bytes]     the keys of the layer that was begun, once for all variants whose codes are
 *                                                  the same
 *   query -- codes, or a table --> distance [n_tokens] -- top-k at the widest budget --> set -- split by position --> levels
 *
 * Forced tokens come first, then by distance, the most recent first among equals. */
#include "core/policy/adamas.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/contract/asym4.h"
#include "core/policy/calibration.h"
#include "core/policy/coding_name.h"
#include "core/policy/codebook.h"

_Static_assert(sizeof(adm_coding) <= ADM_SETTINGS_BYTES, "a coding is a variant's own settings");

/* Keys in the codes that one or more variants share. */
typedef struct key_codes {
    const adm_coding *coding; /* of the first of them */
    size_t *variant; /* [n_layers] which that is, or NO_VARIANT in layers where none has these codes */
    size_t row_bytes;
    uint8_t *packed;
    uint64_t *count; /* [n_layers][n_kv_heads][ADM_CODES] */
} key_codes;

typedef struct adamas_memory {
    adm_codebook **book;
    key_codes *codes; /* [n_codes] */
    size_t n_codes;
    size_t *codes_of; /* [n_variants][n_layers] */
} adamas_memory;

enum { ENCODE_ROWS = 512 };

#define NO_VARIANT SIZE_MAX

typedef struct adamas_scratch {
    adm_nested_scratch nested;
    float *rows; /* [ENCODE_ROWS][d] */
    uint16_t *distance; /* [n_tokens] */
    uint16_t *near; /* [max_selected] distances of those selected */
    uint32_t *histogram; /* a counter a distance */
    uint16_t *table; /* [d][ADM_CODES] */
    void *scan;
} adamas_scratch;

static adm_coding *coding_of(adm_variant *variant) { return (adm_coding *)variant->own.bytes; }

/* What all layers of a variant share: the forced tokens, the selection. */
static const adm_coding *coding_at(const adm_policy_state *state, size_t variant) {
    return (const adm_coding *)state->variant[variant].own.bytes;
}

/* How a layer's keys are coded and compared. */
static const adm_coding *layer_coding(const adm_policy_state *state, size_t variant, size_t layer) {
    const adm_coding *coding = coding_at(state, variant);
    const uint32_t *number = state->setup->layer_number;
    if (coding->calibration == NULL) return coding;
    return adm_calibration_coding(coding->calibration, number != NULL ? number[layer] : (uint32_t)layer);
}

static key_codes *codes_at(const adm_policy_state *state, size_t variant, size_t layer) {
    const adamas_memory *m = state->memory;
    return &m->codes[m->codes_of[variant * state->setup->n_layers + layer]];
}

static adm_codebook *book_at(const adm_policy_state *state, size_t variant, size_t layer) {
    return ((const adamas_memory *)state->memory)->book[variant * state->setup->n_layers + layer];
}

/* --- Settings --------------------------------------------------------------------------------------------------------- */

static adm_status read_metric(adm_variant *variant, const char *value, adm_error *err) {
    (void)err;
    for (adm_code_metric m = 0; m < ADM_N_CODE_METRICS; m++) {
        if (strcmp(value, adm_code_metric_name(m)) != 0) continue;
        coding_of(variant)->metric = m;
        return ADM_OK;
    }
    return ADM_EINPUT;
}

static adm_status read_bits(adm_variant *variant, const char *value, adm_error *err) {
    (void)err;
    if (strlen(value) != 1 || value[0] < '1' || value[0] > '0' + ADM_MAX_CODE_BITS) return ADM_EINPUT;
    coding_of(variant)->bits = (uint32_t)(value[0] - '0');
    return ADM_OK;
}

static adm_status read_hadamard(adm_variant *variant, const char *value, adm_error *err) {
    (void)err;
    coding_of(variant)->hadamard = strcmp(value, "on") == 0;
    return coding_of(variant)->hadamard || strcmp(value, "off") == 0 ? ADM_OK : ADM_EINPUT;
}

static adm_status read_thresholds(adm_variant *variant, const char *value, adm_error *err) {
    return adm_threshold_parse(value, &coding_of(variant)->thresholds, err);
}

static adm_status read_sinks(adm_variant *variant, const char *value, adm_error *err) {
    (void)err;
    return adm_read_number(value, &coding_of(variant)->n_sinks);
}

static adm_status read_recent(adm_variant *variant, const char *value, adm_error *err) {
    adm_status status = adm_read_number(value, &coding_of(variant)->n_recent);
    (void)err;
    if (coding_of(variant)->n_recent == 0) coding_of(variant)->n_recent = 1; /* the newest token is always in */
    return status;
}

static const adm_setting settings[] = {
    {"metric", "l1, xor, l2, sign, dot, asymmetric or asym4", "l1", NULL, read_metric},
    {"bits", "1, 2 or 3", "2", NULL, read_bits},
    {"hadamard", "on or off", "on", NULL, read_hadamard},
    {"thresholds", "a specification of thresholds", "calibrated", "calibrated+fixed:-10,0,10", read_thresholds},
    {"sinks", ADM_SETTING_NUMBER, "0", NULL, read_sinks},
    {"recent", ADM_SETTING_NUMBER, "1", NULL, read_recent},
    ADM_SETTING_SELECT,
    {0},
};

static adm_status complete(adm_variant *variant, adm_error *err) {
    coding_of(variant)->selection = variant->selection;
    return adm_coding_complete(coding_of(variant), err);
}

static void describe(const adm_variant *variant, char *text) { adm_coding_name(adm_adamas_coding(variant), text); }

static size_t min_budget(const adm_variant *variant) {
    const adm_coding *coding = adm_adamas_coding(variant);
    return (size_t)coding->n_sinks + coding->n_recent;
}

static adm_status check(const adm_variant *variant, const adm_policy_limits *limits, adm_error *err) {
    const adm_coding *coding = adm_adamas_coding(variant);
    const adm_select_rule rule = adm_coding_rule(coding, limits->min_budget);
    adm_status status = adm_select_rule_check(&rule, err);
    if (status == ADM_OK) status = adm_coding_check(coding, &limits->shape, err);
    for (size_t i = 0; status == ADM_OK && coding->calibration != NULL && i < coding->calibration->n_layers; i++) {
        adm_coding of_layer = coding->calibration->layer[i].coding;
        of_layer.selection = coding->selection;
        status = adm_coding_check(&of_layer, &limits->shape, err);
    }
    if (status == ADM_OK && coding->thresholds.per_layer && limits->n_prompt == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "%s: thresholds '%s' cannot be calibrated: no token stands before the first step; give fixed:a,b,c",
                          limits->input, coding->thresholds.text);
    return status;
}

/* --- Codebooks -------------------------------------------------------------------------------------------------------- */

/* Rows a KV head that a layer's thresholds are learnt from, at equal distances in the prompt where that is longer: enough for
 * quantiles to 1%, few enough to sort. */
enum { CALIBRATION_ROWS = 4096 };

static void load_rows(const adm_policy_state *state, const adm_policy_keys *keys, size_t kv_head, size_t token, size_t n_rows,
                      bool hadamard, float *y) {
    const uint32_t d = state->setup->shape.head_dim;
    const void *rows = adm_policy_key(keys, &state->setup->shape, kv_head, token);
    if (hadamard) state->setup->pipeline->hadamard->fn.hadamard(keys->dtype, rows, n_rows, d, y);
    else adm_to_f32(keys->dtype, rows, n_rows * d, y);
}

/* The books of one layer whose keys are transformed, or of those whose are not. */
static adm_status learn_books(adm_policy_state *state, const adm_policy_keys *prompt, bool hadamard, adm_error *err) {
    const adm_shape *shape = &state->setup->shape;
    const adamas_memory *m = state->memory;
    const size_t n_rows = adm_min(prompt->n, CALIBRATION_ROWS);
    float *y = NULL;
    adm_status status = ADM_OK;
    for (size_t v = 0; status == ADM_OK && v < state->n_variants; v++) {
        const adm_coding *coding = layer_coding(state, v, prompt->layer);
        if (coding->hadamard != hadamard) continue;
        if (y == NULL) {
            status = adm_alloc(&y, n_rows * shape->n_kv_heads * shape->head_dim, sizeof *y, "keys for calibration", err);
            for (size_t h = 0; status == ADM_OK && h < shape->n_kv_heads; h++)
                for (size_t i = 0; i < n_rows; i++)
                    load_rows(state, prompt, h, i * prompt->n / n_rows, 1, hadamard, y + (h * n_rows + i) * shape->head_dim);
        }
        if (status == ADM_OK)
            status = adm_codebook_create(coding, y, n_rows, shape->n_kv_heads, shape->head_dim,
                                         &m->book[v * state->setup->n_layers + prompt->layer], err);
    }
    adm_free(&y);
    return status;
}

static adm_status learn(adm_policy_state *state, const adm_policy_keys *prompt, adm_error *err) {
    adm_status status = learn_books(state, prompt, true, err);
    return status == ADM_OK ? learn_books(state, prompt, false, err) : status;
}

/* --- Opening ---------------------------------------------------------------------------------------------------------- */

static adm_status add_codes(const adm_policy_state *state, adamas_memory *m, size_t v, size_t layer, adm_error *err) {
    const adm_policy_setup *setup = state->setup;
    const adm_coding *coding = layer_coding(state, v, layer);
    size_t i = 0;
    adm_status status = ADM_OK;
    while (i < m->n_codes && !adm_coding_same_codes(m->codes[i].coding, coding)) i++;
    m->codes_of[v * setup->n_layers + layer] = i;
    key_codes *codes = &m->codes[i];
    if (i == m->n_codes) {
        m->n_codes++;
        *codes = (key_codes){.coding = coding, .row_bytes = adm_code_row_bytes(coding->bits, setup->shape.head_dim)};
        status = adm_alloc(&codes->packed, adm_policy_n_places(setup) * setup->n_tokens, codes->row_bytes,
                           "packed codes of a layer", err);
        if (status == ADM_OK)
            status = adm_alloc(&codes->count, setup->n_layers * setup->shape.n_kv_heads * ADM_CODES, sizeof *codes->count,
                               "code counts", err);
        if (status == ADM_OK) status = adm_alloc(&codes->variant, setup->n_layers, sizeof *codes->variant, "key codes", err);
        for (size_t l = 0; status == ADM_OK && l < setup->n_layers; l++) codes->variant[l] = NO_VARIANT;
    }
    if (status == ADM_OK && codes->variant[layer] == NO_VARIANT) codes->variant[layer] = v;
    return status;
}

static adm_status open_codes(adm_policy_state *state, adm_error *err) {
    const size_t n_layers = state->setup->n_layers, n = state->n_variants * n_layers;
    adm_status status = adm_alloc(&state->memory, 1, sizeof(adamas_memory), "memory of adamas", err);
    if (status != ADM_OK) return status;
    adamas_memory *m = state->memory;
    status = adm_alloc(&m->book, n, sizeof *m->book, "codebooks", err);
    if (status == ADM_OK) status = adm_alloc(&m->codes, n, sizeof *m->codes, "key codes", err);
    if (status == ADM_OK) status = adm_alloc(&m->codes_of, n, sizeof *m->codes_of, "key codes", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) status = add_codes(state, m, i / n_layers, i % n_layers, err);
    return status;
}

static void close_codes(adm_policy_state *state) {
    adamas_memory *m = state->memory;
    if (m == NULL) return;
    for (size_t i = 0; m->book != NULL && i < state->n_variants * state->setup->n_layers; i++) adm_codebook_free(&m->book[i]);
    for (size_t i = 0; i < m->n_codes; i++) {
        adm_free(&m->codes[i].packed);
        adm_free(&m->codes[i].count);
        adm_free(&m->codes[i].variant);
    }
    adm_free(&m->book);
    adm_free(&m->codes);
    adm_free(&m->codes_of);
    adm_free(&state->memory);
}

/* --- Encoding keys ---------------------------------------------------------------------------------------------------- */

static void begin(adm_policy_state *state, size_t layer) {
    const adamas_memory *m = state->memory;
    const size_t n_counts = state->setup->shape.n_kv_heads * ADM_CODES;
    for (size_t i = 0; i < m->n_codes; i++)
        memset(m->codes[i].count + layer * n_counts, 0, n_counts * sizeof *m->codes[i].count);
}

static void count_codes(const uint8_t *packed, size_t n_bytes, uint32_t bits, uint64_t *n_codes) {
    uint32_t of_byte[256] = {0};
    if (bits == 3) { /* eight codes to three bytes */
        for (size_t i = 0; i < n_bytes; i += 3) {
            uint32_t eight = packed[i] | (uint32_t)packed[i + 1] << 8 | (uint32_t)packed[i + 2] << 16;
            for (int c = 0; c < 8; c++) n_codes[eight >> (3 * c) & 7]++;
        }
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) of_byte[packed[i]]++;
    for (uint32_t byte = 0; byte < 256; byte++)
        for (uint32_t at = 0; at < 8; at += bits) n_codes[byte >> at & ((1u << bits) - 1)] += of_byte[byte];
}

static void encode(const adm_policy_state *state, const key_codes *codes, const adm_policy_keys *keys, size_t token,
                   const float *rows, size_t n_rows) {
    const adm_policy_setup *setup = state->setup;
    const adm_codebook *book = book_at(state, codes->variant[keys->layer], keys->layer);
    uint8_t *packed = codes->packed + (adm_policy_place(setup, keys->kv_head) * setup->n_tokens + token) * codes->row_bytes;
    uint64_t n_codes[ADM_CODES] = {0}, *count;
    setup->pipeline->encode(rows, n_rows, setup->shape.head_dim, adm_codebook_key(book, keys->kv_head), book->bits, packed);
    if (keys->is_again) return;
    count_codes(packed, n_rows * codes->row_bytes, book->bits, n_codes);
    count = codes->count + (keys->layer * setup->shape.n_kv_heads + keys->kv_head) * ADM_CODES;
    for (int c = 0; c < 1 << book->bits; c++) __atomic_fetch_add(&count[c], n_codes[c], __ATOMIC_RELAXED);
}

static void append(adm_policy_state *state, void *scratch, const adm_policy_keys *keys) {
    const adamas_memory *m = state->memory;
    const adamas_scratch *s = scratch;
    const size_t end = keys->first + keys->n;
    for (size_t token = keys->first; token < end; token += ENCODE_ROWS)
        for (int hadamard = 0; hadamard < 2; hadamard++) {
            const size_t n_rows = adm_min(end - token, ENCODE_ROWS);
            bool loaded = false;
            for (size_t i = 0; i < m->n_codes; i++) {
                if (m->codes[i].variant[keys->layer] == NO_VARIANT) continue;
                if (m->codes[i].coding->hadamard != (hadamard == 1)) continue;
                if (!loaded) load_rows(state, keys, keys->kv_head, token, n_rows, hadamard == 1, s->rows);
                loaded = true;
                encode(state, &m->codes[i], keys, token, s->rows, n_rows);
            }
        }
}

/* --- Selecting -------------------------------------------------------------------------------------------------------- */

static uint32_t max_distance_at(const adm_policy_state *state, size_t variant, size_t layer) {
    const adm_shape *shape = &state->setup->shape;
    const uint32_t n_queries = adm_coding_queries(coding_at(state, variant), shape);
    return adm_coding_max_distance(layer_coding(state, variant, layer), shape->head_dim, n_queries);
}

static size_t largest_distance(const adm_policy_state *state) {
    const size_t n_layers = state->setup->n_layers;
    size_t max = 0;
    for (size_t i = 0; i < state->n_variants * n_layers; i++) {
        const size_t distance = max_distance_at(state, i / n_layers, i % n_layers);
        max = distance > max ? distance : max;
    }
    return max;
}

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    const size_t d = setup->shape.head_dim;
    adamas_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, setup->n_tokens, setup->max_selected, setup->max_budgets, &s.nested);
    s.rows = adm_layout_take(layout, ENCODE_ROWS * d, sizeof *s.rows);
    s.distance = adm_layout_take(layout, setup->n_tokens, sizeof *s.distance);
    s.near = adm_layout_take(layout, setup->max_selected, sizeof *s.near);
    s.histogram = adm_layout_take(layout, largest_distance(state) + 1, sizeof *s.histogram);
    s.table = adm_layout_take(layout, d * ADM_CODES, sizeof *s.table);
    s.scan = adm_layout_take(layout, ADM_SCAN_SCRATCH, 1);
    if (own != NULL) *own = s;
    return own;
}

/* s->distance [n_tokens] of one query head, or of the whole group for a selection per group. Returns the largest possible. */
static uint32_t find_distances(const adm_policy_state *state, adamas_scratch *s, const adm_policy_query *at, size_t variant,
                               uint32_t head) {
    const adm_policy_setup *setup = state->setup;
    const adm_coding *coding = layer_coding(state, variant, at->layer);
    const adm_codebook *book = book_at(state, variant, at->layer);
    const key_codes *codes = codes_at(state, variant, at->layer);
    const uint8_t *keys = codes->packed + adm_policy_place(setup, at->kv_head) * setup->n_tokens * codes->row_bytes;
    const uint32_t d = setup->shape.head_dim, n_queries = adm_coding_queries(coding_at(state, variant), &setup->shape);
    const float *y = (coding->hadamard ? at->y : at->q) + (n_queries > 1 ? 0 : head) * d;
    const adm_host_impl *direct = setup->pipeline->code_distance[coding->metric][coding->bits];
    if (n_queries == 1 && direct != NULL) {
        uint8_t query[ADM_MAX_HEAD_DIM];
        if (coding->metric == ADM_METRIC_ASYM4) adm_asym4_query(y, adm_codebook_scale(book, at->kv_head), d, query);
        else setup->pipeline->encode(y, 1, d, adm_codebook_query(book, at->kv_head), book->bits, query);
        direct->fn.distance(query, keys, at->n_tokens, d, s->distance);
    } else {
        adm_codebook_table(coding, book, at->kv_head, y, n_queries, s->table);
        setup->pipeline->scan(s->table, keys, at->n_tokens, d, coding->bits, s->scan, s->distance);
    }
    return adm_coding_max_distance(coding, d, n_queries);
}

/* Of n tokens those from the last sink up to here are eligible; the others are forced in. */
static size_t eligible_end(const adm_coding *coding, size_t n) {
    const size_t first = adm_min(coding->n_sinks, n);
    return n - first > coding->n_recent ? n - coding->n_recent : first;
}

/* What top-k sees at the boundary of each budget but the widest, whose is known. histogram [n_values]: the distances of the
 * widest selection's eligible tokens. It holds only some of the tokens tied at the widest boundary. */
static void find_boundaries(const adamas_scratch *s, const adm_budgets *budgets, size_t n_forced, size_t n_eligible,
                            size_t n_values, adm_select_info *info) {
    const adm_select_info widest = info[budgets->n - 1];
    size_t value = 0, below = 0;
    for (size_t b = 0; b + 1 < budgets->n; b++) {
        const size_t remaining = adm_min(budgets->budget[b] - n_forced, n_eligible); /* of the budget, beside forced tokens */
        info[b] = (adm_select_info){0};
        if (remaining == 0) continue;
        while (value + 1 < n_values && below + s->histogram[value] < remaining) below += s->histogram[value++];
        info[b] = (adm_select_info){(uint32_t)value, value == widest.boundary ? widest.n_tied : s->histogram[value],
                                    (uint32_t)(remaining - below)};
    }
}

/* The counters of a histogram become the positions at which each value begins, the first at `position`. */
static void positions_of(uint32_t *histogram, size_t n_values, uint32_t position) {
    for (size_t v = 0; v < n_values; v++) {
        const uint32_t here = histogram[v];
        histogram[v] = position;
        position += here;
    }
}

/* The budgets' selections are the beginnings of one order, so a token's position in it says which budgets hold it. */
static void select_near(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                        const adm_budgets *budgets, adm_selected *selected) {
    adamas_scratch *s = scratch;
    const adm_coding *coding = coding_at(state, variant);
    const uint32_t max_distance = find_distances(state, s, at, variant, head);
    const adm_select_rule rule = adm_coding_rule(coding, budgets->budget[budgets->n - 1]);
    adm_select_info *widest = &selected->info[budgets->n - 1];
    uint32_t *set = s->nested.set, *histogram = s->histogram;
    const size_t n_set = state->setup->pipeline->topk->fn.topk(s->distance, at->n_tokens, max_distance, &rule, histogram, set,
                                                               widest);
    const size_t first = adm_min(coding->n_sinks, n_set), end = eligible_end(coding, n_set);
    const size_t n_forced = n_set - (end - first), n_values = (size_t)widest->boundary + 1;
    memset(histogram, 0, n_values * sizeof *histogram);
    for (size_t i = first; i < end; i++) histogram[s->near[i] = s->distance[set[i]]]++;
    find_boundaries(s, budgets, n_forced, end - first, n_values, selected->info);
    positions_of(histogram, n_values, (uint32_t)n_forced);
    memset(s->nested.level, 0, n_set * sizeof *s->nested.level);
    for (size_t i = end; i-- > first;) s->nested.level[i] = budgets->level_of[histogram[s->near[i]]++];
    adm_nested_from_set(&s->nested, budgets, n_set, selected);
}

/* Forced tokens first, whatever their order, since no budget goes without; the distances are still there. */
static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    adamas_scratch *s = scratch;
    const adm_coding *coding = coding_at(state, variant);
    const size_t n = at->n_tokens, first = adm_min(coding->n_sinks, n), end = eligible_end(coding, n);
    const size_t n_values = (size_t)max_distance_at(state, variant, at->layer) + 1;
    size_t found = 0;
    (void)head;
    for (size_t t = n; t-- > end;) order[found++] = (uint32_t)t;
    for (size_t t = 0; t < first; t++) order[found++] = (uint32_t)t;
    memset(s->histogram, 0, n_values * sizeof *s->histogram);
    for (size_t t = first; t < end; t++) s->histogram[s->distance[t]]++;
    positions_of(s->histogram, n_values, (uint32_t)found);
    for (size_t t = end; t-- > first;) order[s->histogram[s->distance[t]]++] = (uint32_t)t;
}

const adm_policy adm_policy_adamas = {
    .name = "adamas",
    .help = "the tokens whose 2-bit codes are nearest to the query's",
    .settings = settings,
    .has_boundary = true,
    .complete = complete,
    .describe = describe,
    .check = check,
    .min_budget = min_budget,
    .min_budget_reason = "sinks and recent tokens are always selected",
    .open = open_codes,
    .close = close_codes,
    .learn = learn,
    .begin = begin,
    .append = append,
    .scratch = make_scratch,
    .select = select_near,
    .order = order_all,
};

/* --- What a replay stores --------------------------------------------------------------------------------------------- */

const adm_coding *adm_adamas_coding(const adm_variant *variant) {
    return variant->policy == &adm_policy_adamas ? (const adm_coding *)variant->own.bytes : NULL;
}

const float *adm_adamas_thresholds(const adm_policy_state *state, size_t variant, size_t layer) {
    return book_at(state, variant, layer)->layer;
}

void adm_adamas_calibrate(adm_variant *variant, const adm_calibration *calibration) {
    adm_coding *own = coding_of(variant);
    own->metric = calibration->other.metric;
    own->thresholds = calibration->other.thresholds;
    own->calibration = calibration;
}

const uint64_t *adm_adamas_code_counts(const adm_policy_state *state, size_t variant, size_t layer) {
    return codes_at(state, variant, layer)->count + layer * state->setup->shape.n_kv_heads * ADM_CODES;
}
