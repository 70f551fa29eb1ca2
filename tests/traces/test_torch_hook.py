"""The PyTorch snippets of traces/README.md, run as they stand there on a tiny random Llama; skipped where PyTorch is absent."""
import re

import pytest
from tiny_models import skip_module_without_models

from conftest import ROOT

skip_module_without_models()

SAVE, HOOK = re.findall(r"```python\n(.*?)```", (ROOT / "traces/README.md").read_text(), re.S)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_hook_makes_a_trace_that_verifies(adamas, tmp_path, monkeypatch, dtype):
    import torch
    import transformers
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(hidden_size=256, intermediate_size=128, num_hidden_layers=21, num_attention_heads=4,
                                      num_key_value_heads=2, head_dim=64, vocab_size=500)
    model = transformers.LlamaForCausalLM(config).eval().to(getattr(torch, dtype))
    model.generation_config.eos_token_id = None
    exec(HOOK, {"model": model, "prompt": torch.randint(0, 500, (1, 200))})
    result = adamas("trace", "verify", "mine.safetensors")
    assert result.code == 0 and f"{2 * 64 * 4} outputs recomputed" in result.out, result
    assert "positions 200-263" in adamas("trace", "info", "mine.safetensors").out
    assert adamas("replay", "mine.safetensors", "--budgets", "16", "--quiet").code == 0


def test_three_lines_save_a_session(adamas, tmp_path, monkeypatch):
    import torch
    monkeypatch.chdir(tmp_path)
    k, v, q = torch.randn(2, 90, 64), torch.randn(2, 90, 64), torch.randn(10, 4, 64)
    exec(SAVE, {"k": k, "v": v, "q": q})
    said = adamas("trace", "info", "mine.safetensors").out
    assert "4 query, 2 KV, dimension 64" in said and "positions 80-89" in said and "kind       real" in said
    assert adamas("replay", "mine.safetensors", "--budgets", "16", "--quiet").code == 0
