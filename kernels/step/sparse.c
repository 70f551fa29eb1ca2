/* sparse.c: one layer's attention under a selection policy (core/contract/adamas.h): the policies of core/policy with the
 * stages of this processor. */
#include "core/contract/adamas.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/policy_set.h"
#include "core/policy/sweep.h"
#include "kernels/attention/quality.h"
#include "kernels/registry.h"

_Static_assert((int)ADM_SPARSE_NAME_BYTES >= (int)ADM_VARIANT_NAME_BYTES, "a name fits");

struct adm_sparse {
    adm_sweep sweep; /* of one variant */
    adm_policy_set *set;
    adm_host_pipeline pipeline;
    adm_policy_setup setup;
    size_t n_prompt;
    uint32_t group; /* query heads of a KV head */

    void *memory; /* all of the below */
    float *y; /* [group][d] */
    double *score; /* [group][n_tokens] */
    double *weight; /* [n_tokens] */
    adm_head_scores *head; /* [group] */
    uint16_t *level_of; /* [n_tokens], zeros: there is one budget */
    size_t end; /* tokens of the selection at hand, and what it is */
    uint32_t *list; /* [n_tokens] */
    adm_select_info info;
    void *scratch; /* the policy's */
};

static void take_memory(adm_sparse *s, adm_layout *layout) {
    const size_t n = s->setup.n_tokens, d = s->setup.shape.head_dim;
    s->y = adm_layout_take(layout, s->group * d, sizeof *s->y);
    s->score = adm_layout_take(layout, s->group * n, sizeof *s->score);
    s->weight = adm_layout_take(layout, n, sizeof *s->weight);
    s->head = adm_layout_take(layout, s->group, sizeof *s->head);
    s->level_of = adm_layout_take(layout, n, sizeof *s->level_of);
    s->list = adm_layout_take(layout, n, sizeof *s->list);
    s->scratch = adm_layout_take(layout, adm_policy_set_scratch_bytes(s->set), 1);
}

/* Tokens [first, end) of every KV head. */
static void append(adm_sparse *s, const float *k, size_t capacity, size_t first, size_t end) {
    adm_policy_keys keys = {.dtype = ADM_F32, .k = k, .stride = capacity, .first = first, .n = end - first};
    for (; keys.kv_head < s->setup.shape.n_kv_heads; keys.kv_head++) adm_policy_set_append(s->set, s->scratch, &keys);
}

/* --- The prompt ---------------------------------------------------------------------------------------------------- */

static adm_status read_policy(adm_sparse *s, const char *text, uint64_t seed, adm_error *err) {
    char number[24];
    const char *const calibrated = "calibrated", *const seed_text = number;
    const adm_sweep_default defaults[] = {{"thresholds", "thresholds", &calibrated, 1}, {"seed", "seed", &seed_text, 1}};
    snprintf(number, sizeof number, "%llu", (unsigned long long)(seed & INT64_MAX));
    adm_status status = adm_sweep_parse(text, defaults, 2, &s->sweep, err);
    if (status == ADM_OK && s->sweep.n_variants != 1)
        status = adm_fail(err, ADM_EINPUT, "policy '%s': it names %zu variants, and one is needed", text, s->sweep.n_variants);
    return status;
}

static adm_status open_policy(adm_sparse *s, const float *k, size_t capacity, adm_error *err) {
    const adm_variant *variant = s->sweep.variant;
    const adm_policy_limits limits = {"the prompt", s->setup.shape, UINT32_MAX, s->n_prompt};
    const adm_policy_keys prompt = {.dtype = ADM_F32, .k = k, .stride = capacity, .n = s->n_prompt};
    adm_status status = ADM_OK;
    if (variant->policy->check != NULL) status = variant->policy->check(variant, &limits, err);
    if (status == ADM_OK) status = adm_policy_set_open(&s->setup, variant, 1, &s->set, err);
    if (status == ADM_OK) status = adm_policy_set_learn(s->set, &prompt, err);
    if (status != ADM_OK) return status;
    adm_layout layout = {0};
    take_memory(s, &layout);
    status = adm_alloc(&s->memory, layout.bytes, 1, "a layer of sparse attention", err);
    if (status != ADM_OK) return status;
    take_memory(s, &(adm_layout){.base = s->memory});
    adm_policy_set_begin(s->set, 0);
    append(s, k, capacity, 0, s->n_prompt);
    return ADM_OK;
}

adm_status adm_sparse_open(const char *policy, const adm_shape *shape, const float *k, size_t n_prompt, size_t capacity,
                           size_t max_steps, uint64_t seed, adm_sparse **out, adm_error *err) {
    adm_sparse *s = NULL;
    *out = NULL;
    adm_status status = adm_shape_check(shape, err);
    if (status == ADM_OK && (n_prompt == 0 || n_prompt + max_steps > capacity || capacity > UINT32_MAX))
        status = adm_fail(err, ADM_EINPUT,
                          "a prompt of %zu tokens and %zu steps in a capacity of %zu: it must hold both, and a token at least",
                          n_prompt, max_steps, capacity);
    if (status == ADM_OK) status = adm_alloc(&s, 1, sizeof *s, "a layer of sparse attention", err);
    if (status != ADM_OK) return status;
    const size_t n_tokens = n_prompt + max_steps;
    adm_host_pipeline_default(&s->pipeline);
    s->n_prompt = n_prompt;
    s->group = shape->n_q_heads / shape->n_kv_heads;
    s->setup = (adm_policy_setup){.pipeline = &s->pipeline,
                                  .weights = adm_quality_fastest()->weights,
                                  .shape = *shape,
                                  .n_tokens = n_tokens,
                                  .n_layers = 1,
                                  .max_selected = n_tokens,
                                  .max_budgets = 1};
    status = read_policy(s, policy, seed, err);
    if (status == ADM_OK) status = open_policy(s, k, capacity, err);
    if (status != ADM_OK) adm_sparse_close(&s);
    *out = s;
    return status;
}

void adm_sparse_variant(const adm_sparse *s, char *name) { adm_variant_name(s->sweep.variant, name); }

int adm_sparse_looks_back(const char *policy) {
    adm_sweep sweep;
    if (adm_sweep_parse(policy, NULL, 0, &sweep, NULL) != ADM_OK) return 0;
    const bool looks_back = sweep.variant->policy->observes != ADM_OBSERVES_NOTHING;
    adm_sweep_clear(&sweep);
    return looks_back;
}

void adm_sparse_close(adm_sparse **sparse) {
    adm_sparse *s = *sparse;
    if (s == NULL) return;
    adm_policy_set_close(&s->set);
    adm_sweep_clear(&s->sweep);
    adm_free(&s->memory);
    adm_free(sparse);
}

/* --- A step --------------------------------------------------------------------------------------------------------- */

/* A step of a call. */
typedef struct step {
    uint32_t budget;
    double scale;
    size_t n_tokens; /* seen */
    const float *q; /* [n_q_heads][d] */
    const float *k, *v; /* [n_kv_heads][capacity][d] */
    size_t capacity;
    float *out; /* [n_q_heads][d] */
    uint32_t *index; /* [n_q_heads][budget], or NULL */
} step;

/* score [n]: scaled products of a query with the tokens index[0 .. n-1], or 0 .. n-1 where it is NULL. Returns the largest. */
static double find_scores(const float *q, const float *k, uint32_t d, double scale, const uint32_t *index, size_t n,
                          double *score) {
    double largest = -INFINITY;
    for (size_t j = 0; j < n; j++) {
        const float *row = k + (index != NULL ? index[j] : j) * d;
        double dot = 0;
        for (uint32_t i = 0; i < d; i++) dot += (double)q[i] * row[i];
        score[j] = scale * dot;
        largest = fmax(largest, score[j]);
    }
    return largest;
}

static void score_all(adm_sparse *s, const step *st, const adm_policy_query *at, const float *k) {
    const uint32_t d = s->setup.shape.head_dim;
    for (uint32_t g = 0; g < s->group; g++) {
        double *score = s->score + g * s->setup.n_tokens;
        const double largest = find_scores(at->q + g * d, k, d, st->scale, NULL, at->n_tokens, score);
        const double total = s->setup.weights(score, at->n_tokens, largest, s->weight);
        s->head[g] = (adm_head_scores){.score = score, .largest = largest, .total_weight = total};
    }
}

/* Query head `head` of the KV head attends to the selection; what it pays is observed. */
static void attend_head(adm_sparse *s, const step *st, const adm_policy_query *at, uint32_t head, const float *k) {
    const uint32_t d = s->setup.shape.head_dim;
    const size_t q_head = at->kv_head * s->group + head;
    const float *q = at->q + head * d, *v = st->v + at->kv_head * st->capacity * d;
    s->pipeline.attention->fn.attention(ADM_F32, q, k, v, s->list, s->end, d, st->scale, s->score, st->out + q_head * d);
    for (size_t j = 0; st->index != NULL && j < st->budget; j++)
        st->index[q_head * st->budget + j] = j < s->end ? s->list[j] : UINT32_MAX;
    if (!adm_policy_set_observes(s->set)) return;
    const double largest = find_scores(q, k, d, st->scale, s->list, s->end, s->weight);
    const double total = s->setup.weights(s->weight, s->end, largest, s->weight);
    adm_policy_set_observe(s->set, at, 0, 0, head, &(adm_attention_paid){s->list, s->end, s->weight, total});
}

static void attend_step(adm_sparse *s, const step *st) {
    const adm_shape *shape = &s->setup.shape;
    const adm_variant *variant = s->sweep.variant;
    const bool shared = variant->selection == ADM_SELECT_GROUP || variant->policy->ignores_queries;
    const adm_budgets budgets = {
        .budget = &st->budget, .n = 1, .widest = adm_min(st->budget, s->setup.n_tokens), .level_of = s->level_of};
    adm_selected selected = {s->list, &s->end, &s->info};
    append(s, st->k, st->capacity, st->n_tokens - 1, st->n_tokens);
    for (size_t kv_head = 0; kv_head < shape->n_kv_heads; kv_head++) {
        const float *q = st->q + kv_head * s->group * shape->head_dim, *k = st->k + kv_head * st->capacity * shape->head_dim;
        const adm_policy_query at = {
            .step = st->n_tokens - 1, .kv_head = kv_head, .n_tokens = st->n_tokens, .q = q, .y = s->y, .head = s->head};
        s->pipeline.hadamard->fn.hadamard(ADM_F32, q, s->group, shape->head_dim, s->y);
        if (variant->policy->needs_scores) score_all(s, st, &at, k);
        for (uint32_t head = 0; head < s->group; head++) {
            if (!shared || head == 0) adm_policy_set_select(s->set, s->scratch, &at, 0, head, &budgets, &selected);
            attend_head(s, st, &at, head, k);
        }
    }
}

/* Back to the end of the prompt: what was appended behind it is appended again or not looked at. */
static void rewind_to_prompt(adm_sparse *s, const float *k, size_t capacity, size_t n_steps, const double *drawn) {
    adm_policy_set_begin(s->set, 0);
    append(s, k, capacity, s->n_prompt / ADM_APPEND_STEP * ADM_APPEND_STEP, s->n_prompt);
    for (uint32_t h = 0; drawn != NULL && h < s->setup.shape.n_q_heads; h++) {
        const adm_policy_query at = {.kv_head = h / s->group, .n_tokens = s->n_prompt};
        const adm_attention_paid paid = {NULL, s->n_prompt, drawn + h * (s->n_prompt + n_steps), 1};
        adm_policy_set_observe_prompt(s->set, &at, h % s->group, &paid, false);
    }
}

adm_status adm_sparse_attend(adm_sparse *s, uint32_t budget, double scale, const float *q, const float *k, const float *v,
                             size_t capacity, size_t n_steps, const double *drawn, float *out, uint32_t *index,
                             adm_error *err) {
    const adm_policy *policy = s->sweep.variant->policy;
    const size_t step_elements = (size_t)s->setup.shape.n_q_heads * s->setup.shape.head_dim;
    const size_t max_steps = s->setup.n_tokens - s->n_prompt, min_budget = adm_policy_min_budget(s->sweep.variant);
    if (n_steps > max_steps || s->n_prompt + n_steps > capacity)
        return adm_fail(err, ADM_EINPUT, "%zu steps: at most %zu were asked for", n_steps, max_steps);
    if (budget < min_budget)
        return adm_fail(err, ADM_EINPUT, "a budget of %u tokens: at least %zu with %s", budget, min_budget, policy->name);
    if (policy->observes && drawn == NULL)
        return adm_fail(err, ADM_EINPUT, "%s needs the attention that the tokens drew before", policy->name);
    rewind_to_prompt(s, k, capacity, n_steps, policy->observes ? drawn : NULL);
    for (size_t i = 0; i < n_steps; i++) {
        const step st = {.budget = budget,
                         .scale = scale,
                         .n_tokens = s->n_prompt + i + 1,
                         .q = q + i * step_elements,
                         .k = k,
                         .v = v,
                         .capacity = capacity,
                         .out = out + i * step_elements,
                         .index = index != NULL ? index + i * s->setup.shape.n_q_heads * budget : NULL};
        attend_step(s, &st);
    }
    return ADM_OK;
}
