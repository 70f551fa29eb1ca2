/* fuzz_model.c: libFuzzer's way into fuzz_model.h; `ninja fuzz`. tests/fuzz/test_fuzz.c is the way without it. */
#include "tests/fuzz/fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_model(data, size); }
