#!/usr/bin/env bash
# transformers reads a GGUF file that scales RoPE by YaRN or LongRoPE as one that does not scale it.
#
# Expected: rope_parameters of type yarn with factor 4 (qwen2), the factors of rope_factors_long and _short (phi3), or a warning
# Seen:     rope_parameters say default, and no factor of the tensors is in the model, without a word
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q transformers==5.23.0 torch==2.13.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import gguf, numpy as np, transformers

def config(arch, more):
    w = gguf.GGUFWriter("m.gguf", arch)
    w.add_block_count(2), w.add_context_length(512), w.add_embedding_length(256), w.add_feed_forward_length(96)
    w.add_head_count(4), w.add_head_count_kv(2), w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4), w.add_vocab_size(99)
    w.add_rope_dimension_count(64), w.add_rope_scaling_orig_ctx_len(128), more(w)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return transformers.AutoConfig.from_pretrained(".", gguf_file="m.gguf")

def yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN), w.add_rope_scaling_factor(4.0)

def longrope(w):
    w.add_rope_scaling_attn_factors(1.19)
    for name in ("rope_factors_long.weight", "rope_factors_short.weight"):
        w.add_tensor(name, np.full(32, 3, np.float32))

print("transformers", transformers.__version__, "gguf 0.19.0")
qwen2, phi3 = config("qwen2", yarn).rope_parameters, config("phi3", longrope).rope_parameters
print("qwen2, rope.scaling.type yarn, factor 4:", qwen2)
print("phi3, rope_factors_long and rope_factors_short, attn_factor 1.19:", phi3)
raise SystemExit(0 if qwen2["rope_type"] == phi3["rope_type"] == "default" and "long_factor" not in phi3 else 1)
END
