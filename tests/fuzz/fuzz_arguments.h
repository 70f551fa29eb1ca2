/* fuzz_arguments.h: any bytes as an argument of the command line; the first says which parser reads the rest. */
#ifndef ADM_TESTS_FUZZ_FUZZ_ARGUMENTS_H
#define ADM_TESTS_FUZZ_FUZZ_ARGUMENTS_H

#include "core/base/mem.h"
#include "core/cli/command.h"
#include "core/cli/number.h"
#include "core/policy/sweep.h"
#include "tests/fuzz/fuzz.h"

static inline void fuzz_number_list(const char *text, adm_error *err) {
    uint32_t *list = NULL;
    size_t n = 0;
    adm_status status = adm_parse_u32_list("--budgets", text, 1, 1 << 24, &list, &n, err);
    fuzz_expect_refusal(status, err);
    fuzz_expect((list != NULL) == (status == ADM_OK) && (list == NULL || n > 0), "a list if and only if it was read");
    for (size_t i = 0; i < n; i++)
        fuzz_expect(list[i] >= 1 && list[i] <= 1 << 24 && (i == 0 || list[i] > list[i - 1]), "in order, once, within limits");
    adm_free(&list);
}

static inline void fuzz_sweep(const char *text, adm_error *err) {
    static const char *const thresholds[] = {"fixed:-10,0,10"};
    const adm_sweep_default defaults[] = {{"thresholds", "--thresholds", thresholds, 1}};
    adm_sweep sweep = {0};
    adm_status status = adm_sweep_parse(text, defaults, 1, &sweep, err);
    fuzz_expect_refusal(status, err);
    fuzz_expect((sweep.n_variants > 0) == (status == ADM_OK), "variants if and only if they were read");
    adm_sweep_clear(&sweep);
}

static inline int fuzz_arguments(const uint8_t *data, size_t size) {
    static const char *const words[] = {"host", "gpu", "model"};
    adm_error err = {0};
    uint64_t value = 0;
    bool found[3] = {false};
    if (size == 0) return 0;
    char *text = fuzz_text(data + 1, size - 1);
    switch (data[0] & 3) {
    case 0: fuzz_number_list(text, &err); break;
    case 1: fuzz_sweep(text, &err); break;
    case 2: fuzz_expect_refusal(adm_parse_u64("--seed", text, 0, UINT64_MAX, &value, &err), &err); break;
    default: fuzz_expect_refusal(adm_parse_words("--sources", text, words, 3, found, &err), &err);
    }
    free(text);
    return 0;
}

#endif
