#!/usr/bin/env bash
# transformers reads the RoPE fields of a GGUF file in part: linear scaling and partial rotation are left out.
#
# Expected: linear scaling by 4 (llama), 48 of 64 dimensions rotated (phi3), or a warning
# Seen:     rope_parameters say default and no partial_rotary_factor but 1, without a word
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

def linear(w):
    w.add_rope_dimension_count(64), w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), w.add_rope_scaling_factor(4.0)

llama, phi3 = config("llama", linear).rope_parameters, config("phi3", lambda w: w.add_rope_dimension_count(48)).rope_parameters
print("llama, rope.scaling.type linear, factor 4:", llama)
print("phi3, rope.dimension_count 48 of 64:", phi3)
dropped = llama["rope_type"] == "default" and "factor" not in llama and phi3.get("partial_rotary_factor", 1) == 1
raise SystemExit(0 if dropped else 1)
END
