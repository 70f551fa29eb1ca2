#!/usr/bin/env bash
# LlamaConfig takes partial_rotary_factor, stores it under rope_parameters, and LlamaForCausalLM computes without it.
#
# Expected: half of each head is rotated, or the setting is refused
# Seen:     the logits are those of full rotation
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
                                  num_hidden_layers=2, partial_rotary_factor=0.5)

print("transformers", transformers.__version__, config.rope_parameters)
half = transformers.LlamaForCausalLM(config).eval()
config.rope_parameters["partial_rotary_factor"] = 1.0
full = transformers.LlamaForCausalLM(config).eval()
full.load_state_dict(half.state_dict())
tokens = torch.arange(1, 90)[None]
same = torch.equal(half(tokens).logits, full(tokens).logits)
print("factor 0.5 gives the logits of factor 1:", same)
raise SystemExit(0 if same else 1)
END
