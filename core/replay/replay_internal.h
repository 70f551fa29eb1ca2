/* replay_internal.h: the replay engine's state, shared by
 *
 *   replay.c          the session: what is replayed, opening, the walk over segments
 *   replay_stages.c   the stage pass: one thread, every stage bracketed for the probes
 *   replay_time.c     the stage pass: how long a stage takes
 *   replay_codes.c    the quality pass: a layer's key codes and page bounds, a query's distances
 *   replay_quality.c  the quality pass: its tasks
 *   replay_select.c   the quality pass: what a policy selects
 *   replay_values.c   what the quality pass measured, and its distributions
 *   replay_record.c   configurations, and how everything reaches the store
 *   replay_count.c    counters in the place of times
 *
 * Nothing else includes it. */
#ifndef ADM_CORE_REPLAY_REPLAY_INTERNAL_H
#define ADM_CORE_REPLAY_REPLAY_INTERNAL_H

#include "core/replay/event_spool.h"
#include "core/base/aggregate.h"
#include "core/policy/codebook.h"
#include "core/policy/policy.h"
#include "core/replay/quality.h"
#include "core/base/contention.h"
#include "core/policy/rank.h"
#include "core/replay/replay.h"
#include "core/base/rng.h"
#include "core/base/threads.h"

/* --- What the quality pass measures --------------------------------------------------------------------------------- */

enum { Q_RECALL, Q_MASS, Q_KL, Q_TV, Q_OUTPUT_REL_L2, Q_OUTPUT_COSINE, Q_ORACLE_GAP, Q_EPS_EXCEED, Q_TIES, N_QUALITY };

/* Steps whose values wait to be taken into the distributions. */
enum { ADM_BLOCK_STEPS = 64 };

/* One metric of one configuration in the present segment. A task writes its values; behind a block of steps they go into
 * the layer's distributions, and behind a layer those are put down. */
typedef struct adm_slot {
    int64_t config_id;
    const adm_metric *metric;
    double *value;            /* [n_q_heads][ADM_BLOCK_STEPS] */
    adm_aggregate *head;      /* [n_q_heads] of the present layer */
    adm_distribution *of;     /* [n_layers][n_q_heads] */
    adm_aggregate pooled;     /* over layers and heads */
    adm_status status;        /* of the task that took values in */
    adm_error err;
} adm_slot;

/* A policy in one variant: a row of the sweep, with a selection for every budget. */
typedef struct adm_row {
    adm_policy policy;
    adm_selection selection;
    size_t coding;            /* of adamas: index into the options' codings */
    adm_slot **slot;          /* [n_budgets][N_QUALITY], of `dense` [1][N_QUALITY]; NULL: not kept */
    adm_slot **target;        /* [n_targets]; NULL for `dense` */
} adm_row;

/* --- What the stage pass measures ----------------------------------------------------------------------------------- */

/* Durations of one stage (at one budget, where it depends on one) in the present segment: a sample a layer step, or,
 * for bulk encoding, a few a chunk of key rows, divided by the rows. */
typedef struct adm_stage_times {
    adm_stage stage;
    uint32_t budget;
    bool bulk;
    int64_t config_id;
    size_t n, capacity;
    size_t n_loops, loop_capacity;
    double *loop_ns;          /* [n_loops]: of the loop of core/base/contention.h beside each sample, the slower of two */
    double *sample_ns;
    size_t n_counted, count_capacity;
    double *count;            /* [n_counted][n_counters], when counting */
} adm_stage_times;

/* The scratch of the stage pass, and its own key codes. Rows of a layer step, in y, codes and packed alike:
 *
 *   [ query head 0 | query head 1 | ... | new key of KV head 0 | ... ]      n_q_heads + n_kv_heads rows */
typedef struct adm_stage_pass {
    uint8_t **cache;          /* [n_layers]: [n_kv_heads][n_tokens][d/4] */
    size_t n_encoded;         /* tokens whose codes are in every cache */
    float *y;                 /* [rows][d], rows = max(n_q_heads + n_kv_heads, those of a chunk) */
    uint8_t *codes;           /* the same rows */
    uint8_t *packed;          /* [n_q_heads + n_kv_heads][d/4] */
    uint16_t *distance;       /* [n_q_heads][n_tokens] */
    uint32_t *histogram;
    uint32_t *index;          /* [n_q_heads][widest] selected tokens */
    uint32_t *n_selected;     /* [n_q_heads] */
    double *score;            /* [n_tokens] */
    float *out;               /* [n_q_heads][d] */
} adm_stage_pass;

/* Rows are encoded in chunks of so many bytes of float32, which with their keys and codes fit a core's own cache (1 or 2 MiB). */
enum { ADM_BULK_BYTES = 256 << 10 };

/* What a stage works on: a layer step, or a chunk of the keys of one KV head. */
typedef struct adm_stage_task {
    size_t layer; /* index into the replay's layers */
    const adm_trace_layer *l;
    const unsigned char *q; /* [n_q_heads, d] of the step */
    size_t token; /* position of the new token, or of the chunk's first */
    size_t n_tokens; /* attended over: token + 1 */
    uint32_t budget; /* 0: the stage does not depend on it */
    size_t kv_head, n_rows; /* of the chunk; no rows: a layer step */
    adm_range range;
} adm_stage_task;

typedef struct adm_stage_work {
    const char *variant;
    void (*run)(adm_replay *replay, const adm_stage_task *task); /* as often as one likes, with the same result */
    size_t n_elements;
} adm_stage_work;

/* --- The quality pass ------------------------------------------------------------------------------------------------ */

/* The keys of one layer, tokens 0 .. the segment's last, in the codes that one or more codings share. */
typedef struct adm_layer_codes {
    const adm_coding *coding; /* the first of them */
    size_t row_bytes;
    uint8_t *packed; /* [n_kv_heads][n_tokens][row_bytes]; NULL: in the stage pass's cache, which holds the same */
    uint64_t *n_codes; /* [n_layers][n_kv_heads][ADM_CODES]: how often each code occurs */
} adm_layer_codes;

enum { ADM_CODES = 1 << ADM_MAX_CODE_BITS };

/* One thread's scratch. group: the query heads of a KV head; batch: steps whose dense reference is computed together. n: tokens
 * of the trace. */
typedef struct adm_worker {
    double *score; /* [batch][group][score_stride] */
    adm_reference *reference; /* [batch][group] */
    size_t *n_seen; /* [batch][group] tokens */
    float *q, *y; /* [batch][group][d]: the queries, and transformed */
    double *weight; /* [n] of one head, where they are wanted of every token */
    float *rows; /* [ADM_ENCODE_ROWS][d] */
    uint16_t *distance; /* [n] */
    uint16_t *near; /* [widest] distances of those selected */
    uint32_t *histogram; /* a counter a distance */
    uint16_t *table; /* [d][ADM_CODES] */
    void *scan_scratch;
    uint64_t *n_codes; /* [n_codes][n_kv_heads][ADM_CODES] of the layer at hand */
    double *ranking; /* [n]: what a policy ranks by */
    void *rank_scratch;
    uint32_t *rank, *order; /* [n] */
    adm_candidates *candidates; /* [group] of the exact top-k of each head; for another ranking [group] */
    uint32_t *candidate; /* [group + 1][n] and */
    double *candidate_score; /* [group + 1][n]: theirs */
    adm_cut *exact; /* [group][n_cuts] the exact top-k of each head at every size that is selected */
    adm_cut *cut; /* [group][n_budgets] those of the row at hand */
    uint32_t *set; /* [widest]: the widest selection of the row at hand, and */
    double *set_score; /* [widest] */
    uint16_t *level; /* [widest]: the smallest budget that holds each */
    uint64_t *bits; /* [n / 64 + 1], all zero between uses */
    uint8_t *taken; /* [n] */
    uint32_t *list; /* [widest] and */
    size_t *end, *next; /* [n_budgets]: the nested selections of the row at hand, and how far they are filled */
    adm_select_info *info; /* [n_budgets] */
    double *quality_scratch;
    adm_quality *quality; /* [group][n_budgets] */
    double *oracle_rel_l2; /* [group][n_budgets] */
} adm_worker;

enum { ADM_ENCODE_ROWS = 512 }; /* a multiple of a page */

struct adm_replay {
    const adm_trace *trace;
    adm_replay_options options;
    adm_store *store;
    adm_probes *probes;
    int64_t run_id, trace_id;

    const adm_trace_layer **layer; /* [n_layers] those replayed */
    size_t n_layers;
    adm_segment *segment;
    bool *is_stored; /* [n_segments]: the run held it already when the replay was opened */
    size_t n_segments;
    bool calibration_is_stored;
    adm_codebook **book; /* [n_codings][n_layers] */
    size_t widest; /* tokens of the largest selection */

    adm_stage_pass stages;
    adm_stage_times *times;
    size_t n_times;
    adm_stage_times *now; /* where the running stage's counts go; NULL: they are not kept */
    bool is_timing; /* the stage pass takes times; else it runs under the probes */
    adm_quiet quiet;
    uint64_t wait_left_ns; /* that may still be granted for waiting in this segment */
    adm_event_spool *events; /* ranges of the present segment, written when it ends; NULL: no timeline */
    adm_status sink_status; /* first failure inside the sink, reported when the segment ends */
    adm_error sink_error;

    adm_pool *pool;
    adm_worker *worker; /* [threads of the pool] */
    adm_row *row; /* [n_rows]: dense first, oracle second */
    size_t n_rows;
    uint16_t *level_of; /* [widest]: the smallest budget that holds a place of an order */
    adm_slot *slot;
    size_t n_slots;
    adm_metric *target_metric; /* [n_targets] */
    char (*target_name)[ADM_TARGET_NAME_BYTES];
    adm_layer_codes *codes; /* [n_codes] */
    size_t n_codes;
    size_t *codes_of; /* [n_codings] */
    float *page_bounds; /* [n_kv_heads][n_pages][2][d] of the present layer, see core/policy/policy.h */
    double *drawn; /* [n_q_heads][n_tokens]: attention drawn in this segment and layer so far */
    const adm_segment *at_segment; /* what the tasks of the present round work on */
    size_t at_layer, at_block; /* the block's first step, in the segment */
    size_t batch[ADM_BLOCK_STEPS + 1]; /* the block's batches: the first step of each, in the segment, and behind the last */
    size_t max_batch, score_stride; /* of a worker's scratch */
    uint64_t n_done, n_total; /* layer steps */
};

/* Whether stages are timed: adamas's contract comes first among the codings. */
static inline bool adm_replay_times_codes(const adm_replay *r) {
    return r->options.n_codings > 0 && adm_coding_is_contract(&r->options.codings[0]);
}

/* The cuts of the exact top-k that a step needs: one a budget, and one for each of quest's selections. */
static inline size_t adm_replay_max_cuts(const adm_replay *r) { return 2 * r->options.n_budgets; }

static inline uint32_t adm_replay_group(const adm_replay *r) { return r->trace->shape.n_q_heads / r->trace->shape.n_kv_heads; }

static inline const unsigned char *adm_key_row(const adm_replay *r, const adm_trace_layer *layer, size_t kv_head,
                                               size_t token) {
    size_t row_bytes = r->trace->shape.head_dim * adm_dtype_bytes(layer->k_dtype);
    return (const unsigned char *)layer->k + (kv_head * r->trace->n_tokens + token) * row_bytes;
}

static inline const unsigned char *adm_value_rows(const adm_replay *r, const adm_trace_layer *layer, size_t kv_head) {
    size_t row_bytes = r->trace->shape.head_dim * adm_dtype_bytes(layer->v_dtype);
    return (const unsigned char *)layer->v + kv_head * r->trace->n_tokens * row_bytes;
}

/* The queries [n_q_heads, d] of a step of the trace. */
static inline const unsigned char *adm_query_rows(const adm_replay *r, const adm_trace_layer *layer, size_t step) {
    const adm_shape *shape = &r->trace->shape;
    return (const unsigned char *)layer->q + step * shape->n_q_heads * shape->head_dim * adm_dtype_bytes(layer->q_dtype);
}

/* Tokens cached when the segment ends. */
static inline size_t adm_segment_tokens(const adm_replay *r, const adm_segment *segment) {
    return (size_t)r->trace->positions[segment->first_step + segment->n_steps - 1] + 1;
}

/* Quest selects whole pages: a budget below one page has no meaning for it, and gets no values. */
static inline bool adm_is_possible(adm_policy policy, uint32_t budget) {
    return policy != ADM_POLICY_QUEST || budget >= ADM_QUEST_PAGE;
}

/* --- replay_stages.c */

adm_status adm_stage_pass_open(adm_replay *replay, adm_error *err);
void adm_stage_pass_close(adm_replay *replay);

/* Runs the stages of the segment's first steps. ADM_EINTERRUPTED when asked to stop. */
adm_status adm_stage_pass_run(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* One KV head at one step, as the policies see it. */
typedef struct adm_task_at {
    size_t layer, kv_head, step; /* layer: index into adm_replay.layer; step of the trace */
    size_t n_tokens; /* attended over */
    const adm_trace_layer *l;
    const float *q, *y; /* [group][d]: the queries, and transformed */
    const adm_reference *reference; /* [group] */
} adm_task_at;

/* --- replay_codes.c */

/* Makes room for the codebooks and for one layer's codes. */
adm_status adm_replay_codes_open(adm_replay *replay, adm_error *err);
void adm_replay_codes_close(adm_replay *replay);

/* Learns the layer's codebooks. Different layers from different threads. */
adm_status adm_replay_learn_layer(adm_replay *replay, size_t layer, adm_error *err);

/* Encodes the layer's keys up to the segment's end, and makes quest's page bounds; with every thread. False: stopped. */
bool adm_replay_encode_layer(adm_replay *replay, const adm_segment *segment, size_t layer);

/* worker->distance [n_tokens] of query `head` of the group from its keys, or of the whole group for a selection per group.
 * Returns the largest distance possible. */
uint32_t adm_replay_distances(const adm_replay *replay, adm_worker *worker, const adm_task_at *at, size_t coding,
                              uint32_t head);

/* --- replay_quality.c */

adm_status adm_quality_pass_open(adm_replay *replay, adm_error *err);
void adm_quality_pass_close(adm_replay *replay);

/* Measures every step of the segment. ADM_EINTERRUPTED when asked to stop. */
adm_status adm_quality_pass_run(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* --- replay_select.c */

/* Finds worker->exact and worker->candidates of each head of the group. Returns how many cuts there are. */
size_t adm_select_exact(const adm_replay *replay, adm_worker *worker, const adm_task_at *at);

/* Sets worker->list and worker->end, and for adamas worker->info, to what the row selects for query `head` of the group,
 * or for all of it. Budgets at which the row is not possible have no tokens. */
void adm_select_nested(const adm_replay *replay, adm_worker *worker, const adm_task_at *at, const adm_row *row, uint32_t head);

/* Behind adm_select_nested(): worker->order [n_tokens] becomes the row's order of all tokens. */
void adm_select_order(const adm_replay *replay, adm_worker *worker, const adm_task_at *at, const adm_row *row, uint32_t head);

/* --- replay_values.c */

/* Makes the rows' slots for a segment; drops the last segment's. */
adm_status adm_replay_make_slots(adm_replay *replay, size_t n_slots, adm_error *err);
void adm_replay_drop_slots(adm_replay *replay);

/* Takes a block's values into the distributions of the layer; puts those of a whole layer down. */
adm_status adm_replay_take_block(adm_replay *replay, size_t n_steps, adm_error *err);
void adm_replay_take_layer(adm_replay *replay);

/* --- replay_record.c */

/* Makes the segment's configurations, slots and times; frees the last segment's. */
adm_status adm_replay_begin_segment(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* Where durations of this stage at this budget go. */
adm_stage_times *adm_replay_times(adm_replay *replay, adm_stage stage, uint32_t budget, bool bulk);

/* Appends a sample and its loop; running out of memory is kept for adm_replay_end_segment() to report. */
void adm_replay_keep_time(adm_replay *replay, adm_stage_times *times, double ns, double loop_ns);

/* Makes room for one more element of a growing array (the address of its pointer); false when out of memory, which
 * adm_replay_end_segment() reports, since a sink cannot. */
bool adm_replay_grow(adm_replay *replay, void *array_address, size_t n, size_t *capacity, size_t size);

/* Writes and flushes what the segment measured. */
adm_status adm_replay_end_segment(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* Writes and flushes the events of the session itself. */
adm_status adm_replay_end_session(adm_replay *replay, adm_error *err);

/* Frees slots and times. */
void adm_replay_drop_segment(adm_replay *replay);

/* Finds the segments that the run holds already. */
adm_status adm_replay_find_stored(adm_replay *replay, adm_error *err);

/* --- replay_time.c */

/* Before the first time of a segment. */
void adm_replay_time_begin(adm_replay *replay);

typedef struct adm_stage_time {
    double ns, loop_ns; /* what the work took, and the slower of the two loops of core/base/contention.h beside it */
} adm_stage_time;

/* Times the work and keeps what it took; returns that, of a layer step. */
adm_stage_time adm_replay_time_stage(adm_replay *replay, adm_stage_times *times, const adm_stage_work *work,
                                     const adm_stage_task *task);

/* --- replay_count.c */

/* Whether any of the options' counters counts. */
bool adm_replay_counts(const adm_replay *replay);

/* Writes what was counted in the segment, or why it was not. */
adm_status adm_replay_write_counts(adm_replay *replay, adm_error *err);

/* What to say when a replay is asked to stop. */
adm_status adm_replay_interrupted(const adm_replay *replay, const adm_segment *segment, adm_error *err);

#endif
