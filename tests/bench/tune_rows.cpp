/* tune_rows.cpp: the registry's own GPU rows as a shared object, for tests/bench/tune_gpu.py --rows. After a build with CUDA,
 * with $O build/release/obj and $CUDA the toolkit:
 *
 *   g++ -std=c++17 -O2 -fPIC -shared -I. -I$CUDA/include tests/bench/tune_rows.cpp $O/kernels/topk/topk.cu.o \
 *     $O/kernels/distance/distance.cu.o $O/kernels/attention/attention.cu.o $O/kernels/encode/encode.cu.o \
 *     $O/core/base/error.o $O/core/base/printable.o $O/core/base/floatfmt.o $O/core/contract/stage.o \
 *     $O/kernels/gpu/gpu.o -o rows.so -L$CUDA/lib64 -lcudart_static -lrt -ldl -lpthread -Wl,--exclude-libs,ALL */
#include "kernels/tune/candidate/adamas_plugin.h"
#include "core/base/error.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/encode.h"
#include "kernels/topk/topk.h"
template <adm_gpu_launch_fn *F> static int call(const adamas_gpu_shape *s, const adamas_gpu_buffers *b, adamas_stream stream) {
    adm_error err;
    adm_status status = F((const adm_gpu_shape *)s, (const adm_gpu_buffers *)b, stream, &err);
    return status == ADM_OK ? 0 : status == ADM_EUNSUPPORTED ? ADAMAS_UNSUPPORTED : 1;
}
static size_t two_bytes(const adamas_gpu_shape *s) { return adm_gpu_topk_two_workspace_bytes((const adm_gpu_shape *)s); }
#define ROW(stage, name, f, ws) {stage, name, "", 1, 0, 0, 0, 0, nullptr, nullptr, (void (*)(void))call<f>, ws}
static const adamas_implementation rows[] = {
    ROW("hadamard", "separate", adm_gpu_hadamard, nullptr), ROW("bucket", "separate", adm_gpu_bucket, nullptr),
    ROW("pack", "separate", adm_gpu_pack, nullptr),         ROW("append", "separate", adm_gpu_append, nullptr),
    ROW("topk", "cluster", adm_gpu_topk_cluster, nullptr),  ROW("topk", "two", adm_gpu_topk_two, two_bytes),
    ROW("distance", "l1", adm_gpu_distance_l1, nullptr),    ROW("attention", "cluster", adm_gpu_attention_launch, nullptr)};
extern "C" const adamas_plugin adamas_plugin_table = {ADAMAS_PLUGIN_VERSION, sizeof(adamas_implementation),
                                                      sizeof rows / sizeof *rows, rows};
