"""traces/model/capture.py: its arithmetic against plain references, its refusals, and the trace that is bundled.

Most of it needs NumPy alone. Small random models go through the whole tool and its comparison with transformers; these
tests are skipped where the packages of traces/model/requirements.txt are absent (test_architectures.py has the models).
"""
import importlib.util
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
from tiny_models import interleave, save_folder, tiny_model, write_gguf

import architecture
import capture
import forward
import trace_file
import verify
from bad_input import BadInput
from model_files import load_model

ABSENT = [name for name in ("torch", "transformers", "gguf", "safetensors") if importlib.util.find_spec(name) is None]
with_torch = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}; ./configure.py --setup test "
                                "--with-models brings them")


@pytest.fixture
def rng():
    return np.random.default_rng(20260)


def test_import_brings_in_nothing_heavy():
    code = "import sys, capture; print(sorted({'torch', 'gguf', 'transformers', 'safetensors'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=TRACES, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------- arithmetic

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
    assert np.array_equal(architecture.unpermute_rope_rows(stored, n_heads), w)
    ours = forward.rotate((x @ w.T).reshape(T, n_heads, d).swapaxes(0, 1), architecture.Rope(base, d))
    for h in range(n_heads):
        theirs = rope_of_neighbours((x @ stored.T)[:, h * d:(h + 1) * d], base)
        # cos and sin are float32: 2 * 2^-24 of elements that stay below 40
        np.testing.assert_allclose(ours[h], np.hstack([theirs[:, 0::2], theirs[:, 1::2]]), atol=5e-6)


@pytest.mark.parametrize("window", [13, 4, 1])
def test_attention_in_blocks_is_attention(rng, monkeypatch, window):
    monkeypatch.setattr(forward, "QUERY_BLOCK", 5)
    n_q, n_kv, T, d = 6, 2, 13, 8
    q, k, v = (rng.standard_normal((n, T, d)).astype(np.float32) for n in (n_q, n_kv, n_kv))
    out = forward.attention(q, k, v, 0.3, window)
    for h in range(n_q):
        for t in range(T):
            seen = slice(max(0, t - window + 1), t + 1)
            p = np.exp(0.3 * (k[h // 3, seen].astype(np.float64) @ q[h, t]))
            np.testing.assert_allclose(out[h, t], p @ v[h // 3, seen] / p.sum(), atol=2e-6)  # ~20 sums of size 1


def test_bfloat16_rounds_to_nearest_even():
    ulp = 2.0 ** -7  # at 1
    x = np.array([1, 1 + 0.5 * ulp, 1 + 0.51 * ulp, 1 + 1.5 * ulp, -1 - 0.49 * ulp], np.float32)
    bits = trace_file.store(x, "bf16", "x").astype(np.uint32) << 16
    np.testing.assert_array_equal(bits.view(np.float32), [1, 1, 1 + ulp, 1 + 2 * ulp, -1])


def test_values_beyond_float16_are_refused():
    with pytest.raises(BadInput, match=r"layers\.3\.k reaches 7e\+04"):
        trace_file.store(np.array([1, 7e4], np.float32), "f16", "layers.3.k")


def test_positions():
    runs = capture.plan_positions([40, 10], 3, None, 43)
    assert runs.tolist() == [10, 11, 12, 40, 41, 42] and runs.dtype == np.int64
    assert capture.plan_positions(None, 2, 8, 8).tolist() == [6, 7]


def test_the_recorded_command_names_no_folder():
    argv = ["--model=/some/where/m.gguf", "--text", "/some/where/a=b/t.txt", "--out", "../o", "--text-source", "x=y"]
    assert (capture.command_line(capture.parse_args(argv), argv)
            == "traces/model/capture.py --model=m.gguf --text t.txt --out o --text-source x=y")


# ---------------------------------------------------------------- refusals

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


@pytest.mark.parametrize("steps_at, n_steps, context, sentence", [
    ([8, 10], 3, None, r"--steps-at 8,10: the 3 steps from 8 run into those from 10"),
    ([62], 3, None, r"the last captured position is 64, but the model's context ends at 63"),
    (None, 9, 8, r"--n-steps 9 from position -1"),
    (None, 0, 8, r"--n-steps 0 from position 8"),
])
def test_impossible_positions_are_refused(steps_at, n_steps, context, sentence):
    with pytest.raises(BadInput, match=sentence):
        capture.plan_positions(steps_at, n_steps, context, 64)


# ---------------------------------------------------------------- the bundled trace

@pytest.fixture(scope="module")
def bundled():
    return trace_file.read_trace(BUNDLED)


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
    worst, ratio = verify.check_outputs(few, layers, scale, "f16")
    assert 0 < worst < 0.02 and 0 < ratio <= 1
    # The same check has to notice a wrong scale, a query of another step, a NaN, and V of another head.
    assert verify.check_outputs(few, layers, scale * 1.1, "f16")[1] > 1
    shifted = few | {f"layers.{i}.q": np.roll(few[f"layers.{i}.q"], 1, axis=0) for i in layers}
    assert verify.check_outputs(shifted, layers, scale, "f16")[1] > 1
    broken = few | {"layers.14.o": np.where(np.arange(64) == 3, np.nan, few["layers.14.o"])}
    assert not verify.check_outputs(broken, layers, scale, "f16")[1] <= 1
    swapped = few | {f"layers.{i}.v": few[f"layers.{i}.v"][::-1] for i in layers}
    assert verify.check_outputs(swapped, layers, scale, "f16")[1] > 1


# ---------------------------------------------------------------- small models, the whole way

TEXT = "In the beginning God created the heaven and the earth. And the earth was"


@pytest.fixture(params=["llama", "gemma3"])
def folder(request, tmp_path):
    """A folder with bfloat16 weights and a tokeniser of single bytes in model/, and a text beside it."""
    save_folder(tiny_model(request.param).bfloat16(), tmp_path / "model")
    (tmp_path / "text").write_text(TEXT)
    return tmp_path


def run_capture(folder, *more, model="model"):
    return capture.main(["--model", str(folder / model), "--text", str(folder / "text"), "--layers", "1",
                         "--out", str(folder / "out"), "--steps-at", "20,40", "--n-steps", "3", *more])


@with_torch
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_capture_of_a_folder_agrees_with_transformers(folder, capsys, dtype):
    assert run_capture(folder, "--dtype", dtype) == 0
    assert "against transformers" in capsys.readouterr().out
    metadata, t = trace_file.read_trace(folder / "out")
    assert metadata["model"] == "model" and metadata["text_source"] == "text"
    assert t["positions"].tolist() == [20, 21, 22, 40, 41, 42] and t["tokens"].shape == (43,)
    assert t["layers.1.k"].shape == (2, 43, 64) and t["layers.1.q"].shape == t["layers.1.o"].shape == (6, 4, 64)


@with_torch
@pytest.mark.parametrize("name, arch", [("llama 3", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")])
def test_capture_of_a_gguf_file_agrees_with_transformers_and_the_program_reads_it(tmp_path, adamas, capsys, name, arch):
    model = tiny_model(name)
    write_gguf(model, tmp_path / "model.gguf", arch)
    (tmp_path / "text").write_text(TEXT.replace("th", "sh"))
    assert run_capture(tmp_path, model="model.gguf") == 0, capsys.readouterr().err
    assert "logits of 43 tokens against transformers" in capsys.readouterr().out
    metadata, t = trace_file.read_trace(tmp_path / "out")
    assert t["tokens"].tolist() == [1 + b for b in TEXT.replace("th", "sh").encode()[:43]]  # see write_tokeniser()
    assert metadata["rope_base"] == repr(1e4)
    assert adamas("trace", "verify", "out").code == 0


@with_torch
def test_one_capture_has_one_content(folder):
    assert run_capture(folder, "--no-verify") == 0
    first = (folder / "out").read_bytes()
    assert run_capture(folder, "--no-verify") == 0
    assert (folder / "out").read_bytes() == first


@with_torch
def test_a_byte_order_mark_is_no_part_of_the_text(folder):
    assert run_capture(folder, "--no-verify") == 0
    plain = trace_file.read_trace(folder / "out")[1]["tokens"]
    (folder / "text").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert run_capture(folder, "--no-verify") == 0
    assert trace_file.read_trace(folder / "out")[1]["tokens"].tolist() == plain.tolist()
    assert plain.tolist() == [1 + b for b in TEXT.encode()[:43]]


@with_torch
def test_a_wrong_forward_pass_leaves_no_file(folder, capsys, monkeypatch):
    rotate = forward.rotate
    monkeypatch.setattr(forward, "rotate", lambda x, rope: rotate(x, architecture.Rope(2 * rope.base, rope.n_rotated)))
    assert run_capture(folder) == 4
    assert "check failed: the forward pass is not the model's" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["model", "text"]


@with_torch
def test_a_text_too_short_and_a_layer_that_is_not_there(folder, capsys):
    (folder / "text").write_text("In the beginning")
    assert run_capture(folder) == 2
    assert "has 16 tokens, and 43 are needed" in capsys.readouterr().err
    assert run_capture(folder, "--layers", "0,7") == 2
    assert "that see all of 43 tokens are" in capsys.readouterr().err


@with_torch
def test_a_window_is_no_hindrance_within_it(tmp_path, capsys):
    save_folder(tiny_model("mistral, windowed"), tmp_path / "model")  # 40 tokens
    (tmp_path / "text").write_text(TEXT)
    assert run_capture(tmp_path) == 2
    assert "every layer of model sees at most 40 tokens" in capsys.readouterr().err
    assert run_capture(tmp_path, "--steps-at", "37") == 0, capsys.readouterr().err
    assert trace_file.read_trace(tmp_path / "out")[1]["tokens"].shape == (40,)
    assert load_model(tmp_path / "model").windows == (40, 40, 40)
