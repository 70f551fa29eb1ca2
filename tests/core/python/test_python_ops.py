"""torch.ops.adamas and adamas.attend(): against plain PyTorch, under torch.compile, and in a model.
tests/bench/torch_gpu.py checks the same on a GPU."""
import os
import re
import shutil
import sys

import pytest

from conftest import PROGRAM, ROOT

sys.path[:0] = [str(ROOT / "core/python"), str(ROOT / "tests/traces")]
from tiny_models import MODELS, SIZES, save_folder, skip_module_without_models

skip_module_without_models()
os.environ.setdefault("ADAMAS_LIBRARY", str(PROGRAM.parent / "libadamas.so"))
import adamas
import adamas.ops
import torch
import transformers
from adamas.attending import hadamard, learn_thresholds

THRESHOLDS = [-3.0, 0.5, 2.0]


def channels_of(n_kv=2, d=64, seed=5):
    """Of asym4: whole thresholds between the values that transformed whole numbers have, and scales of powers of two."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.randint(-3, 4, (n_kv, d), generator=g) + 0.03
    return torch.stack([centre - 4, centre, centre + 4, 2.0 ** torch.randint(-2, 3, (n_kv, d), generator=g)], 1).contiguous()


def arguments(batch=2, n_q=6, n_kv=2, capacity=96, d=64, dtype=torch.float32, lengths=(96, 41), seed=0, **by):
    """A step's tensors. Small whole numbers, so that the transform is exact in any order of summation."""
    g = torch.Generator().manual_seed(seed)

    def whole(*shape):
        return torch.randint(-6, 7, shape, generator=g).to(dtype)
    k, v = whole(batch, n_kv, capacity, d), whole(batch, n_kv, capacity, d)
    length = torch.tensor(lengths, dtype=torch.int32)
    codes = torch.zeros(batch, n_kv, capacity, d // 4, dtype=torch.uint8)
    torch.ops.adamas.encode(k, codes, length - 1, THRESHOLDS, **by)
    return [whole(batch, n_q, d), whole(batch, n_kv, d), whole(batch, n_kv, d), k, v, codes, length, 16, THRESHOLDS]


def asym4_distance(q, keys, channels):
    """[tokens], by the definition in core/contract/asym4.h, in PyTorch."""
    t, scale, h = channels[:3], channels[3], hadamard(q.shape[-1])
    code = ((keys.float() @ h)[:, None] > t).sum(1)
    w = (q.float() @ h) * scale
    x = w * (2048 / w.abs().max())
    tried = [(x * (torch.tensor(1.0) / step)).round().clamp(-8, 7) for step in (292, 272, 252, 232, 212, 192)]
    errors = [int(((x.round() - step * y) ** 2).sum()) for step, y in zip((292, 272, 252, 232, 212, 192), tried)]
    best = tried[errors.index(min(errors))].int()
    return 3 * best.clamp(min=0).sum() - (code * best).sum(-1)


def expected(q, k_new, v_new, k, v, codes, length, budget, thresholds, scale=None, sinks=0, recent=1, select="head",
             metric="l1", channels=None):
    """(output, tokens) by the definition, in plain PyTorch. The caches of the caller stay as they are."""
    out, group = torch.zeros_like(q, dtype=torch.float64), q.shape[1] // k.shape[1]
    tokens = {}
    t = torch.tensor(thresholds, dtype=torch.float32)

    def code(x):
        return (((x.float() @ hadamard(x.shape[-1]))[..., None] > t).sum(-1))
    for b, n in enumerate(length.tolist()):
        for h in range(q.shape[1]):
            keys, values = k[b, h // group].clone(), v[b, h // group].clone()
            keys[n - 1], values[n - 1] = k_new[b, h // group], v_new[b, h // group]
            heads = range(h // group * group, (h // group + 1) * group) if select == "group" else [h]
            if metric == "asym4":
                distance = sum(asym4_distance(q[b, g], keys[:n], channels[h // group]) for g in heads)
            else:
                distance = sum((code(keys[:n]) - code(q[b, g])).abs().sum(-1) for g in heads)
            forced = [j < sinks or j >= n - recent for j in range(n)]
            order = sorted(range(n), key=lambda j: (not forced[j], int(distance[j]), -j))
            chosen = sorted(order[:budget])
            tokens[b, h] = chosen
            scores = keys[chosen].double() @ q[b, h].double() * (q.shape[-1] ** -0.5 if scale is None else scale)
            out[b, h] = scores.softmax(0) @ values[chosen].double()
    return out, tokens


@pytest.mark.parametrize("options", [{}, {"select": "group", "sinks": 2, "recent": 3}, {"scale": 0.03}])
@pytest.mark.parametrize("d, dtype", [(64, torch.float32), (256, torch.bfloat16), (64, torch.float16)])
def test_a_step_is_its_definition(d, dtype, options):
    args = arguments(d=d, dtype=dtype)
    want, chosen = expected(*args, **options)
    rows = 2 if options.get("select") == "group" else 6
    tokens = torch.full((2, rows, 16), -1, dtype=torch.int32)
    out = torch.ops.adamas.step(*args, **options, tokens=tokens)
    assert out.dtype == dtype and (out - want).norm() / want.norm() < {4: 1e-6, 2: 4e-3}[dtype.itemsize]
    for (b, h), row in chosen.items():
        assert tokens[b, h * rows // 6].tolist() == row
    for b, n in enumerate(args[6].tolist()):
        assert torch.equal(args[3][b, :, n - 1], args[1][b]) and torch.equal(args[4][b, :, n - 1], args[2][b])


@pytest.mark.parametrize("options", [{}, {"select": "group", "sinks": 2, "recent": 3}])
@pytest.mark.parametrize("d, dtype", [(64, torch.float32), (256, torch.bfloat16), (128, torch.float16)])
def test_a_step_by_asym4_is_its_definition(d, dtype, options):
    by = {"metric": "asym4", "channels": channels_of(d=d)}
    args = arguments(d=d, dtype=dtype, **by)
    want, chosen = expected(*args, **options, **by)
    rows = 2 if options.get("select") == "group" else 6
    tokens = torch.full((2, rows, 16), -1, dtype=torch.int32)
    out = torch.ops.adamas.step(*args, **options, **by, tokens=tokens)
    assert (out - want).norm() / want.norm() < {4: 1e-6, 2: 4e-3}[dtype.itemsize]
    for (b, h), row in chosen.items():
        assert tokens[b, h * rows // 6].tolist() == row
    assert chosen != expected(*args, **options)[1], "l1 selects the same: this says nothing"


def test_a_budget_above_the_length_is_dense():
    args = arguments(lengths=(50, 50))
    args[7] = 96
    tokens = torch.full((2, 6, 96), -1, dtype=torch.int32)
    out = torch.ops.adamas.step(*args, tokens=tokens)
    dense = torch.nn.functional.scaled_dot_product_attention(args[0][:, :, None], args[3][:, :, :50], args[4][:, :, :50],
                                                             enable_gqa=True)[:, :, 0]
    assert torch.allclose(out, dense, atol=1e-5) and tokens[0, 0].tolist() == [*range(50), *[-1] * 46]


def test_pytorchs_own_checks_of_an_operator():
    """Schema, what is mutated, fake kernel, and both together under tracing."""
    args = arguments()
    tokens = torch.zeros(2, 6, 16, dtype=torch.int32)
    torch.library.opcheck(torch.ops.adamas.step.default, tuple(args), {"tokens": tokens})
    torch.library.opcheck(torch.ops.adamas.encode.default, (args[3], args[5], args[6], THRESHOLDS))
    by = {"metric": "asym4", "channels": channels_of()}
    torch.library.opcheck(torch.ops.adamas.step.default, tuple(arguments(**by)), {"tokens": tokens, **by})
    torch.library.opcheck(torch.ops.adamas.encode.default, (args[3], args[5], args[6], THRESHOLDS), by)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.skipif(
    shutil.which("g++") is None, reason="no g++, with which PyTorch compiles"))])
@pytest.mark.parametrize("metric", ["l1", "asym4"])
def test_compiled_is_the_same(backend, metric):
    by = {"metric": metric, "channels": channels_of() if metric == "asym4" else None}

    def model(q, k_new, v_new, k, v, codes, length):
        return torch.ops.adamas.step(2 * q, k_new, v_new, k, v, codes, length, 16, THRESHOLDS, **by) + 1
    args, again = arguments(**by)[:7], arguments(**by)[:7]
    out = torch.compile(model, backend=backend, fullgraph=True)(*args)
    assert torch.equal(out, model(*again)) and all(torch.equal(a, b) for a, b in zip(args, again))


@pytest.mark.parametrize("at, change, says", [
    (0, lambda q: q[0], r"q is \[6, 64\]"), (0, lambda q: q.half(), "torch.float16 on cpu"),
    (1, lambda x: x[:, :1], r"k_new is \[2, 1, 64\]"), (2, lambda x: x.mT.contiguous().mT, "v_new is not"),
    (3, lambda k: k.int(), "k is .* of torch.int32"), (4, lambda v: v[..., :32], r"v is \[2, 2, 96, 32\]"),
    (5, lambda c: c.int(), "codes is .* of torch.int32"), (6, lambda n: n.long(), "length is .* of torch.int64"),
    (6, lambda n: n + 1, "sequence 0 has 97 tokens, and the cache has room for 96"), (7, lambda _: 0, "budget=0"),
    (8, lambda _: [1.0], "1 thresholds")])
def test_what_is_wrong_is_said(at, change, says):
    args = arguments()
    args[at] = change(args[at])
    with pytest.raises(ValueError, match=says):
        torch.ops.adamas.step(*args)


def test_options_that_are_wrong_are_said():
    for options, says in (({"select": "all"}, "select='all'"), ({"sinks": 16}, "budget"),
                          ({"tokens": torch.zeros(2, 6, 8, dtype=torch.int32)}, r"tokens is \[2, 6, 8\]"),
                          ({"metric": "dot"}, "metric='dot'"), ({"metric": "asym4"}, "without channels"),
                          ({"channels": channels_of()}, "metric='l1' with channels"),
                          ({"metric": "asym4", "channels": channels_of(d=128)}, r"channels is \[2, 4, 128\]")):
        with pytest.raises(ValueError, match=says):
            torch.ops.adamas.step(*arguments(), **options)


# ---- a model -----------------------------------------------------------------------------------------------------------

def model_of(name, attention="sdpa"):
    kind, changes, _ = MODELS[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**SIZES | changes),
                                                          attn_implementation=attention).eval()
    model.generation_config.eos_token_id = None
    return model


def generate(model, cache=None, n=12):
    return model.generate(torch.arange(1, 101)[None], max_new_tokens=n, do_sample=False, past_key_values=cache)


def static(model, n=128):
    return transformers.StaticCache(config=model.config, max_cache_len=n)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_a_model_with_the_whole_budget_says_what_it_says(name, attention):
    model = model_of(name, attention)
    plain = generate(model)
    with adamas.attend(model, budget=128, dense_layers=0):
        assert torch.equal(generate(model, static(model)), plain)
    assert model.config._attn_implementation == attention


def test_a_model_attends_to_what_the_policy_selects(monkeypatch):
    """The tokens of every step are those of adamas.select() with the thresholds learnt from the prompt."""
    model, seen = model_of("llama"), []
    real = torch.ops.adamas.step

    def step(q, k_new, v_new, k, v, codes, length, budget, thresholds, *args, **options):
        tokens = torch.zeros(1, 4, budget, dtype=torch.int32)
        out = real(q, k_new, v_new, k, v, codes, length, budget, thresholds, *args, **options, tokens=tokens)
        seen.append((q[0].clone(), k[0, :, :length].clone(), thresholds, tokens[0].clone()))
        return out
    monkeypatch.setattr(torch.ops.adamas, "step", step)
    with adamas.attend(model, budget=24, dense_layers=1):
        generate(model, static(model), 5)
    assert len(seen) == 4 * 2
    for q, k, thresholds, tokens in seen:
        policy = "adamas:thresholds=fixed:" + ",".join(f"{t:.9g}" for t in thresholds)
        assert adamas.select(q, k, policy=policy, budget=24).tolist() == tokens.tolist()


def test_thresholds_are_those_of_the_policy():
    from adamas import selection
    k = torch.randn(2, 301, 64)
    learnt = "adamas:thresholds=fixed:" + ",".join(f"{t:.9g}" for t in learn_thresholds(k[:, :300]))
    q = torch.randn(4, 64)
    assert torch.equal(selection.select(q, k, policy=learnt, budget=32), selection.select(q, k, policy="adamas", budget=32))


def test_a_model_attends_by_asym4_to_what_the_policy_selects(monkeypatch):
    """The channels are learnt from the prompt as the policy learns them: of a prompt and one more key."""
    model, seen = model_of("llama"), []
    real = torch.ops.adamas.step

    def step(q, k_new, v_new, k, v, codes, length, budget, thresholds, *args, **options):
        tokens = torch.zeros(1, 4, budget, dtype=torch.int32)
        out = real(q, k_new, v_new, k, v, codes, length, budget, thresholds, *args, **options, tokens=tokens)
        seen.append((q[0].clone(), k[0, :, :length].clone(), tokens[0].clone()))
        return out
    monkeypatch.setattr(torch.ops.adamas, "step", step)
    with adamas.attend(model, budget=24, dense_layers=1, metric="asym4"):
        generate(model, static(model), 2)
    assert len(seen) == 2
    for q, k, tokens in seen:
        assert adamas.select(q, k, policy="adamas:metric=asym4", budget=24).tolist() == tokens.tolist()


@pytest.mark.parametrize("metric", ["l1", "asym4"])
def test_a_compiled_model_says_the_same(metric):
    model = model_of("llama")
    with adamas.attend(model, budget=32, metric=metric):
        plain = generate(model, static(model))
        model.forward = torch.compile(model.forward, backend="aot_eager")
        assert torch.equal(generate(model, static(model)), plain)


@pytest.mark.parametrize("run, says", [
    (lambda m: generate(m), "StaticCache"), (lambda m: generate(m, static(m, 130)), "room for 130 tokens"),
    (lambda m: m.generate(torch.ones(2, 40, dtype=torch.long), attention_mask=torch.tensor([[0] * 5 + [1] * 35, [1] * 40]),
                          max_new_tokens=3, past_key_values=static(m)), "padded")])
def test_what_cannot_be_attended_says_why(run, says):
    model = model_of("llama")
    with pytest.raises(ValueError, match=says), adamas.attend(model, budget=32):
        run(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_budget_below_the_forced_tokens_is_refused():
    with pytest.raises(ValueError, match="budget is 3"), adamas.attend(model_of("llama"), budget=3, sinks=4):
        pass


def test_the_pages_blocks_run(tmp_path, monkeypatch):
    """docs/pytorch.md, block after block, on a model made here."""
    monkeypatch.chdir(tmp_path)
    model = model_of("llama")
    save_folder(model, tmp_path / "model")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pytorch.md").read_text(), re.S)
    assert len(blocks) == 3
    names = {"MODEL": str(tmp_path / "model"), "TEXT": "a line of text " * 12, "DEVICE": "cpu"}
    for block in blocks:
        exec(block, names)
    assert names["out"].shape == (1, 8, 64) and names["said"].shape[1] > names["prompt"].shape[1]
