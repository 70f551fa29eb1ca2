#!/usr/bin/env bash
# transformers does not read attention.key_length of a Qwen3 GGUF file.
#
# Expected: heads of 64 dimensions
# Seen:     head_dim is 128, Qwen3Config's default; a model with other heads does not load
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q transformers==5.23.0 torch==2.13.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import gguf, transformers

def config(arch, fields):
    w = gguf.GGUFWriter("m.gguf", arch)
    w.add_block_count(8), w.add_context_length(4096), w.add_embedding_length(256), w.add_feed_forward_length(96)
    w.add_head_count(4), w.add_head_count_kv(2), w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4), w.add_vocab_size(99)
    fields(w)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return transformers.AutoConfig.from_pretrained(".", gguf_file="m.gguf")

print("transformers", transformers.__version__, "gguf 0.19.0")

d = config("qwen3", lambda w: (w.add_key_length(64), w.add_value_length(64))).head_dim
print("qwen3, attention.key_length 64: head_dim", d)
raise SystemExit(0 if d == 128 else 1)
END
