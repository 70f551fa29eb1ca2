#!/usr/bin/env bash
# model.to(torch.bfloat16) of a transformers model also rounds RoPE's frequencies; from_pretrained(dtype=...) does not.
#
# Expected: both ways to a bfloat16 model give the same positions
# Seen:     inv_freq is bfloat16 after the cast and float32 after loading: angles at position 1000 are off by 0.4 rad
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q transformers==5.23.0 torch==2.13.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import torch, transformers

config = transformers.LlamaConfig(vocab_size=99, hidden_size=128, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1,
                                  num_hidden_layers=2)

print("transformers", transformers.__version__, "torch", torch.__version__)
model = transformers.LlamaForCausalLM(config)
model.save_pretrained("m")
loaded = transformers.LlamaForCausalLM.from_pretrained("m", dtype=torch.bfloat16).model.rotary_emb.inv_freq
cast = model.to(torch.bfloat16).model.rotary_emb.inv_freq
off = ((cast.float() - loaded).abs() * 1000).max().item()
print("loaded:", loaded.dtype, " cast:", cast.dtype, f" angle at position 1000 off by up to {off:.2f} rad")
raise SystemExit(0 if (loaded.dtype, cast.dtype) == (torch.float32, torch.bfloat16) and off > 0.1 else 1)
END
