"""The Python package beside PyTorch, transformers and libraries of frames."""
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import BUNDLED, PROGRAM, ROOT

sys.path[:0] = [str(ROOT / "core/python"), str(ROOT / "tests/traces")]
from tiny_models import MODELS, SIZES, save_folder, skip_module_without_models

skip_module_without_models()
os.environ.setdefault("ADAMAS_LIBRARY", str(PROGRAM.parent / "libadamas.so"))
import adamas
import pandas
import polars
import pyarrow
import torch
import transformers
from adamas.table import Table


def model_of(name, attention="sdpa", dtype=torch.float32):
    kind, changes, _ = MODELS[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**SIZES | changes),
                                                          attn_implementation=attention).eval().to(dtype)
    model.generation_config.eos_token_id = None
    return model


def generate(model, **options):
    return model.generate(torch.arange(1, 101)[None], max_new_tokens=17, do_sample=False, **options)


@pytest.mark.parametrize("cache", [None, "static"], ids=["dynamic", "static"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name, n_layers", [("llama", 3), ("qwen3", 3), ("gemma3", 2)])
def test_a_captured_session_verifies(program, adamas_program, tmp_path, name, n_layers, attention, cache):
    model = model_of(name, attention)
    plain = generate(model, cache_implementation=cache)
    with adamas.capture(model, tmp_path / "mine.safetensors"):
        seen = generate(model, cache_implementation=cache)
    assert torch.equal(plain, seen), "capturing changed what the model says"
    assert model.config._attn_implementation == attention
    result = adamas_program("trace", "verify", "mine.safetensors")
    assert result.code == 0 and f"{16 * n_layers * 4} outputs recomputed" in result.out, result
    assert adamas_program("replay", "mine.safetensors", "--budgets", "16", "--quiet").code == 0


@pytest.fixture
def adamas_program(program, tmp_path):
    from conftest import Adamas
    return Adamas(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_models_own_type_is_kept(adamas_program, tmp_path, dtype):
    with adamas.capture(model := model_of("llama", dtype=dtype), tmp_path / "mine.safetensors", layers=[1]):
        generate(model)
    assert adamas_program("trace", "verify", "mine.safetensors").code == 0
    said = adamas_program("trace", "info", "mine.safetensors").out
    assert {torch.float16: "F16", torch.bfloat16: "BF16"}[dtype] in said and "positions 100-115" in said


@pytest.mark.parametrize("name, run, says", [
    ("mistral, windowed", generate, "every layer attends within a window"),
    ("llama", lambda model: None, "no decode step was seen"),
    ("llama", lambda model: model(torch.arange(1, 101)[None]), "no decode step was seen"),
    ("llama", lambda model: (generate(model), generate(model)), "a second prompt came"),
    ("llama", lambda model: model.generate(torch.ones(2, 50, dtype=torch.long), max_new_tokens=3), "2 at once")])
def test_what_makes_no_trace_says_why(tmp_path, name, run, says):
    model = model_of(name)
    with pytest.raises(ValueError, match=says), adamas.capture(model, tmp_path / "mine.safetensors"):
        run(model)
    assert list(tmp_path.iterdir()) == [] and model.config._attn_implementation == "sdpa"


def test_layers_that_are_not_there_or_windowed(tmp_path):
    for name, layers, says in (("llama", [1, 7], "no decode step of layer 7"),
                               ("gemma3", [0, 1], "layer 0 attends within a window")):
        with pytest.raises(ValueError, match=says), adamas.capture(model := model_of(name), tmp_path / "x", layers=layers):
            generate(model)


def test_attention_that_is_not_plain_is_found(tmp_path, monkeypatch):
    model = model_of("llama")
    real = transformers.AttentionInterface()["sdpa"]

    def doubled(*args, **options):
        output, weights = real(*args, **options)
        return 2 * output, weights
    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "sdpa", doubled)
    says = "layer 0 computes no plain softmax attention"
    with pytest.raises(ValueError, match=says), adamas.capture(model, tmp_path / "x"):
        generate(model)


# ---- tensors and frames ----------------------------------------------------------------------------------------------

def test_tensors_are_selected_on_in_place():
    from adamas import selection
    q, k = torch.randn(5, 4, 64), torch.randn(2, 300, 64, requires_grad=True)
    assert selection.as_float32(k, "k").ctypes.data == k.data_ptr()
    chosen = adamas.select(q, k, policy="adamas:metric=dot", budget=16)
    assert isinstance(chosen, torch.Tensor) and chosen.dtype == torch.int64
    assert np.array_equal(chosen, adamas.select(q.numpy(), k.detach().numpy(), policy="adamas:metric=dot", budget=16))
    half = adamas.select(q.bfloat16(), k.bfloat16(), policy="oracle", budget=16)
    assert torch.equal(half, adamas.select(q.bfloat16().float(), k.bfloat16().float(), policy="oracle", budget=16))


def test_frames_hold_the_tables_values_and_units():
    table = Table(["stage", "median", "n"], [("topk", 1.5, 3), ("step", None, 4)], {"median": "ns"})
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.attrs["units"] == {"median": "ns"} and frame["n"].tolist() == [3, 4]
    assert frame["median"].isna().tolist() == [False, True]
    arrow = table.to_arrow()
    assert arrow.schema.field("median").metadata == {b"unit": b"ns"} and arrow.schema.field("n").metadata is None
    assert table.to_polars().equals(polars.DataFrame(table)) and pyarrow.table(table).equals(arrow)


def test_the_pages_blocks_run(tmp_path, monkeypatch):
    """docs/python.md, block after block, on a model made here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:{os.environ['PATH']}")
    save_folder(model_of("llama"), tmp_path / "model")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
    assert len(blocks) == 3
    assert len(blocks[0].splitlines()) <= 9, "ten lines, with the one that installs, from a model to a plotted curve"
    names = {"MODEL": str(tmp_path / "model"), "TEXT": "a line of text " * 12, "LAYERS": [1, 2]}
    exec(blocks[0], names)
    assert len(names["curves"]) >= 3 and (tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")
    subprocess.run([PROGRAM, "replay", BUNDLED, "--budgets", "64", "--seq-lens", "1024", "--quiet"], check=True)
    for block in blocks[1:]:
        exec(block, {})
