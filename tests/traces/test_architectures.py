"""Every architecture that traces/model reads, against transformers: small random models as folders and as GGUF files.

The expected values are those of the transformers model in memory, before it was saved: 256 tokens, all logits, K and V of
every layer. Skipped where the packages of traces/model/requirements.txt are absent; `tests/run.py --with-models` runs it.
"""
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import MODELS, WITH_GGUF, save_folder, skip_module_without_models, tiny_model, write_gguf

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
from forward import embed, forward_logits, layer_forward
from model_files import load_model
from verify import KV_LIMIT, LOGITS_LIMIT, check_model

TOKENS = np.random.default_rng(7).integers(0, 258, 256)


def wanted(model):
    """(logits [256, vocabulary], K and V of each layer [n_kv_heads, 256, d]) of the model in memory."""
    import torch
    with torch.no_grad():
        out = model(torch.from_numpy(TOKENS[None]), use_cache=True)
    return out.logits[0].numpy(), [(layer.keys[0].numpy(), layer.values[0].numpy()) for layer in out.past_key_values.layers]


def differences(m, expected):
    """(largest logit difference / RMS logit, largest rel-L2 of a layer's K or V)"""
    logits, kv = expected
    m = m.for_tokens(len(TOKENS))
    ours = forward_logits(m, TOKENS, len(TOKENS))
    worst, x = 0.0, embed(m, TOKENS)
    for i, (k, v) in enumerate(kv):
        x, (_, our_k, our_v, _) = layer_forward(m, i, x)
        kept = k.shape[1]  # transformers keeps the last window - 1 tokens of a layer with a window
        assert kept == (256 if m.windows[i] == 0 else m.windows[i] - 1)
        for a, b in ((our_k, k), (our_v, v)):
            worst = max(worst, np.linalg.norm(a[:, -kept:] - b) / np.linalg.norm(b))
    return np.abs(ours - logits).max() / np.sqrt(np.mean(np.square(logits))), worst


def check(m, expected):
    logits, kv = differences(m, expected)
    print(f"logits {logits:.1e} of their RMS, K and V rel-L2 {kv:.1e}")
    assert logits <= LOGITS_LIMIT and kv <= KV_LIMIT


@pytest.fixture(scope="module", params=MODELS)
def made(request):
    model = tiny_model(request.param)
    return request.param, model, wanted(model)


def test_a_folder_is_what_transformers_computes(made, tmp_path):
    _, model, expected = made
    save_folder(model, tmp_path / "m")
    check(load_model(tmp_path / "m"), expected)


def test_a_gguf_file_is_what_transformers_computes(made, tmp_path):
    name, model, expected = made
    arch = MODELS[name][2]
    if arch is None:
        assert name not in WITH_GGUF  # nothing to convert: GGUF has no field for it
        return
    write_gguf(model, tmp_path / "m.gguf", arch)
    m = load_model(tmp_path / "m.gguf")
    check(m, expected)
    # and the tool's own check, whose reference reads the GGUF file with transformers
    n, m = len(TOKENS), m.for_tokens(len(TOKENS))
    tensors = {}
    x, layers = embed(m, TOKENS), range(m.n_layers)
    for i in layers:
        x, (_, tensors[f"layers.{i}.k"], tensors[f"layers.{i}.v"], _) = layer_forward(m, i, x)
    assert f"logits of {n} tokens against transformers" in check_model(m, TOKENS, tensors, layers, "f32")[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shards", [False, True])
def test_folders_of_each_precision_single_and_sharded(tmp_path, dtype, shards):
    import torch
    import transformers
    options = {"max_shard_size": "300KB"} if shards else {}
    save_folder(tiny_model("llama").to(getattr(torch, dtype)), tmp_path / "m", **options)
    assert (tmp_path / "m/model.safetensors").exists() != shards
    m = load_model(tmp_path / "m")
    assert len(m.weights.files) > 3 if shards else len(m.weights.files) == 1
    # read anew: .to(bfloat16) has also rounded RoPE's frequencies in memory
    check(m, wanted(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)))
