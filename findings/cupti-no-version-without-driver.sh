#!/usr/bin/env bash
# Without an NVIDIA driver CUPTI 13.3 and later answer every call with error 999, even the one that returns a constant.
#
# Package   nvidia-cuda-cupti 13.0.85, 13.1.115, 13.3.75, 13.4.92 and 13.5.25 (x86-64)
# Call      cuptiGetVersion(), and cuptiProfilerHostGetSupportedChips(), the simplest call of the host API
# Expected  The version, and the chips. cuptiGetVersion() is documented to fail for a NULL pointer alone.
# Seen      13.0 and 13.1 answer. 13.3, 13.4 and 13.5 return CUPTI_ERROR_UNKNOWN (999) from both.
# So        On a CI runner counters are planned with 13.0 or 13.1, and a release is told from its symbols.
set -u
command -v g++ > /dev/null && python3 -m pip --version > /dev/null 2>&1 || { echo "skipped: needs g++ and pip"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -e /proc/driver/nvidia/version ]; then echo "skipped: this machine has a driver"; exit 77; fi
for version in 13.0.85 13.1.115 13.3.75 13.4.92 13.5.25; do
    python3 -m pip install -q --no-deps --target "$folder/$version" nvidia-cuda-cupti==$version 2> /dev/null ||
        { echo "skipped: the packages cannot be installed"; exit 77; }
done
cat > "$folder/ask.cpp" << 'END'
#include <cstdint>
#include <cstdio>
struct Chips { // CUpti_Profiler_Host_GetSupportedChips_Params, the same in all these releases
    size_t structSize;
    void *pPriv;
    size_t numChips;
    const char *const *ppChipNames;
};
extern "C" int cuptiGetVersion(uint32_t *version);
extern "C" int cuptiProfilerHostGetSupportedChips(Chips *chips);
int main(int, char **argv) {
    uint32_t version = 0;
    Chips chips = {sizeof chips, nullptr, 0, nullptr};
    int told = cuptiGetVersion(&version), listed = cuptiProfilerHostGetSupportedChips(&chips);
    printf("%s version %d (error %d), %zu chips (error %d)\n", argv[1], (int)version, told, chips.numChips, listed);
}
END
for version in 13.0.85 13.1.115 13.3.75 13.4.92 13.5.25; do
    library=$folder/$version/nvidia/cu13/lib
    g++ -o "$folder/ask" "$folder/ask.cpp" -L "$library" -l:libcupti.so.13 || exit 1
    LD_LIBRARY_PATH=$library timeout 60 "$folder/ask" $version | tee -a "$folder/seen"
done
diff - "$folder/seen" > /dev/null << 'END'
13.0.85 version 130001 (error 0), 30 chips (error 0)
13.1.115 version 130101 (error 0), 30 chips (error 0)
13.3.75 version 0 (error 999), 0 chips (error 999)
13.4.92 version 0 (error 999), 0 chips (error 999)
13.5.25 version 0 (error 999), 0 chips (error 999)
END
