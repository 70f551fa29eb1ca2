/* replay_values.c: what the quality pass measured of a segment, and its distributions. */
#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

/* Values kept as they are: of one head, and of all heads and layers. Beyond that they are counted (core/base/aggregate.h). */
enum { MOST_EXACT_OF_HEAD = 1024, MOST_EXACT_POOLED = 4096 };

adm_status adm_replay_make_slots(adm_replay *r, size_t n_slots, adm_error *err) {
    size_t n_heads = r->trace->shape.n_q_heads;
    adm_status status = adm_alloc(&r->slot, n_slots, sizeof *r->slot, "metrics of a segment", err);
    while (status == ADM_OK && r->n_slots < n_slots) {
        adm_slot *slot = &r->slot[r->n_slots++];
        slot->pooled.max_exact = MOST_EXACT_POOLED;
        status = adm_alloc(&slot->value, n_heads * ADM_BLOCK_STEPS, sizeof *slot->value, "values of a block", err);
        if (status == ADM_OK) status = adm_alloc(&slot->head, n_heads, sizeof *slot->head, "distributions of heads", err);
        if (status == ADM_OK)
            status = adm_alloc(&slot->of, r->n_layers * n_heads, sizeof *slot->of, "distributions of a segment", err);
        for (size_t h = 0; status == ADM_OK && h < n_heads; h++) slot->head[h].max_exact = MOST_EXACT_OF_HEAD;
    }
    return status;
}

void adm_replay_drop_slots(adm_replay *r) {
    for (size_t i = 0; r->slot != NULL && i < r->n_slots; i++) {
        adm_slot *slot = &r->slot[i];
        for (size_t h = 0; slot->head != NULL && h < r->trace->shape.n_q_heads; h++) adm_aggregate_free(&slot->head[h]);
        adm_aggregate_free(&slot->pooled);
        adm_free(&slot->value);
        adm_free(&slot->head);
        adm_free(&slot->of);
    }
    r->n_slots = 0;
    adm_free(&r->slot);
}

/* A task a slot; each takes its values in the order of heads and steps. */
typedef struct round_of_slots {
    adm_replay *r;
    size_t n_steps;
} round_of_slots;

static void take_block(void *user, size_t i, size_t worker) {
    const round_of_slots *round = user;
    adm_slot *slot = &round->r->slot[i];
    (void)worker;
    for (size_t h = 0; slot->status == ADM_OK && h < round->r->trace->shape.n_q_heads; h++) {
        const double *value = slot->value + h * ADM_BLOCK_STEPS;
        slot->status = adm_aggregate_add(&slot->head[h], value, round->n_steps, &slot->err);
        if (slot->status == ADM_OK) slot->status = adm_aggregate_add(&slot->pooled, value, round->n_steps, &slot->err);
    }
}

static void take_layer(void *user, size_t i, size_t worker) {
    const round_of_slots *round = user;
    adm_replay *r = round->r;
    adm_slot *slot = &r->slot[i];
    adm_bin scratch[ADM_AGGREGATE_MAX_BINS];
    (void)worker;
    for (size_t h = 0; h < r->trace->shape.n_q_heads; h++) {
        slot->of[r->at_layer * r->trace->shape.n_q_heads + h] = adm_aggregate_result(&slot->head[h], scratch);
        adm_aggregate_free(&slot->head[h]);
    }
}

adm_status adm_replay_take_block(adm_replay *r, size_t n_steps, adm_error *err) {
    round_of_slots round = {r, n_steps};
    adm_pool_run(r->pool, r->n_slots, take_block, &round, NULL);
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slot[i].status == ADM_OK) continue;
        if (err != NULL) *err = r->slot[i].err;
        return r->slot[i].status;
    }
    return ADM_OK;
}

void adm_replay_take_layer(adm_replay *r) {
    round_of_slots round = {r, 0};
    adm_pool_run(r->pool, r->n_slots, take_layer, &round, NULL);
}
