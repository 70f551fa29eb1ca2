"""`adamas profile` from end to end, on build/release/tests/adamas-fake-gpu: the program with a device of host memory
(tests/support/fake_gpu.c) whose stages are the host references, and which fails where it is told to. Times are made up there;
everything else is the program's own."""
import csv
import json
import os
import re
import shutil

import pytest

from conftest import BUNDLED, PROGRAM, Adamas, query, refuse

SMALL = ["--seq-lens", "100,300", "--budgets", "16,64", "--heads", "4", "--kv-heads", "2,4", "--head-dim", "64"]
STAGES = {"hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"}


class FakeGpu(Adamas):
    def __init__(self, folder):
        super().__init__(folder)
        self.path = PROGRAM.parent / "tests/adamas-fake-gpu"

    def profile(self, *arguments, faults="", code=0):
        """Runs into x.db, which must not be there yet; returns (result, rows of time_ns)."""
        database = self.folder / "x.db"
        database.unlink(missing_ok=True)
        result = self("profile", "--db", database, *arguments, env={**os.environ, "ADAMAS_FAKE_GPU": faults})
        assert result.code == code, result
        return result, query(database, "SELECT stage, variant, seq_len, kv_heads, batch, budget, launch, status, reason "
                                       "FROM stage_summary WHERE metric = 'time_ns'")


@pytest.fixture
def fake(tmp_path):
    return FakeGpu(tmp_path)


def test_every_unit_of_every_configuration_has_a_row(fake):
    _, rows = fake.profile(*SMALL, "--batch", "1,2", "--launch", "graph,stream")
    assert {row[0] for row in rows} == STAGES
    assert {(row[2], row[3], row[4], row[6]) for row in rows} == {
        (n, h, b, launch) for n in (100, 300) for h in (2, 4) for b in (1, 2) for launch in ("graph", "stream")}
    assert len(rows) == len(set(rows)) == 16 * (10 + 2 * 5)  # a choosy and an obliging top-k, attention, two steps
    assert {row[7:] for row in rows} == {("ok", None), ("skipped", "no shape is good enough for this top-k")}
    assert all(row[1] == "choosy" for row in rows if row[7] == "skipped")


def test_the_seconds_of_every_part_are_written_beside_their_estimate(fake):
    path = fake.folder / "seconds.tsv"
    _, rows = fake.profile(*SMALL, "--cap-ms", "2", "--seconds", path)
    with path.open() as file:
        parts = list(csv.DictReader(file, delimiter="\t"))
    of_unit = {(row["stage"], row["variant"], row["tokens"], row["kv_heads"], row["batch"], row["budget"], row["part"])
               for row in parts if row["stage"]}
    assert len(of_unit) == sum(1 for row in parts if row["stage"]) == 4 * len(rows)
    assert {(*map(str, row[:5]), str(row[5] or 0)) for row in rows} == {row[:6] for row in of_unit}
    assert [(row["tokens"], row["kv_heads"], row["part"]) for row in parts if not row["stage"]] == [
        (tokens, heads, part) for tokens in ("100", "300") for heads in ("2", "4") for part in ("inputs", "reference")]
    assert all(float(row["seconds"]) >= 0 and float(row["estimated"]) >= 0 for row in parts)
    assert all(float(row["estimated"]) > 0 for row in parts if row["part"] != "prepare")
    refuse(fake, "profile", *SMALL, "--gpus", "all", "--seconds", path, says=["--seconds is of a grid on one GPU"])


def test_floor_and_share_of_the_limit_follow_from_the_bytes(fake):
    fake.profile("--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64")
    [(limit,)] = query(fake.folder / "x.db", "SELECT median FROM measurement JOIN metric USING (metric_id) "
                                             "WHERE name = 'read_limit_bytes_per_s'")
    figures = {}
    for stage, variant, metric, value in query(fake.folder / "x.db",
                                               "SELECT stage, variant, metric, median FROM stage_summary"):
        figures.setdefault((stage, variant), {})[metric] = value
    row = 64 * 2  # bytes of a row of K in F16
    expected = {
        ("hadamard", "fake"): 8 * (row + 64 * 4),
        ("bucket", "fake"): 8 * 64 * (4 + 1),
        ("pack", "fake"): 8 * (64 + 16),
        ("append", "fake"): 4 * (2 * row + 16) * 2,
        ("append", "fused"): 4 * row + 4 * row + 4 * row + 4 * 16 + 4 * (2 * row + 16),
        ("append", "prompt"): 4 * 300 * (row + 16),
        ("distance", "l1"): 4 * 300 * 16 + 4 * 16 + 4 * 300 * 2,
        ("topk", "fake"): 4 * 300 * 2 + 4 * 16 * 4,
        ("attention", "fake"): 4 * 16 * 2 * row + 4 * 16 * 4 + 4 * row * 2,
        ("dense", "fake"): 4 * 300 * 2 * row + 4 * row * 2,
        # A step hands nothing over: q, the new token in and out, the codes, the selected rows, the result.
        ("step", "six"): 4 * row + 2 * 4 * row + 4 * (2 * row + 16) + 4 * 300 * 16 + 4 * 16 * 2 * row + 4 * row,
    }
    expected["step", "fused"] = expected["step", "six"]
    for unit, n_bytes in expected.items():
        assert figures[unit]["model_bytes"] == n_bytes, unit
        assert figures[unit]["floor_ns"] == pytest.approx(n_bytes / limit * 1e9)
        assert figures[unit]["limit_ratio"] == pytest.approx(figures[unit]["floor_ns"] / figures[unit]["time_ns"], rel=0.02)


def test_the_table_compares_steps_with_dense(fake):
    result, _ = fake.profile("--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64",
                             "--json")
    document = json.loads(result.out)
    dense = [row["median_ns"] for row in document["stages"] if row["stage"] == "dense"]
    assert document["read_limit_bytes_per_s"] == 1e9
    assert document["setting"].pop("checked") == {"right": 14, "failed": 0, "skipped": 1}
    assert document["setting"] == {"q_heads": 4, "head_dim": 64, "cache": "cold", "selection": "head",
                                   "metrics": ["l1"], "inputs": {"kind": "random", "seed": 1}}
    assert {row["variant"] for row in document["steps"]} == {"six", "fused"}
    for row in document["steps"]:
        assert (row["budget"], row["dense_ns"]) == (16, *dense)
        assert row["speedup"] == pytest.approx(row["dense_ns"] / row["median_ns"])
    text, _ = fake.profile("--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64")
    assert "floor: the stage's compulsory bytes at 0.001 TB/s" in text.out
    assert "a whole step against the fastest dense attention known" in text.out
    assert "from the medians" not in text.out and "speedup_low" not in result.out


def test_a_time_below_that_of_the_bytes_is_refused(fake):
    small = ["--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64"]
    _, rows = fake.profile(*small, faults="memory-rate=1000000000", code=4)
    refused = {row[0]: row[8] for row in rows if row[7] == "failed"}
    assert set(refused) == {"append", "distance", "attention", "step", "dense"}  # the prompt's encoding is an append
    n_bytes = 4 * 300 * 2 * 64 * 2  # K and V in F16
    assert f"below the {n_bytes} ns that {n_bytes} bytes of K, V and codes take at this memory's 0.001 TB/s" in refused["dense"]
    assert not query(fake.folder / "x.db", "SELECT * FROM stage_summary WHERE stage = 'dense' AND status = 'ok' "
                                           "AND metric IN ('time_ns', 'limit_ratio')")
    for fine, rate in ((["--cache", "warm"], "1e9"), ([], "1e15")):  # read from the L2; slow enough
        _, rows = fake.profile(*small, *fine, faults=f"memory-rate={rate}")
        assert {row[7] for row in rows if row[1] != "choosy"} == {"ok"}


def test_a_step_is_compared_with_the_fastest_dense_attention_known(fake):
    shape = ["--seq-lens", "3584", "--budgets", "16", "--heads", "9", "--kv-heads", "3", "--head-dim", "64"]
    for faults, is_recorded in (("h200", True), ("", False)):
        result, _ = fake.profile(*shape, "--stages", "dense,step", "--json", faults=faults)
        peers = query(fake.folder / "x.db", "SELECT variant, source, n, median, reason FROM stage_summary "
                                            "WHERE stage = 'dense' AND metric = 'peer_time_ns'")
        assert bool(peers) == is_recorded
        if is_recorded:
            [(variant, source, n, median, reason)] = peers
            assert (variant, source, n) == ("cuDNN, recorded", "model", 1)
            assert 5000 < median < 10000 and reason.startswith("PyTorch 2.11.0")
        for row in json.loads(result.out)["steps"]:  # the fake's dense attention takes 1 us, and so is the faster
            assert (row["dense_variant"], row["dense_source"]) == ("fake", "")
    for options in (["--launch", "stream"], ["--cache", "warm"], ["--page-size", "16"], ["--dtype", "bf16"]):
        fake.profile(*shape, "--stages", "dense", *options, faults="h200")
        assert not query(fake.folder / "x.db", "SELECT * FROM stage_summary WHERE metric = 'peer_time_ns'"), options


def test_a_recorded_time_counts_where_it_is_the_fastest(fake):
    shape = ["--seq-lens", "3584", "--budgets", "16", "--heads", "9", "--kv-heads", "3", "--head-dim", "64"]
    result, _ = fake.profile(*shape, "--stages", "dense,step", faults="h200 slow-dense")
    table = result.out.split("a whole step against the fastest dense attention known")[1]
    assert table.count("cuDNN, recorded (n < 20, no interval)") == 2


def test_phases_of_a_step_are_rows(fake):
    small = ["--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64", "--stages", "step"]
    sql = ("SELECT metric, variant, launch, n, median, p10, p90, status, reason FROM stage_summary "
           "WHERE metric LIKE 'phase_%' AND stage = 'step'")
    fake.profile(*small, "--phases")
    rows = query(fake.folder / "x.db", sql)
    assert [row[:4] for row in rows] == [  # of 16 launches with 3 blocks, the last of which has no cut
        ("phase_scan_ns", "fused", "graph", 48), ("phase_cut_ns", "fused", "graph", 32),
        ("phase_gather_ns", "fused", "graph", 48)]
    assert [row[4] for row in rows] == [500.5, 1000.25, 1500.5]  # half a nanosecond per cycle
    assert all(row[7:] == ("ok", None) and row[5] <= row[4] <= row[6] for row in rows)
    fake.profile(*small)
    assert not query(fake.folder / "x.db", sql)
    fake.profile(*small, "--phases", faults="phases=step")
    assert [row[0] + " " + row[7] + " " + row[8] for row in query(fake.folder / "x.db", sql)] == [
        "phase_all_ns failed these phases were to fail"]
    fake.profile(*small, "--phases", "--check-only")
    assert not query(fake.folder / "x.db", sql)


@pytest.mark.parametrize("n, words", [(12, "from the medians' 95% intervals"), (3, "from p10 and p90"),
                                      (1, "n < 20, no interval")])
def test_a_speedup_of_few_timings_carries_its_interval(fake, n, words):
    small = ["--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "4", "--head-dim", "64"]
    result, _ = fake.profile(*small, "--json", faults=f"timings={n}")
    steps = json.loads(result.out)["steps"]
    assert len(steps) == 2 and {row["speedup_interval"] for row in steps} == {words}
    for row in steps:
        if n == 1:
            assert row["speedup_low"] is row["speedup_high"] is None
        else:
            assert row["speedup_low"] < row["speedup"] < row["speedup_high"]
        if n == 12:  # 0.004 on either side
            assert row["speedup_low"] == pytest.approx(row["speedup"] * 0.996 / 1.004)
    text, _ = fake.profile(*small, faults=f"timings={n}")
    table = text.out.split("a whole step against the fastest dense attention known")[1]
    assert table.count(words) == 2


@pytest.mark.parametrize("arguments", [
    ["--page-size", "0,1,7"], ["--dtype", "f16,bf16"], ["--head-dim", "128"], ["--head-dim", "256"],
    ["--sinks", "3", "--recent", "5"], ["--cache", "warm"], ["--budgets", "1,1000"], ["--seq-lens", "1,2,33"],
    ["--batch", "64"],
], ids="=".join)
def test_what_is_right_passes_the_check(fake, arguments):
    others = [word for option, value in zip(SMALL[::2], SMALL[1::2]) if option not in arguments for word in (option, value)]
    result, rows = fake.profile(*others, *arguments, "--check-only")
    assert {row[7] for row in rows} == {"skipped"}
    n_right, n_failed, n_skipped = map(int, re.search(r"(\d+) units are as the host computes them, (\d+) are not or could not "
                                                      r"be run, (\d+) are not for", result.out).groups())
    assert (n_failed, n_skipped) == (0, len(rows)) and n_right >= 6 * n_skipped


def test_lengths_in_a_batch_may_differ(fake):
    _, rows = fake.profile("--batch-lens", "300,0,01,70", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim",
                           "64")
    assert {(row[2], row[4]) for row in rows} == {(300, 4)} and not [row for row in rows if row[7] == "failed"]
    assert query(fake.folder / "x.db", "SELECT DISTINCT batch_lens FROM stage_summary") == [("300,0,1,70",)]
    [(n_bytes,)] = query(fake.folder / "x.db",
                         "SELECT median FROM stage_summary WHERE stage = 'dense' AND metric = 'model_bytes'")
    assert n_bytes == 371 * 2 * 2 * 128 + 2 * 4 * 4 * 128


def test_groups_select_together(fake):
    arguments = ["--seq-lens", "300", "--budgets", "16", "--heads", "8", "--kv-heads", "2", "--head-dim", "64"]
    _, rows = fake.profile(*arguments, "--select", "group")
    assert not [row for row in rows if row[7] == "failed"]
    seen = dict(query(fake.folder / "x.db", "SELECT stage, selection FROM stage_summary"))
    assert {stage for stage in seen if seen[stage] == "group"} == {"distance", "topk", "attention", "step"}
    attention = "SELECT median FROM stage_summary WHERE stage = 'attention' AND metric = 'model_bytes'"
    [(together,)] = query(fake.folder / "x.db", attention)
    assert together == 2 * 16 * 2 * 128 + 2 * 16 * 4 + 2 * 8 * 128
    fake.profile(*arguments)
    [(apart,)] = query(fake.folder / "x.db", attention)
    assert together < apart <= 4 * 2 * 16 * 2 * 128 + 8 * 16 * 4 + 2 * 8 * 128


def test_a_real_trace(fake):
    result, rows = fake.profile("--trace", BUNDLED, "--seq-lens", "1024", "--budgets", "64", "--cache", "warm", "--json")
    assert {(row[2], row[3]) for row in rows} == {(1024, 3)} and not [row for row in rows if row[7] == "failed"]
    database = fake.folder / "x.db"
    [(kind, xxh128)] = query(database, "SELECT DISTINCT t.kind, t.xxh128 FROM config JOIN trace t USING (trace_id) "
                                       "WHERE policy <> 'device'")
    assert kind == "real" and len(xxh128) == 32
    assert json.loads(result.out)["setting"]["inputs"] == {"kind": "real", "trace": BUNDLED.name, "xxh128": xxh128}
    assert query(database, "SELECT DISTINCT trace FROM stage_summary") == [(BUNDLED.name,)]
    layers = query(database, "SELECT layer, t0, t1, t2 FROM calibration WHERE variant = 'calibrated' ORDER BY layer")
    assert [row[0] for row in layers] == sorted({row[0] for row in layers}) and len(layers) >= 2
    assert all(t0 < t1 < t2 for _, t0, t1, t2 in layers)
    fake.profile("--trace", BUNDLED, "--seq-lens", "1024", "--budgets", "64", "--cache", "warm", "--layers", layers[0][0],
                 "--thresholds", "fixed:-1,0,1", "--select", "group", "--page-size", "16", "--check-only")
    assert query(database, "SELECT layer, variant, t0 FROM calibration") == [(layers[0][0], "fixed:-1,0,1", -1.0)]


@pytest.mark.parametrize("arguments, says", [
    (["--trace", BUNDLED, "--seq-lens", "77"], "no decode step has 77"),
    (["--trace", BUNDLED, "--layers", "99"], "no layer 99"),
    (["--trace", BUNDLED, "--heads", "4"], "--trace brings its own heads"), (["--trace", "absent"], "absent"),
    (["--layers", "3"], "--layers is about a trace"), (["--trace", BUNDLED, "--thresholds", "x"], "'x'"),
    (["--trace", BUNDLED, "--thresholds", "fixed:1"], "three thresholds per layer"),
    (["--trace", BUNDLED, "--dtype", "f16,bf16"], "one type of a trace"),
    (["--batch-lens", "1,", "--kv-heads", "8"], "--batch-lens: ''"), (["--batch-lens", "1,1048577"], "0 to 1048576"),
    (["--batch-lens", "5", "--batch", "2"], "--batch-lens gives one batch"), (["--batch-lens", "1," * 64 + "1"], "at most 64"),
    (["--select", "head,group"], "one kind"), (["--select", "all"], "'all'"),
])
def test_bad_values(fake, arguments, says):
    result = fake("profile", "--db", "x.db", *arguments)
    assert (result.code, result.out) == (2, "") and says in result.err
    assert not (fake.folder / "x.db").exists()


@pytest.mark.parametrize("stage", ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"])
def test_a_wrong_stage_is_recorded_and_not_timed(fake, stage):
    _, rows = fake.profile("--seq-lens", "100", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim", "64",
                           "--launch", "graph,stream", faults=f"wrong={stage}", code=4)
    failed = {(row[0], row[1]) for row in rows if row[7] == "failed"}
    assert {unit[0] for unit in failed} >= {stage}
    for row in rows:
        if row[7] == "failed":
            assert "on the device" in row[8] or "relative L2 error" in row[8]
    timed = query(fake.folder / "x.db", "SELECT DISTINCT stage, variant FROM stage_summary WHERE metric = 'time_ns' AND n > 0")
    assert not failed & set(timed)
    assert ("dense", "fake") in timed or stage == "dense"


def test_a_prompt_that_is_not_encoded_is_seen(fake):
    _, rows = fake.profile("--seq-lens", "100", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim", "64",
                           "--stages", "append", faults="idle-prompt", code=4)
    assert {row[1] for row in rows if row[7] == "failed"} == {"prompt"}


def test_a_launch_that_fails_leaves_the_rest_alone(fake):
    _, rows = fake.profile(*SMALL, faults="error=attention", code=4)
    failed = [row for row in rows if row[7] == "failed"]
    assert {(row[0], row[1]) for row in failed} == {("attention", "fake"), ("step", "six")}
    assert {row[8] for row in failed} == {"attention: this launch was to fail"}
    assert {(row[2], row[3]) for row in failed} == {(n, h) for n in (100, 300) for h in (2, 4)}  # the grid went on


def test_a_lost_context_ends_the_grid_and_keeps_what_was_measured(fake):
    result, rows = fake.profile(*SMALL, faults="lost=dense", code=4)
    assert "the CUDA context was lost at 100 tokens, 2 KV heads, batch 1" in result.err
    assert {row[2] for row in rows} == {100}
    before = [row for row in rows if row[7] == "ok"]
    assert {row[0] for row in before} == {"hadamard", "bucket", "pack", "append", "distance"}
    assert {row[8] for row in rows if row[7] == "failed"} == {"the context is gone"}
    assert query(fake.folder / "x.db", "SELECT status FROM run") == [("failed",)]


def test_out_of_memory_is_recorded_and_the_grid_goes_on(fake):
    _, rows = fake.profile("--seq-lens", "100,5000,200", "--budgets", "16", "--heads", "4", "--kv-heads", "2",
                           faults="memory=3000000", code=4)
    assert {row[2] for row in rows if row[7] == "ok"} == {100, 200}
    assert {row[2] for row in rows if row[7] == "failed"} == {5000}
    [reason] = {row[8] for row in rows if row[7] == "failed"}
    assert "out of device memory" in reason and "3000000 free" in reason
    needed = next(word for word in reason.split() if word.isdigit())
    plan = fake("profile", "--dry-run", "--seq-lens", "5000", "--budgets", "16", "--heads", "4", "--kv-heads", "2",
                env={**os.environ, "ADAMAS_FAKE_GPU": "memory=3000000"}).out
    assert f"needs {int(needed) / 2 ** 30:.2f} GiB" in plan


def test_without_a_read_limit_times_stand_alone(fake):
    result, rows = fake.profile(*SMALL, faults="no-bandwidth")
    assert "could not be measured" in result.out and not [row for row in rows if row[7] == "failed"]
    database = fake.folder / "x.db"
    assert query(database, "SELECT count(*) FROM stage_summary WHERE metric IN ('floor_ns', 'limit_ratio')") == [(0,)]
    assert query(database, "SELECT status, reason FROM measurement JOIN metric USING (metric_id) WHERE name = "
                           "'read_limit_bytes_per_s'") == [("failed", "this bandwidth was not to be had")]


def test_the_power_limit_is_stored_or_why_not(fake):
    (fake.folder / "lib").mkdir()
    shutil.copy(PROGRAM.parent / "tests/fake_nvml.so", fake.folder / "lib/libnvidia-ml.so.1")
    tiny = ["--seq-lens", "100", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--db", "x.db"]
    for limit in ("none", "450500", None):
        nvml = {} if limit is None else {"ADAMAS_FAKE_NVML_LIMIT_MW": limit}
        assert fake("profile", *tiny, env={**os.environ, "LD_LIBRARY_PATH": str(fake.folder / "lib"), **nvml}).code == 0
    database = fake.folder / "x.db"
    stored = ("SELECT median, status, reason FROM measurement JOIN metric USING (metric_id) "
              "WHERE name = 'power_limit_w' ORDER BY run_id")
    assert query(database, stored) == [(None, "skipped", "Not Supported"), (450.5, "ok", None), (700, "ok", None)]
    assert query(database, "SELECT DISTINCT median FROM stage_summary WHERE metric = 'sm_clock_hz'") == [(1.98e9,)]
    result = fake("compare", "3", "2", "--db", database)
    assert result.code == 2 and "power limit (700 W against 450.5 W)" in result.err, result
    page = fake("report", "--db", database, "-o", "r.html")
    assert page.code == 0 and "Power limit 700 W. " in (fake.folder / "r.html").read_text()


def test_cold_means_that_four_times_the_cache_passes(fake):
    fake.profile(*SMALL)
    ratios = query(fake.folder / "x.db",
                   "SELECT stage, min(median) FROM stage_summary WHERE metric = 'cold_l2_ratio' GROUP BY stage")
    assert {stage for stage, _ in ratios} == {"append", "distance", "attention", "step", "dense"}
    assert all(ratio >= 4 for _, ratio in ratios), ratios
    fake.profile(*SMALL, "--cache", "warm")
    assert query(fake.folder / "x.db", "SELECT count(*) FROM stage_summary WHERE metric = 'cold_l2_ratio'") == [(0,)]


# ---------------------------------------------------------------- metrics

ONE = ["--seq-lens", "300", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim", "64"]


def variants(rows):
    found = {}
    for row in rows:
        found.setdefault(row[0], set()).add(row[1])
    return found


def test_each_metric_has_units_of_what_it_changes(fake):
    result, rows = fake.profile(*ONE, "--metric", "l1,dot,asym4", "--json")
    both = {"fake", "fake asym4"}
    assert variants(rows) == {
        "hadamard": {"fake"}, "dense": {"fake"}, "bucket": both, "pack": both,
        "append": {name + metric for name in ("fake", "fused", "prompt") for metric in ("", " asym4")},
        "distance": {"l1", "xor", "dot", "asym4"},
        "topk": {name + metric for name in ("fake", "choosy") for metric in ("", " dot", " asym4")},
        "attention": {"fake", "fake dot", "fake asym4"},
        "step": {"six", "six dot", "six asym4", "fused", "fused asym4"}}  # the fake's fused step does not know dot
    assert len(rows) == len(set(rows))
    assert {row[7] for row in rows if not row[1].startswith("choosy")} == {"ok"}
    assert json.loads(result.out)["setting"]["metrics"] == ["l1", "dot", "asym4"]
    assert {row["variant"] for row in json.loads(result.out)["steps"]} == variants(rows)["step"]


def test_a_metric_alone_has_every_stage(fake):
    for metric, encoded in (("asym4", " asym4"), ("dot", ""), ("xor", "")):
        _, rows = fake.profile(*ONE, "--metric", metric, "--select", "group", "--page-size", "16")
        found = variants(rows)
        assert set(found) == STAGES
        assert (found["distance"], found["bucket"], found["dense"]) == ({metric}, {"fake" + encoded}, {"fake"})
        assert "six " + metric in found["step"] and {row[7] for row in rows} == {"ok", "skipped"}


@pytest.mark.parametrize("stage", ["bucket", "pack", "append", "distance", "topk"])
def test_wrong_results_of_asym4_are_noticed(fake, stage):
    _, rows = fake.profile(*ONE, "--metric", "asym4", faults=f"wrong={stage}", code=4)
    assert stage in {row[0] for row in rows if row[7] == "failed"}


def test_a_quantised_query_is_twice_as_long(fake):
    fake.profile(*ONE, "--metric", "l1,asym4")
    n_bytes = dict(query(fake.folder / "x.db", "SELECT variant, median FROM stage_summary "
                                               "WHERE stage = 'distance' AND metric = 'model_bytes'"))
    assert n_bytes["asym4"] - n_bytes["l1"] == 4 * 64 / 4


def test_the_plan_names_the_metrics(fake):
    plan = fake("profile", *ONE, "--metric", "asym4,l1", "--dry-run")
    assert "codes compared by l1, asym4" in plan.out and "units of each by asym4:" in plan.out and "fused asym4" in plan.out
    refuse(fake, "profile", "--metric", "cosine", "--db", "x.db", says=["--metric", "cosine", "asym4"])


def test_a_trace_is_coded_by_channel_for_asym4(fake, write_trace):
    write_trace()
    for thresholds in ([], ["--thresholds", "scaled:0.9"]):
        _, rows = fake.profile("--trace", "trace.safetensors", "-b", "16", "--metric", "l1,asym4", *thresholds)
        assert {row[7] for row in rows if not row[1].startswith("choosy")} == {"ok"}
        assert {"six", "six asym4"} <= variants(rows)["step"]
    refuse(fake, "profile", "--trace", "trace.safetensors", "-b", "16", "--thresholds", "scaled:0.9", "--db", "x.db",
           says=["scaled:0.9", "asym4"])


def test_a_calibration_chooses_the_metrics(fake, write_trace):
    (fake.folder / "c.json").write_text(calibration((2, "asym4", "scaled:0.9"), (5, "dot", "quantile:0.1,0.5,0.9")))
    _, rows = fake.profile("--calibration", "c.json", "--seq-lens", "300", "-b", "16")
    assert variants(rows)["distance"] == {"dot", "asym4"} and variants(rows)["dense"] == {"fake"}
    _, rows = fake.profile("--calibration", "c.json", "--seq-lens", "300", "-b", "16", "--metric", "l1")
    assert "six asym4" not in variants(rows)["step"]
    write_trace()
    _, rows = fake.profile("--trace", "trace.safetensors", "--calibration", "c.json", "-b", "16")
    assert {"six dot", "six asym4"} <= variants(rows)["step"]
    assert {row[7] for row in rows if not row[1].startswith("choosy")} == {"ok"}


# ---------------------------------------------------------------- a calibration

def calibration(*layers, metric="l1", thresholds="calibrated", shape=(4, 2, 64)):
    return json.dumps({"format": "adamas-calibration/1",
                       "shape": dict(zip(("n_q_heads", "n_kv_heads", "head_dim"), shape, strict=True)),
                       "default": {"metric": metric, "thresholds": thresholds},
                       "layers": [{"layer": n, "metric": m, "thresholds": t} for n, m, t in layers]})


def test_a_calibration_brings_heads_and_thresholds_of_each_layer(fake, write_trace):
    (fake.folder / "c.json").write_text(calibration((2, "l1", "fixed:-3,0,3"), (5, "l1", "quantile:0.1,0.5,0.9")))
    write_trace()
    plan = fake("profile", "--calibration", "c.json", "--dry-run", "--seq-lens", "300", "-b", "16")
    assert plan.code == 0 and "4 query heads, d = 64" in plan.out and "2 KV heads" in plan.out
    fake.profile("--trace", "trace.safetensors", "--calibration", "c.json", "-b", "16")
    rows = {layer: (variant, *t) for layer, variant, *t in query(
        fake.folder / "x.db", "SELECT layer, variant, t0, t1, t2 FROM calibration")}
    assert rows[2] == ("fixed:-3,0,3", -3, 0, 3)
    assert rows[5][0] == "quantile:0.1,0.5,0.9" and rows[5][1] < rows[5][2] < rows[5][3]


@pytest.mark.parametrize("text, arguments, code, says", [
    (calibration(), ["--heads", "4"], 2, ["--calibration", "leave out --heads"]),
    (calibration(shape=(4, 2, 128)), ["--trace", "trace.safetensors"], 2, ["c.json", "of 128 dimensions", "trace.safetensors"]),
    (calibration((3, "sign", "centred")), [], 77, ["c.json", "layer 3", "sign", "no GPU kernel"]),
    (calibration((2, "l1", "channel")), ["--trace", "trace.safetensors"], 2, ["'channel'", "not three for a layer"]),
    ("{}", [], 2, ["c.json", "no calibration"]),
])
def test_calibrations_that_do_not_fit(fake, write_trace, text, arguments, code, says):
    write_trace()
    (fake.folder / "c.json").write_text(text)
    refuse(fake, "profile", "--calibration", "c.json", *arguments, "--db", "x.db", code=code, says=says)
    assert not (fake.folder / "x.db").exists()
