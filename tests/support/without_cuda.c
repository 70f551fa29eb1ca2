/* without_cuda.c: stands in for a test program of CUDA code where no CUDA toolkit could compile that code, and for one with
 * emulated kernels where those are not built: one test that skips and says so. */
#include "tests/support/stage_check.h"

static void needs_cuda(void **state) {
    (void)state;
    print_message("this build has no CUDA, which what this program tests is written in\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(needs_cuda)};
    return cmocka_run_group_tests_name("without_cuda", tests, NULL, NULL);
}
