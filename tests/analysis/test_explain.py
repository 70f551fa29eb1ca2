"""`adamas explain`: every rule on the recorded counters of a GPU, where it applies and where it does not; and what is said
without counters."""
import contextlib
import json
import re
import shutil
import sqlite3

import pytest

from conftest import ROOT, Adamas, query, refuse

RULES = (ROOT / "analysis/explain/limits.rules").read_text()

# Counters, phases and a timeline of commit 5810ee5: a copy, so that a new recording changes nothing that is expected here.
OBSERVED = ROOT / "tests/analysis/h200-observed.json"

# rule: where it applies, and where it is silent: (stage, implementation or None, tokens, budget or None). All of run 1.
RECORDED = {
    "launch": (("append", "fused", 8192, None), ("hadamard", None, 8192, None)),
    "encode-fused": (("hadamard", None, 8192, None), ("append", "fused", 8192, None)),
    "long-scoreboard": (("hadamard", None, 8192, None), ("append", "prompt", 131072, None)),
    "short-scoreboard": (("topk", "two", 32768, 1024), ("distance", None, 131072, None)),
    "occupancy": (("dense", None, 131072, None), ("topk", "two", 32768, 1024)),
    "l2-reads": (("topk", "two", 131072, 1024), ("dense", None, 131072, None)),
    "reads": (("hadamard", None, 32768, None), ("dense", None, 131072, None)),
    "dependencies": (("topk", None, 131072, 1024), ("dense", None, 131072, None)),
    "dram-partly": (("step", "six", 131072, 1024), ("dense", None, 131072, None)),
    "issue": (("append", "prompt", 8192, None), ("dense", None, 131072, None)),
    "mio": (("append", "prompt", 8192, None), ("append", "prompt", 131072, None)),
    "sectors": (("append", "prompt", 8192, None), ("dense", None, 131072, None)),
    "dram": (("dense", None, 131072, None), ("topk", None, 8192, 64)),
    "math": (("append", "prompt", 32768, None), ("append", "prompt", 8192, None)),
    "not-bytes-memory": (("step", "six", 8192, 64), ("topk", "cluster", 8192, 64)),
    "not-bytes-barrier": (("attention", "cluster", 8192, 64), ("topk", "cluster", 8192, 64)),
    "not-bytes-dependencies": (("topk", "cluster", 8192, 64), ("dense", None, 131072, None)),
    "barrier": (("topk", None, 8192, 64), ("distance", None, 131072, None)),
    "few-blocks": (("topk", None, 8192, 64), ("dense", None, 131072, None)),
    "launches": (("topk", "two", 8192, 64), ("topk", "cluster", 8192, 64)),
    "conflicts": (("topk", "two", 8192, 64), ("distance", None, 131072, None)),
    "spills": (("dense", None, 131072, None), ("topk", None, 8192, 64)),
}

# What no recorded configuration shows: on the top-k of 131,072 tokens, a metric set to a value at which the rule applies, and
# one at which it does not.
SET = {
    "gaps": ("launch_gap_ns", 2000, 100),
    "not-bytes-shared": ("stall_short_scoreboard_share", 0.9, 0.1),
    "not-bytes-mio": ("stall_mio_throttle_share", 0.9, 0.1),
    "not-bytes-lg": ("stall_lg_throttle_share", 0.9, 0.1),
    "not-bytes-math": ("stall_math_pipe_throttle_share", 0.9, 0.1),
    "lg": ("stall_lg_throttle_share", 0.3, 0.01),
    "lanes": ("lanes_per_instruction", 11.5, 31),
    "throttled": ("throttled_ratio", 0.5, 0),
}


# On an H200, OBSERVED, 32,768 tokens and budget 256: (stage, implementation) where a rule applies,
# and where it is silent.
ON_AN_H200 = {
    "idle": (("attention", "cluster"), ("distance", "l1")),
    "phase-scan": (("step", "grouped"), ("step", "fused")),
    "phase-gather": (("step", "grouped"), ("step", "fused")),
}


# Phases that are short in that step: they are made long.
SHORT_PHASES = {f"phase-{name.replace('_', '-')}": f"phase_{name}_ns"
                for name in ("query", "cut", "winners", "list", "merge")}


def recording(name):
    return ROOT / f"analysis/recorded/{name}.json"


def imported(folder, *files):
    """A database of these recorded profiles, a run each, in this order."""
    for file in files:
        assert Adamas(folder)("db", "import", file, "--db", "r.db").code == 0
    return folder / "r.db"


@pytest.fixture(scope="module")
def h200(program, tmp_path_factory):
    return imported(tmp_path_factory.mktemp("h200"), OBSERVED)


@pytest.fixture(scope="module")
def recorded(program, tmp_path_factory):
    return imported(tmp_path_factory.mktemp("explain"), recording("h100-observed"), recording("h200"))


def explain(adamas, database, stage, variant, seq_len, budget, *more):
    arguments = ["--stage", stage, "--run", 1, "--seq-len", seq_len, *(["--implementation", variant] if variant else []),
                 *(["--budget", budget] if budget else []), *more]
    result = adamas("explain", *arguments, "--json", "--db", database)
    assert result.code == 0, result
    return json.loads(result.out)


def rules_in(document):
    return [finding["rule"] for finding in document["findings"]]


def test_every_rule_is_tested():
    assert {*re.findall(r"^\[(.*)\]$", RULES, re.M)} == {*RECORDED, *SET, *ON_AN_H200, *SHORT_PHASES, "tail", "not-bytes"}


@pytest.mark.parametrize("rule", RECORDED)
def test_a_rule_on_recorded_counters(adamas, recorded, rule):
    applies, silent = RECORDED[rule]
    assert rule in rules_in(explain(adamas, recorded, *applies))
    assert rule not in rules_in(explain(adamas, recorded, *silent))


@pytest.mark.parametrize("rule", ON_AN_H200)
def test_a_rule_on_counters_and_phases_of_an_h200(adamas, h200, rule):
    for (stage, variant), applies in zip(ON_AN_H200[rule], (True, False), strict=True):
        document = explain(adamas, h200, stage, variant, 32768, 256 if stage != "distance" else None)
        assert (rule in rules_in(document)) == applies, document


@pytest.mark.parametrize("rule", SHORT_PHASES)
def test_a_rule_on_a_phase_that_is_made_long(adamas, h200, tmp_path, rule):
    assert rule not in rules_in(explain(adamas, h200, "step", "grouped", 32768, 256))
    database = shutil.copy(h200, tmp_path / "r.db")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("UPDATE measurement SET median = 4000 WHERE metric_id = (SELECT metric_id FROM metric WHERE"
                                  " name = ?)", (SHORT_PHASES[rule],)).rowcount == 1
        connection.commit()
    found = explain(adamas, database, "step", "grouped", 32768, 256)
    assert [finding["saves_ns"] for finding in found["findings"] if finding["rule"] == rule] == [4000]


@pytest.mark.parametrize("blocks, applies", [(132 * 2 + 10, True), (132 * 2, False), (132 * 4, False), (132 * 18 + 10, False)])
def test_the_tail_of_a_grid(adamas, h200, tmp_path, blocks, applies):
    """Our own grids are one wave, so that theirs is set: an SM takes two of these blocks, by their threads and registers."""
    database = shutil.copy(h200, tmp_path / "r.db")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE activity SET grid_x = ?, grid_y = 1, registers = 64, block_x = 512, static_shared_bytes = 0,"
                           " dynamic_shared_bytes = 0 WHERE stage = 'topk'", (blocks,))
        connection.commit()
    found = explain(adamas, database, "topk", "cluster", 32768, 256)
    assert found["figures"]["waves"] == pytest.approx(blocks / 264)
    assert ("tail" in rules_in(found)) == applies
    for finding in found["findings"]:
        if finding["rule"] == "tail":
            time_ns = found["figures"]["time_ns"]
            assert finding["saves_ns"] == pytest.approx(time_ns * (1 - blocks / 264 / 2)) and "1.0 times" in finding["says"]


@pytest.mark.parametrize("rule", SET)
def test_a_rule_on_a_figure_that_is_set(adamas, recorded, tmp_path, rule):
    metric, high, low = SET[rule]
    for value, applies in ((high, True), (low, False), (None, False)):
        database = shutil.copy(recorded, tmp_path / "r.db")
        with contextlib.closing(sqlite3.connect(database)) as connection:
            known = connection.execute("SELECT metric_id FROM metric WHERE name = ?", (metric,)).fetchone()
            if known is None:
                known = (connection.execute("INSERT INTO metric (name, unit, better, description) VALUES (?, '1', 'none', '')",
                                            (metric,)).lastrowid,)
            connection.execute("DELETE FROM measurement WHERE metric_id = ?", known)
            configs = connection.execute(
                "SELECT DISTINCT config_id FROM stage_summary WHERE run_id = 1 AND stage = 'topk'"
                " AND seq_len = 131072").fetchall()
            for config in configs if value is not None else []:
                connection.execute("INSERT INTO measurement (run_id, config_id, source, stage, metric_id, n, median, status)"
                                   " VALUES (1, ?, 'gpu', 'topk', ?, 1, ?, 'ok')", (*config, *known, value))
            connection.commit()
        found = explain(adamas, database, "topk", "cluster", 131072, 1024)
        assert (rule in rules_in(found)) == applies, (value, found)


@pytest.mark.parametrize("stage, rules", [
    ("distance", ["dram-partly", "long-scoreboard", "dependencies", "occupancy"]),
    ("topk", ["not-bytes-memory", "barrier", "short-scoreboard", "occupancy", "conflicts"]),
    ("attention", ["not-bytes-barrier", "barrier", "idle", "few-blocks", "occupancy"]),
    ("step", ["not-bytes-dependencies", "idle", "dependencies", "barrier", "short-scoreboard", "phase-scan", "phase-gather",
              "few-blocks", "conflicts", "spills"]),
])
def test_the_stages_of_an_h200(adamas, h200, stage, rules):
    """32 query and 8 KV heads, 32,768 tokens, budget 256."""
    found = json.loads(adamas("explain", "--stage", stage, "--json", "--db", h200).out)
    assert found["gpu"] == "NVIDIA H200" and found["has_counters"] and rules_in(found) == rules, found


def test_savings_are_within_the_stage_and_sorted(adamas, recorded):
    for stage, variant, seq_len, budget in {place for pair in RECORDED.values() for place in pair}:
        document = explain(adamas, recorded, stage, variant, seq_len, budget)
        savings = [finding["saves_ns"] for finding in document["findings"] if finding["saves_ns"] is not None]
        assert savings == sorted(savings, reverse=True)
        above = document["figures"].get("over_floor_ns", document["figures"]["time_ns"])
        assert all(0 <= saving <= above for saving in savings), document
        for finding in document["findings"]:
            assert finding["source"] and "{" not in finding["says"], finding


@pytest.mark.parametrize("rule, metric, value", [("idle", "sm__cycles_active.avg", 1),
                                                 ("barrier", "stall_barrier_share", 0.99), ("gaps", "launch_gap_ns", 1e9)])
def test_no_more_can_be_saved_than_the_time_above_the_floor(adamas, h200, tmp_path, rule, metric, value):
    """By themselves these figures say that almost all of the time could go, and the floor's bytes with it."""
    database = shutil.copy(h200, tmp_path / "r.db")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        changed = connection.execute("UPDATE measurement SET median = ? WHERE stage = 'attention' AND metric_id = "
                                     "(SELECT metric_id FROM metric WHERE name = ?)", (value, metric)).rowcount
        connection.commit()
    assert changed > 0
    document = json.loads(adamas("explain", "--stage", "attention", "--json", "--db", database).out)
    [finding] = [finding for finding in document["findings"] if finding["rule"] == rule]
    figures = document["figures"]
    assert finding["saves_ns"] == pytest.approx(figures["over_floor_ns"]) and 0 < figures["over_floor_ns"] < figures["time_ns"]
    text = adamas("explain", "--stage", "attention", "--db", database).out
    assert f"At most {figures['over_floor_ns'] / 1000:.2f} us to gain" in text


def test_the_step_is_brought_in_by_amdahl(adamas, recorded):
    document = explain(adamas, recorded, "topk", "cluster", 131072, 1024)
    figures = document["figures"]
    for finding in document["findings"]:
        if finding["saves_ns"] is not None:
            assert finding["saves_step_ratio"] == pytest.approx(finding["saves_ns"] / figures["six_ns"])
    text = adamas("explain", "--stage", "topk", "--run", 1, "--db", recorded).out
    assert re.search(r"At most \d+\.\d\d us to gain: \d+% of the stage, \d+\.\d% of the six stages, which would be "
                     r"\d+\.\d\d times as fast\.", text)


def test_a_run_that_lacks_nothing_names_no_command(adamas, h200):
    assert "To take" not in adamas("explain", "--stage", "step", "--db", h200).out
    text = adamas("explain", "--stage", "step", "--implementation", "fused", "--db", h200).out
    assert "The run has no phases of the step. To take them on the GPU:" in text and "--phases" in text


def test_without_counters_the_command_that_gets_them_is_named(adamas, recorded):
    text = adamas("explain", "--stage", "topk", "--run", 2, "--db", recorded).out
    assert "--stages topk,step" in text and "--counters full --timeline" in text and "The run has no counters" in text
    assert "the waiting is" not in text and "[not-bytes: " in text and "Count its stalls" in text


def test_stages_of_the_same_share_of_bytes_have_their_own_advice(adamas, h200):
    """Each says what its warps wait for the most, and the cure of that."""
    first = [json.loads(adamas("explain", "--stage", stage, "--json", "--db", h200).out)["findings"][0]
             for stage in ("topk", "attention", "step")]
    assert all(finding["says"].startswith("Bytes explain ") for finding in first)
    assert len({finding["advice"] for finding in first}) == len({finding["says"] for finding in first}) == 3
    for finding, says in zip(first, ("loads from memory: 35%", "at barriers of a block: 41%", "fixed time: 28%"), strict=True):
        assert says in finding["says"], finding


@pytest.fixture(scope="module")
def apart(program, tmp_path_factory):
    """Run 1 has counters of one configuration, run 2 the times of many: said to be of the same build on the same GPU."""
    database = imported(tmp_path_factory.mktemp("apart"), OBSERVED, recording("h200"))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE run SET (git_commit, git_dirty, started_utc) = (SELECT git_commit, git_dirty,"
                           " '2026-11-30T00:00:00.000Z' FROM run WHERE run_id = 1) WHERE run_id = 2")  # before run 1
        connection.commit()
    return database


def test_counters_come_from_another_run_of_the_same_build(adamas, apart):
    found = json.loads(adamas("explain", "--stage", "attention", "--json", "--db", apart).out)
    assert (found["run_id"], found["counters_run_id"], found["seq_len"], found["kv_heads"]) == (2, 1, 32768, 8)
    assert found["has_counters"] and "not-bytes-barrier" in rules_in(found)
    (own,), (lent,) = (query(apart, "SELECT median FROM stage_summary WHERE run_id = ? AND stage = 'attention' AND variant = "
                             "'cluster' AND metric = 'time_ns' AND seq_len = 32768 AND kv_heads = 8 AND batch = 1 AND "
                             "budget = 256 AND launch = 'graph'", run) for run in (2, 1))
    assert found["figures"]["time_ns"] == own[0] != lent[0]
    text = adamas("explain", "--stage", "attention", "--db", apart).out
    assert "counters of run 1, of the same build on the same GPU" in text and "has no counters" not in text
    other = json.loads(adamas("explain", "--stage", "attention", "--seq-len", 8192, "--json", "--db", apart).out)
    assert other["counters_run_id"] is None and not other["has_counters"]


def test_stalls_come_from_the_same_work_with_other_kv_heads(adamas, apart):
    """Only where bytes are not the limit; the sentence of the report names the difference."""
    def found(stage, seq_len, *more):
        shape = ["--seq-len", seq_len, "--kv-heads", 32, "--batch", 1]
        return json.loads(adamas("explain", "--stage", stage, *shape, *more, "--json", "--db", apart).out)
    attention = found("attention", 32768, "--budget", 256)
    assert (attention["kv_heads"], attention["stalls_kv_heads"], attention["counters_run_id"]) == (32, 8, None)
    assert rules_in(attention)[0] == "not-bytes-barrier" and "achieved_occupancy_ratio" not in attention["figures"]
    assert rules_in(found("attention", 8192, "--budget", 256))[0] == "not-bytes"  # nothing was counted at that length
    assert not [name for name in found("distance", 32768)["figures"] if name.startswith("stall_")]
    text = adamas("explain", "--stage", "attention", "--seq-len", 32768, "--kv-heads", 32, "--budget", 256, "--batch", 1,
                  "--db", apart).out
    assert "; stalls counted with 8 KV heads\n" in text
    advice = {row["stage"]: row for row in json.loads(adamas("report", "--json", "--db", apart).out)["advice"]}
    for stage, says in (("topk", "loads from memory: 35%"), ("attention", "barriers of a block: 41%")):
        assert says in advice[stage]["say"] and advice[stage]["say"].endswith("(counted with 8 KV heads)"), advice[stage]
    assert len({advice[stage]["advice"] for stage in ("topk", "attention", "step")}) == 3
    assert "(counted" not in advice["distance"]["say"]


@pytest.mark.parametrize("change", ["git_commit = 'x'", "git_dirty = 1", "gpu_name = 'NVIDIA H300'"])
def test_counters_of_another_build_or_gpu_are_not_taken(adamas, apart, tmp_path, change):
    database = shutil.copy(apart, tmp_path / "a.db")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"UPDATE run SET {change} WHERE run_id = 1")
        connection.commit()
    found = json.loads(adamas("explain", "--stage", "attention", "--json", "--db", database).out)
    assert found["run_id"] == 2 and found["counters_run_id"] is None and not found["has_counters"]


@pytest.mark.parametrize("arguments, says", [
    (["--stage", "topk", "--run", 9], ["r.db holds no run 9; its newest is run 2"]),
    (["--stage", "topk", "--seq-len", 77], ["none of that variant and shape"]),
    (["--stage", "topk", "--implementation", "clustr"], ["--implementation: 'clustr'", "did you mean 'cluster'?"]),
    (["--stage", "sort"], ["--stage", "'sort'"]), (["--stage", "topk,pack"], ["one stage"]),
    (["--stage", "topk", "--budget", 0], ["--budget"]),
])
def test_bad_values(adamas, recorded, arguments, says):
    refuse(adamas, "explain", *arguments, "--db", recorded, says=says)
