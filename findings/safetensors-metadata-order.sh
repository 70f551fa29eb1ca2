#!/usr/bin/env bash
# safetensors writes __metadata__ in the order of a hash that differs from call to call.
#
# Expected: the same tensors and metadata give the same bytes
# Seen:     ten calls give several contents; a checksum of the file is not reproducible
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q safetensors==0.8.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import safetensors, numpy as np
from safetensors.numpy import save

metadata = {name: "x" for name in ("format", "kind", "model", "text", "licence", "command", "scale", "base")}
contents = {save({"a": np.zeros(4, np.float32)}, metadata) for _ in range(10)}
print("safetensors", safetensors.__version__, " different contents of ten calls:", len(contents))
raise SystemExit(0 if len(contents) > 1 else 1)
END
