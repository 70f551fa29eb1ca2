/* profile_internal.h: what profile_reference.c makes and profile_check.c compares with. */
#ifndef ADM_KERNELS_PROFILE_PROFILE_INTERNAL_H
#define ADM_KERNELS_PROFILE_PROFILE_INTERNAL_H

#include "kernels/profile/profile.h"

/* What one (sequence, KV head) should give. A "selection" belongs to a query head, or to the group. */
typedef struct adm_checked_head {
    uint32_t sequence, kv_head, n_tokens;
    const void *k, *v;         /* [n_tokens][d] dtype */
    const void *q;             /* [group][d] dtype */
    void *own_k, *own_v, *own_q; /* the same where they are not the session's */
    uint8_t *packed;           /* [n_tokens][d/4] */
    float *y;                  /* [group + 1][d]: the queries', then the new key's */
    uint8_t *q_packed;         /* [group][d/4] */
    uint16_t *distance[2];     /* [selections][n_tokens] by l1, by xor */
} adm_checked_head;

enum { ADM_MOST_CHECKED = 16 };

struct adm_profile_reference {
    adm_gpu_shape shape;       /* with the set's thresholds */
    adm_gpu_inputs inputs;
    uint32_t set;
    uint32_t group;            /* query heads a KV head */
    uint32_t selections;       /* a KV head: group, or 1 */
    size_t n_heads;
    adm_checked_head head[ADM_MOST_CHECKED];
    /* Scratch for the longest of them. */
    uint32_t *histogram, *index;
    uint32_t *found;           /* the device's selection */
    uint16_t *distance;
    double *score;
    bool *seen;
};

/* Selection i of the head on the host, ascending, to index; returns how many tokens it holds. */
uint32_t adm_profile_select(const adm_profile_reference *reference, const adm_checked_head *head, const adm_select_rule *rule,
                            uint32_t i, uint32_t *index);

#endif
