"""traces/model/capture.py: its arithmetic against plain references, its refusals, and the trace that is bundled.

NumPy alone is needed. test_capture_models.py runs the whole tool.
"""
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
from tiny_models import interleave

import architecture
import capture
import forward
import trace_file
import verify
from bad_input import BadInput


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
