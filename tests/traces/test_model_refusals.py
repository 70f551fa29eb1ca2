"""Models that traces/model would read wrongly are refused: exit 2, one sentence with the tensor or field, before the work.

Each starts from a small model that is accepted, and changes one thing. Skipped where the packages of
traces/model/requirements.txt are absent.
"""
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_folder, skip_module_without_models, tiny_model, write_gguf

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
import capture
from bad_input import BadInput
from model_files import load_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:56193aa9\nsize 142376815\n"


def refuse(path, *says):
    """load_model(), which capture.py and evaluate.py begin with, says so in one sentence."""
    with pytest.raises(BadInput) as e:
        load_model(path)
    for part in says:
        assert part in str(e.value), e.value
    assert "\n" not in str(e.value)


# ---------------------------------------------------------------- GGUF files

def bias(name, n, layer=0):
    return lambda w: w.add_tensor(f"blk.{layer}.{name}.bias", np.full(n, 2, np.float32))


def experts(w):
    w.add_tensor("blk.0.ffn_gate_exps.weight", np.ones((2, 96, 256), np.float32))


def norms(w):
    w.add_tensor("blk.2.attn_q_norm.weight", np.ones(64, np.float32))


@pytest.mark.parametrize("name, arch, extra, says", [
    ("llama", "llama", bias("attn_v", 128), "tensor blk.0.attn_v.bias would be left out"),
    ("llama", "llama", bias("ffn_down", 256, 2), "tensor blk.2.ffn_down.bias would be left out"),
    ("llama", "llama", norms, "tensor blk.2.attn_q_norm.weight would be left out"),
    ("qwen3", "qwen3", bias("attn_q", 256), "tensor blk.0.attn_q.bias would be left out"),
    ("llama", "llama", experts, "mixtures of experts"),
    ("llama", "llama", lambda w: w.add_tensor("rope_factors_long.weight", np.ones(32, np.float32)), "LongRoPE"),
    ("phi3", "phi3", lambda w: w.add_tensor("rope_factors_long.weight", np.ones(24, np.float32)),
     "has no field phi3.rope.scaling.original_context_length"),
    ("phi3, LongRoPE", "phi3", lambda w: w.add_rope_scaling_factor(2.0), "scales RoPE twice, by rope_factors_long.weight"),
    ("phi3", "phi3", lambda w: w.add_rope_scaling_attn_factors(1.19), "phi3.rope.scaling.attn_factor = 1.19"),
    ("phi3", "phi3", lambda w: w.add_string("phi3.rope.scaling.type", "yarn"), "phi3.rope.scaling.type 'yarn'"),
    ("llama, YaRN", "llama", lambda w: w.add_rope_scaling_yarn_ext_factor(0.5), "rope.scaling.yarn_ext_factor = 0.5"),
    ("llama, YaRN", "llama", lambda w: w.add_rope_scaling_yarn_attn_factor(1.2), "rope.scaling.yarn_attn_factor = 1.2"),
    ("qwen2, YaRN", "qwen2", lambda w: w.add_rope_scaling_yarn_log_mul(0.1), "qwen2.rope.scaling.yarn_log_multiplier = 0.1"),
    ("llama", "llama", lambda w: w.add_sliding_window(64), "llama.attention.sliding_window = 64"),
    ("llama", "llama", lambda w: w.add_float32("llama.attention.scale", 0.5), "llama.attention.scale is 0.5; only 0.125"),
    ("llama", "llama", lambda w: w.add_float32("llama.attn_logit_softcapping", 50.0), "llama.attn_logit_softcapping = 50.0"),
    ("llama", "llama", lambda w: w.add_float32("llama.logit_scale", 2.0), "llama.logit_scale = 2.0"),
    ("llama", "llama", lambda w: w.add_uint32("llama.attention.something_new", 1), "llama.attention.something_new = 1"),
    ("qwen2", "qwen2", lambda w: w.add_string("qwen2.rope.scaling.type", "longrope"), "qwen2.rope.scaling.type 'longrope'"),
    ("qwen2", "qwen2", lambda w: w.add_bool("qwen2.attention.causal", False), "qwen2.attention.causal = False"),
    ("llama 3", "llama", lambda w: w.add_rope_scaling_factor(2.0), "scales RoPE twice"),
    ("llama", "llama", lambda w: w.add_uint16("split.count", 3), "one of 3 parts"),
    ("llama", "llama", lambda w: w.add_string("general.type", "adapter"), "general.type is 'adapter'"),
])
def test_a_gguf_file_that_would_be_read_in_part(tmp_path, name, arch, extra, says):
    write_gguf(tiny_model(name), tmp_path / "m.gguf", arch, extra)
    refuse(tmp_path / "m.gguf", "m.gguf", says)


def write_with(monkeypatch, path, name, arch, **changed):
    """A GGUF file with other values of the fields: key is the writer's method, without add_."""
    import gguf
    for method, value in changed.items():
        original = getattr(gguf.GGUFWriter, "add_" + method)
        monkeypatch.setattr(gguf.GGUFWriter, "add_" + method, lambda w, _, original=original, value=value: original(w, value))
    write_gguf(tiny_model(name), path, arch)


@pytest.mark.parametrize("changed, says", [
    ({"head_count_kv": [2, 2, 2]}, "llama.attention.head_count_kv has a value per layer"),
    ({"head_count_kv": [2, 1, 2]}, "llama.attention.head_count_kv has a value per layer"),
    ({"head_count_kv": 3}, "4 query heads on 3 KV heads"),
    ({"head_count_kv": 4}, "tensor blk.0.attn_k.weight has the shape [128, 256]; the model's sizes call for [256, 256]"),
    ({"head_count": 0}, "do not describe a model"),
    ({"rope_dimension_count": 32}, "llama.rope.dimension_count is 32 of 64"),
    ({"value_length": 32}, "heads of different dimensions"),
    ({"block_count": 4}, "has no tensor blk.3.attn_norm.weight"),
    ({"block_count": 2}, "would be left out: no part of the llama architecture with 2 layers uses it"),
])
def test_fields_of_another_form_or_that_disagree_with_the_tensors(tmp_path, monkeypatch, changed, says):
    write_with(monkeypatch, tmp_path / "m.gguf", "llama", "llama", **changed)
    refuse(tmp_path / "m.gguf", says)


@pytest.mark.parametrize("d", [96, 80, 32])
def test_heads_that_cannot_be_transformed(tmp_path, capsys, d):
    write_gguf(tiny_model("llama", head_dim=d), tmp_path / "m.gguf", "llama")
    refuse(tmp_path / "m.gguf", f"its heads have {d} dimensions", "64, 128 or 256")
    assert capture.main(["--model", str(tmp_path / "m.gguf"), "--text", "none", "--out", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_factors_that_llama_cpp_reads_as_linear_scaling(tmp_path):
    write_gguf(tiny_model("llama"), tmp_path / "m.gguf", "llama", lambda w: w.add_rope_scaling_factor(4.0))
    assert load_model(tmp_path / "m.gguf").rope.divisors == (4.0,) * 32
    write_gguf(tiny_model("llama"), tmp_path / "n.gguf", "llama", lambda w: w.add_float32("llama.rope.scale_linear", 2.0))
    assert load_model(tmp_path / "n.gguf").rope.divisors == (2.0,) * 32


@pytest.mark.parametrize("content, says", [
    (POINTER.encode(), "is a Git LFS pointer"), (b"# A README\n" * 9, "not a readable GGUF file"), (b"", "not a readable GGUF"),
])
def test_what_is_no_gguf_file(tmp_path, content, says):
    (tmp_path / "m.gguf").write_bytes(content)
    refuse(tmp_path / "m.gguf", "m.gguf", says)


# ---------------------------------------------------------------- folders

@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / "m"
    save_folder(tiny_model("llama"), path)
    return path


@pytest.fixture
def folder(llama, tmp_path):
    """A copy to change."""
    (tmp_path / "m").mkdir()
    for file in llama.iterdir():
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    assert load_model(tmp_path / "m").arch == "llama"
    return tmp_path / "m"


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def tensors_of(folder):
    from safetensors.torch import load_file
    return load_file(folder / "model.safetensors")


def save(folder, tensors, name="model.safetensors"):
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name)


@pytest.mark.parametrize("settings, says", [
    ({"model_type": "mamba"}, "model_type 'mamba' is not supported"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": "4"}}, "RoPE setting factor is '4'"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta": 2}}, "RoPE setting beta = 2"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "attention_factor": -1.0}}, "each must be there and above 0"),
    ({"model_type": "phi3", "rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}}, "lacks a setting"),
    ({"model_type": "phi3", "rope_parameters": {"rope_type": "su", "short_factor": [1.0] * 9, "long_factor": [1.0] * 32}},
     "RoPE turns 32 pairs of dimensions, and has 9 factors for them"),
    ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "RoPE of type 'longrope'"),
    ({"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "RoPE of type 'dynamic'"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "lacks a setting: 'low_freq_factor'"),
    ({"rope_parameters": {"rope_type": "default", "beta_fast": 32}}, "RoPE setting beta_fast = 32"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
    ({"attention_bias": True}, "has no tensor model.layers.0.self_attn.q_proj.bias"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ({"sliding_window": 64}, "sliding_window 64: Llama's attention has none"),
    ({"layer_types": ["chunked_attention"] * 3}, "layer_types must name"),
    ({"num_key_value_heads": [2, 2, 2]}, "num_key_value_heads is [2, 2, 2]"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
    ({"attention_multiplier": 0.1}, "attention_multiplier = 0.1"),
    ({"full_attn_mod": 2}, "full_attn_mod = 2"),
    ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
    ({"quantization_config": {"quant_method": "fp8"}}, "its weights are quantised (fp8)"),
    ({"tie_word_embeddings": True}, "another lm_head.weight"),
    ({"head_dim": 96}, "its heads have 96 dimensions"),
    ({"num_attention_heads": 0}, "do not describe a model"),
])
def test_settings_that_the_forward_pass_does_not_know(folder, settings, says):
    change(folder, **settings)
    refuse(folder, says)


@pytest.mark.parametrize("settings", [
    {"attention_dropout": 0.1}, {"attn_logit_softcapping": None}, {"_attn_implementation": "sdpa"}, {"unsloth_fixed": True},
    {"pretraining_tp": 2}, {"rope_scaling": None}, {"layer_types": ["full_attention"] * 3},
])
def test_settings_that_change_nothing_are_no_hindrance(folder, settings):
    change(folder, **settings)
    assert load_model(folder).n_layers == 3


def test_old_settings_of_rope_mean_the_same(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5, "rope_scaling": {
        "type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 128}}))
    rope = load_model(folder).rope
    assert rope.base == 5e5 and rope.divisors[0] == 1 and rope.divisors[-1] == pytest.approx(8)


def test_rope_that_outside_settings_decide(folder):
    """As transformers reads it: the original context outside the dictionary wins, and YaRN stretches the model."""
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    change(folder, rope_parameters=None, rope_scaling=yarn)
    m = load_model(folder)
    assert m.context == 512 and m.rope.amplitude == pytest.approx(1 + 0.1 * np.log(4))
    change(folder, original_max_position_embeddings=256)
    other = load_model(folder)
    assert other.context == 1024 and other.rope.divisors != m.rope.divisors


def test_settings_as_the_files_of_known_models_have_them(folder, tmp_path):
    change(folder, rope_parameters=None, rope_scaling={  # Yarn-Llama-2
        "factor": 16.0, "original_max_position_embeddings": 256, "type": "yarn", "finetuned": True})
    assert load_model(folder).context == 4096
    change(folder, rope_scaling=None, rope_theta=1e6, use_sliding_window=False, max_window_layers=28)  # Qwen2.5
    assert load_model(folder).rope.base == 1e6
    save_folder(tiny_model("phi3"), tmp_path / "phi")  # Phi-4-mini
    change(tmp_path / "phi", rope_parameters=None, rope_theta=1e4, partial_rotary_factor=0.75, sliding_window=262144,
           full_attn_mod=1, interpolate_factor=1, lm_head_bias=False, mlp_bias=False, attention_bias=False, embd_pdrop=0.0,
           original_max_position_embeddings=100,
           rope_scaling={"type": "longrope", "short_factor": [1.0] * 24, "long_factor": [3.0] * 24})
    m = load_model(tmp_path / "phi")
    assert m.rope.n_rotated == 48 and m.rope_long.context == 100 and m.rope.amplitude == pytest.approx(
        np.sqrt(1 + np.log(512 / 100) / np.log(100)))


def test_vision_is_left_out_only_where_config_json_has_it(folder, tmp_path):
    import torch
    save(folder, tensors_of(folder) | {"vision_tower.head.probe": torch.ones(2)})
    refuse(folder, "tensor vision_tower.head.probe would be left out")
    save_folder(tiny_model("gemma3 with vision"), tmp_path / "g")
    m, t = load_model(tmp_path / "g"), tensors_of(tmp_path / "g")
    assert m.n_q_heads == 4 and set(m.weights.left_out) == {name for name in t if not name.startswith("language_model.")}
    save(tmp_path / "g", t | {"audio_tower.conv.weight": torch.ones(2)})
    refuse(tmp_path / "g", "tensor audio_tower.conv.weight would be left out")
    save(tmp_path / "g", t | {"model.language_model.norm.weight": torch.ones(256)})
    refuse(tmp_path / "g", "model.norm.weight", "of the same use")
    config = json.loads((tmp_path / "g/config.json").read_text())
    for name in ("rms_norm_eps", "max_position_embeddings"):  # as the files of 4B to 27B leave them out
        del config["text_config"][name]
    (tmp_path / "g/config.json").write_text(json.dumps(config))
    save(tmp_path / "g", {name.replace("language_model.model.", "model.language_model."): x for name, x in t.items()})
    m = load_model(tmp_path / "g")  # as transformers 4.5x names them
    assert (m.eps, m.context) == (1e-6, 131072)
    change(tmp_path / "g", quantization_config={"quant_method": "fp8"})
    refuse(tmp_path / "g", "its weights are quantised (fp8)")
    change(tmp_path / "g", text_config=None)
    refuse(tmp_path / "g", "no readable config.json")


def test_a_bias_that_config_json_does_not_mention(folder):
    import torch
    save(folder, tensors_of(folder) | {"model.layers.1.self_attn.q_proj.bias": torch.ones(256)})
    refuse(folder, "tensor model.layers.1.self_attn.q_proj.bias would be left out")


@pytest.mark.parametrize("scale", ["weight_scale", "weight_scale_inv"])
def test_fp8_weights_without_their_scales(folder, scale):
    import torch
    t = tensors_of(folder)
    for name in [name for name in t if "_proj" in name]:
        t[name] = t[name].to(torch.float8_e4m3fn)
    save(folder, t)
    refuse(folder, "is of type F8_E4M3; float32, bfloat16 or float16 is needed")
    t = tensors_of(folder) | {"model.layers.0.mlp.down_proj." + scale: torch.ones(1)}
    save(folder, {k: v.float() for k, v in t.items()})
    refuse(folder, f"tensor model.layers.0.mlp.down_proj.{scale} would be left out", "scales")


def test_another_precision_beside_the_weights_is_not_read(folder):
    t = tensors_of(folder)
    save(folder, {k: 2 * v.bfloat16() for k, v in t.items()}, "model_bf16.safetensors")
    m = load_model(folder)
    assert [p.name for p in m.weights.files] == ["model.safetensors"]
    np.testing.assert_array_equal(m.weight("attn_v", 1), t["model.layers.1.self_attn.v_proj.weight"].numpy())


@pytest.fixture
def sharded(tmp_path):
    save_folder(tiny_model("llama"), tmp_path / "m", max_shard_size="500KB")
    return tmp_path / "m"


def test_the_index_says_what_is_read(sharded):
    shards = sorted(p.name for p in sharded.glob("*.safetensors"))
    first = load_model(sharded).weight("attn_v", 1)
    save(sharded, {"model.norm.weight": __import__("torch").ones(256)}, "model_bf16.safetensors")
    save(sharded, {"layers.0.attention.wq.weight": __import__("torch").ones(4)}, "consolidated.safetensors")
    m = load_model(sharded)
    assert sorted(p.name for p in m.weights.files) == shards and len(shards) > 1
    np.testing.assert_array_equal(m.weight("attn_v", 1), first)


def test_an_index_that_does_not_fit_its_shards(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    names, path = sorted(index["weight_map"]), sharded / "model.safetensors.index.json"
    moved = dict(index["weight_map"])
    del moved[names[0]]
    path.write_text(json.dumps(index | {"weight_map": moved}))
    refuse(sharded, names[0], "which the index does not place there")
    path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"model.extra": index["weight_map"][names[0]]}}))
    refuse(sharded, "has no tensor model.extra")
    path.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"model.extra": "../m.safetensors"}}))
    refuse(sharded, "outside the folder")
    path.write_text("{}")
    refuse(sharded, "not a readable index")
    path.write_text(json.dumps(index))
    save(sharded, {"model.norm.weight": __import__("torch").ones(256)})
    refuse(sharded, "both model.safetensors and an index")


def test_what_is_no_folder_of_a_model(folder):
    (folder / "model.safetensors").write_text(POINTER)
    refuse(folder, "model.safetensors: is a Git LFS pointer", "git lfs pull")
    (folder / "model.safetensors").write_text("# A README\n" * 9)
    refuse(folder, "not a readable safetensors file")
    (folder / "model.safetensors").unlink()
    refuse(folder, "neither model.safetensors nor model.safetensors.index.json")
    (folder / "adapter_config.json").write_text("{}")
    refuse(folder, "adapter")
    (folder / "config.json").write_text(POINTER)
    refuse(folder, "config.json: is a Git LFS pointer")
    (folder / "config.json").write_text("[1]")
    refuse(folder, "no readable config.json")
