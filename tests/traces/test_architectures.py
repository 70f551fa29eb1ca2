"""Every architecture that traces/model reads, against transformers: small random models as folders and as GGUF files.

The expected values are those of the transformers model in memory, before it was saved: 256 tokens, all logits, K and V of
every layer. Skipped where the packages of traces/model/requirements.txt are absent; `tests/run.py --with-models` runs it.
"""
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import FACTORS, MODELS, WITH_GGUF, save_folder, skip_module_without_models, tiny_model, write_gguf

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
from forward import embed, forward_logits, layer_forward
from model_files import load_model
from rope import Rope, yarn
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


@pytest.mark.parametrize("name, old, outside", [
    ("llama", dict(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                 "finetuned": True}), {}),
    ("phi3", dict(rope_scaling={"type": "longrope", "short_factor": FACTORS[0], "long_factor": FACTORS[1]}, rope_theta=1e4,
                  partial_rotary_factor=0.75, original_max_position_embeddings=100, full_attn_mod=1, interpolate_factor=1), {}),
    ("gemma3 with vision", dict(rope_scaling={"factor": 8.0, "rope_type": "linear"}, rope_theta=1e6, rope_local_base_freq=1e4),
     dict(eos_token_id=[1, 106]))])
def test_files_as_transformers_4_wrote_them(tmp_path, name, old, outside):
    """The names of settings that most published models have."""
    import torch
    import transformers
    save_folder(tiny_model(name), tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    text = config.get("text_config", config)
    del text["rope_parameters"]
    text |= old
    (tmp_path / "m/config.json").write_text(json.dumps(config | outside))
    m = load_model(tmp_path / "m")
    assert m.rope.divisors
    check(m, wanted(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)))


def test_yarn_of_any_settings_is_transformers():
    """Frequencies and amplitude at the sizes of real models, which the small ones above do not reach."""
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    rng = np.random.default_rng(11)
    for case in range(200):
        d, original = int(rng.choice([64, 128, 256])), int(rng.choice([512, 4096, 32768, 262144]))
        base, factor = float(rng.choice([1e4, 5e5, 1e6])), float(rng.choice([1, 2.5, 4, 40]))
        betas, truncate = (float(rng.uniform(2, 64)), float(rng.uniform(0.3, 2))), bool(rng.integers(2))
        config = transformers.Qwen3Config(head_dim=d, max_position_embeddings=int(original * factor), rope_parameters={
            "rope_type": "yarn", "rope_theta": base, "factor": factor, "original_max_position_embeddings": original,
            "beta_fast": betas[0], "beta_slow": betas[1], "truncate": truncate})
        expected, amplitude = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
        ours = yarn(Rope(base, d), factor, original, *betas, truncate=truncate)
        says = f"case {case}: d {d}, base {base}, factor {factor}, original {original}, betas {betas}, truncate {truncate}"
        np.testing.assert_allclose(ours.frequencies(), expected.numpy(), rtol=2e-5, err_msg=says)
        assert ours.amplitude == pytest.approx(amplitude), says
