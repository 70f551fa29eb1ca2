"""How evenly the recorded grid is divided among 16 shards, by what its rows took when they were recorded."""
import json
import math
from pathlib import Path

import pytest

from conftest import PROGRAM, ROOT, Adamas, query

N = 16
# The fake GPU's implementations, and those of the recorded H200 whose place they take.
RECORDED = {("hadamard", "fake"): "separate", ("bucket", "fake"): "separate", ("pack", "fake"): "separate",
            ("append", "fake"): "separate", ("dense", "fake"): "split", ("topk", "fake"): "two",
            ("topk", "choosy"): "cluster", ("attention", "fake"): "cluster"}
WITHOUT_PLACE = ("step", "grouped")  # the fake GPU has no such step
# A sample lasts 1 ms (kernels/gpu/time.h), and goes through whole rounds of the sets between two uses of which four times the L2
# passes (kernels/gpu/plan.h).
SAMPLE_NS, COLD_BYTES, MAX_SETS = 1e6, 4 * 60 * 2**20, 1024
WARM_UPS = 3
# Seconds that the recorded run does not tell apart: of a unit; of a token of two checked heads, made, and attended to.
UNIT_S, ROW_S, DENSE_S = 0.012, 2 * 4.3e-6, 2 * 0.7e-6


def sampled_s(n, median_ns, stage, tokens, kv_heads, batch, budget, min_budget):
    """What n samples took."""
    def sets(bytes_per_call):
        return min(math.ceil(COLD_BYTES / bytes_per_call), MAX_SETS)

    row_bytes = 2 * kv_heads * 128 * 2
    copies = sets(tokens * batch * kv_heads * 128 // 4)
    rounds = math.ceil(sets(min(budget or tokens, tokens) * batch * row_bytes) / copies)
    most = math.ceil(sets(min(min_budget, tokens) * batch * row_bytes) / copies)
    n_sets = copies * max(1, min(rounds, most)) if stage in ("attention", "step") else copies
    return (n + WARM_UPS) * max(SAMPLE_NS, n_sets * median_ns) * 1e-9


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
    min_budget = min(row[5] for row in rows if row[5])
    sampled = {(stage, variant, *key): sampled_s(n, ns, stage, *key, min_budget) if n else 0
               for stage, variant, *key, n, ns in rows if (stage, variant) != WITHOUT_PLACE}
    return words, sampled


def plan(words, n=N):
    fake = Adamas(Path.cwd())
    fake.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    result = fake("profile", *words, "--shard", f"1/{n}", "--dry-run", "--json")
    assert result.code == 0, result
    return json.loads(result.out)


def test_the_slowest_of_16_shards_is_within_15_percent_of_the_mean(recorded):
    """A shard takes its units' samples for as long as the recorded times say, and makes inputs and references of each configuration
    of which it has a unit."""
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

