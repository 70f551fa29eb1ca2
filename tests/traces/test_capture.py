"""traces/model/capture.py: its arithmetic against plain references, its refusals, and the trace that is bundled.

Most of it needs NumPy alone. Tiny random models of both architectures go through the whole tool and its comparison
with transformers; these tests are skipped where the packages of traces/model/requirements.txt are absent.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT / "traces/model"
BUNDLED = ROOT / "traces/smollm2-135m-kjv.safetensors"
sys.path.insert(0, str(TRACES))
import capture  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(20260)


def test_import_brings_in_nothing_heavy():
    code = "import sys, capture; print(sorted({'torch', 'gguf', 'transformers', 'safetensors'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=TRACES, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------- arithmetic

def interleave(rows, n_heads):
    """llama.cpp's order of the rows of Q and K: in each head 0, d/2, 1, d/2 + 1, ..."""
    d = len(rows) // n_heads
    return rows[[h * d + i + half for h in range(n_heads) for i in range(d // 2) for half in (0, d // 2)]]


def rope_of_neighbours(x, base):
    """RoPE as llama.cpp applies it to Llama: (2i, 2i + 1) is a complex number, turned by pos * base^(-2i/d)."""
    T, d = x.shape
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * np.outer(np.arange(T), base ** (-np.arange(0, d, 2) / d)))
    return np.stack([z.real, z.imag], axis=-1).reshape(T, d)


def test_unpermuted_rows_under_half_split_rope_are_stored_rows_under_rope_of_neighbours(rng):
    n_heads, d, n_in, T, base = 3, 16, 24, 40, 1e4
    w, x = rng.standard_normal((n_heads * d, n_in)), rng.standard_normal((T, n_in))
    stored = interleave(w, n_heads)
    assert not np.array_equal(stored, w)
    assert np.array_equal(capture.unpermute_rope_rows(stored, n_heads), w)
    ours = capture.rope((x @ w.T).reshape(T, n_heads, d).swapaxes(0, 1), base)
    for h in range(n_heads):
        theirs = rope_of_neighbours((x @ stored.T)[:, h * d:(h + 1) * d], base)
        # cos and sin are float32: 2 * 2^-24 of elements that stay below 40
        np.testing.assert_allclose(ours[h], np.hstack([theirs[:, 0::2], theirs[:, 1::2]]), atol=5e-6)


@pytest.mark.parametrize("window", [13, 4, 1])
def test_attention_in_blocks_is_attention(rng, monkeypatch, window):
    monkeypatch.setattr(capture, "QUERY_BLOCK", 5)
    n_q, n_kv, T, d = 6, 2, 13, 8
    q, k, v = (rng.standard_normal((n, T, d)).astype(np.float32) for n in (n_q, n_kv, n_kv))
    out = capture.attention(q, k, v, 0.3, window)
    for h in range(n_q):
        for t in range(T):
            seen = slice(max(0, t - window + 1), t + 1)
            p = np.exp(0.3 * (k[h // 3, seen].astype(np.float64) @ q[h, t]))
            np.testing.assert_allclose(out[h, t], p @ v[h // 3, seen] / p.sum(), atol=2e-6)  # ~20 sums of size 1


def test_bfloat16_rounds_to_nearest_even():
    ulp = 2.0 ** -7  # at 1
    x = np.array([1, 1 + 0.5 * ulp, 1 + 0.51 * ulp, 1 + 1.5 * ulp, -1 - 0.49 * ulp], np.float32)
    bits = capture.store(x, "bf16", "x").astype(np.uint32) << 16
    np.testing.assert_array_equal(bits.view(np.float32), [1, 1, 1 + ulp, 1 + 2 * ulp, -1])


def test_values_beyond_float16_are_refused():
    with pytest.raises(capture.BadInput, match=r"layers\.3\.k reaches 7e\+04"):
        capture.store(np.array([1, 7e4], np.float32), "f16", "layers.3.k")


def test_positions():
    runs = capture.plan_positions([40, 10], 3, None, 43)
    assert runs.tolist() == [10, 11, 12, 40, 41, 42] and runs.dtype == np.int64
    assert capture.plan_positions(None, 2, 8, 8).tolist() == [6, 7]


def test_the_recorded_command_names_no_folder():
    argv = ["--model=/some/where/m.gguf", "--text", "/some/where/a=b/t.txt", "--out", "../o", "--text-source", "x=y"]
    assert (capture.command_line(capture.parse_args(argv), argv)
            == "traces/model/capture.py --model=m.gguf --text t.txt --out o --text-source x=y")


# ---------------------------------------------------------------- refusals

LLAMA_CONFIG = {"model_type": "llama", "num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 3,
                "max_position_embeddings": 64, "rms_norm_eps": 1e-5}


@pytest.mark.parametrize("change, sentence", [
    ({"--model": "{tmp}/none.gguf"}, r"none\.gguf: no such GGUF file or model folder"),
    ({"--model": "{tmp}"}, r"no readable config\.json"),
    ({"--out": "{tmp}/none/x.safetensors"}, r"--out .*: must name a file in a folder that exists"),
    ({"--layers": "1,x"}, r"argument --layers: invalid list of integers value: '1,x'"),
    ({"--dtype": "f8"}, r"argument --dtype: invalid choice: 'f8'"),
    ({"--steps-at": "5", "--context": "9"}, r"--context: not allowed with argument --steps-at"),
    ({"--text": None}, r"the following arguments are required: --text"),
])
def test_bad_arguments_get_one_sentence_and_exit_2(tmp_path, capsys, change, sentence):
    options = {"--model": "{tmp}/m", "--text": "{tmp}/t", "--out": "{tmp}/o"} | change
    argv = [a.format(tmp=tmp_path) for pair in options.items() if pair[1] is not None for a in pair]
    assert capture.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.search(sentence, err), err


@pytest.mark.parametrize("change, sentence", [
    ({"model_type": "mamba"}, r"model_type 'mamba' is not supported"),
    ({"rope_scaling": {"rope_type": "llama3"}}, r"scaled RoPE is not supported"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, r"scaled RoPE is not supported"),
    ({"attention_bias": True}, r"biases are not supported"),
])
def test_models_with_another_forward_pass_are_refused(tmp_path, change, sentence):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG | change))
    with pytest.raises(capture.BadInput, match=sentence):
        capture.load_model(tmp_path)


@pytest.mark.parametrize("steps_at, n_steps, context, sentence", [
    ([8, 10], 3, None, r"--steps-at 8,10: the 3 steps from 8 run into those from 10"),
    ([62], 3, None, r"the last captured position is 64, but the model's context ends at 63"),
    (None, 9, 8, r"--n-steps 9 from position -1"),
    (None, 0, 8, r"--n-steps 0 from position 8"),
])
def test_impossible_positions_are_refused(steps_at, n_steps, context, sentence):
    with pytest.raises(capture.BadInput, match=sentence):
        capture.plan_positions(steps_at, n_steps, context, 64)


# ---------------------------------------------------------------- the bundled trace

@pytest.fixture(scope="module")
def bundled():
    return capture.read_trace(BUNDLED)


def test_bundled_trace_says_where_it_comes_from(bundled):
    metadata, t = bundled
    assert BUNDLED.stat().st_size < 8_000_000
    assert metadata["format"] == "adamas-trace/1" and metadata["kind"] == "real"
    assert metadata["text_licence"] == "public domain" and "King James" in metadata["text_source"]
    assert re.fullmatch("[0-9a-f]{64}", metadata["weights_sha256"])
    assert "/" not in metadata["capture_command"].split(" ", 1)[1]  # of the folder it was captured from, only names
    assert float(metadata["softmax_scale"]) == t["layers.14.k"].shape[2] ** -0.5
    assert t["tokens"].shape == (4160,) and t["tokens"].min() >= 0
    runs = [np.arange(a, a + 64) for a in (1024, 2048, 4096)]
    np.testing.assert_array_equal(t["positions"], np.concatenate(runs))
    for i in (14, 24):
        assert t[f"layers.{i}.k"].shape == t[f"layers.{i}.v"].shape == (3, 4160, 64)
        assert t[f"layers.{i}.q"].shape == t[f"layers.{i}.o"].shape == (192, 9, 64)


def some_steps(tensors, steps):
    """The trace with these of its steps only."""
    return {name: x[steps] if name == "positions" or name[-1] in "qo" else x for name, x in tensors.items()}


def test_bundled_output_is_attention_over_the_bundled_keys(bundled):
    metadata, t = bundled
    scale, layers = float(metadata["softmax_scale"]), [14, 24]
    few = some_steps(t, np.arange(0, 192, 16))
    worst, ratio = capture.check_outputs(few, layers, scale, "f16")
    assert 0 < worst < 0.02 and 0 < ratio <= 1
    # The same check has to notice a wrong scale, a query of another step, a NaN, and V of another head.
    assert capture.check_outputs(few, layers, scale * 1.1, "f16")[1] > 1
    shifted = few | {f"layers.{i}.q": np.roll(few[f"layers.{i}.q"], 1, axis=0) for i in layers}
    assert capture.check_outputs(shifted, layers, scale, "f16")[1] > 1
    broken = few | {"layers.14.o": np.where(np.arange(64) == 3, np.nan, few["layers.14.o"])}
    assert not capture.check_outputs(broken, layers, scale, "f16")[1] <= 1
    swapped = few | {f"layers.{i}.v": few[f"layers.{i}.v"][::-1] for i in layers}
    assert capture.check_outputs(swapped, layers, scale, "f16")[1] > 1


# ---------------------------------------------------------------- tiny models, the whole way

def tiny_model(arch):
    """A random model of three or four layers, every parameter of which matters."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    common = dict(vocab_size=256, hidden_size=32, intermediate_size=48, num_attention_heads=4, head_dim=16,
                  num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0)
    if arch == "llama":
        config = transformers.LlamaConfig(num_hidden_layers=3, tie_word_embeddings=False, **common)
    else:
        config = transformers.Gemma3TextConfig(num_hidden_layers=4, sliding_window=8, query_pre_attn_scalar=20,
                                               layer_types=["sliding_attention", "full_attention"] * 2, **common)
    torch.manual_seed(20260)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for p in model.parameters():
        p.data.normal_(0.0, 0.3)
    return model


@pytest.fixture(params=["llama", "gemma3"])
def folder(request, tmp_path):
    """A Hugging Face folder with bfloat16 weights, a tokeniser of single bytes, and a text beside it."""
    model = tiny_model(request.param)
    tokenizers = pytest.importorskip("tokenizers")
    import transformers
    model.bfloat16().save_pretrained(tmp_path / "model")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    t = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=t).save_pretrained(tmp_path / "model")
    (tmp_path / "text").write_text("In the beginning God created the heaven and the earth. And the earth was")
    return tmp_path


def run_capture(folder, *more):
    return capture.main(["--model", str(folder / "model"), "--text", str(folder / "text"), "--layers", "1",
                         "--out", str(folder / "out"), "--steps-at", "20,40", "--n-steps", "3", *more])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_capture_of_a_folder_agrees_with_transformers(folder, capsys, dtype):
    assert run_capture(folder, "--dtype", dtype) == 0
    assert "against transformers" in capsys.readouterr().out
    metadata, t = capture.read_trace(folder / "out")
    assert metadata["model"] == "model" and metadata["text_source"] == "text"
    assert t["positions"].tolist() == [20, 21, 22, 40, 41, 42] and t["tokens"].shape == (43,)
    assert t["layers.1.k"].shape == (2, 43, 16) and t["layers.1.q"].shape == t["layers.1.o"].shape == (6, 4, 16)


def test_one_capture_has_one_content(folder):
    assert run_capture(folder, "--no-verify") == 0
    first = (folder / "out").read_bytes()
    assert run_capture(folder, "--no-verify") == 0
    assert (folder / "out").read_bytes() == first


def test_a_wrong_forward_pass_leaves_no_file(folder, capsys, monkeypatch):
    rope = capture.rope
    monkeypatch.setattr(capture, "rope", lambda x, base: rope(x, 2 * base))
    assert run_capture(folder) == 4
    assert "check failed: the forward pass is not the model's" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["model", "text"]


def test_a_text_too_short_and_a_layer_that_is_not_there(folder, capsys):
    (folder / "text").write_text("In the beginning")
    assert run_capture(folder) == 2
    assert "has 16 tokens, but the last captured position is 42" in capsys.readouterr().err
    assert run_capture(folder, "--layers", "0,7") == 2
    assert "that see the whole context are" in capsys.readouterr().err


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_gguf_gives_the_same_logits_as_the_folder(tmp_path, arch):
    model = tiny_model(arch)
    gguf = pytest.importorskip("gguf")
    c = model.config
    model.save_pretrained(tmp_path / "model")
    w = gguf.GGUFWriter(tmp_path / "model.gguf", arch)
    w.add_block_count(c.num_hidden_layers)
    w.add_embedding_length(c.hidden_size)
    w.add_context_length(c.max_position_embeddings)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    if arch == "gemma3":
        w.add_rope_freq_base(1e6)
        w.add_sliding_window(c.sliding_window)
        w.add_uint32("gemma3.attention.sliding_window_pattern", 2)
    short = {hf: name for name, hf in (capture.HF_NAMES | capture.HF_NORM_NAMES[arch]).items()}
    for full, p in model.state_dict().items():
        if arch == "gemma3" and full == "lm_head.weight":
            continue  # tied
        layer = re.match(r"model\.layers\.(\d+)\.(.*)\.weight", full)
        name = short[layer[2] if layer else full.removesuffix(".weight")]
        a = p.numpy()
        if arch == "llama" and name in ("attn_q", "attn_k"):
            a = interleave(a, c.num_attention_heads if name == "attn_q" else c.num_key_value_heads)
        if arch == "gemma3" and name.endswith("norm"):
            a = a + np.float32(1)
        w.add_tensor((f"blk.{layer[1]}." if layer else "") + name + ".weight", np.ascontiguousarray(a))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    tokens = np.arange(40) * 7 % 256
    a, b = capture.load_model(tmp_path / "model"), capture.load_model(tmp_path / "model.gguf")
    b.softmax_scale = a.softmax_scale  # GGUF has no field for it; the tiny Gemma's is unusual on purpose
    assert (a.sliding, a.window, a.rope_base, a.d) == (b.sliding, b.window, b.rope_base, b.d)
    # the same arithmetic; only the float32 eps in the GGUF file differs from the JSON's decimal
    np.testing.assert_allclose(capture.forward_logits(a, tokens, 40), capture.forward_logits(b, tokens, 40), rtol=1e-4,
                               atol=1e-4)
