/* waiting.c: selections that wait for their outputs. */
#include "core/replay/waiting.h"

/* Memory of a thread for what waits, unless one selection needs more: lists and weights of 32 queries, two policies and budgets
 * up to 8192. */
enum { WANTED_BYTES = 8 << 20 };

/* --- Memory ---------------------------------------------------------------------------------------------------------- */

static void take_selected(adm_layout *layout, const adm_budgets *budgets, adm_selected *selected) {
    selected->list = adm_layout_take(layout, budgets->widest, sizeof *selected->list);
    selected->end = adm_layout_take(layout, budgets->n, sizeof *selected->end);
    selected->info = adm_layout_take(layout, budgets->n, sizeof *selected->info);
}

/* Of one selection of n_q queries, at most. */
static size_t selection_bytes(const adm_session *s, const adm_budgets *budgets, uint32_t n_q) {
    const adm_nested nested = {.n_levels = budgets->n};
    const adm_reference reference = {.head_dim = s->trace->shape.head_dim};
    adm_layout layout = {0};
    adm_selected selected;
    adm_judging judging;
    take_selected(&layout, budgets, &selected);
    adm_judging_take(&layout, &nested, budgets->widest, &reference, n_q, &judging);
    return layout.bytes;
}

/* As much as the replay can use; never less than one selection takes. */
static size_t memory_bytes(const adm_session *s) {
    const size_t one = selection_bytes(s, &s->budgets, 1), shared = selection_bytes(s, &s->budgets, s->group);
    const size_t usable = one > WANTED_BYTES / ADM_MAX_WAITING ? WANTED_BYTES : one * ADM_MAX_WAITING;
    return usable > shared ? usable : shared;
}

void adm_waiting_take(const adm_session *s, adm_layout *layout, adm_waiting *w) {
    *w = (adm_waiting){.memory_bytes = memory_bytes(s)};
    w->judging = adm_layout_take(layout, ADM_MAX_WAITING, sizeof *w->judging);
    w->place = adm_layout_take(layout, ADM_MAX_WAITING, sizeof *w->place);
    w->memory = adm_layout_take(layout, w->memory_bytes, 1);
    w->score = adm_layout_take(layout, s->budgets.widest, sizeof *w->score);
    w->quality = adm_layout_take(layout, s->group * s->budgets.n, sizeof *w->quality);
    w->oracle_rel_l2 = adm_layout_take(layout, s->group * s->budgets.n, sizeof *w->oracle_rel_l2);
    w->layout.base = w->memory;
}

/* --- From a list to the record --------------------------------------------------------------------------------------- */

void adm_waiting_room(adm_waiting *w, const adm_quality_record *record, const adm_budgets *budgets, uint32_t n_q,
                      adm_selected *selected) {
    const size_t n_bytes = selection_bytes(record->session, budgets, n_q);
    if (w->n == ADM_MAX_WAITING || w->layout.bytes + n_bytes > w->memory_bytes) adm_waiting_finish(w, record);
    take_selected(&w->layout, budgets, selected);
}

void adm_waiting_add(adm_waiting *w, const adm_nested *nested, const adm_reference *reference, uint32_t n_q,
                     const adm_score_cut *cut, const adm_waiting_place *place) {
    adm_judging *judging = &w->judging[w->n];
    w->place[w->n++] = *place;
    adm_judging_take(&w->layout, nested, nested->end[nested->n_levels - 1], reference, n_q, judging);
    adm_judging_weigh(judging, cut, w->score);
}

static void put(const adm_waiting *w, const adm_quality_record *record, const adm_judging *judging,
                const adm_waiting_place *place) {
    const adm_session *s = record->session;
    const size_t n_levels = judging->nested.n_levels;
    for (uint32_t g = 0; g < judging->n_q; g++) {
        const size_t query = place->query + g;
        double *oracle = w->oracle_rel_l2 + query * s->budgets.n + place->level;
        for (size_t b = 0; b < n_levels; b++) {
            const adm_quality *quality = &w->quality[g * n_levels + b];
            if (place->row == ADM_ROW_ORACLE) oracle[b] = quality->output_rel_l2;
            adm_quality_record_put_quality(record, place->row, place->level + b, place->kv_head * s->group + query, place->step,
                                           quality, quality->output_rel_l2 - oracle[b], place->info[b].n_tied);
        }
    }
}

void adm_waiting_finish(adm_waiting *w, const adm_quality_record *record) {
    adm_judging_sum(w->judging, w->n);
    for (size_t i = 0; i < w->n; i++) {
        adm_judging_finish(&w->judging[i], w->score, w->quality);
        put(w, record, &w->judging[i], &w->place[i]);
    }
    w->n = 0;
    w->layout.bytes = 0;
}
