/* codebook.h: the thresholds of one layer, learnt or given, and the tables that a query's distances are read from.
 *
 *   key    [n_kv_heads][2^bits - 1][d]   thresholds of keys, ascending in the middle index
 *   query  the same                      thresholds of the queries that read that KV head
 *   scale  [n_kv_heads][d]               standard deviations of the channels (thresholds of the kind scaled only, else zeros)
 *   level  [n_kv_heads][d][2^bits]       what a key's code stands for, less the channel's mean where the thresholds allow for
 *   it
 *                                        (metric asymmetric only, else zeros)
 *
 * One layout serves every kind of thresholds; those of a layer are repeated. So are its levels: with `channel` and `scaled` a
 * level is the mean of the channel's own keys in the bucket; with the other learnt kinds the mean over all KV heads and
 * channels of the layer; with fixed thresholds, which see no keys, and for buckets without a key, the middle of the bucket,
 * the outer buckets being as wide as their neighbours. */
#ifndef ADM_CORE_POLICY_CODEBOOK_H
#define ADM_CORE_POLICY_CODEBOOK_H

#include "core/policy/coding.h"

typedef struct adm_codebook {
    uint32_t bits, n_kv_heads, head_dim;
    float *key, *query, *scale, *level;
    float layer[ADM_MAX_THRESHOLDS]; /* kinds fixed and layer: the thresholds; centred: without the means; else zeros */
} adm_codebook;

/* y [n_kv_heads][n_rows][d]: keys of the prompt, transformed if the coding says so, all or a sample of them; unchanged. n_rows
 * 0 is ADM_EINPUT unless the thresholds are fixed, which need no keys. Release with adm_codebook_free(). */
adm_status adm_codebook_create(const adm_coding *coding, const float *y, size_t n_rows, uint32_t n_kv_heads, uint32_t head_dim,
                               adm_codebook **out, adm_error *err);
void adm_codebook_free(adm_codebook **book);

/* Thresholds [2^bits - 1][d] of a KV head's keys, and of the queries that read it. */
static inline const float *adm_codebook_key(const adm_codebook *book, size_t kv_head) {
    return book->key + kv_head * ((1u << book->bits) - 1) * book->head_dim;
}
static inline const float *adm_codebook_query(const adm_codebook *book, size_t kv_head) {
    return book->query + kv_head * ((1u << book->bits) - 1) * book->head_dim;
}

/* Standard deviations [d] of a KV head's channels. */
static inline const float *adm_codebook_scale(const adm_codebook *book, size_t kv_head) {
    return book->scale + kv_head * book->head_dim;
}

/* table [d][2^bits]: what each key code of each element adds to the distance from n_queries queries y [n_queries][d] that
 * read KV head kv_head, transformed as the keys are. Its rows' largest entries sum to at most
 * adm_coding_max_distance(). Works for every metric and width; the coding passed adm_coding_check(). */
void adm_codebook_table(const adm_coding *coding, const adm_codebook *book, size_t kv_head, const float *y, uint32_t n_queries,
                        uint16_t *table);

#endif
