/* device_none.c: the answer of a build without CUDA. */
#include "kernels/gpu/device.h"

adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err) {
    (void)out;
    (void)capacity;
    *n = 0;
    return adm_fail(err, ADM_EUNSUPPORTED,
                    "this program was built without CUDA: install the CUDA toolkit 13, run ./configure.py and "
                    "build again");
}
