#!/usr/bin/env bash
# Phi3Config replaces the original context that LongRoPE's settings state by its own default of 4096.
#
# Expected: original_max_position_embeddings of rope_parameters is 100, as given, or an error
# Seen:     it is 4096, without a word, so the long factors begin at 4097 tokens and the attention factor is another
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q transformers==5.23.0 torch==2.13.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import transformers
print("transformers", transformers.__version__)
config = transformers.Phi3Config(hidden_size=256, num_attention_heads=4, max_position_embeddings=8192, rope_parameters={
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 32, "long_factor": [2.0] * 32,
    "original_max_position_embeddings": 100})
seen = config.rope_parameters["original_max_position_embeddings"]
print("rope_parameters given with original_max_position_embeddings 100:", seen)
raise SystemExit(0 if seen == 4096 else 1)
END
