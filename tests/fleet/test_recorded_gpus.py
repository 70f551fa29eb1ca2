"""The figures of docs/gpus.md are those of the two recorded H200s."""
import re
import statistics

import pytest

from conftest import ROOT, Adamas, query

DOCUMENT = (ROOT / "docs/gpus.md").read_text()
TEXT = DOCUMENT.replace("\n", " ")
TABLE = re.findall(r"^\| (\d+)/(\d+), (\d+)K, (\d+) \| ([\d.]+) \(([\d.]+)(?: times)?\) "
                   r"\| ([\d.]+) \(([\d.]+)\) \| ([\d.]+) \|$",
                   DOCUMENT, re.M)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpus")
    result = Adamas(folder)("db", "import", ROOT / "analysis/recorded/gpus/h200-x2.json", "--db", "x.db", "--quiet")
    assert result.code == 0, result
    return folder / "x.db"


def times(database, run_id):
    return {tuple(row[:6]): row[6] for row in query(
        database, "SELECT stage, variant, seq_len, kv_heads, batch, budget, median FROM stage_summary WHERE metric = 'time_ns' "
        f"AND status = 'ok' AND run_id = {run_id}")}


def change(new, old):
    """Of the median, in percent, with the least and the largest."""
    percent = [100 * (new[key] / old[key] - 1) for key in old]
    return statistics.median(percent), min(percent), max(percent)


def test_the_spread_of_two_gpus_and_what_running_together_costs(database):
    runs = query(database, "SELECT run_id, gpu_uuid, n_together FROM run WHERE command = 'profile' ORDER BY run_id")
    gpus = list(dict.fromkeys(uuid for _, uuid, _ in runs))
    alone, together = ([times(database, run) for gpu in gpus for run, uuid, n in runs if (uuid, n) == (gpu, k)] for k in (1, 2))
    assert len(gpus) == len(alone) == len(together) == 2
    differ, n, cost, low, high = re.search(
        r"The two GPUs differ by ([\d.]+)% in the median of (\d+) times, and running together costs ([\d.]+)% "
        r"\(−([\d.]+) to \+([\d.]+)%\)", TEXT).groups()
    assert len(together[0]) == int(n)
    assert f"{abs(change(together[1], together[0])[0]):.1f}" == differ
    costs = [change(t, a) for t, a in zip(together, alone)]
    assert f"{max(abs(c[0]) for c in costs):.1f}" == cost
    assert f"{-min(c[1] for c in costs):.1f}" == low and f"{max(c[2] for c in costs):.1f}" == high


def test_what_is_left_of_the_gain_over_two_gpus(database):
    assert len(TABLE) == 8
    rows = query(database, "SELECT q_heads, kv_heads, seq_len / 1024, batch, stage, variant, budget, metric, median FROM "
                 "stage_summary WHERE metric IN ('sharded_total_ns', 'sharded_step_ns', 'all_reduce_ns') AND status = 'ok'")

    def fastest(shape, stage, ranks, metric="sharded_total_ns"):
        return min(row[8] for row in rows if row[:4] == shape and row[4] == stage and row[7] == metric and
                   row[6] in (None, 256) and row[5].endswith(f"{ranks} rank{'s' if ranks > 1 else ''}"))

    for *shape, one, gain_one, two, gain_two, reduce in TABLE:
        shape = tuple(map(int, shape))
        metric = {1: "sharded_step_ns", 2: "sharded_total_ns"}
        step, dense = ({n: fastest(shape, stage, n, metric[n]) for n in (1, 2)} for stage in ("step", "dense"))
        assert (f"{step[1] / 1e3:.1f}", f"{step[2] / 1e3:.1f}") == (one, two), shape
        assert (f"{dense[1] / step[1]:.1f}", f"{dense[2] / step[2]:.1f}") == (gain_one, gain_two), shape
        alone = [row[8] for row in rows if row[:4] == shape and row[7] == "all_reduce_ns"]
        assert [f"{ns / 1e3:.1f}" for ns in alone] == [reduce], shape
