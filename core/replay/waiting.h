/* waiting.h: selections of one KV head at several steps that wait for their outputs, so that V is read once for all of them.
 *
 *   room    memory for a selection's list, which a policy fills
 *   add     recall and weights
 *   finish  sums of all that wait, block by block of V; then their metrics go to the record, in the order in which they came
 *
 *   memory | list, ends, weights, sums of the first | ... of the second | ... | free |
 *
 * Where the memory is full, room finishes what waits. No value depends on when. */
#ifndef ADM_CORE_REPLAY_WAITING_H
#define ADM_CORE_REPLAY_WAITING_H

#include "core/policy/nested.h"
#include "core/replay/quality_record.h"

/* Where the values of a selection go. */
typedef struct adm_waiting_place {
    size_t row, level;            /* level: of its first budget */
    size_t kv_head, query;        /* query: the first of those that share it, in the group */
    size_t step;                  /* of the block */
    const adm_select_info *info;  /* [levels] */
} adm_waiting_place;

/* One thread's. */
typedef struct adm_waiting {
    adm_judging *judging;     /* [ADM_MAX_WAITING] */
    adm_waiting_place *place; /* [ADM_MAX_WAITING] */
    size_t n;
    unsigned char *memory; /* [memory_bytes] */
    size_t memory_bytes;
    adm_layout layout;     /* of what is taken */
    double *score;         /* [widest] */
    adm_quality *quality;  /* [group][n_budgets] */
    double *oracle_rel_l2; /* [group][n_budgets] of the step whose values went to the record last */
} adm_waiting;

enum { ADM_MAX_WAITING = 256 };

void adm_waiting_take(const adm_session *session, adm_layout *layout, adm_waiting *waiting);

/* Arrays for a selection at all of the budgets, until adm_waiting_finish(). */
void adm_waiting_room(adm_waiting *waiting, const adm_quality_record *record, const adm_budgets *budgets, uint32_t n_q,
                      adm_selected *selected);

/* Adds the selection in those arrays, of which the levels from the first are judged. nested: of those levels; reference: of the
 * n_q queries, where it stays until the end; cut: adm_judging_weigh(). */
void adm_waiting_add(adm_waiting *waiting, const adm_nested *nested, const adm_reference *reference, uint32_t n_q,
                     const adm_score_cut *cut, const adm_waiting_place *place);

void adm_waiting_finish(adm_waiting *waiting, const adm_quality_record *record);

#endif
