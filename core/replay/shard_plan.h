/* shard_plan.h: which lengths of which traces a shard replays, and what `adamas replay --dry-run` shows of it. */
#ifndef ADM_CORE_REPLAY_SHARD_PLAN_H
#define ADM_CORE_REPLAY_SHARD_PLAN_H

#include "core/replay/session/options.h"
#include "core/fleet/shard.h"

/* An item is one length of one trace: what a replay measures and stores as one. */
typedef struct adm_replay_item {
    size_t trace;
    uint32_t seq_len;
    size_t n_steps;
    double bytes; /* of K and V that its steps read, densely and by selection, times included: what its time goes with */
} adm_replay_item;

typedef struct adm_replay_shards {
    adm_shard shard;       /* count 0: all items are ours */
    adm_replay_item *item; /* [n_items] in the order in which they run */
    size_t n_items;
    uint32_t *part;        /* [n_items] the shard of each, from 1; 1 without a sweep */
    double *load;          /* [shards] bytes */
    bool *is_elsewhere;    /* [n_items] */
} adm_replay_shards;

/* Divides the lengths of all traces. Free also after a failure. */
adm_status adm_replay_shards_make(const adm_trace *const *traces, size_t n_traces, const adm_replay_options *options,
                                  adm_shard shard, adm_replay_shards *shards, adm_error *err);
void adm_replay_shards_free(adm_replay_shards *shards);

/* Whether this shard has a length of trace i; and which it has not, [segments of the trace]: NULL where it has all. */
bool adm_replay_shards_has(const adm_replay_shards *shards, size_t i);
const bool *adm_replay_shards_elsewhere(const adm_replay_shards *shards, size_t i);

/* The items, each with its shard, on standard output. */
adm_status adm_replay_shards_print(const adm_replay_shards *shards, const adm_trace *const *traces, bool as_json,
                                   adm_error *err);

#endif
