/* step_time.c: tables of attention times, and the sum of a step. */
#include "analysis/serving/step_time.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

enum { MAX_KNOTS = 96, N_BATCHES = 12, MAX_LEN = 1 << 22, BENDS_FROM = 1024, BENDS_TO = 1 << 18, N_KNOWN = 1024 };

typedef struct cell {
    double ns;
    double reach;
    uint8_t rule;
} cell;

/* Times of one budget over batch (1, 2, 4 ... 2048) and length. */
typedef struct table {
    uint32_t budget, n_layers;
    double len[MAX_KNOTS];
    size_t n_lens, at; /* at: the interval of the last look-up */
    cell cell[N_BATCHES][MAX_KNOTS];
} table;

/* Times of a step's products and its rest: engines repeat a few hundred sizes. */
typedef struct known {
    double n_tokens; /* 0: nothing */
    uint32_t n_sampled;
    adm_cost_time linear, rest;
} known;

struct adm_step_time {
    const adm_cost *cost;
    adm_step_options options;
    adm_model model;
    adm_rule_use use[ADM_N_PARTS][ADM_N_COST_RULES];
    char variants[ADM_COST_VARIANT_BYTES * 4];
    uint32_t n_sparse;
    size_t n_tables;
    table *table;  /* [n_tables] */
    table encode;  /* of prompts: batch 1 alone counts */
    known known[N_KNOWN]; /* by the number of tokens, modulo N_KNOWN */
};

const char *adm_step_part_name(adm_step_part part) {
    static const char *const names[] = {"dense", "step", "linear", "rest", "prompt_attention", "encode", "exchange"};
    return names[part];
}

/* --- Tables --------------------------------------------------------------------------------------------------------- */

static int number_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void add_knot(table *t, double len) {
    for (size_t i = 0; i < t->n_lens; i++)
        if (t->len[i] == len) return;
    if (t->n_lens < MAX_KNOTS && len >= 1) t->len[t->n_lens++] = len;
}

static void choose_knots(const adm_cost *cost, int stage, table *t) {
    for (size_t g = 0; g < cost->n_grids; g++)
        for (size_t i = 0; cost->grid[g].stage == stage && i < cost->grid[g].n && t->n_lens < MAX_KNOTS / 2; i++)
            add_knot(t, cost->grid[g].point[i].at.len);
    if (t->budget > 0) {
        add_knot(t, t->budget);
        add_knot(t, t->budget + 1.0);
    }
    for (double len = 1; len <= MAX_LEN; len *= 2) add_knot(t, len);
    for (double len = BENDS_FROM; len < BENDS_TO; len *= 2) /* where times bend between anchors */
        for (int quarter = 5; quarter < 8; quarter++) add_knot(t, len * quarter / 4);
    adm_sort(t->len, t->n_lens, sizeof t->len[0], number_order);
}

/* A name not yet in the list of those that were taken. */
static void note_variant(adm_step_time *time, const char *variant) {
    const size_t used = strlen(time->variants);
    for (const char *v = time->variants; *v != '\0';) {
        const size_t n = strcspn(v, ",");
        if (strlen(variant) == n && strncmp(v, variant, n) == 0) return;
        v += n + (v[n] == ',') + (v[n] == ',' && v[n + 1] == ' ');
    }
    snprintf(time->variants + used, sizeof time->variants - used, "%s%s", used > 0 ? ", " : "", variant);
}

/* A sequence no longer than the budget is attended to densely. */
static adm_status fill_table(adm_step_time *time, int stage, table *t, adm_error *err) {
    choose_knots(time->cost, stage, t);
    for (size_t b = 0; b < N_BATCHES; b++)
        for (size_t i = 0; i < t->n_lens; i++) {
            const bool sparse = stage == ADM_STAGE_STEP && t->len[i] > t->budget;
            adm_cost_question q = {.stage = stage == ADM_STAGE_STEP && !sparse ? ADM_STAGE_DENSE : stage,
                                   .variant = sparse ? time->options.variant : NULL,
                                   .shape = time->model.shape,
                                   .element_bytes = time->model.cache_bytes,
                                   .page_size = time->options.page_size,
                                   .at = {t->len[i], sparse ? t->budget : 0, (double)(1u << b)}};
            adm_cost_answer a;
            adm_status status = adm_cost_ask(time->cost, &q, &a, err);
            if (status != ADM_OK) return status;
            t->cell[b][i] = (cell){a.time.ns, a.time.reach, (uint8_t)a.time.rule};
            if (sparse) note_variant(time, a.grid->variant);
        }
    return ADM_OK;
}

/* share: strictly between 0 and 1. ratio: from the low end's length, or batch, to the high one's. */
static cell between(const cell *a, const cell *b, double share, double ratio) {
    cell c = {a->ns + (b->ns - a->ns) * share, a->reach + (b->reach - a->reach) * share, a->rule > b->rule ? a->rule : b->rule};
    if (c.rule > ADM_COST_INTERPOLATED) return c;
    const double from_low = 1 + share * (ratio - 1), from_high = ratio / from_low,
                 nearest = from_low < from_high ? from_low : from_high;
    c.rule = ADM_COST_INTERPOLATED;
    if (nearest > c.reach) c.reach = nearest;
    return c;
}

/* The time of `batch` sequences of `len` tokens. */
static cell look_up(table *t, uint32_t batch, double len) {
    size_t b = 0, i = t->at;
    while (b + 1 < N_BATCHES && 1u << (b + 1) <= batch) b++;
    if (b + 1 == N_BATCHES) b--;
    while (i > 0 && t->len[i] > len) i--;
    while (i + 2 < t->n_lens && t->len[i + 1] <= len) i++;
    t->at = i;
    const double in_len = (len - t->len[i]) / (t->len[i + 1] - t->len[i]), ratio = t->len[i + 1] / t->len[i];
    const double in_batch = ((double)batch - (1u << b)) / (1u << b);
    const cell low = in_len == 0 ? t->cell[b][i] : between(&t->cell[b][i], &t->cell[b][i + 1], in_len, ratio);
    if (in_batch == 0) return low;
    const cell high = in_len == 0 ? t->cell[b + 1][i] : between(&t->cell[b + 1][i], &t->cell[b + 1][i + 1], in_len, ratio);
    return between(&low, &high, in_batch, 2);
}

/* --- A step --------------------------------------------------------------------------------------------------------- */

static double use(adm_step_time *time, adm_step_part part, double ns, unsigned rule, double reach) {
    adm_rule_use *u = &time->use[part][rule];
    u->n++;
    u->ns += (uint64_t)(ns + 0.5);
    if (reach > u->reach) u->reach = reach;
    return ns;
}

static double attention(adm_step_time *time, table *t, const adm_step *step) {
    const double mean = (double)step->decode_tokens / step->n_decode, longest = (double)step->longest;
    cell c = look_up(t, step->n_decode, mean);
    if (step->n_decode > 1 && longest > mean) {
        const cell alone = look_up(t, 1, longest);
        if (alone.ns > c.ns) c = alone;
        c.ns = adm_cost_mixed_ns(time->cost, c.ns, alone.ns, longest, mean);
    }
    return use(time, t->budget > 0 ? ADM_PART_SPARSE : ADM_PART_DENSE, c.ns * t->n_layers, c.rule, c.reach);
}

static double use_time(adm_step_time *time, adm_step_part part, adm_cost_time t) {
    return use(time, part, t.ns, t.rule, t.reach);
}

static const known *known_times(adm_step_time *time, double n_tokens, uint32_t n_sampled) {
    known *k = &time->known[(uint64_t)n_tokens % N_KNOWN];
    if (k->n_tokens == n_tokens && k->n_sampled == n_sampled) return k;
    *k = (known){n_tokens, n_sampled,
                 adm_cost_linear(time->cost, &time->model, time->options.compute_share, n_tokens, n_sampled),
                 adm_cost_rest(time->cost, &time->model, n_tokens, time->n_sparse > 0)};
    return k;
}

uint64_t adm_step_time_of(adm_step_time *time, const adm_step *step) {
    const adm_cost *cost = time->cost;
    const double n_tokens = (double)step->n_decode + step->n_prompt_tokens, share = time->options.compute_share;
    const known *k = known_times(time, n_tokens, step->n_sampled);
    double ns = use_time(time, ADM_PART_LINEAR, k->linear);
    ns += use_time(time, ADM_PART_REST, k->rest);
    for (size_t i = 0; i < time->n_tables && step->n_decode > 0; i++) ns += attention(time, &time->table[i], step);
    if (step->n_prompt_tokens > 0) {
        ns += use_time(time, ADM_PART_PROMPT,
                       adm_cost_prompt_attention(cost, &time->model, share, step->prompt_pairs, step->prompt_keys));
        if (time->n_sparse > 0) {
            const cell c = look_up(&time->encode, 1, step->n_prompt_tokens);
            ns += use(time, ADM_PART_ENCODE, c.ns * time->n_sparse, c.rule, c.reach);
        }
    }
    if (time->model.n_ranks > 1 && !time->options.one_rank)
        ns += use_time(time, ADM_PART_EXCHANGE, adm_cost_exchange(cost, &time->model, n_tokens));
    return (uint64_t)(ns + 0.5) + time->options.overhead_ns;
}

const adm_rule_use (*adm_step_time_uses(const adm_step_time *time))[ADM_N_COST_RULES] { return time->use; }

const char *adm_step_time_variants(const adm_step_time *time) { return time->variants; }

/* --- Life ----------------------------------------------------------------------------------------------------------- */

adm_status adm_step_time_create(const adm_cost *cost, const adm_step_options *options, adm_step_time **out, adm_error *err) {
    adm_step_time *time = NULL;
    const adm_plan *plan = options->plan;
    adm_status status = adm_cost_linear_check(cost, options->model, err);
    if (status == ADM_OK) status = adm_alloc(&time, 1, sizeof *time, "step times", err);
    if (status == ADM_OK) status = adm_alloc(&time->table, plan->n_groups, sizeof *time->table, "tables of step times", err);
    if (status == ADM_OK) {
        time->cost = cost;
        time->options = *options;
        time->model = *options->model;
        time->n_tables = plan->n_groups;
        time->n_sparse = plan->n_sparse;
    }
    for (size_t i = 0; status == ADM_OK && i < plan->n_groups; i++) {
        table *t = &time->table[i];
        t->budget = plan->group[i].budget;
        t->n_layers = plan->group[i].n_layers;
        status = fill_table(time, t->budget > 0 ? ADM_STAGE_STEP : ADM_STAGE_DENSE, t, err);
    }
    if (status == ADM_OK && plan->n_sparse > 0) status = fill_table(time, ADM_COST_PROMPT, &time->encode, err);
    if (status != ADM_OK) adm_step_time_free(&time);
    *out = time;
    return status;
}

void adm_step_time_free(adm_step_time **time) {
    if (*time == NULL) return;
    adm_free(&(*time)->table);
    adm_free(time);
}
