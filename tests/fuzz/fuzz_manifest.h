/* fuzz_manifest.h: any bytes as the manifest of a compiled kernel of one's own. */
#ifndef ADM_TESTS_FUZZ_FUZZ_MANIFEST_H
#define ADM_TESTS_FUZZ_FUZZ_MANIFEST_H

#include "kernels/tune/candidate/module.h"
#include "tests/fuzz/fuzz.h"

static inline int fuzz_manifest(const uint8_t *data, size_t size) {
    static fuzz_file file;
    static adm_candidate c;
    adm_error err = {0};
    fuzz_write(&file, data, size);
    c = (adm_candidate){.kind = ADM_CANDIDATE_MODULE, .on_gpu = true};
    snprintf(c.path, sizeof c.path, "%s", file.path);
    adm_status status = adm_module_read(&c, &err);
    fuzz_expect(status == ADM_OK || err.text[0] != '\0', "a refusal has a reason");
    fuzz_expect(c.n_parameters <= ADM_TUNE_MAX_PARAMETERS, "parameters have a limit");
    for (size_t i = 0; i < c.n_parameters; i++)
        fuzz_expect(c.parameter[i].n_values <= ADM_TUNE_MAX_VALUES, "values have a limit");
    return 0;
}

#endif
