#!/usr/bin/env bash
# transformers does not read which layers of a GGUF model have a sliding window, nor Phi-3's window.
#
# Expected: every second layer of 8 slides (gemma3, pattern 2), a window of 2047 tokens (phi3), or a warning
# Seen:     gemma3: every sixth layer, its default; phi3: no window
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

def gemma(w):
    w.add_key_length(64), w.add_sliding_window(512), w.add_uint32("gemma3.attention.sliding_window_pattern", 2)

layers = config("gemma3", gemma).layer_types
window = config("phi3", lambda w: w.add_sliding_window(2047)).sliding_window
full = [i for i, kind in enumerate(layers) if kind == "full_attention"]
print("gemma3, sliding_window_pattern 2: layers that see all:", full, "(by the field: [1, 3, 5, 7])")
print("phi3, sliding_window 2047:", window)
raise SystemExit(0 if full == [5] and window is None else 1)
END
