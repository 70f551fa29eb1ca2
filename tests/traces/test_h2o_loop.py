"""H2O in the model's loop: what a layer attends to is what an independent NumPy version keeps, and what a replay measures.

The decode steps of a small random model run under h2o. One layer's queries, keys and values are recorded on their way, the
prompt's queries too, and written as a trace. Skipped where the packages of traces/model/requirements.txt are absent.
"""
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_folder, skip_module_without_models, tiny_model

from conftest import ROOT, Adamas, header_of, query, safetensors_bytes

skip_module_without_models()

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))
from library import Library, Sparse

N_PROMPT, N_STEPS, LAYER, N_HEADS, GROUP = 150, 64, 2, 6, 3
BUDGETS = [16, 33, 100, 150, 300]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """{(policy, budget): (q, k, v, out)} of the layer, all tokens' queries first; and the softmax scale."""
    import torch

    import sparse_lm
    torch.set_grad_enabled(False)
    path = tmp_path_factory.mktemp("h2o") / "model"
    save_folder(tiny_model("llama", num_hidden_layers=4, num_attention_heads=N_HEADS, head_dim=64, hidden_size=48), path)
    model, prompt_q, records = sparse_lm.Model(path), [], {}
    tokens = torch.from_numpy(np.random.default_rng(5).integers(0, 258, N_PROMPT + N_STEPS))
    cache, qkv, attend = model.new_cache(len(tokens)), model._qkv, Sparse.attend

    def seen_qkv(i, x, *rest):
        q, k, v = qkv(i, x, *rest)
        if i == LAYER and x.ndim == 2:
            prompt_q.append(q.transpose(0, 1).numpy().copy())
        return q, k, v

    def seen_attend(self, budget, scale, q, k, v, out, drawn=None):
        attend(self, budget, scale, q, k, v, out, drawn)
        if self.policy != "dense" and k.data_ptr() == cache.k[LAYER].data_ptr():
            records[self.policy, budget] = (np.concatenate([*prompt_q, q.numpy()]), k.numpy().copy(), v.numpy().copy(),
                                            out.numpy().copy())
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_qkv", seen_qkv)
        patch.setattr(Sparse, "attend", seen_attend)
        model.prefill(tokens[:N_PROMPT], cache, keep_drawn_at=(N_PROMPT,))
        for policy in ("h2o", "h2o:select=group", "accumulated", "accumulated:select=group"):
            model.decode(Library(ROOT / "build/release/libadamas.so"), policy, BUDGETS, cache, N_PROMPT, tokens[N_PROMPT:])
    return records, model.m.softmax_scale


def softmax(scores):
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def attended(q, k, scale, budget):
    """Yields the tokens that each step attends to; the heads q [T, heads, d] share a cache of the keys k [T, d].

    As the authors' code: after every step the cache is cut to the floor(b / 2) heaviest of its older tokens and the
    ceil(b / 2) - 1 latest ones; the new token then joins it."""
    scores = {t: 0.0 for t in range(N_PROMPT)}
    for t in range(N_PROMPT):
        for row in softmax(scale * q[t] @ k[:t + 1].T):
            for j, p in enumerate(row):
                scores[j] += p
    for t in range(N_PROMPT, len(q)):
        if len(scores) > budget - 1:
            n_recent = (budget + 1) // 2 - 1
            order = sorted(scores)
            older = order[:len(order) - n_recent]
            heavy = sorted(older, key=lambda j: (-scores[j], -j))[:budget // 2]
            scores = {j: scores[j] for j in sorted(heavy) + order[len(order) - n_recent:]}
        scores[t] = 0.0
        tokens = np.array(list(scores))
        yield tokens
        for row in softmax(scale * q[t] @ k[tokens].T):
            for j, p in zip(tokens, row):
                scores[j] += p


def outputs(q, k, v, scale, selections):
    """[N_STEPS, d] of one head; selections: the tokens of each step."""
    return np.array([softmax(scale * (k[tokens] @ q[t])) @ v[tokens] for t, tokens in enumerate(selections, N_PROMPT)])


def errors_of(record, scale, head, out):
    """Mean output_rel_l2 of the steps of one head."""
    q, k, v = (x.astype(np.float64) for x in record[:3])
    dense = outputs(q[:, head], k[head // GROUP], v[head // GROUP], scale, (np.arange(t + 1) for t in range(N_PROMPT, len(q))))
    return np.mean(np.linalg.norm(out - dense, axis=1) / np.linalg.norm(dense, axis=1))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("policy", ["h2o", "h2o:select=group"])
def test_the_loop_is_numpy_and_the_replay(recorded, program, tmp_path, policy, budget):
    records, scale = recorded
    record, grouped = records[policy, budget], policy != "h2o"
    q, k, v, out = (x.astype(np.float64) for x in record)
    tensors = {f"layers.{LAYER}.{role}": ("F32", x) for role, x in zip("kvq", (record[1], record[2], record[0]))}
    (tmp_path / "t.safetensors").write_bytes(safetensors_bytes(header_of(tensors, {
        "format": "adamas-trace/1", "kind": "synthetic", "softmax_scale": repr(scale)}), tensors))
    result = Adamas(tmp_path)("replay", "t.safetensors", "--seq-lens", N_PROMPT, "--budgets", budget, "--policies", policy,
                              "--timed-steps", 0, "--db", "r.db", "--quiet")
    assert result.code == 0, result.err
    replayed = dict(query(tmp_path / "r.db", "SELECT head, mean FROM measurement JOIN config USING (config_id) JOIN metric "
                          "USING (metric_id) WHERE policy = 'h2o' AND name = 'output_rel_l2' AND head IS NOT NULL"))
    for head in range(N_HEADS):
        first = head // GROUP * GROUP
        sharing = slice(first, first + GROUP) if grouped else slice(head, head + 1)
        expected = outputs(q[:, head], k[head // GROUP], v[head // GROUP], scale,
                           attended(q[:, sharing], k[head // GROUP], scale, budget))
        np.testing.assert_allclose(out[:, head], expected, rtol=0, atol=2e-4 * np.abs(expected).max())
        assert replayed[head] == pytest.approx(errors_of(record, scale, head, out[:, head]), rel=2e-3, abs=1e-5)
    assert (min(replayed.values()) > 0.01) == (budget < N_PROMPT + N_STEPS)


@pytest.mark.parametrize("setting", ["", ":select=group"])
def test_in_the_loop_nothing_comes_back(recorded, setting):
    """What is left out draws nothing more, and the scores of what is kept only grow, so `accumulated` is H2O here."""
    records, _ = recorded
    for budget in BUDGETS:
        np.testing.assert_array_equal(records["h2o" + setting, budget][3], records["accumulated" + setting, budget][3])
