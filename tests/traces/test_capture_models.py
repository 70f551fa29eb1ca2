"""traces/model/capture.py on small random models: the whole tool with its comparison with transformers.

Skipped where the packages of traces/model/requirements.txt are absent; `tests/run.py --with-models` runs it.
"""
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_folder, skip_module_without_models, tiny_model, write_gguf

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
import architecture
import capture
import forward
import trace_file
import verify
from model_files import load_model

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


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_capture_of_a_folder_agrees_with_transformers(folder, capsys, dtype):
    assert run_capture(folder, "--dtype", dtype) == 0
    assert "against transformers" in capsys.readouterr().out
    metadata, t = trace_file.read_trace(folder / "out")
    assert metadata["model"] == "model" and metadata["text_source"] == "text"
    assert t["positions"].tolist() == [20, 21, 22, 40, 41, 42] and t["tokens"].shape == (43,)
    assert t["layers.1.k"].shape == (2, 43, 64) and t["layers.1.q"].shape == t["layers.1.o"].shape == (6, 4, 64)


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


def test_one_capture_has_one_content(folder):
    assert run_capture(folder, "--no-verify") == 0
    first = (folder / "out").read_bytes()
    assert run_capture(folder, "--no-verify") == 0
    assert (folder / "out").read_bytes() == first


def test_a_byte_order_mark_is_no_part_of_the_text(folder):
    assert run_capture(folder, "--no-verify") == 0
    plain = trace_file.read_trace(folder / "out")[1]["tokens"]
    (folder / "text").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert run_capture(folder, "--no-verify") == 0
    assert trace_file.read_trace(folder / "out")[1]["tokens"].tolist() == plain.tolist()
    assert plain.tolist() == [1 + b for b in TEXT.encode()[:43]]


def test_a_wrong_forward_pass_leaves_no_file(folder, capsys, monkeypatch):
    rotate = forward.rotate
    monkeypatch.setattr(forward, "rotate", lambda x, rope: rotate(x, architecture.Rope(2 * rope.base, rope.n_rotated)))
    assert run_capture(folder) == 4
    assert "check failed: the forward pass is not the model's" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["model", "text"]


def test_a_text_too_short_and_a_layer_that_is_not_there(folder, capsys):
    (folder / "text").write_text("In the beginning")
    assert run_capture(folder) == 2
    assert "has 16 tokens, and 43 are needed" in capsys.readouterr().err
    assert run_capture(folder, "--layers", "0,7") == 2
    assert "that see all of 43 tokens are" in capsys.readouterr().err


def test_a_window_is_no_hindrance_within_it(tmp_path, capsys):
    save_folder(tiny_model("mistral, windowed"), tmp_path / "model")  # 40 tokens
    (tmp_path / "text").write_text(TEXT)
    assert run_capture(tmp_path) == 2
    assert "every layer of model sees at most 40 tokens" in capsys.readouterr().err
    assert run_capture(tmp_path, "--steps-at", "37") == 0, capsys.readouterr().err
    assert trace_file.read_trace(tmp_path / "out")[1]["tokens"].shape == (40,)
    assert load_model(tmp_path / "model").windows == (40, 40, 40)


@pytest.mark.parametrize("gguf", [False, True])
def test_a_long_session_turns_by_the_long_factors_from_its_first_token(tmp_path, capsys, monkeypatch, gguf):
    """LongRoPE: the check's reference reads fewer tokens than the session has, by which it would take the short ones."""
    model = tiny_model("phi3, LongRoPE")  # an original context of 100 tokens
    save_folder(model, tmp_path / "model")
    if gguf:
        shutil.rmtree(tmp_path / "model")
        write_gguf(model, tmp_path / "model", "phi3")
    (tmp_path / "text").write_text(TEXT.replace("th", "sh") * 9)
    monkeypatch.setattr(verify, "CHECK_TOKENS", 64)
    captured = []
    for steps_at, says in (("97", "100 tokens are at most the original context of 100"),
                           ("150", "153 tokens are more than the original context of 100, so all turn by the long factors")):
        assert run_capture(tmp_path, "--steps-at", steps_at) == 0, capsys.readouterr().err
        assert says in capsys.readouterr().out
        captured.append(trace_file.read_trace(tmp_path / "out")[1]["layers.1.k"].astype(np.float32)[:, 1:50])
    short, long = captured
    assert np.linalg.norm(short - long) > 0.1 * np.linalg.norm(short)
    monkeypatch.setattr(verify, "keep_to_long_rope", lambda reference: None)
    assert run_capture(tmp_path, "--steps-at", "150") == 4
    assert "check failed" in capsys.readouterr().err


def test_a_vision_tower_is_left_out_and_named(tmp_path, capsys):
    save_folder(tiny_model("gemma3 with vision"), tmp_path / "model")
    (tmp_path / "text").write_text(TEXT)
    assert run_capture(tmp_path, "--layers", "1") == 0, capsys.readouterr().err
    assert "the 50 tensors of its vision tower are left out: no text reaches them" in capsys.readouterr().out
