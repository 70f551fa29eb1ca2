"""How evenly the recorded grid is divided among 16 shards, by what its rows took when they were recorded."""
import json
from pathlib import Path

import pytest

from conftest import PROGRAM, ROOT, Adamas, query

N = 16
# The fake GPU's implementations, and those of the recorded H200 whose place they take.
RECORDED = {("hadamard", "fake"): "separate", ("bucket", "fake"): "separate", ("pack", "fake"): "separate",
            ("append", "fake"): "separate", ("dense", "fake"): "split", ("topk", "fake"): "two",
            ("topk", "choosy"): "cluster", ("attention", "fake"): "cluster"}
WITHOUT_PLACE = ("step", "grouped")  # the fake GPU has no such step
SAMPLE_S = 1e-3  # kernels/gpu/time.cu: the shortest sample
# kernels/profile/grid/shards.c, fitted on two H200s: warm-up and graph of a unit; rows of K and V, and dense attention, of two
# checked heads, which the recorded run does not tell apart
UNIT_S, ROW_S, DENSE_S = 0.012, 2 * 4.3e-6, 2 * 0.7e-6


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The grid's words, and its units' sampling time in seconds: none where a unit was skipped."""
    folder = tmp_path_factory.mktemp("balance")
    assert Adamas(folder)("db", "import", ROOT / "analysis/recorded/h200.json", "--db", "h.db", "--quiet").code == 0
    [(argv,)] = query(folder / "h.db", "SELECT argv FROM run")
    rows = query(folder / "h.db", "SELECT stage, variant, seq_len, kv_heads, batch, budget, n, median FROM stage_summary WHERE "
                 "metric = 'time_ns' AND status IN ('ok', 'skipped')")
    words = json.loads(argv)[1:]
    for option in ("--db", "--label"):
        at = words.index(option)
        del words[at:at + 2]
    sampled = {tuple(key): n * max(SAMPLE_S, ns * 1e-9) if n else 0 for *key, n, ns in rows if tuple(key[:2]) != WITHOUT_PLACE}
    return words, sampled


def plan(words, n=N):
    fake = Adamas(Path.cwd())
    fake.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    result = fake("profile", *words, "--shard", f"1/{n}", "--dry-run", "--json")
    assert result.code == 0, result
    return json.loads(result.out)


def test_the_slowest_of_16_shards_is_within_15_percent_of_the_mean(recorded):
    """A shard takes its units' samples as they were recorded, and makes inputs and references of each configuration of which
    it has a unit."""
    words, sampled = recorded
    document = plan(words)
    units, cases, shards = document["units"], document["configurations"], document["shards"]
    assert len(units) * len(cases) == shards["n_units"] == len(shards["shard_of_unit"])
    load, prepared, used = [0.0] * N, set(), set()
    for i, shard in enumerate(shards["shard_of_unit"]):
        case, unit = cases[i // len(units)], units[i % len(units)]
        name = RECORDED.get((unit["stage"], unit["variant"]), unit["variant"])
        key = unit["stage"], name, case["seq_len"], case["kv_heads"], case["batch"], unit["budget"]
        used.add(key)
        load[shard - 1] += sampled[key] + UNIT_S
        if unit["stage"] == "dense":
            load[shard - 1] += DENSE_S * case["seq_len"] * 32 / case["kv_heads"]
        if (shard, i // len(units)) not in prepared:
            prepared.add((shard, i // len(units)))
            load[shard - 1] += UNIT_S + ROW_S * case["seq_len"]
    assert used == set(sampled)
    assert max(load) * N / sum(load) < 1.15, load
    assert shards["largest_over_mean"] < 1.15
