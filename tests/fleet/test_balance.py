"""How evenly the recorded grid is divided among 16 shards, by the seconds that its parts took on two H200s."""
import csv
import json
from pathlib import Path

import pytest

from conftest import PROGRAM, ROOT, Adamas, query

N = 16
# The fake GPU's implementations, and those of the H200 whose place they take.
PLACE = {("hadamard", "fake"): "separate", ("bucket", "fake"): "separate", ("pack", "fake"): "separate",
         ("append", "fake"): "separate", ("dense", "fake"): "split", ("topk", "fake"): "two",
         ("topk", "choosy"): "cluster", ("attention", "fake"): "cluster"}
WITHOUT_PLACE = ("step", "grouped")  # the fake GPU has no such step
# Per configuration and unit: fleet_session.sh KIT OUT balance, two H200s, 2026-11-30; then bench_balance.py --write. Timings
# are the mean of two such sessions, all else is of the second.
SECONDS = Path(__file__).parent / "h200-seconds.tsv"


@pytest.fixture(scope="module")
def taken():
    """Seconds of (stage, variant, budget, tokens, KV heads, batch), and of a configuration: an empty stage and variant."""
    with SECONDS.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {(row["stage"], row["variant"], int(row["budget"]), int(row["tokens"]), int(row["kv_heads"]), int(row["batch"])):
            float(row["seconds"]) for row in rows if (row["stage"], row["variant"]) != WITHOUT_PLACE}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The plan of the recorded grid."""
    folder = tmp_path_factory.mktemp("balance")
    fake = Adamas(folder)
    fake.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    assert fake("db", "import", ROOT / "analysis/recorded/h200.json", "--db", "h.db", "--quiet").code == 0
    [(argv,)] = query(folder / "h.db", "SELECT argv FROM run")
    words = json.loads(argv)[1:]
    for option in ("--db", "--label"):
        at = words.index(option)
        del words[at:at + 2]
    result = fake("profile", *words, "--shard", f"1/{N}", "--dry-run", "--json")
    assert result.code == 0, result
    return json.loads(result.out)


def test_the_slowest_of_16_shards_is_within_15_percent_of_the_mean(plan, taken):
    """A shard takes what its units took, and prepares each configuration of which it has a unit."""
    units, cases, shards = plan["units"], plan["configurations"], plan["shards"]
    assert len(units) * len(cases) == shards["n_units"] == len(shards["shard_of_unit"])
    load, prepared, used = [0.0] * N, set(), set()
    for i, shard in enumerate(shards["shard_of_unit"]):
        case, unit = cases[i // len(units)], units[i % len(units)]
        of = case["seq_len"], case["kv_heads"], case["batch"]
        variant = PLACE.get((unit["stage"], unit["variant"]), unit["variant"])
        keys = [(unit["stage"], variant, unit["budget"] or 0, *of)]
        if (shard, of) not in prepared:
            prepared.add((shard, of))
            keys.append(("", "", 0, *of))
        load[shard - 1] += sum(taken[key] for key in keys)
        used |= set(keys)
    assert used == set(taken)
    assert max(load) * N / sum(load) < 1.15, load
    assert shards["largest_over_mean"] < 1.15
