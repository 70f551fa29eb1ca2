#!/usr/bin/env bash
# CUPTI 13.0 lists GV11B among the supported chips and supports it for no profiler.
#
# Package   nvidia-cuda-cupti 13.0.85 (x86-64)
# Call      cuptiProfilerHostGetSupportedChips(), then cuptiProfilerHostInitialize() of each chip, for the range profiler and for PM
#           sampling
# Expected  A listed chip can be initialised for one of the two: its documentation says "the list of supported chips".
# Seen      GV11B is in the list and answers CUPTI_ERROR_NOT_SUPPORTED (27) to both. All others work for one at least.
# So        A loop over the list has to take a refusal for an answer. 13.1 no longer lists GV11B.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --no-deps --target "$folder/13.0" nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
top=$folder/13.0/nvidia/cu13
cat > "$folder/ask.cpp" << 'END'
#include <cstdio>
#include <cupti_profiler_host.h>
int main() {
    CUpti_Profiler_Host_GetSupportedChips_Params chips = {CUpti_Profiler_Host_GetSupportedChips_Params_STRUCT_SIZE};
    if (cuptiProfilerHostGetSupportedChips(&chips) != CUPTI_SUCCESS) return 2;
    printf("nvidia-cuda-cupti 13.0.85 lists %zu chips; refused:", chips.numChips);
    for (size_t i = 0; i < chips.numChips; i++) {
        int result[2];
        for (int type = 0; type < 2; type++) {
            CUpti_Profiler_Host_Initialize_Params init = {CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE};
            init.profilerType = type == 0 ? CUPTI_PROFILER_TYPE_RANGE_PROFILER : CUPTI_PROFILER_TYPE_PM_SAMPLING;
            init.pChipName = chips.ppChipNames[i];
            result[type] = cuptiProfilerHostInitialize(&init);
        }
        if (result[0] != 0 && result[1] != 0) printf(" %s (errors %d, %d)", chips.ppChipNames[i], result[0], result[1]);
    }
    printf("\n");
}
END
g++ -o "$folder/ask" "$folder/ask.cpp" -I "$top/include" -L "$top/lib" -l:libcupti.so.13 || exit 1
seen=$(LD_LIBRARY_PATH=$top/lib "$folder/ask")
echo "$seen"
[ "$seen" = "nvidia-cuda-cupti 13.0.85 lists 30 chips; refused: GV11B (errors 27, 27)" ]
