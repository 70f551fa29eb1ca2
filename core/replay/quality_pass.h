/* quality_pass.h: every step of a segment, layer by layer, on all threads. A task is one KV head at a few steps, whose dense
 * references are computed together; where a policy looks back, at every step of a block in turn. */
#ifndef ADM_CORE_REPLAY_QUALITY_PASS_H
#define ADM_CORE_REPLAY_QUALITY_PASS_H

#include "core/replay/quality_step.h"

/* One thread's scratch. batch: steps whose dense references are computed together. */
typedef struct adm_quality_worker {
    void *memory; /* owned: all of the below */
    double *score; /* [batch][group][score_stride] */
    adm_reference *reference; /* [batch][group] */
    size_t *n_seen; /* [batch][group] tokens */
    float *q, *y; /* [batch][group][d]: the queries, and transformed */
    adm_step_scratch step;
} adm_quality_worker;

typedef struct adm_quality_pass {
    const adm_session *session;
    adm_policy_set *set;
    adm_quality_record *record;
    adm_advance *advance;
    adm_pool *pool;
    adm_quality_worker *worker; /* [threads of the pool] */
    size_t max_batch, score_stride; /* of a worker's scratch */
    size_t n_held_heads; /* KV heads whose keys the policies hold at once */

    /* What the tasks of the present round work on. */
    const adm_segment *segment;
    bool has_prompt; /* the trace holds every query up to the segment's last step */
    size_t first_head, n_heads;        /* those held */
    size_t layer, block;               /* the block's first step, in the segment */
    size_t batch[ADM_BLOCK_STEPS + 1]; /* the first step of each batch of the block, in the segment, and behind the last */
} adm_quality_pass;

/* How many KV heads' keys the policies hold at once: all, but of a long trace fewer, which are appended anew for each block of
 * steps. For adm_policy_setup.n_held_heads. No value depends on it. */
size_t adm_quality_pass_held_heads(const adm_session *session);

/* All is borrowed; set: the states of the session's rows. Sets n_threads to how many threads the pass can use, which the pool
 * that it is then started with must have. */
void adm_quality_pass_plan(const adm_session *session, adm_policy_set *set, adm_quality_record *record, adm_advance *advance,
                           adm_quality_pass *pass, size_t *n_threads);
adm_status adm_quality_pass_start(adm_quality_pass *pass, adm_pool *pool, adm_error *err);
void adm_quality_pass_close(adm_quality_pass *pass);

/* Makes the scratch of a thread: once each before the first run, in any thread. */
adm_status adm_quality_pass_make_worker(adm_quality_pass *pass, size_t worker, adm_error *err);

/* Measures every step of the segment. ADM_EINTERRUPTED when asked to stop. */
adm_status adm_quality_pass_run(adm_quality_pass *pass, const adm_segment *segment, adm_error *err);

#endif
