/* only.h: a few of the times that a replay can take: `adamas check` takes those alone that it has not decided yet. */
#ifndef ADM_CORE_REPLAY_SESSION_ONLY_H
#define ADM_CORE_REPLAY_SESSION_ONLY_H

#include <stdbool.h>

#include "core/contract/stage.h"

/* One stage, or its bulk encoding of keys; 0: at every length, at every budget. */
typedef struct adm_only {
    adm_stage stage;
    bool bulk;
    uint32_t seq_len, budget;
} adm_only;

/* Parses "topk@1024/32,pack:bulk@2048,dense". ADM_EINPUT: an unknown stage, no number, bulk of a stage that has none, a budget
 * of a stage that depends on none. Release *only with adm_free(). */
adm_status adm_only_parse(const char *text, adm_only **only, size_t *n, adm_error *err);

/* The budget is 0 where the stage depends on none. With n = 0 everything is wanted. A step is the sum of its stages, which are
 * wanted with it. */
bool adm_only_wants(const adm_only *only, size_t n, adm_stage stage, bool bulk, uint32_t seq_len, uint32_t budget);

#endif
