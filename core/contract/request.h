/* request.h: request traffic: when requests came, how many tokens each had, and what their prompts share. traces/requests reads
 * and generates it, analysis/serving replays it. */
#ifndef ADM_CORE_CONTRACT_REQUEST_H
#define ADM_CORE_CONTRACT_REQUEST_H

#include <stddef.h>
#include <stdint.h>

enum {
    ADM_REQUESTS_MAX_TOKENS = 1 << 30, /* of one request, in or out */
    ADM_REQUESTS_MAX = 100000000, /* requests */
};

typedef struct adm_request {
    uint64_t arrival_ns; /* since the earliest request; of one with a parent: when it came as recorded */
    uint64_t delay_ns; /* with a parent: how long after the parent's end it comes */
    int64_t parent; /* the request whose end it waits for, by index; -1: it comes at arrival_ns */
    uint64_t first_block; /* its prompt's blocks begin here in adm_requests.block */
    uint32_t n_blocks; /* whole blocks of its prompt, from the first token on; 0: nothing is known of it */
    uint32_t input_tokens; /* 0 .. ADM_REQUESTS_MAX_TOKENS */
    uint32_t output_tokens; /* likewise; 0 where the service gave no answer */
    uint32_t line; /* of the file, from 1; 0: generated */
} adm_request;

typedef struct adm_requests {
    size_t n; /* at least 1 */
    adm_request *request; /* [n] by arrival; equal arrivals in the file's order */
    uint32_t *block; /* [n_blocks]: equal numbers are equal tokens behind an equal prefix; 0 .. n_distinct_blocks - 1 */
    size_t n_blocks, n_distinct_blocks;
    uint32_t block_tokens; /* tokens of a block; 0: the trace knows nothing of prefixes */
    size_t n_early; /* rows that stood in the file after a later one */
    size_t n_chained; /* requests with a parent */
} adm_requests;

/* Frees and nulls; NULL is fine. */
void adm_requests_free(adm_requests **requests);

#endif
