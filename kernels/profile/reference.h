/* reference.h: the results that the host computes, against which check.c compares the GPU's. */
#ifndef ADM_KERNELS_PROFILE_REFERENCE_H
#define ADM_KERNELS_PROFILE_REFERENCE_H

#include "core/system/threads.h"
#include "kernels/profile/grid/grid.h"

/* What one (sequence, KV head) should give. A "selection" belongs to a query head, or to the group. */
enum { ADM_CHECKED_METRICS = 3 };

typedef struct adm_checked_head {
    uint32_t sequence, kv_head, n_tokens;
    const void *k, *v;         /* [n_tokens][d] dtype */
    const void *q;             /* [group][d] dtype */
    void *own_k, *own_v, *own_q; /* the same where they are not the session's */
    uint8_t *packed;           /* [n_tokens][d/4] */
    float *y;                  /* [group + 1][d]: the queries', then the new key's */
    uint8_t *q_packed;         /* [group][d/4], with asym4 planes [group][d/2] */
    uint16_t *distance[ADM_CHECKED_METRICS]; /* [selections][n_tokens] by the metric; with l1 by xor and dot too */
    /* By the rule at hand (adm_profile_reference_select()); what is attended to comes with the first who asks. */
    uint32_t *selected, *n_selected;         /* [selections][at most min(budget, n_tokens)]; [selections] */
    float *output, *dense;                   /* [group][d] over the selection, and over all tokens */
    bool has_output, has_dense;
} adm_checked_head;

enum { ADM_MAX_CHECKED = 16 };

/* What a set of a case should hold and give, recomputed on the host for some of its (sequence, KV head): the first and
 * the last of a batch, or one KV head of each of the first 16 sequences where their lengths differ. The inputs are
 * borrowed while it lives, and so is the pool, whose threads share the work; no value depends on them. */
typedef struct adm_profile_reference {
    adm_gpu_shape shape;       /* with the set's thresholds */
    adm_gpu_inputs inputs;
    uint32_t set;
    uint32_t group;            /* query heads per KV head */
    uint32_t selections;       /* a KV head: group, or 1 */
    size_t n_heads;
    adm_checked_head head[ADM_MAX_CHECKED];
    adm_select_rule rule;      /* at hand; a budget of 0: none yet */
    adm_pool *pool;            /* borrowed; NULL: the caller's thread alone */
    size_t longest;            /* tokens of a checked head */
    /* Scratch for the longest of them. */
    uint32_t *histogram;
    uint32_t *found;           /* the device's selection */
    uint16_t *distance;
    double *score;             /* [threads][longest] */
    bool *seen;
} adm_profile_reference;

adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, uint32_t set, adm_pool *pool,
                                        adm_profile_reference **out, adm_error *err);
void adm_profile_reference_free(adm_profile_reference **reference);

/* Every checked head's selections by this rule, unless it is at hand: units at one budget share them. The budget is at most
 * that of the shape. */
void adm_profile_reference_select(adm_profile_reference *reference, const adm_select_rule *rule);

/* Selection i of the head by the rule at hand, ascending. Borrowed until the next rule. */
const uint32_t *adm_profile_selection(const adm_profile_reference *reference, const adm_checked_head *head, uint32_t i,
                                      uint32_t *n);

/* The output of query i of the head's group [d]: over its selection by the rule at hand, or over all tokens. */
const float *adm_profile_output(adm_profile_reference *reference, adm_checked_head *head, uint32_t i, bool is_dense);

/* Tokens that the query heads of a group attend to between them under this rule, over those that one selection holds:
 * the mean of the checked heads, 1 to the group's size. */
double adm_profile_reference_overlap(adm_profile_reference *reference, const adm_select_rule *rule);

#endif
