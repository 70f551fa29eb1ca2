#!/usr/bin/env bash
# CUPTI's host API plans a pass per metric when metrics are added in calls of their own.
#
# Package   nvidia-cuda-cupti 13.0.85 (x86-64)
# Call      cuptiProfilerHostConfigAddMetrics() with 8 names at once, or 8 times with one name
# Expected  The same configuration: the call is documented to "add the metrics to the profiler host object".
# Seen      On GH100, 1 pass for one call and 8 passes for eight. Nothing is shared between calls.
# So        All names have to be given in one call.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --no-deps --target "$folder/13.0" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
top=$folder/13.0/nvidia/cu13
cat > "$folder/plan.cpp" << 'END'
#include <cstdio>
#include <vector>
#include <cupti_profiler_host.h>
#define CALL(name, params) { int r = name(&params); if (r != 0) { printf("%s: error %d\n", #name, r); return 2; } }
enum { N = 8 };
static const char *names[N] = {"gpu__time_duration.sum", "smsp__inst_executed.sum", "sm__cycles_active.avg",
                               "dram__bytes_read.sum", "dram__bytes_write.sum", "l1tex__t_sector_hit_rate.pct",
                               "sm__warps_active.avg.pct_of_peak_sustained_active", "sm__cycles_elapsed.avg.per_second"};
static int passes(size_t at_once, size_t *n) {
    CUpti_Profiler_Host_Initialize_Params init = {CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE};
    init.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    init.pChipName = "GH100";
    CALL(cuptiProfilerHostInitialize, init);
    for (size_t i = 0; i < N; i += at_once) {
        CUpti_Profiler_Host_ConfigAddMetrics_Params add = {CUpti_Profiler_Host_ConfigAddMetrics_Params_STRUCT_SIZE};
        add.pHostObject = init.pHostObject;
        add.ppMetricNames = names + i;
        add.numMetrics = at_once;
        CALL(cuptiProfilerHostConfigAddMetrics, add);
    }
    CUpti_Profiler_Host_GetConfigImageSize_Params size = {CUpti_Profiler_Host_GetConfigImageSize_Params_STRUCT_SIZE};
    size.pHostObject = init.pHostObject;
    CALL(cuptiProfilerHostGetConfigImageSize, size);
    std::vector<uint8_t> image(size.configImageSize);
    CUpti_Profiler_Host_GetConfigImage_Params get = {CUpti_Profiler_Host_GetConfigImage_Params_STRUCT_SIZE};
    get.pHostObject = init.pHostObject;
    get.configImageSize = image.size();
    get.pConfigImage = image.data();
    CALL(cuptiProfilerHostGetConfigImage, get);
    CUpti_Profiler_Host_GetNumOfPasses_Params count = {CUpti_Profiler_Host_GetNumOfPasses_Params_STRUCT_SIZE};
    count.configImageSize = image.size();
    count.pConfigImage = image.data();
    CALL(cuptiProfilerHostGetNumOfPasses, count);
    *n = count.numOfPasses;
    return 0;
}
int main() {
    size_t together, apart;
    if (passes(N, &together) != 0 || passes(1, &apart) != 0) return 2;
    printf("nvidia-cuda-cupti 13.0.85, GH100, %d metrics: %zu pass(es) in one call, %zu in %d calls\n", N, together, apart, N);
    return together >= apart;
}
END
g++ -o "$folder/plan" "$folder/plan.cpp" -I "$top/include" -L "$top/lib" -l:libcupti.so.13 || exit 1
LD_LIBRARY_PATH=$top/lib "$folder/plan"
