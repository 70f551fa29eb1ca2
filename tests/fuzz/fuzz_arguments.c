/* fuzz_arguments.c: libFuzzer's way into fuzz_arguments.h; `ninja fuzz`. tests/fuzz/test_fuzz.c is the way without it. */
#include "tests/fuzz/fuzz_arguments.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return fuzz_arguments(data, size); }
