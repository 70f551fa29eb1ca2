/* fuzz_manifest.h: any bytes as the manifest of a compiled kernel of one's own: read, then its formulas for a shape. */
#ifndef ADM_TESTS_FUZZ_FUZZ_MANIFEST_H
#define ADM_TESTS_FUZZ_FUZZ_MANIFEST_H

#include "kernels/tune/candidate/module.h"
#include "tests/fuzz/fuzz.h"

/* A refusal here may also be "this shape is not for it". */
static inline void fuzz_launch(const adm_module *module) {
    static const adm_gpu_buffers buffers = {0};
    const adm_gpu_shape shape = {.heads = {32, 8, 128}, .batch = 2, .capacity = 4096, .page_size = 64, .max_pages = 64};
    adm_tune_launch launch = {0};
    adm_error err = {0};
    size_t bytes = 0;
    fuzz_expect(adm_module_launch(module, &shape, &buffers, &launch, &err) == ADM_OK || err.text[0] != '\0',
                "a launch that is refused has a reason");
    fuzz_expect(launch.n_arguments <= ADM_LAUNCH_MAX_ARGUMENTS, "arguments have a limit");
    fuzz_expect(adm_module_workspace(module, &shape, &bytes, &err) != ADM_OK || bytes <= (size_t)1 << 36,
                "a workspace has a limit");
}

static inline int fuzz_manifest(const uint8_t *data, size_t size) {
    static fuzz_file file;
    static adm_candidate c;
    adm_error err = {0};
    adm_module *module = NULL;
    const char *path, *kernel;
    fuzz_write(&file, data, size);
    c = (adm_candidate){.kind = ADM_CANDIDATE_MODULE, .on_gpu = true, .stage = ADM_STAGE_TOPK};
    snprintf(c.path, sizeof c.path, "%s", file.path);
    snprintf(c.library, sizeof c.library, "%s", file.path);
    adm_status status = adm_module_read(&c, &err);
    fuzz_expect(status == ADM_OK || err.text[0] != '\0', "a refusal has a reason");
    fuzz_expect(c.n_parameters <= ADM_TUNE_MAX_PARAMETERS, "parameters have a limit");
    for (size_t i = 0; i < c.n_parameters; i++) {
        fuzz_expect(c.parameter[i].n_values <= ADM_TUNE_MAX_VALUES, "values have a limit");
        if (status == ADM_OK) c.chosen[i] = c.parameter[i].value[c.parameter[i].n_values - 1];
    }
    if (status != ADM_OK) return 0;
    if (adm_module_open(&c, &module, &path, &kernel, &err) == ADM_OK) fuzz_launch(module);
    adm_module_close(&module);
    return 0;
}

#endif
