/* fuzz_calibration.h: any bytes as a file of calibrated codings. */
#ifndef ADM_TESTS_FUZZ_FUZZ_CALIBRATION_H
#define ADM_TESTS_FUZZ_FUZZ_CALIBRATION_H

#include "core/calibrate/calibration_file.h"
#include "tests/fuzz/fuzz.h"

static inline int fuzz_calibration(const uint8_t *data, size_t size) {
    static fuzz_file file;
    adm_calibration calibration = {0};
    adm_error err = {0};
    fuzz_write(&file, data, size);
    fuzz_expect_refusal(adm_calibration_read(file.path, &calibration, &err), &err);
    adm_calibration_clear(&calibration);
    return 0;
}

#endif
