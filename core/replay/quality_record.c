/* quality_record.c: what the quality pass measured of a segment, and its distributions. */
#include "core/replay/quality_record.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

/* Values kept as they are: of one head, and of all heads and layers. Beyond that they are counted (core/stats/aggregate.h). */
enum { MAX_EXACT_OF_HEAD = 1024, MAX_EXACT_POOLED = 4096 };

static const adm_metric metrics[N_QUALITY] = {
    [Q_RECALL] = {"recall", "ratio", "higher", "Share of the exact top-k tokens (by q.k) that were selected"},
    [Q_MASS] = {"mass", "ratio", "higher", "Softmax probability of the selected tokens under dense attention"},
    [Q_KL] = {"kl", "nats", "lower", "Kullback-Leibler divergence of sparse from dense attention: -ln(mass)"},
    [Q_TV] = {"tv", "ratio", "lower", "Total variation distance of sparse from dense attention: 1 - mass"},
    [Q_OUTPUT_REL_L2] = {"output_rel_l2", "ratio", "lower",
                         "Relative L2 error of the attention output against dense attention in double precision"},
    [Q_OUTPUT_COSINE] = {"output_cosine", "1", "higher", "Cosine of the attention output with the dense output"},
    [Q_ORACLE_GAP] = {"oracle_gap", "ratio", "lower", "output_rel_l2 minus that of the exact top-k at the same budget"},
    [Q_EPS_EXCEED] = {"eps_exceed", "ratio", "lower",
                      "Share of (step, head) whose output_rel_l2 is above the run's --eps; read the mean"},
    [Q_TIES] = {"ties", "tokens", "none", "Tokens tied at the distance where the budget runs out"},
};

static bool row_has(const adm_variant *row, int metric) {
    if (metric == Q_TIES) return row->policy->has_boundary;
    return metric != Q_ORACLE_GAP || !row->policy->is_exact;
}

/* --- Opening ------------------------------------------------------------------------------------------------------- */

adm_status adm_quality_record_open(const adm_session *session, adm_quality_record *q, adm_error *err) {
    const adm_replay_options *o = &session->options;
    *q = (adm_quality_record){.session = session};
    adm_status status = adm_alloc(&q->metric, session->n_rows * o->n_budgets * N_QUALITY, sizeof *q->metric, "rows of a sweep",
                                  err);
    if (status == ADM_OK) status = adm_alloc(&q->target, session->n_rows * o->n_targets, sizeof *q->target, "targets", err);
    if (status == ADM_OK) status = adm_alloc(&q->target_metric, o->n_targets, sizeof *q->target_metric, "targets", err);
    if (status == ADM_OK) status = adm_alloc(&q->target_name, o->n_targets, sizeof *q->target_name, "targets", err);
    for (size_t i = 0; status == ADM_OK && i < o->n_targets; i++) {
        adm_target_name(&o->targets[i], q->target_name[i]);
        q->target_metric[i] = (adm_metric){q->target_name[i], "tokens", "lower", adm_target_description(&o->targets[i])};
    }
    return status;
}

static void drop_slots(adm_quality_record *q) {
    for (size_t i = 0; q->slot != NULL && i < q->n_slots; i++) {
        adm_slot *slot = &q->slot[i];
        for (size_t h = 0; slot->head != NULL && h < q->session->trace->shape.n_q_heads; h++)
            adm_aggregate_free(&slot->head[h]);
        adm_aggregate_free(&slot->pooled);
        adm_free(&slot->value);
        adm_free(&slot->head);
        adm_free(&slot->of);
    }
    q->n_slots = 0;
    adm_free(&q->slot);
}

void adm_quality_record_close(adm_quality_record *q) {
    drop_slots(q);
    adm_free(&q->metric);
    adm_free(&q->target);
    adm_free(&q->target_metric);
    adm_free(&q->target_name);
}

/* --- Slots --------------------------------------------------------------------------------------------------------- */

static adm_slot **metric_slots(const adm_quality_record *q, size_t row, size_t budget) {
    return q->metric + (row * q->session->options.n_budgets + budget) * N_QUALITY;
}

/* The budgets of a row: dense attention has none, which is one, 0. */
static size_t n_budgets_of(const adm_session *s, size_t row) {
    return s->row[row].policy->attends_to_all ? 1 : s->options.n_budgets;
}

static uint32_t budget_of(const adm_session *s, size_t row, size_t b) {
    return s->row[row].policy->attends_to_all ? 0 : s->options.budgets[b];
}

static bool is_possible(const adm_session *s, const adm_segment *segment, size_t row, size_t b) {
    const adm_policy *policy = s->row[row].policy;
    if (policy->needs_prompt && !adm_segment_is_whole(s->trace, segment)) return false;
    return policy->attends_to_all || s->options.budgets[b] >= adm_policy_min_budget(&s->row[row]);
}

/* Why it is not. */
static const char *reason_of(const adm_session *s, const adm_segment *segment, size_t row, char *text, size_t text_bytes) {
    const adm_policy *policy = s->row[row].policy;
    if (!policy->needs_prompt || adm_segment_is_whole(s->trace, segment)) return policy->min_budget_reason;
    snprintf(text, text_bytes, "%s needs the query of every token, the prompt's too: of %zu the trace holds %zu", policy->name,
             adm_segment_tokens(s->trace, segment), segment->first_step + segment->n_steps);
    return text;
}

/* Whether a row has adaptive budgets. */
static bool has_targets(const adm_session *s, size_t row) {
    return !s->row[row].policy->attends_to_all && s->row[row].policy->order != NULL;
}

/* Slots of a row: counted with q->slot NULL, else taken from there on. */
static adm_status make_row_slots(adm_quality_record *q, const adm_record *record, const adm_segment *segment, size_t row,
                                 size_t *n_slots, adm_error *err) {
    const adm_session *s = q->session;
    adm_status status = ADM_OK;
    int64_t config_id = 0;
    if (!s->is_kept[row]) return ADM_OK;
    for (size_t b = 0; status == ADM_OK && b < n_budgets_of(s, row); b++) {
        if (!is_possible(s, segment, row, b)) continue;
        if (q->slot != NULL) status = adm_record_row(record, segment, &s->row[row], budget_of(s, row, b), &config_id, err);
        for (int metric = 0; metric < N_QUALITY; metric++) {
            if (!row_has(&s->row[row], metric)) continue;
            const size_t i = (*n_slots)++;
            if (q->slot == NULL) continue;
            q->slot[i].config_id = config_id;
            q->slot[i].metric = &metrics[metric];
            metric_slots(q, row, b)[metric] = &q->slot[i];
        }
    }
    if (!has_targets(s, row) || s->options.n_targets == 0) return status;
    if (q->slot != NULL && status == ADM_OK) status = adm_record_row(record, segment, &s->row[row], 0, &config_id, err);
    for (size_t t = 0; t < s->options.n_targets; t++) {
        const size_t i = (*n_slots)++;
        if (q->slot == NULL) continue;
        q->slot[i].config_id = config_id;
        q->slot[i].metric = &q->target_metric[t];
        q->target[row * s->options.n_targets + t] = &q->slot[i];
    }
    return status;
}

static adm_status alloc_slots(adm_quality_record *q, size_t n_slots, adm_error *err) {
    const size_t n_heads = q->session->trace->shape.n_q_heads;
    adm_status status = adm_alloc(&q->slot, n_slots, sizeof *q->slot, "metrics of a segment", err);
    while (status == ADM_OK && q->n_slots < n_slots) {
        adm_slot *slot = &q->slot[q->n_slots++];
        slot->pooled.max_exact = MAX_EXACT_POOLED;
        status = adm_alloc(&slot->value, n_heads * ADM_BLOCK_STEPS, sizeof *slot->value, "values of a block", err);
        if (status == ADM_OK) status = adm_alloc(&slot->head, n_heads, sizeof *slot->head, "distributions of heads", err);
        if (status == ADM_OK)
            status = adm_alloc(&slot->of, q->session->n_layers * n_heads, sizeof *slot->of, "distributions of a segment", err);
        for (size_t h = 0; status == ADM_OK && h < n_heads; h++) slot->head[h].max_exact = MAX_EXACT_OF_HEAD;
    }
    return status;
}

adm_status adm_quality_record_begin(adm_quality_record *q, const adm_record *record, const adm_segment *segment,
                                    adm_error *err) {
    const adm_session *s = q->session;
    size_t n_slots = 0, n_taken = 0;
    drop_slots(q);
    for (size_t row = 0; row < s->n_rows; row++) make_row_slots(q, record, segment, row, &n_slots, NULL);
    memset(q->metric, 0, s->n_rows * s->options.n_budgets * N_QUALITY * sizeof *q->metric);
    memset(q->target, 0, s->n_rows * s->options.n_targets * sizeof *q->target);
    adm_status status = alloc_slots(q, n_slots, err);
    for (size_t row = 0; status == ADM_OK && row < s->n_rows; row++)
        status = make_row_slots(q, record, segment, row, &n_taken, err);
    return status;
}

/* --- Values -------------------------------------------------------------------------------------------------------- */

void adm_quality_record_put(const adm_quality_record *q, size_t row, size_t budget, size_t head, size_t step,
                            const double *value) {
    adm_slot *const *slot = metric_slots(q, row, budget);
    for (int metric = 0; metric < N_QUALITY; metric++)
        if (slot[metric] != NULL) slot[metric]->value[head * ADM_BLOCK_STEPS + step] = value[metric];
}

void adm_quality_record_put_quality(const adm_quality_record *q, size_t row, size_t budget, size_t head, size_t step,
                                    const adm_quality *quality, double oracle_gap, double n_tied) {
    const double value[N_QUALITY] = {[Q_RECALL] = quality->recall,
                                     [Q_MASS] = quality->mass,
                                     [Q_KL] = quality->kl,
                                     [Q_TV] = quality->tv,
                                     [Q_OUTPUT_REL_L2] = quality->output_rel_l2,
                                     [Q_OUTPUT_COSINE] = quality->output_cosine,
                                     [Q_ORACLE_GAP] = oracle_gap,
                                     [Q_EPS_EXCEED] = quality->output_rel_l2 > q->session->options.eps,
                                     [Q_TIES] = n_tied};
    adm_quality_record_put(q, row, budget, head, step, value);
}

void adm_quality_record_put_target(const adm_quality_record *q, size_t row, size_t target, size_t head, size_t step,
                                   double value) {
    const adm_slot *slot = q->target[row * q->session->options.n_targets + target];
    if (slot != NULL) slot->value[head * ADM_BLOCK_STEPS + step] = value;
}

/* A task a slot; each takes its values in the order of heads and steps. */
typedef struct round_of_slots {
    adm_quality_record *q;
    size_t n_steps, layer;
} round_of_slots;

static void take_block(void *user, size_t i, size_t worker) {
    const round_of_slots *round = user;
    adm_slot *slot = &round->q->slot[i];
    (void)worker;
    for (size_t h = 0; slot->status == ADM_OK && h < round->q->session->trace->shape.n_q_heads; h++) {
        const double *value = slot->value + h * ADM_BLOCK_STEPS;
        slot->status = adm_aggregate_add(&slot->head[h], value, round->n_steps, &slot->err);
        if (slot->status == ADM_OK) slot->status = adm_aggregate_add(&slot->pooled, value, round->n_steps, &slot->err);
    }
}

static void take_layer(void *user, size_t i, size_t worker) {
    const round_of_slots *round = user;
    const size_t n_heads = round->q->session->trace->shape.n_q_heads;
    adm_slot *slot = &round->q->slot[i];
    adm_bin scratch[ADM_AGGREGATE_MAX_BINS];
    (void)worker;
    for (size_t h = 0; h < n_heads; h++) {
        slot->of[round->layer * n_heads + h] = adm_aggregate_result(&slot->head[h], scratch);
        adm_aggregate_free(&slot->head[h]);
    }
    if (round->layer + 1 == round->q->session->n_layers) slot->whole = adm_aggregate_result(&slot->pooled, scratch);
}

adm_status adm_quality_record_take_block(adm_quality_record *q, adm_pool *pool, size_t n_steps, adm_error *err) {
    round_of_slots round = {.q = q, .n_steps = n_steps};
    adm_pool_run(pool, q->n_slots, take_block, &round, NULL);
    for (size_t i = 0; i < q->n_slots; i++) {
        if (q->slot[i].status == ADM_OK) continue;
        if (err != NULL) *err = q->slot[i].err;
        return q->slot[i].status;
    }
    return ADM_OK;
}

void adm_quality_record_take_layer(adm_quality_record *q, adm_pool *pool, size_t layer) {
    round_of_slots round = {.q = q, .layer = layer};
    adm_pool_run(pool, q->n_slots, take_layer, &round, NULL);
}

/* --- Writing ------------------------------------------------------------------------------------------------------- */

static adm_status write_slot(const adm_record *record, const adm_slot *slot, adm_error *err) {
    const adm_session *s = record->session;
    const size_t n_heads = s->trace->shape.n_q_heads;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < s->n_layers * n_heads; i++)
        status = adm_record_put(record, slot->config_id, NULL, slot->metric, (int32_t)s->layer[i / n_heads]->index,
                                (int32_t)(i % n_heads), &slot->of[i], NULL, err);
    if (status != ADM_OK) return status;
    return adm_record_put(record, slot->config_id, NULL, slot->metric, -1, -1, &slot->whole, NULL, err);
}

/* Budgets at which a row has no meaning: for each metric a measurement that says so. */
static adm_status write_impossible(const adm_record *record, const adm_segment *segment, size_t row, adm_error *err) {
    const adm_session *s = record->session;
    adm_status status = ADM_OK;
    char text[160];
    for (size_t b = 0; status == ADM_OK && b < n_budgets_of(s, row); b++) {
        int64_t config_id;
        if (is_possible(s, segment, row, b)) continue;
        const char *reason = reason_of(s, segment, row, text, sizeof text);
        status = adm_record_row(record, segment, &s->row[row], s->options.budgets[b], &config_id, err);
        for (int metric = 0; status == ADM_OK && metric < N_QUALITY; metric++)
            if (row_has(&s->row[row], metric)) status = adm_record_skip(record, config_id, NULL, &metrics[metric], reason, err);
    }
    return status;
}

/* The same for adaptive budgets. */
static adm_status write_no_targets(const adm_quality_record *q, const adm_record *record, const adm_segment *segment,
                                   size_t row, adm_error *err) {
    const adm_session *s = record->session;
    int64_t config_id;
    if (s->options.n_targets == 0 || s->row[row].policy->attends_to_all || has_targets(s, row)) return ADM_OK;
    adm_status status = adm_record_row(record, segment, &s->row[row], 0, &config_id, err);
    for (size_t t = 0; status == ADM_OK && t < s->options.n_targets; t++)
        status = adm_record_skip(record, config_id, NULL, &q->target_metric[t], s->row[row].policy->order_reason, err);
    return status;
}

adm_status adm_quality_record_write(adm_quality_record *q, const adm_record *record, const adm_segment *segment,
                                    adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < q->n_slots; i++) status = write_slot(record, &q->slot[i], err);
    for (size_t row = 0; status == ADM_OK && row < q->session->n_rows; row++)
        if (q->session->is_kept[row]) {
            status = write_impossible(record, segment, row, err);
            if (status == ADM_OK) status = write_no_targets(q, record, segment, row, err);
        }
    return status;
}
