"""traces/model/evaluate.py and sparse_lm.py on small random models: decoding with everything selected is dense attention,
and the whole tool runs through.

Skipped where the packages of traces/model/requirements.txt are absent; `tests/run.py --with-models` runs it.
"""
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import MODELS, save_folder, skip_module_without_models, tiny_model, write_gguf

from conftest import ROOT, query

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
import evaluate
import forward
from library import Library

LIBRARY = ROOT / "build/release/libadamas.so"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama with heads of 64, in float32, and a tokeniser of single bytes."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    save_folder(tiny_model("llama", num_hidden_layers=4, num_attention_heads=6, head_dim=64, hidden_size=48,
                           max_position_embeddings=2048), path)
    return path


@pytest.fixture(scope="module")
def decoder(folder):
    """(model, library, tokens, cache after all of them, their hidden states)"""
    import torch

    import sparse_lm
    torch.set_grad_enabled(False)
    model = sparse_lm.Model(folder)
    tokens = torch.from_numpy(np.random.default_rng(5).integers(0, 256, 200))
    cache = model.new_cache(len(tokens))
    return model, Library(LIBRARY), tokens, cache, model.prefill(tokens, cache, keep_drawn_at=(1, 64, 150))


def test_prefill_is_the_forward_pass_of_the_capture_tool(decoder):
    model, _, tokens, _, hidden = decoder
    expected = forward.forward_logits(model.m, tokens.numpy(), len(tokens))
    # both float32, in other orders: see LOGITS_LIMIT in verify.py
    assert np.abs(model.logits(hidden).numpy() - expected).max() <= 1e-3 * np.sqrt(np.mean(expected ** 2))


def test_prefill_in_two_parts_and_block_by_block_is_one(decoder, monkeypatch):
    import sparse_lm
    model, _, tokens, whole, hidden = decoder
    monkeypatch.setattr(sparse_lm, "PREFILL_BLOCK", 16)
    cache = model.new_cache(len(tokens))
    model.prefill(tokens[:64], cache, keep_drawn_at=(64,))
    last = model.prefill(tokens[64:], cache, keep_drawn_at=(150,))
    np.testing.assert_allclose(last, hidden[64:], rtol=1e-3, atol=1e-3 * float(hidden.abs().max()))
    np.testing.assert_allclose(cache.k, whole.k, rtol=1e-3, atol=1e-3 * float(whole.k.abs().max()))
    for n in (64, 150):
        np.testing.assert_allclose(cache.drawn[n], whole.drawn[n], rtol=1e-2, atol=1e-2)


def test_every_token_draws_what_queries_pay(decoder):
    """Each query pays one in all, each token less than the queries that see it, and of layer 0 all is known from K and Q."""
    model, _, tokens, cache, _ = decoder
    for n, drawn in cache.drawn.items():
        assert tuple(drawn.shape) == (4, 6, n)
        np.testing.assert_allclose(drawn.sum(-1), n, rtol=1e-5)
        assert (drawn.numpy() <= np.arange(n, 0, -1) + 1e-4).all()
    m = model.m
    x = forward.rms_norm(forward.embed(m, tokens.numpy()), m.weight("attn_norm", 0), m.eps)
    q = forward.rotate((x @ m.weight("attn_q", 0).T).reshape(len(x), 6, 64).swapaxes(0, 1), m.rope)[:, :64]
    scores = q @ np.repeat(cache.k[0, :, :64].numpy(), 3, 0).swapaxes(1, 2) * m.softmax_scale
    scores[:, np.triu(np.ones((64, 64), bool), 1)] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(cache.drawn[64][0], (p / p.sum(-1, keepdims=True)).sum(1), atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_decodes_as_it_reads(tmp_path, name):
    """Prefill is the forward pass; steps that select everything are dense; layers with a window stay within it."""
    import torch

    import sparse_lm
    torch.set_grad_enabled(False)
    save_folder(tiny_model(name), tmp_path / "m")
    model, tokens = sparse_lm.Model(tmp_path / "m", n_dense_layers=1), np.random.default_rng(5).integers(0, 258, 120)
    expected = forward.forward_logits(model.m.for_tokens(len(tokens)), tokens, len(tokens))
    limit = 1e-3 * np.sqrt(np.mean(expected ** 2))
    cache = model.new_cache(len(tokens))
    hidden = model.prefill(torch.from_numpy(tokens), cache)
    assert np.abs(model.logits(hidden).numpy() - expected).max() <= limit
    few, all_of_them = model.decode(Library(LIBRARY), "adamas", [16, 256], cache, 100, torch.from_numpy(tokens[100:]))
    assert np.abs(all_of_them.numpy() - expected[100:]).max() <= limit
    has_a_choice = any(w == 0 for w in model.m.windows[1:])
    assert (np.abs(few.numpy() - expected[100:]).max() > 10 * limit) == has_a_choice


@pytest.mark.parametrize("policy", ["dense", "oracle", "adamas", "adamas:metric=dot,bits=3,thresholds=channel,select=group",
                                    "adamas:hadamard=off", "quest", "streaming", "h2o", "h2o:select=group", "accumulated",
                                    "random"])
def test_decoding_with_all_tokens_selected_is_dense(decoder, policy):
    model, library, tokens, cache, hidden = decoder
    before = cache.k.clone(), cache.v.clone()
    logits = model.decode(library, policy, [32, 256], cache, 150, tokens[150:])
    dense = model.logits(hidden[150:])
    assert tuple(logits.shape) == (2, 50, 258)
    limit = 1e-3 * float(dense.square().mean().sqrt())
    assert float((logits[1] - dense).abs().max()) <= limit
    assert policy == "dense" or float((logits[0] - dense).abs().max()) > 10 * limit  # 32 of 200 tokens make a difference
    assert cache.k.equal(before[0]) and cache.v.equal(before[1])


def test_steps_see_no_step_behind_them(decoder):
    model, library, tokens, cache, _ = decoder
    for policy in ("adamas", "quest", "h2o", "accumulated"):
        many = model.decode(library, policy, [32], cache, 150, tokens[150:170])
        few = model.decode(library, policy, [32], cache, 150, tokens[150:155])
        np.testing.assert_allclose(many[:, :5], few, atol=1e-3)


def test_the_whole_tool_on_a_tiny_model(folder, tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"{name} In the beginning God created the heaven and the earth. " * 9)
    command = ["--model", str(folder), "--text", str(tmp_path / "a.txt"), "--text", str(tmp_path / "b.txt"),
               "--text-source", "the first", "--db", str(tmp_path / "e.db"),
               "--context", "64", "--blocks", "2", "--block-tokens", "8", "--budgets", "16,512", "--passkeys", "1",
               "--passkey-context", "512", "--passkey-budgets", "16", "--policies",
               "adamas;quest;streaming;h2o;accumulated;random;oracle"]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "perplexity of 32 tokens" in out and "passkeys found of 5" in out
    rows = query(tmp_path / "e.db", "SELECT trace, policy, variant, budget, metric, n, mean FROM quality_summary")
    assert {r[0] for r in rows} == {"a.txt", "b.txt", "2 texts", "passkey",
                                    *(f"passkey at {p}%" for p in (10, 30, 50, 70, 90))}
    assert {r[1:3] for r in rows} == {("dense", "exact"), ("oracle", "exact"), ("adamas", "l1 calibrated"),
                                      ("quest", "pages of 16"), ("streaming", "4 sinks"), ("h2o", "half recent, evicting"),
                                      ("accumulated", "half recent"),
                                      ("random", "seed 1")}
    ratios = {r[:4]: r[6] for r in rows if r[4] == "perplexity_ratio"}
    for (_, policy, _, budget), ratio in ratios.items():
        assert budget == 16 or ratio == pytest.approx(1, abs=1e-4), policy
    assert any(abs(ratio - 1) > 1e-2 for ratio in ratios.values())
    kinds = dict(query(tmp_path / "e.db", "SELECT name, kind FROM trace"))
    assert kinds["2 texts"] == "real" and kinds["passkey"] == "synthetic"
    source = query(tmp_path / "e.db", "SELECT metadata FROM trace WHERE name = 'a.txt'")[0][0]
    assert '"text_source": "the first"' in source


def test_a_calibration_codes_each_layer_as_its_file_says(decoder, tmp_path):
    """Layers 2 and 3 select by themselves; the calibration's logits are those of neither policy alone."""
    import json

    import torch

    from calibration import Calibration
    model, library, tokens, cache, _ = decoder
    names = {2: ("asym4", "scaled:0.8"), 3: ("l1", "calibrated")}
    (tmp_path / "c.json").write_text(json.dumps({
        "format": "adamas-calibration/1", "shape": {"n_q_heads": 6, "n_kv_heads": model.m.n_kv_heads, "head_dim": 64},
        "default": {"metric": "dot", "thresholds": "centred"},
        "layers": [{"layer": layer, "metric": metric, "thresholds": t} for layer, (metric, t) in names.items()]}))
    calibration = Calibration(tmp_path / "c.json")
    calibration.check(model.m, "any")
    assert library.variant(calibration, 6, model.m.n_kv_heads, 64, 1) == calibration.variant

    def decode(policy):
        return model.decode(library, policy, [16], cache, 150, tokens[150:170])

    by_layer = ["adamas:metric=asym4,thresholds=scaled:0.8", "adamas:metric=l1,thresholds=calibrated"]
    opened, original = [], library.open
    library.open = lambda policy, *rest: opened.append(policy) or original(policy, *rest)
    try:
        own = decode(calibration)
    finally:
        library.open = original
    assert opened == ["dense", "dense", *by_layer]
    assert torch.isfinite(own).all()
    for policy in by_layer:
        assert (own != decode(policy)).any()


@pytest.mark.parametrize("gguf", [False, True])
def test_a_single_text_gives_the_rows_of_that_text(folder, tmp_path, capsys, gguf):
    path = folder
    if gguf:
        path = tmp_path / "m.gguf"
        write_gguf(tiny_model("qwen2"), path, "qwen2")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"In she beginning God created she heaven and she earsh. " * 9)
    command = ["--model", str(path), "--text", str(tmp_path / "a.txt"), "--db", str(tmp_path / "e.db"), "--context", "64",
               "--blocks", "1", "--block-tokens", "4", "--budgets", "16", "--passkeys", "0", "--policies", "streaming"]
    for _ in range(2):
        assert evaluate.main(command) == 0, capsys.readouterr().err
    assert "perplexity of 4 tokens" in capsys.readouterr().out
    assert query(tmp_path / "e.db", "SELECT status FROM run") == [("complete",)] * 2
    assert query(tmp_path / "e.db", "SELECT name, file_bytes FROM trace") == [("a.txt", 55 * 9)]  # without its mark
    assert query(tmp_path / "e.db", "SELECT count(*) FROM quality_summary WHERE metric = 'nll' AND n = 4") == [(4,)]


@pytest.mark.parametrize("name, says", [
    ("gemma3 with vision", "tensors of its vision tower are left out"),
    ("phi3, LongRoPE", "69 tokens are at most the original context of 100, so all turn by the short factors")])
def test_what_a_user_should_know_of_the_model_is_said(tmp_path, capsys, name, says):
    save_folder(tiny_model(name), tmp_path / "m")
    (tmp_path / "a.txt").write_text("In the beginning God created the heaven and the earth. " * 9)
    assert evaluate.main(["--model", str(tmp_path / "m"), "--text", str(tmp_path / "a.txt"), "--db", str(tmp_path / "e.db"),
                          "--context", "64", "--blocks", "1", "--block-tokens", "4", "--budgets", "16", "--passkeys", "0",
                          "--policies", "streaming"]) == 0, capsys.readouterr().err
    assert says in capsys.readouterr().out


def test_what_was_finished_before_an_interruption_is_kept(folder, tmp_path, capsys, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"{name} In the beginning God created the heaven and the earth. " * 9)
    score, scored = evaluate.score_text, []

    def interrupted_in_the_second(model, library, ids, args, policies, note):
        if scored:
            raise KeyboardInterrupt
        scored.append(True)
        return score(model, library, ids, args, policies, note)

    monkeypatch.setattr(evaluate, "score_text", interrupted_in_the_second)
    command = ["--model", str(folder), "--text", str(tmp_path / "a.txt"), "--text", str(tmp_path / "b.txt"), "--db",
               str(tmp_path / "e.db"), "--context", "64", "--blocks", "1",
               "--block-tokens", "4", "--budgets", "16", "--passkeys", "0", "--policies", "streaming"]
    assert evaluate.main(command) == 130
    assert "interrupted" in capsys.readouterr().err
    assert query(tmp_path / "e.db", "SELECT status FROM run") == [("interrupted",)]
    assert {r[0] for r in query(tmp_path / "e.db", "SELECT trace FROM quality_summary")} == {"a.txt"}


def test_a_policy_or_text_that_will_not_do(folder, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("In the beginning")
    command = ["--model", str(folder), "--text", str(tmp_path / "short.txt"), "--db", str(tmp_path / "e.db"),
               "--passkeys", "0"]
    assert evaluate.main([*command, "--context", "64"]) == 2
    assert "has 16 tokens" in capsys.readouterr().err
    assert evaluate.main([*command, "--policies", "snapkv"]) == 2
    assert "'snapkv' is not known" in capsys.readouterr().err
    assert evaluate.main([*command, "--policies", "adamas:metric=l1+l2"]) == 2
    assert "it names 2 variants, and one is needed" in capsys.readouterr().err
    (tmp_path / "long.txt").write_text("In the beginning" * 999)
    assert evaluate.main([*command[:2], "--text", str(tmp_path / "long.txt"), *command[4:]]) == 2
    assert "was made for 2048" in capsys.readouterr().err
    assert evaluate.main([*command, "--text", str(tmp_path / "short.txt"), "--context", "64"]) == 2
    assert query(tmp_path / "e.db", "SELECT count(*) FROM run") == [(0,)]  # nothing began
