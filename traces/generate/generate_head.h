/* generate_head.h: one KV head of a synthetic session: keys, values and the queries that read it. See generate.h. */
#ifndef ADM_TRACES_GENERATE_GENERATE_HEAD_H
#define ADM_TRACES_GENERATE_GENERATE_HEAD_H

#include "traces/generate/generate.h"

enum { ADM_GEN_BLOCK = 64 }; /* tokens whose rotations one table serves */

/* RoPE of one token after another: R(64 b + r) = R(64 b) R(r). */
typedef struct adm_gen_rope {
    uint32_t n_pairs;
    double base;
    double turns[ADM_MAX_HEAD_DIM / 2];                          /* of a circle, a token */
    double cos_in[ADM_GEN_BLOCK][ADM_MAX_HEAD_DIM / 2], sin_in[ADM_GEN_BLOCK][ADM_MAX_HEAD_DIM / 2];
    uint64_t block;                                              /* whose rotation the next two hold */
    double cos_block[ADM_MAX_HEAD_DIM / 2], sin_block[ADM_MAX_HEAD_DIM / 2];
} adm_gen_rope;

/* `base` 0 gives the length's own, see adm_generate_spec. */
void adm_gen_rope_init(adm_gen_rope *rope, double base, uint64_t n_tokens, uint32_t head_dim);

typedef struct adm_gen_kv_head {
    uint64_t seed, id;                       /* of its random streams */
    double mean[ADM_MAX_HEAD_DIM];           /* of keys, before rotation; halves (j, j + d/2) as RoPE pairs them */
    double sigma[ADM_MAX_HEAD_DIM];          /* of keys, the same in both of a pair */
    double value_mean[ADM_MAX_HEAD_DIM];
    double value_sigma;
    double needle[ADM_MAX_HEAD_DIM];         /* unit vector in the slowest pairs, at right angles to the mean */
    double phrase[ADM_MAX_HEAD_DIM], topic[ADM_MAX_HEAD_DIM]; /* of the token at hand */
    uint64_t phrase_of, topic_of;
} adm_gen_kv_head;

typedef struct adm_gen_q_head {
    uint64_t seed, id;
    double fixed[ADM_MAX_HEAD_DIM];   /* the part that is the same at every step, before rotation */
    double content[ADM_MAX_HEAD_DIM]; /* gain of what changes from step to step */
    double needle_gain;               /* on the needle vector; 0 for a head without */
} adm_gen_q_head;

void adm_gen_kv_head_init(adm_gen_kv_head *head, const adm_generate_spec *spec, const adm_gen_rope *rope, uint32_t layer,
                          uint32_t kv_head);
void adm_gen_q_head_init(adm_gen_q_head *head, const adm_gen_kv_head *kv, const adm_generate_spec *spec,
                         const adm_gen_rope *rope, uint32_t layer, uint32_t q_head);

/* Each writes the head_dim elements of one token or step. Tokens in ascending order are the fast ones. */
void adm_gen_key(adm_gen_kv_head *head, const adm_generate_spec *spec, adm_gen_rope *rope, uint64_t token, double *out);
void adm_gen_value(adm_gen_kv_head *head, const adm_generate_spec *spec, uint64_t token, double *out);
void adm_gen_query(const adm_gen_q_head *head, const adm_gen_kv_head *kv, const adm_generate_spec *spec, adm_gen_rope *rope,
                   uint64_t position, double *out);

/* By how many radians the fastest pair with an outlier turns over the session. */
double adm_gen_outlier_turn(const adm_gen_rope *rope, uint64_t n_tokens);

/* Share of its strength that a needle keeps at a distance, 1 down to -1: the mean cosine of its pairs. */
double adm_gen_needle_share(const adm_gen_rope *rope, uint64_t distance);

#endif
