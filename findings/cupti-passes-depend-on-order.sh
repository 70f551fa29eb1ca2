#!/usr/bin/env bash
# CUPTI's host API plans more or fewer passes for the same metrics, depending on the order of their names.
#
# Package   nvidia-cuda-cupti 13.0.85 (x86-64), the same with 13.1.115
# Call      cuptiProfilerHostConfigAddMetrics() once with 16 names, then cuptiProfilerHostGetNumOfPasses()
# Expected  A set of metrics takes a number of passes. The documentation of the call names no order.
# Seen      On AD102, 6 passes in one order and 5 in another. Each pass runs the profiled work once more.
# So        A planner has to try orders.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --no-deps --target "$folder" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
top=$folder/nvidia/cu13
cat > "$folder/plan.cpp" << 'END'
#include <cstdio>
#include <vector>
#include <cupti_profiler_host.h>
#define CALL(name, params) { int r = name(&params); if (r != 0) { printf("%s: error %d\n", #name, r); return 2; } }
static int passes(const std::vector<int> &order, size_t *n) {
    static const char *const all[] = {
        "smsp__issue_active.avg.pct_of_peak_sustained_active", "smsp__inst_executed.sum",
        "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active", "smsp__warps_eligible.avg.per_cycle_active",
        "sm__inst_executed_pipe_alu.sum", "sm__inst_executed_pipe_fma.sum", "sm__inst_executed_pipe_xu.sum",
        "sm__inst_executed_pipe_lsu.sum", "smsp__inst_executed_op_local_st.sum",
        "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_mio_throttle_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_lg_throttle_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active.ratio",
        "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio"};
    std::vector<const char *> names;
    for (int i : order) names.push_back(all[i]);
    CUpti_Profiler_Host_Initialize_Params init = {CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE};
    init.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    init.pChipName = "AD102";
    CALL(cuptiProfilerHostInitialize, init);
    CUpti_Profiler_Host_ConfigAddMetrics_Params add = {CUpti_Profiler_Host_ConfigAddMetrics_Params_STRUCT_SIZE};
    add.pHostObject = init.pHostObject;
    add.ppMetricNames = names.data();
    add.numMetrics = names.size();
    CALL(cuptiProfilerHostConfigAddMetrics, add);
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
    size_t a, b;
    if (passes({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, &a) != 0) return 2;
    if (passes({9, 12, 13, 1, 7, 11, 15, 2, 0, 4, 5, 14, 10, 8, 6, 3}, &b) != 0) return 2;
    printf("nvidia-cuda-cupti 13.0.85, AD102, 16 metrics: %zu passes in one order, %zu in another\n", a, b);
    return a == b;
}
END
g++ -o "$folder/plan" "$folder/plan.cpp" -I "$top/include" -L "$top/lib" -l:libcupti.so.13 || exit 1
LD_LIBRARY_PATH=$top/lib "$folder/plan"
