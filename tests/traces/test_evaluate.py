"""traces/model/evaluate.py: the statistics against their definitions, the rows in the database, refusals.

NumPy alone is needed. test_evaluate_models.py runs the whole tool.
"""
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "traces/model"))

import evaluate
import intervals
import tasks
from conftest import ROOT, query
from library import Library
from recorder import Recorder, run_row
from sweep import Sweep

LIBRARY = ROOT / "build/release/libadamas.so"

@pytest.fixture
def rng():
    return np.random.default_rng(20262)


def test_import_brings_in_nothing_heavy():
    code = "import sys, evaluate; print(sorted({'torch', 'gguf', 'transformers', 'xxhash'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "traces/model", capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------- statistics

@pytest.mark.parametrize("right, n", [(0, 10), (10, 10), (3, 40), (39, 40), (1, 1)])
def test_wilson_is_where_the_score_test_turns(right, n):
    """Its ends are the shares p with |right/n - p| = z sqrt(p (1 - p) / n), or 0 and 1."""
    low, high = intervals.wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1 and low < high
    for p in (low, high):
        if 1e-12 < p < 1 - 1e-12:
            assert abs(right / n - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), rel=1e-9)


def test_the_bootstrap_resamples_blocks_within_their_text(rng):
    blocks = [rng.normal(0, 1, 8), rng.normal(100, 1, 12)]
    means = intervals.bootstrap_means(blocks, 20000, seed=3)
    np.testing.assert_array_equal(means, intervals.bootstrap_means(blocks, 20000, seed=3))
    both = np.concatenate(blocks)
    # Each text keeps its weight, so the hundred that lies between them adds nothing to the spread.
    expected = math.sqrt(sum(len(b) * b.var() for b in blocks)) / len(both)
    assert means.mean() == pytest.approx(both.mean(), abs=5 * expected / math.sqrt(20000))
    assert means.std() == pytest.approx(expected, rel=0.03)


def test_ratios_to_dense_are_taken_token_by_token(rng):
    dense = [rng.gamma(2, 1, (6, 16)) for _ in range(3)]
    sparse = [d + 0.25 for d in dense]  # the same loss everywhere: nothing is uncertain about it
    v = intervals.perplexity_metrics(sparse, dense, 500, 1)
    for name in ("perplexity_ratio", "perplexity_ratio_ci95_low", "perplexity_ratio_ci95_high"):
        assert v[name] == pytest.approx(math.exp(0.25), rel=1e-12)
    assert v["perplexity"] == pytest.approx(math.exp(np.concatenate(sparse).mean()))
    assert v["perplexity_ci95_low"] < v["perplexity"] < v["perplexity_ci95_high"]
    assert v["nll"].shape == (3 * 6 * 16,)


# ---------------------------------------------------------------- rows

class Model:
    name, n_layers, n_q_heads, n_kv_heads, d, softmax_scale = "tiny", 4, 6, 2, 64, 0.125


def arguments(tmp_path, *more):
    return evaluate.parse_args(["--model", "m", "--text", "t", "--quick", "--db", str(tmp_path / "e.db"), *more])


def trace(task, kind):
    import hashlib
    return {"xxh128": hashlib.md5(task.encode()).hexdigest(), "name": task, "kind": kind, "model": "tiny", "file_bytes": 9,
            "n_tokens": 9, "n_steps": 4, "n_layers": 4, "n_q_heads": 6, "n_kv_heads": 2, "head_dim": 64,
            "softmax_scale": 0.125, "metadata": "{}"}


def test_rows_reach_the_views_and_a_second_run_stands_beside(rng, tmp_path, monkeypatch):
    args = arguments(tmp_path, "--policies", "quest;adamas:select=group")
    arms = [("dense", None), ("quest", 64), ("adamas:select=group", 64)]
    nll = {name: {arm: rng.gamma(2, 1, (4, 8)) for arm in arms} for name in ("a.txt", "b.txt")}
    rows = [*tasks.text_rows(args, "a.txt", [nll["a.txt"]]), *tasks.text_rows(args, "texts", list(nll.values()))]
    right = {(depth, *arm): [True, depth < 0.4] for depth in tasks.DEPTHS for arm in arms}
    for depth in tasks.DEPTHS:
        rows += tasks.passkey_rows(tasks.passkey_task(depth), {arm: right[depth, *arm] for arm in arms})
    rows += tasks.passkey_rows("passkey", tasks.over_depths(right))
    traces = {r.task: trace(r.task, "synthetic" if r.task.startswith("passkey") else "real") for r in rows}
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))  # the run row names its version
    sys.modules["torch"].__version__, sys.modules["torch"].get_num_threads = "0", lambda: 1
    variants = {"dense": "exact", "quest": "pages of 16", "adamas:select=group": "l1 calibrated, per group"}
    for _ in range(2):
        recorder = Recorder(Library(LIBRARY), args.db, run_row(args, ["--quick"], evaluate.VERSION), Model, variants)
        for task, row in traces.items():
            recorder.write(row, 1024, [r for r in rows if r.task == task])
        recorder.end("complete")
    stored = query(tmp_path / "e.db", "SELECT run_id, trace, policy, variant, budget, metric, n, mean FROM quality_summary")
    assert {r[0] for r in stored} == {1, 2} and len(stored) == 2 * sum(len(r.values) for r in rows)
    found = {tuple(r[1:6]): r[6:] for r in stored if r[0] == 2}
    expected = np.concatenate([nll[t]["quest", 64].ravel() for t in nll])
    assert found["texts", "quest", "pages of 16", 64, "nll"] == (64, pytest.approx(expected.mean()))
    assert found["texts", "dense", "exact", None, "perplexity_ratio"] == (1, 1.0)
    n, share = found["passkey", "adamas", "l1 calibrated, per group", 64, "passkey_accuracy"]
    assert (n, share) == (10, 0.7)
    assert found["passkey at 90%", "adamas", "l1 calibrated, per group", 64, "passkey_accuracy"] == (2, 0.5)
    low = found["passkey", "quest", "pages of 16", 64, "passkey_accuracy_ci95_low"][1]
    assert low == pytest.approx(intervals.wilson(7, 10)[0])
    assert query(tmp_path / "e.db", "SELECT command, status, gpu_reason FROM run WHERE run_id = 2") == [
        ("evaluate", "complete", "the model runs on the host")]
    assert query(tmp_path / "e.db", "SELECT DISTINCT policy, selection FROM config ORDER BY 1") == [
        ("adamas", "group"), ("dense", None), ("quest", None)]


@pytest.mark.parametrize("more, says", [
    (["--budgets", "8,64"], "below 16 tokens"), (["--context", "3"], "--context 3"), (["--blocks", "0"], "--blocks 0"),
    (["--text-source", "a", "--text-source", "b"], "more --text-source"), (["--library", "nowhere"], "not the host library"),
    (["--budgets", "x"], "list of whole numbers"), (["--passkeys", "-1"], "--passkeys -1"), (["--nonsense"], "--nonsense"),
])
def test_what_is_wrong_is_said_before_anything_heavy(capsys, tmp_path, more, says):
    code = evaluate.main(["--model", "m", "--text", "t", *more])
    assert code == 2 and says in capsys.readouterr().err


def test_a_database_that_is_none_is_refused_at_once(capsys, tmp_path):
    (tmp_path / "e.db").write_text("nothing of the kind, but long enough to be looked at as a database file" * 20)
    assert evaluate.main(["--model", "m", "--text", "t", "--db", str(tmp_path / "e.db")]) == 2
    assert "is not an SQLite database" in capsys.readouterr().err


# ---------------------------------------------------------------- shards

@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("more", [[], ["--passkeys", "0"], ["--policies", "dense"]])
def test_every_policy_of_every_task_is_in_one_shard(tmp_path, n, more):
    library, seen = Library(LIBRARY), []
    whole = Sweep(library, arguments(tmp_path, *more))
    for i in range(1, n + 1):
        sweep = Sweep(library, arguments(tmp_path, *more, "--shard", f"{i}/{n}"))
        assert (sweep.part, sweep.load) == (Sweep(library, arguments(tmp_path, *more, "--shard", f"1/{n}")).part, sweep.load)
        for task in ("texts", "passkeys"):
            policies = sweep.policies(task)
            assert not policies or policies[0] == "dense"  # what others are compared with
            seen += [(task, policy) for policy in policies if policy != "dense"]
    assert sorted(seen) == sorted(item for item in whole.items if item[1] != "dense")
    assert whole.policies("texts") == whole.args.policies


def test_the_plan_of_shards_is_shown_and_nothing_is_done(tmp_path, capsys):
    command = ["--model", "m", "--text", "t", "--quick", "--db", str(tmp_path / "e.db"), "--shard", "2/4", "--dry-run"]
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    assert "\n* shard    2  " in out and "* shard    1" not in out and "of 4 shards the largest decodes 1." in out
    assert not (tmp_path / "e.db").exists()
    for text in ("0/2", "3/2", "x"):
        assert evaluate.main([*command[:-3], "--shard", text]) == 2
        assert f"'{text}' is not i/n" in capsys.readouterr().err


def test_a_sweep_is_named_by_what_it_evaluates(tmp_path):
    library, texts = Library(LIBRARY), {"t": (b"In the beginning", [1, 2])}

    def identity(*more, weights="w", texts=texts):
        return Sweep(library, arguments(tmp_path, "--shard", "1/2", *more)).identity(weights, texts)

    one = identity()
    assert identity("--label", "x", "--db", "other.db", "--model", "/elsewhere/m") == one
    assert identity("--budgets", "128")["grid"] != one["grid"] and identity("--seed", "2")["grid"] != one["grid"]
    assert identity(weights="other")["inputs"] != one["inputs"]
    assert identity(texts={"t": (b"another", [1, 2])})["inputs"] != one["inputs"]
    assert Sweep(library, arguments(tmp_path)).identity("w", texts) is None


@pytest.mark.parametrize("costs, groups, group_costs, n, says", [
    ([-1.0], [0], [0.0], 2, "item 0 costs -1"), ([math.inf], [0], [0.0], 2, "item 0 costs inf"),
    ([1.0, 1.0], [1, 0], [0.0, 0.0], 2, "item 1 is of group 0 of 2"), ([1.0], [1], [0.0], 2, "item 0 is of group 1 of 1"),
    ([1.0], [0], [math.nan], 2, "group 0 costs"), ([1.0], [0], [0.0], 0, "0 shards"),
    ([1.0], [0], [0.0], 65537, "65537 shards"),
])
def test_what_cannot_be_divided_is_refused(costs, groups, group_costs, n, says):
    with pytest.raises(evaluate.BadInput, match=says):
        Library(LIBRARY).split(costs, groups, group_costs, n)
