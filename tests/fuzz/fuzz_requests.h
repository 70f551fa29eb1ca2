/* fuzz_requests.h: any bytes as a request trace: read whole and in order, or refused with a sentence. */
#ifndef ADM_TESTS_FUZZ_FUZZ_REQUESTS_H
#define ADM_TESTS_FUZZ_FUZZ_REQUESTS_H

#include "tests/fuzz/fuzz.h"
#include "traces/requests/requests.h"

static inline int fuzz_requests(const uint8_t *data, size_t size) {
    static fuzz_file file;
    adm_requests *requests = NULL;
    adm_requests_source source;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    adm_status status = adm_requests_read(file.path, 1, &requests, &source, &err);
    fuzz_expect((requests != NULL) == (status == ADM_OK), "requests if and only if they were read");
    fuzz_expect(status == ADM_OK || status == ADM_EINPUT, "bad bytes are bad input, and nothing else");
    if (status != ADM_OK) {
        fuzz_expect_sentence(&err);
        return 0;
    }
    const int sampled = strcmp(source.format, "clients") == 0, packed = size > 1 && data[0] == 0x1f && data[1] == 0x8b;
    fuzz_expect(requests->n > 0 && (sampled || packed || requests->n <= size), "a request takes at least a byte");
    fuzz_expect(requests->request[0].arrival_ns == 0, "time starts at the first request");
    for (size_t i = 0; i < requests->n; i++) {
        const adm_request *r = &requests->request[i];
        fuzz_expect(i == 0 || r->arrival_ns >= r[-1].arrival_ns, "requests are in order");
        fuzz_expect(r->input_tokens <= ADM_REQUESTS_MAX_TOKENS, "input lengths have a limit");
        fuzz_expect(r->output_tokens <= ADM_REQUESTS_MAX_TOKENS, "output lengths have a limit");
        fuzz_expect(r->parent < (int64_t)requests->n && r->parent != (int64_t)i, "a parent is another request");
        fuzz_expect(r->first_block + r->n_blocks <= requests->n_blocks, "blocks are those of the trace");
        fuzz_expect((uint64_t)r->n_blocks * requests->block_tokens <= r->input_tokens, "blocks lie within the prompt");
        for (uint32_t b = 0; b < r->n_blocks; b++)
            fuzz_expect(requests->block[r->first_block + b] < requests->n_distinct_blocks, "blocks have small numbers");
    }
    adm_requests_free(&requests);
    return 0;
}

#endif
