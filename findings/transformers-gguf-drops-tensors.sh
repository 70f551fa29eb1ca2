#!/usr/bin/env bash
# transformers loads a Llama GGUF file that has QKV biases, or Llama 3's rope_freqs, and leaves those tensors out.
#
# Expected: they are used, as llama.cpp does, or named in a warning or in the loading info
# Seen:     the logits are those of the file without them; nothing is missing, unexpected or said
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q transformers==5.23.0 torch==2.13.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import gguf, numpy as np, torch, transformers
HIDDEN, D, LAYERS, VOCABULARY = 128, 64, 2, 99

def write(path, extra):
    w, rng = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    w.add_block_count(LAYERS), w.add_context_length(512), w.add_embedding_length(HIDDEN), w.add_feed_forward_length(96)
    w.add_head_count(2), w.add_head_count_kv(1), w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4)
    w.add_rope_dimension_count(D), w.add_vocab_size(VOCABULARY)
    shapes = {"attn_q": (128, HIDDEN), "attn_k": (D, HIDDEN), "attn_v": (D, HIDDEN), "attn_output": (HIDDEN, 128),
              "ffn_gate": (96, HIDDEN), "ffn_up": (96, HIDDEN), "ffn_down": (HIDDEN, 96), "attn_norm": HIDDEN, "ffn_norm": HIDDEN}
    tensors = {"token_embd.weight": (VOCABULARY, HIDDEN), "output_norm.weight": HIDDEN}
    tensors |= {f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in shapes.items()}
    for name, shape in (tensors | extra).items():
        w.add_tensor(name, rng.standard_normal(shape).astype(np.float32) ** (1 if "freqs" not in name else 2) + 1)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()

def load(path):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(".", gguf_file=path, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model(torch.arange(1, 90)[None]).logits

print("transformers", transformers.__version__, "gguf 0.19.0")
biases = {f"blk.{i}.attn_{x}.bias": 128 if x == "q" else D for i in range(LAYERS) for x in "qkv"}
write("plain.gguf", {}), write("biases.gguf", biases), write("freqs.gguf", {"rope_freqs.weight": D // 2})
plain, same = load("plain.gguf"), []
for path in ("biases.gguf", "freqs.gguf"):
    same.append(torch.equal(plain, load(path)))
    print(path, "gives the logits of plain.gguf:", same[-1])
raise SystemExit(0 if all(same) else 1)
END
