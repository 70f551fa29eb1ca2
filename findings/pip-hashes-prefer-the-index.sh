#!/usr/bin/env bash
# With hashes, pip takes an index's wheel before a higher version of a folder of wheels, although both hashes are listed.
#
# Package   pip 26.3, xxhash 3.6.0 and the same wheel as xxhash 3.6.0+local, whose file is in a folder
# Expected  3.6.0+local, which is the higher version, as without hashes
# Seen      3.6.0 of the index: a file whose hash is not known before it is read ranks behind one whose hash the index states
# So        A build of its own, such as PyTorch's for the CPU, needs a list in which it is pinned by its full version
# Exit: 0 as described, 1 changed, 77 no network or no pip
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && cd "$folder" && pip="venv/bin/python -m pip"
$pip install -q pip==26.3 wheel==0.48.0 && $pip download -q --no-deps --only-binary :all: -d index xxhash==3.6.0 || exit 77
venv/bin/python -m wheel unpack -d open index/*.whl > /dev/null
mv open/xxhash-3.6.0 open/x && mv open/x/xxhash-3.6.0.dist-info open/x/xxhash-3.6.0+local.dist-info
sed -i 's/^Version: .*/Version: 3.6.0+local/' open/x/*/METADATA
mkdir local && venv/bin/python -m wheel pack -d local open/x > /dev/null
hashes=$(sha256sum index/*.whl local/*.whl | sed 's/ .*//; s/^/ --hash=sha256:/' | tr -d '\n')
echo "xxhash==3.6.0" > plain.txt && echo "xxhash==3.6.0$hashes" > hashed.txt
for list in plain hashed; do
    $pip install -q --no-deps --only-binary :all: -f local --target "$list" -r "$list.txt"
    echo "$($pip --version | cut -d' ' -f1,2), $list: $(cd "$list" && echo xxhash-*.dist-info)"
done
[ -d plain/xxhash-3.6.0+local.dist-info ] && [ -d hashed/xxhash-3.6.0.dist-info ]
