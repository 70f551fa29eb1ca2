/* bandwidth_none.c: the answer of a build without CUDA. */
#include "kernels/gpu/bandwidth.h"

adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err) {
    (void)buffer_bytes;
    *bytes_per_s = 0;
    return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA, so it measures no device's bandwidth");
}
