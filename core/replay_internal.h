/* replay_internal.h: the replay engine's state, shared by replay.c (session), replay_step.c (one layer of one step),
 * replay_record.c (what is kept and how it is written) and replay_count.c (the same for counters). Nothing else
 * includes it. */
#ifndef ADM_CORE_REPLAY_INTERNAL_H
#define ADM_CORE_REPLAY_INTERNAL_H

#include "core/policy.h"
#include "core/quality.h"
#include "core/replay.h"

/* The quality metrics kept for each query head and step. */
enum {
    Q_RECALL, Q_MASS, Q_KL, Q_TV, Q_OUTPUT_REL_L2, Q_OUTPUT_COSINE, Q_ORACLE_GAP, Q_EPS_EXCEED, Q_TIES, N_QUALITY
};

/* One policy at one budget in the present segment: `dense` has one, `adamas` one a budget and threshold variant, every
 * other one a budget. value is [N_QUALITY][n_layers][n_q_heads][n_steps]; a metric that the policy lacks is not kept. */
typedef struct adm_arm {
    adm_policy policy;
    uint32_t budget;
    size_t variant;
    int64_t config_id;
    double *value;
} adm_arm;

/* Durations of one stage (at one budget, where it depends on one) in the present segment: a sample a layer step, or,
 * for bulk encoding, a sample a chunk of key rows, divided by the rows. */
typedef struct adm_stage_times {
    adm_stage stage;
    uint32_t budget;
    bool bulk;
    int64_t config_id;
    size_t n, capacity;
    double *sample_ns;
    size_t n_counted, count_capacity;
    double *count;            /* [n_counted][n_counters], when counting */
} adm_stage_times;

/* A finished range, for the table event. */
typedef struct adm_event {
    adm_range range;
    uint64_t start_ns, end_ns;
} adm_event;

/* What one threshold variant keeps per layer, from the start of the session on. */
typedef struct adm_code_cache {
    float thresholds[3];
    uint8_t *packed;          /* [n_kv_heads][n_tokens][d/4] */
    uint64_t *n_codes;        /* [n_kv_heads][4]: how often each code occurs so far */
} adm_code_cache;

struct adm_replay {
    const adm_trace *trace;
    adm_replay_options options;
    adm_store *store;
    adm_probes *probes;
    int64_t run_id, trace_id;

    const adm_trace_layer **layer;  /* [n_layers] those replayed */
    size_t n_layers;
    adm_segment *segment;
    size_t n_segments;

    adm_code_cache *cache;          /* [n_thresholds][n_layers] */
    size_t n_encoded;               /* tokens whose codes are in every cache */

    adm_arm *arm;                   /* dense | then [n_budgets] of each policy but adamas | adamas[n_thresholds][n_budgets] */
    size_t n_arms;
    adm_stage_times *times;
    size_t n_times;
    adm_stage_times *now;           /* where the running stage's duration goes; NULL: it is not kept */
    double now_divisor;             /* key rows of the running chunk when bulk, else 1 */
    double last_ns;                 /* the sample just taken; 0 when nothing times */
    struct adm_event *event;        /* ranges of the present segment, written when it ends: no write while timing */
    size_t n_events, event_capacity;
    adm_status sink_status;         /* first failure inside the sink, reported when the segment ends */
    adm_error sink_error;

    /* Scratch of one layer step. */
    float *y;                       /* [rows][d], rows = max(n_q_heads + n_kv_heads, ADM_BULK_ROWS) */
    uint8_t *codes;                 /* the same rows */
    uint8_t *packed;                /* [n_q_heads + n_kv_heads][d/4] */
    uint16_t *distance;             /* [n_q_heads][n_tokens] */
    uint32_t *histogram;
    uint32_t *all_tokens;           /* 0, 1, 2, ... n_tokens - 1 */
    uint32_t *index;                /* [n_q_heads][widest] selected tokens, widest = min(largest budget, n_tokens) */
    uint32_t *n_selected;           /* [n_q_heads] */
    adm_select_info *select_info;   /* [n_q_heads] */
    double *score;                  /* [n_tokens] */
    float *out;                     /* [n_q_heads][d] */
    adm_reference **reference;      /* [n_q_heads] */
    double *oracle_rel_l2;          /* [n_budgets][n_q_heads] */
    float *page_bounds;             /* [n_layers][n_kv_heads][n_pages][2][d], see core/policy.h */
    double *page_bound;             /* [n_pages] */
    double *drawn;                  /* [n_layers][n_q_heads][n_tokens]: attention drawn in this segment so far */
    uint32_t *order;                /* [n_tokens] */
    void *rank_scratch;
    adm_rng rng;
    size_t widest;
    uint64_t n_done, n_total;       /* layer steps */
};

/* Rows encoded at a time: 4,096 rows of d = 256 are 4 MiB of float32. */
enum { ADM_BULK_ROWS = 4096 };

/* replay_step.c */

/* Encodes tokens [n_encoded, n_tokens) of every layer and variant. */
void adm_replay_encode(adm_replay *replay, size_t n_tokens, uint32_t seq_len);

/* Runs one layer of one step through every stage, and files its quality under the segment's step `step_in_segment`. */
void adm_replay_layer_step(adm_replay *replay, const adm_segment *segment, size_t step_in_segment, size_t layer);

/* replay_record.c */

/* Makes the segment's configurations and arms; frees the last segment's. */
adm_status adm_replay_begin_segment(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* Where durations of this stage at this budget go. */
adm_stage_times *adm_replay_times(adm_replay *replay, adm_stage stage, uint32_t budget, bool bulk);

/* Appends a sample; running out of memory is kept for adm_replay_end_segment() to report. */
void adm_replay_keep_time(adm_replay *replay, adm_stage_times *times, double ns);

/* Makes room for one more element of a growing array (the address of its pointer); false when out of memory, which
 * adm_replay_end_segment() reports, since a sink cannot. */
bool adm_replay_grow(adm_replay *replay, void *array_address, size_t n, size_t *capacity, size_t size);

/* Writes and flushes what the segment measured. */
adm_status adm_replay_end_segment(adm_replay *replay, const adm_segment *segment, adm_error *err);

/* Keeps a finished range until the segment ends. */
void adm_replay_keep_event(adm_replay *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns);

/* Writes and flushes the events of the session itself. */
adm_status adm_replay_end_session(adm_replay *replay, adm_error *err);

/* Frees arms and times. */
void adm_replay_drop_segment(adm_replay *replay);

/* replay_count.c */

/* Whether any of the options' counters counts. */
bool adm_replay_counts(const adm_replay *replay);

/* Writes what was counted in the segment, or why it was not. */
adm_status adm_replay_write_counts(adm_replay *replay, adm_error *err);

/* How many rows of arms there are behind that of `dense`. */
static inline size_t adm_replay_arm_rows(const adm_replay *replay) {
    return ADM_N_POLICIES - 2 + replay->options.n_thresholds;
}

/* The arm of a policy at the b-th budget and v-th threshold variant (0 where the policy has none). */
static inline adm_arm *adm_replay_arm(const adm_replay *replay, adm_policy policy, size_t b, size_t v) {
    if (policy == ADM_POLICY_DENSE) return &replay->arm[0];
    size_t n_budgets = replay->options.n_budgets;
    /* adamas's variants stand last, so the policies after it move up by one. */
    size_t row = policy == ADM_POLICY_ADAMAS ? ADM_N_POLICIES - 2 + v
                 : policy > ADM_POLICY_ADAMAS ? (size_t)policy - 2 : (size_t)policy - 1;
    return &replay->arm[1 + row * n_budgets + b];
}

/* Quest selects whole pages: a budget below one page has no meaning for it, and gets no rows. */
static inline bool adm_arm_is_possible(const adm_arm *arm) {
    return arm->policy != ADM_POLICY_QUEST || arm->budget >= ADM_QUEST_PAGE;
}

/* Where a policy's value of one quality metric for one head and step goes. */
static inline double *adm_arm_value(const adm_replay *replay, const adm_arm *arm, const adm_segment *segment,
                                    int metric, size_t layer, size_t head, size_t step) {
    size_t n_heads = replay->trace->shape.n_q_heads;
    return arm->value + (((size_t)metric * replay->n_layers + layer) * n_heads + head) * segment->n_steps + step;
}

#endif
