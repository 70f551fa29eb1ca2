/* fuzz_requests.h: any bytes as a request trace: read whole and in order, or refused with a sentence. */
#ifndef ADM_TESTS_FUZZ_FUZZ_REQUESTS_H
#define ADM_TESTS_FUZZ_FUZZ_REQUESTS_H

#include "tests/fuzz/fuzz.h"
#include "traces/requests/requests.h"

static inline int fuzz_requests(const uint8_t *data, size_t size) {
    static fuzz_file file;
    adm_requests *requests = NULL;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    adm_status status = adm_requests_read(file.path, &requests, &err);
    fuzz_expect((requests != NULL) == (status == ADM_OK), "requests if and only if they were read");
    fuzz_expect(status == ADM_OK || status == ADM_EINPUT, "bad bytes are bad input, and nothing else");
    if (status != ADM_OK) {
        fuzz_expect_sentence(&err);
        return 0;
    }
    fuzz_expect(requests->n > 0 && requests->n <= size, "a request takes at least a byte");
    fuzz_expect(requests->request[0].arrival_ns == 0, "time starts at the first request");
    for (size_t i = 0; i < requests->n; i++) {
        const adm_request *r = &requests->request[i];
        fuzz_expect(i == 0 || r->arrival_ns >= r[-1].arrival_ns, "requests are in order");
        fuzz_expect(r->input_tokens <= ADM_REQUESTS_MAX_TOKENS, "input lengths have a limit");
        fuzz_expect(r->output_tokens <= ADM_REQUESTS_MAX_TOKENS, "output lengths have a limit");
    }
    adm_requests_free(&requests);
    return 0;
}

#endif
