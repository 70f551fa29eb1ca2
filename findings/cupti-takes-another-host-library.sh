#!/usr/bin/env bash
# libcupti.so.13 uses whichever libnvperf_host.so the loader finds, and not the one in its own folder, without a check.
#
# Package   nvidia-cuda-cupti 13.0.85, with the folder of nvidia-cuda-cupti-cu12 12.8.90 on LD_LIBRARY_PATH, as Python environments
#           with PyTorch for CUDA 12 have it (x86-64)
# Call      cuptiProfilerHostGetSupportedChips()
# Expected  The chips of CUPTI 13.0, whose own libnvperf_host.so lies beside it; or an error.
# Seen      30 chips, and with that folder on the path the 25 of CUDA 12.8; no error. Plans differ too.
# So        A program has to load the libnvperf_host.so of CUPTI's folder first, and to ask for its version.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --no-deps --target "$folder/13" nvidia-cuda-cupti==13.0.85 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
python3 -m pip install -q --no-deps --target "$folder/12" nvidia-cuda-cupti-cu12==12.8.90 2> /dev/null ||
    { echo "skipped: the packages cannot be installed"; exit 77; }
cat > "$folder/ask.cpp" << 'END'
#include <cstdio>
#include <fstream>
#include <string>
struct Chips { // CUpti_Profiler_Host_GetSupportedChips_Params
    size_t structSize;
    void *pPriv;
    size_t numChips;
    const char *const *ppChipNames;
};
extern "C" int cuptiProfilerHostGetSupportedChips(Chips *chips);
int main() {
    Chips chips = {sizeof chips, nullptr, 0, nullptr};
    int result = cuptiProfilerHostGetSupportedChips(&chips);
    std::ifstream maps("/proc/self/maps");
    std::string line, host = "none";
    while (std::getline(maps, line))
        if (line.find("libnvperf_host.so") != std::string::npos) host = line.substr(line.find('/'));
    printf("error %d, %zu chips, by %s\n", result, chips.numChips, host.c_str());
}
END
own=$folder/13/nvidia/cu13/lib other=$folder/12/nvidia/cuda_cupti/lib
g++ -o "$folder/ask" "$folder/ask.cpp" -L "$own" -l:libcupti.so.13 -Wl,-rpath,"$own" || exit 1
alone=$(LD_LIBRARY_PATH=$own "$folder/ask")
mixed=$(LD_LIBRARY_PATH=$other "$folder/ask")
echo "nvidia-cuda-cupti 13.0.85 alone:                  $alone"
echo "with 12.8.90's folder on LD_LIBRARY_PATH instead: $mixed"
case $alone in "error 0, 30 chips, by $own/"*) ;; *) exit 1 ;; esac
case $mixed in "error 0, 25 chips, by $other/"*) ;; *) exit 1 ;; esac
