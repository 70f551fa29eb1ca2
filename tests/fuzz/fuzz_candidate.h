/* fuzz_candidate.h: any bytes as the source of a kernel of one's own, with its directives, and as what the assembler says. */
#ifndef ADM_TESTS_FUZZ_FUZZ_CANDIDATE_H
#define ADM_TESTS_FUZZ_FUZZ_CANDIDATE_H

#include "kernels/tune/candidate/ptxas.h"
#include "kernels/tune/candidate/source.h"
#include "tests/fuzz/fuzz.h"

static inline int fuzz_candidate(const uint8_t *data, size_t size) {
    static fuzz_file file;
    static adm_candidate c;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    c = (adm_candidate){.kind = ADM_CANDIDATE_SOURCE};
    snprintf(c.path, sizeof c.path, "%s", file.path);
    fuzz_expect_refusal(adm_source_read(&c, &err), &err);
    fuzz_expect(c.n_parameters <= ADM_TUNE_MAX_PARAMETERS, "parameters have a limit");
    for (size_t i = 0; i < c.n_parameters; i++)
        fuzz_expect(c.parameter[i].n_values <= ADM_TUNE_MAX_VALUES &&
                        memchr(c.parameter[i].name, 0, sizeof c.parameter[i].name),
                    "values have a limit, names end");
    char *text = fuzz_text(data, size);
    adm_tune_resources resources = ADM_TUNE_NO_RESOURCES;
    adm_ptxas_read(text, &resources);
    free(text);
    return 0;
}

#endif
