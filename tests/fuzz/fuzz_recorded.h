/* fuzz_recorded.h: any bytes as a file of recorded runs, imported into a database. */
#ifndef ADM_TESTS_FUZZ_FUZZ_RECORDED_H
#define ADM_TESTS_FUZZ_FUZZ_RECORDED_H

#include "analysis/db/recorded_import.h"
#include "core/base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_store.h"

static inline int fuzz_recorded(const uint8_t *data, size_t size) {
    static fuzz_file file;
    static adm_store *store;
    static int n_imported;
    adm_error err = {0};
    adm_recorded_run *runs = NULL;
    size_t n_runs = 0;
    if (store == NULL || n_imported == 200) { /* it grows with what is right */
        adm_store_close(&store);
        unlink(fuzz_store_path("recorded"));
        n_imported = 0;
        if (adm_store_open(fuzz_store_path("recorded"), ADM_STORE_WRITE, &store, &err) != ADM_OK) abort();
    }
    fuzz_write(&file, data, size);
    adm_status status = adm_recorded_import(store, file.path, &runs, &n_runs, &err);
    fuzz_expect_refusal(status, &err);
    fuzz_expect((runs != NULL) == (status == ADM_OK), "runs if and only if they were imported");
    n_imported += status == ADM_OK;
    adm_free(&runs);
    return 0;
}

#endif
