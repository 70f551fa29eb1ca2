#!/usr/bin/env bash
# CUPTI 13.1 describes roll-ups of a metric that it cannot collect; 13.0 says that there is no such metric.
#
# Package   nvidia-cuda-cupti 13.0.85 and 13.1.115 (x86-64)
# Call      cuptiProfilerHostGetMetricProperties(), then cuptiProfilerHostConfigAddMetrics(), of dram__throughput.sum on GH100, a
#           throughput, which has no .sum
# Expected  CUPTI_ERROR_INVALID_METRIC_NAME (17) from the first call, as in 13.0: its documentation names that error.
# Seen      13.0: 17. 13.1: success, with a description; the second call then fails with CUPTI_ERROR_INVALID_PARAMETER (1), and
#           no other metric of that call is added either.
# So        Whether a metric exists is only told by adding it alone.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --no-deps --target "$folder/13.0" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
python3 -m pip install -q --no-deps --target "$folder/13.1" nvidia-cuda-cupti==13.1.115 nvidia-cuda-runtime==13.1.80 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
cat > "$folder/ask.cpp" << 'END'
#include <cstdio>
#include <cupti_profiler_host.h>
int main(int argc, char **argv) {
    const char *names[] = {"sm__cycles_active.avg", "dram__throughput.sum"};
    CUpti_Profiler_Host_Initialize_Params init = {CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE};
    init.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    init.pChipName = "GH100";
    if (argc != 2 || cuptiProfilerHostInitialize(&init) != CUPTI_SUCCESS) return 2;
    CUpti_Profiler_Host_GetMetricProperties_Params ask = {CUpti_Profiler_Host_GetMetricProperties_Params_STRUCT_SIZE};
    ask.pHostObject = init.pHostObject;
    ask.pMetricName = names[1];
    int described = cuptiProfilerHostGetMetricProperties(&ask);
    CUpti_Profiler_Host_ConfigAddMetrics_Params add = {CUpti_Profiler_Host_ConfigAddMetrics_Params_STRUCT_SIZE};
    add.pHostObject = init.pHostObject;
    add.ppMetricNames = names;
    add.numMetrics = 2;
    printf("%s describe %d, add %d\n", argv[1], described, (int)cuptiProfilerHostConfigAddMetrics(&add));
}
END
for version in 13.0 13.1; do
    top=$folder/$version/nvidia/cu13
    g++ -o "$folder/ask" "$folder/ask.cpp" -I "$top/include" -L "$top/lib" -l:libcupti.so.13 || exit 1
    LD_LIBRARY_PATH=$top/lib "$folder/ask" $version | tee -a "$folder/seen"
done
printf '%s\n' '13.0 describe 17, add 1' '13.1 describe 0, add 1' | diff - "$folder/seen" > /dev/null
