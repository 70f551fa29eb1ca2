/* fuzz_safetensors.h: any bytes as an attention trace: opened, or refused with a sentence; then its values are checked. */
#ifndef ADM_TESTS_FUZZ_FUZZ_SAFETENSORS_H
#define ADM_TESTS_FUZZ_FUZZ_SAFETENSORS_H

#include "tests/fuzz/fuzz.h"
#include "traces/format/trace_file.h"

static inline int fuzz_safetensors(const uint8_t *data, size_t size) {
    static fuzz_file file;
    const adm_trace *trace = NULL;
    adm_trace_report report;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    adm_status status = adm_trace_open(file.path, &trace, &err);
    fuzz_expect((trace != NULL) == (status == ADM_OK), "a trace if and only if it was opened");
    fuzz_expect(status == ADM_OK || status == ADM_EINPUT, "bad bytes are bad input, and nothing else");
    if (status != ADM_OK) {
        fuzz_expect_sentence(&err);
        return 0;
    }
    /* A valid file can ask for hours of arithmetic; that is no fault. */
    double work = (double)trace->n_layers * (double)trace->n_steps * trace->shape.n_q_heads * (double)trace->n_tokens;
    if (adm_trace_check_finite(trace, &err) != ADM_OK) fuzz_expect_sentence(&err);
    else if (work < 1e5 && adm_trace_verify(trace, 0, &report, &err) != ADM_OK) fuzz_expect_sentence(&err);
    adm_trace_close(&trace);
    return 0;
}

#endif
