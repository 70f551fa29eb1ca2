#!/usr/bin/env bash
# The wheel of cuobjdump cannot print machine code: it needs nvdisasm, which another wheel holds and which it does not require.
#
# Packages  nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm and, for ptxas, which makes the object, nvidia-cuda-nvcc, all 13.5.37
# Expected  `cuobjdump --dump-sass` works, or the wheel requires the one with nvdisasm
# Seen      no requirement is listed; --dump-sass ends with 1 and "Could not find executable file 'nvdisasm'".
#           --dump-resource-usage works without it. With nvdisasm's wheel in the same folder --dump-sass works
# So        A toolkit from wheels needs both
# Exit: 0 as described, 1 changed, 77 no network or no pip
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cd "$folder" && python3 -m venv venv && pip="venv/bin/python -m pip --disable-pip-version-check"
$pip install -q --no-deps --target alone nvidia-cuda-cuobjdump==13.5.37 &&
    $pip install -q --no-deps --target both nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37 &&
    $pip install -q --no-deps --target nvcc nvidia-cuda-nvcc==13.5.37 || exit 77
printf '.version 8.0\n.target sm_90\n.address_size 64\n.visible .entry nothing() { ret; }\n' > kernel.ptx
"$(find nvcc -name ptxas -type f)" -arch=sm_90 kernel.ptx -o kernel.cubin
requires=$(grep -c '^Requires-Dist' alone/*.dist-info/METADATA || true)
dump() { PATH=/usr/bin:/bin "$(find "$1" -name cuobjdump -type f)" "$2" kernel.cubin > "$1$2.txt" 2>&1 && echo 0 || echo $?; }
alone=$(dump alone --dump-sass)
echo "cuobjdump 13.5.37, $requires requirements: --dump-sass ends with $alone: $(tail -n 1 alone--dump-sass.txt)"
usage=$(dump alone --dump-resource-usage)
both=$(dump both --dump-sass)
echo "--dump-resource-usage ends with $usage; with nvdisasm's wheel --dump-sass ends with $both"
[ "$requires" = 0 ] && [ "$alone" != 0 ] && grep -q nvdisasm alone--dump-sass.txt && [ "$usage" = 0 ] &&
    [ "$both" = 0 ] && grep -q EXIT both--dump-sass.txt
