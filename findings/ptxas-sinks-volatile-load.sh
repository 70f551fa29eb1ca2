#!/usr/bin/env bash
# `asm volatile` does not keep a load where it is written: ptxas moves it into the branch behind it.
#
# Packages  nvidia-cuda-nvcc, nvidia-cuda-crt, nvidia-nvvm, nvidia-cuda-runtime, nvidia-cuda-nvdisasm, all 13.5.37, for sm_90
# Expected  two loads in `asm volatile`, an index and then a count that is compared, start one behind the other, so that their
#           latencies overlap: the guide to inline PTX has the keyword for what must not be moved while PTX is made, and it
#           seems to follow that it is not moved later
# Seen      PTX has them in order. In the machine code the count is loaded, awaited and compared first; the index's load is behind
#           the branch, so a third load that needs the index waits for two latencies. With ld.relaxed.gpu in place of ld both
#           come before the comparison
# So        The keyword holds until PTX and no longer. A load that shall start early needs ld.relaxed or ld.volatile
# Exit: 0 as described, 1 changed, 77 no network, no pip or no compiler for the host
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cd "$folder" && command -v g++ > /dev/null || { echo "no g++ here"; exit 77; }
python3 -m venv venv && venv/bin/python -m pip --disable-pip-version-check install -q --no-deps --target wheels \
    nvidia-cuda-nvcc==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-nvvm==13.5.37 nvidia-cuda-runtime==13.5.37 \
    nvidia-cuda-nvdisasm==13.5.37 || exit 77
nvcc=$(find wheels -name nvcc -type f) && nvdisasm=$(find wheels -name nvdisasm -type f)
for load in ld.global ld.relaxed.gpu.global; do
    cat > gather.cu <<EOF
extern "C" __global__ void gather(const unsigned *count, const unsigned *index, const float *row, float *out) {
    unsigned i, n;
    asm volatile("$load.u32 %0, [%1];" : "=r"(i) : "l"(index + threadIdx.x));
    asm volatile("$load.u32 %0, [%1];" : "=r"(n) : "l"(count));
    if (threadIdx.x < n) out[threadIdx.x] = row[i];
}
EOF
    "$nvcc" -arch=sm_90 -ptx gather.cu -o "$load.ptx"
    "$nvcc" -arch=sm_90 -cubin gather.cu -o gather.cubin
    "$nvdisasm" gather.cubin > "$load.sass"
    # how many loads from global memory stand before the first comparison
    echo "$load: before the comparison PTX has $(sed '/setp/,$d' "$load.ptx" | grep -c "$load")" \
        "loads, machine code $(sed '/ISETP/,$d' "$load.sass" | grep -c LDG)" | tee -a counts
done
[ "$(cat counts)" = "ld.global: before the comparison PTX has 2 loads, machine code 1
ld.relaxed.gpu.global: before the comparison PTX has 2 loads, machine code 2" ]
