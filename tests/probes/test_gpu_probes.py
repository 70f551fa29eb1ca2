"""`adamas profile --counters --timeline` from end to end without a GPU: the fake device of tests/support/fake_gpu.c, counted
and traced by the fake CUPTI of tests/support/fake_cupti.c. What the counts mean is made up there; which ranges are counted how
often, how values and reasons reach the database, and that nothing that CUPTI answers ends the run, is the program's own.
"""
import json
import os
import shutil
from collections import Counter
from itertools import pairwise

import pytest

from conftest import PROGRAM, Adamas, check_sound, query, refuse, without
from test_nvtx import TOOL, read_log

SMALL = ["--seq-lens", "100", "--budgets", "16,64", "--heads", "4", "--kv-heads", "2", "--head-dim", "64"]
FAKE = PROGRAM.parent / "tests/fake_cupti.so"
N_PASSES = 3

COUNTED = """
SELECT stage, variant, ifnull(budget, 0), metric, median, status, ifnull(reason, '') FROM stage_summary JOIN metric ON name =
metric WHERE source = 'gpu' AND launch = 'stream' AND metric IN (SELECT value FROM json_each(?))"""


class Observed(Adamas):
    def __init__(self, folder):
        super().__init__(folder)
        self.path = PROGRAM.parent / "tests/adamas-fake-gpu"
        (folder / "lib").mkdir()
        shutil.copy(FAKE, folder / "lib/libcuda.so.1")
        self.log = folder / "cupti.log"
        self.database = folder / "x.db"

    def profile(self, *arguments, code=0, **environment):
        self.database.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        result = self("profile", *without(SMALL, arguments), "--db", self.database, *arguments, env={
            **os.environ, "LD_LIBRARY_PATH": str(self.folder / "lib"), "ADAMAS_CUPTI": str(FAKE),
            "ADAMAS_FAKE_CUPTI_LOG": str(self.log), **environment})
        assert result.code == code, result
        check_sound(self.database)
        times = query(self.database, "SELECT status FROM stage_summary WHERE metric = 'time_ns'")
        assert times and set(times) <= {("ok",), ("skipped",)}, "counting or tracing spoiled the timing"
        assert query(self.database, "SELECT status FROM run") == [("complete",)]
        return result

    def counters(self, names=None):
        """Rows of COUNTED, of all metrics of the set full or those named."""
        if names is None:
            names = [m["name"] for m in json.loads(self("counters", "list", "--set", "full", "--json").out)[0]["metrics"]]
        return query(self.database, COUNTED, json.dumps(names))

    def traced(self, metric):
        return query(self.database, "SELECT stage, variant, launch, n, median, status, ifnull(reason, '') FROM stage_summary "
                                    "WHERE metric = ?", metric)


@pytest.fixture
def fake(program, tmp_path):
    if not FAKE.exists():
        pytest.skip("this build has no CUPTI headers, so there is no fake CUPTI either: configure it with a CUDA toolkit")
    return Observed(tmp_path)


def n_units(database):
    """Those that ran: one of the fake's implementations takes no shape."""
    return query(database,
                 "SELECT count(*) FROM (SELECT DISTINCT stage, variant, budget FROM stage_summary WHERE metric = 'time_ns' "
                           "AND status = 'ok')")[0][0]


# ---- counters ----

def test_every_unit_is_counted_once_a_pass(fake):
    result = fake.profile("--counters", "full")
    calls = fake.log.read_text().splitlines()
    n = n_units(fake.database)
    passes = [line for p in range(N_PASSES) for line in [f"pass {p}", *(f"push {i} {p}" for i in range(n))]]
    assert calls == ["enable", *passes, "disable"]
    assert f"counted in {N_PASSES} passes and " in result.out
    rows = fake.counters()
    assert len(rows) == len({row[:4] for row in rows}) == n * len({row[3] for row in rows}) and n > 12


def test_two_configurations_are_two_collections(fake):
    fake.profile("--counters", "basic", "--kv-heads", "2,4")
    calls = Counter(line.split()[0] for line in fake.log.read_text().splitlines())
    assert calls["enable"] == calls["disable"] == 2 and calls["pass"] == 2 * N_PASSES


def test_values_are_those_of_the_unit_and_formulas_hold(fake):
    fake.profile("--counters", "full")
    rows = fake.counters()
    of_unit = {}
    for *unit, metric, value, status, _ in rows:
        of_unit.setdefault(tuple(unit), {})[metric] = value if status == "ok" else None
    # The fake's value is 1000 * (range + 1) + the length of the metric's name: each unit has a range of its own.
    ranges = {unit: (values["dram__bytes_read.sum"] - len("dram__bytes_read.sum")) / 1000 for unit, values in of_unit.items()}
    assert sorted(ranges.values()) == list(range(1, len(of_unit) + 1))
    models = {(s, v, b): m for s, v, b,
              m in query(fake.database, "SELECT stage, variant, ifnull(budget, 0), median FROM stage_summary "
                                                                  "WHERE metric = 'model_bytes' AND launch = 'graph'")}
    times = {(s, v, b): m for s, v, b,
             m in query(fake.database, "SELECT stage, variant, ifnull(budget, 0), median FROM stage_summary "
                                                                 "WHERE metric = 'time_ns' AND launch = 'graph'")}
    for unit, v in of_unit.items():
        assert v["achieved_occupancy_ratio"] == pytest.approx(v["sm__warps_active.avg.pct_of_peak_sustained_active"] / 100)
        hits, reads = v["lts__t_sectors_op_read_lookup_hit.sum"], v["lts__t_sectors_op_read.sum"]
        assert v["l2_read_hit_ratio"] == pytest.approx(hits / reads)
        assert sum(v[m] for m in v if m.startswith("stall_")) == pytest.approx(1)
        assert 0 < v["dram__bytes_read.sum"] / v["dram_read_model_ratio"] <= models[unit] * 1.000001
        assert v["dram_bytes_per_s"] == pytest.approx((v["dram__bytes_read.sum"] +
                                                       v["dram__bytes_write.sum"]) / times[unit] * 1e9)


def test_what_the_chip_lacks_or_does_not_say_has_a_reason(fake):
    fake.profile("--counters", "full")
    reasons = {row[3]: row[4:] for row in fake.counters() if row[5] != "ok"}
    assert set(reasons) == {"sm__inst_executed_pipe_tensor_op_gmma.sum", "sm__inst_executed_pipe_xu.sum"}
    for metric, (value, status, reason) in reasons.items():
        assert (value, status) == (None, "skipped") and metric in reason
    assert "FAKE100 has no metric" in reasons["sm__inst_executed_pipe_tensor_op_gmma.sum"][2]


def test_a_metric_under_another_name_is_counted_and_its_formulas_hold(fake):
    fake.profile("--counters", "basic", ADAMAS_FAKE_CUPTI_LACKS="dram__bytes_read")
    names = ["dram__bytes_read.sum", "dram__bytes_write.sum", "dram_read_model_ratio"]
    of_unit = {}
    for *unit, metric, value, status, reason in fake.counters(names):
        assert status == "ok", reason
        of_unit.setdefault(tuple(unit), {})[metric] = value
    assert len(of_unit) == n_units(fake.database)
    more = len("dram__bytes_op_read.sum") - len("dram__bytes_write.sum")  # the fake's value holds the length of the name
    assert all(v["dram__bytes_read.sum"] == v["dram__bytes_write.sum"] + more for v in of_unit.values())


@pytest.mark.parametrize("function, result, says", [
    ("cuptiProfilerGetCounterAvailability", 35, "NVreg_RestrictProfilingToAdminUsers=0"),
    ("cuptiRangeProfilerStart", 35, "CAP_SYS_ADMIN"),
    ("cuptiProfilerInitialize", 39, "another profiler is attached"),
    ("cuptiRangeProfilerEnable", 40, "enable_profiling=1"),
    ("cuptiRangeProfilerEnable", 41, "confidential computing"),
    ("cuptiProfilerGetCounterAvailability", 43, "MIG"),
    ("cuptiDeviceGetChipName", 46, "newer CUDA Toolkit"),
    ("cuptiRangeProfilerSetConfig", 26, "another profiler or monitor"),
    ("cuptiRangeProfilerPushRange", 7, "fake error 7"),
    ("cuptiRangeProfilerStop", 999, "fake error 999"),
    ("cuptiRangeProfilerDecodeData", 999, "fake error 999"),
    ("cuptiRangeProfilerGetCounterDataInfo", 1, "fake error 1"),
    ("cuptiProfilerHostGetSupportedChips", 999, None), ("cuptiProfilerHostInitialize", 999, "fake error 999"),
    ("cuptiProfilerHostGetConfigImage", 8, "out of memory"), ("cuptiRangeProfilerGetCounterDataSize", 999, "fake error 999"),
])
def test_no_answer_of_cupti_ends_the_run(fake, function, result, says):
    printed = fake.profile("--counters", "basic", ADAMAS_FAKE_CUPTI=f"{function}:{result}").out
    names = [m["name"] for m in json.loads(fake("counters", "list", "--set", "basic", "--json").out)[0]["metrics"]]
    rows = fake.counters(names)
    assert len(rows) == n_units(fake.database) * len(names)
    if says is None:  # only a list that nobody needs
        assert {row[5] for row in rows} == {"ok"}
        return
    assert {row[5] for row in rows} == {"skipped"} and all(row[4] is None and says in row[6] for row in rows), rows[0]
    assert f"not counted: {rows[0][6][:100]}" in printed


def test_a_chip_that_cupti_does_not_know(fake):
    fake.profile("--counters", "basic", ADAMAS_FAKE_CUPTI_CHIP="NEW999")
    assert all(row[5] == "skipped" and "NEW999" in row[6] for row in fake.counters(["dram__bytes_read.sum"]))


@pytest.mark.parametrize("environment, says", [
    ({"ADAMAS_CUPTI": "/nowhere/libcupti.so.13"}, "/nowhere/libcupti.so.13"), ({"ADAMAS_FAKE_CUPTI_OLD": "1"}, "13.0 or newer"),
    ({"LD_LIBRARY_PATH": ""}, "CUDA context")])
def test_without_cupti_or_a_driver(fake, environment, says):
    if "LD_LIBRARY_PATH" in environment and os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver")
    fake.profile("--counters", "basic", "--timeline", **environment)
    rows = fake.counters(["dram__bytes_read.sum"])
    assert len(rows) == n_units(fake.database) and all(row[5] == "skipped" and says in row[6] for row in rows)


def test_dropped_ranges_have_no_counts_and_the_others_do(fake):
    fake.profile("--counters", "basic", ADAMAS_FAKE_CUPTI_DROP="2")
    status = Counter((row[5], row[6]) for row in fake.counters(["dram__bytes_read.sum"]))
    n = n_units(fake.database)
    assert status == {("ok", ""): n - 2, ("skipped", f"CUPTI dropped 2 of {n} ranges of a counter collection"): 2}


def test_a_wrong_unit_is_not_counted(fake):
    result = fake("profile", *SMALL, "--db", fake.database, "--counters", "basic", "--timeline", env={
        **os.environ, "LD_LIBRARY_PATH": str(fake.folder / "lib"), "ADAMAS_CUPTI": str(FAKE), "ADAMAS_FAKE_GPU": "wrong=topk"})
    assert result.code == 4
    stages = {row[0] for row in fake.counters(["dram__bytes_read.sum"])}
    assert "distance" in stages and "topk" not in stages


def test_a_set_of_ones_own(fake):
    (fake.folder / "mine.metrics").write_text("summary = mine\n\n[fake__a.sum]\nunit = bytes\nbetter = lower\nmeaning = Bytes "
                                              "of a\n[double_a]\nformula = fake__a.sum * 2\nunit = bytes\nbetter = "
                                              "none\nmeaning = Twice\n")
    fake.profile("--counters", "./mine.metrics")
    rows = fake.counters(["fake__a.sum", "double_a"])
    values = {}
    for *unit, metric, value, status, _ in rows:
        assert status == "ok"
        values.setdefault(tuple(unit), {})[metric] = value
    assert all(v["double_a"] == 2 * v["fake__a.sum"] for v in values.values()) and len(rows) == 2 * len(values)


def test_an_unknown_set_is_refused_before_anything_runs(fake):
    refuse(fake, "profile", *SMALL, "--counters", "everything", "--db", fake.database,
           says=["everything", "basic, memory, full, mix"])
    assert not fake.database.exists()


# ---- timeline ----

def test_kernels_belong_to_the_stage_that_launched_them(fake):
    fake.profile("--timeline", "--launch", "stream")
    rows = query(fake.database, "SELECT variant, stage, step, count(*), min(registers), min(grid_x * grid_y), min(block_x), "
                                "min(static_shared_bytes), min(dynamic_shared_bytes) FROM activity JOIN config USING "
                                "(config_id) WHERE variant = 'six' AND budget = 16 GROUP BY 1, 2, 3")
    six = ["append", "attention", "bucket", "distance", "hadamard", "pack", "topk"]
    assert [(row[1], row[2]) for row in rows] == [(stage, step) for stage in six for step in range(5)]
    assert {row[3:] for row in rows} == {(1, 32, 8, 128, 512, 64)}
    assert {row[0] for row in query(fake.database, "SELECT DISTINCT name FROM activity")} == {"fake"}
    assert all(row[3:6] == (5, 7, "ok") if row[1] == "six" else row[3:6] == (5, 1, "ok")
               for row in fake.traced("kernel_launches"))


def test_events_nest_on_both_clocks(fake):
    fake.profile("--timeline", "--launch", "stream")
    for clock in ("gpu", "host"):
        rows = query(fake.database, "SELECT kind, name, step, start_ns, end_ns FROM event JOIN config USING (config_id) "
                                    "WHERE config.variant = 'six' AND budget = 64 AND clock = ? ORDER BY start_ns, end_ns DESC",
                                    clock)
        assert Counter(row[0] for row in rows) == {"step": 5, "stage": 35}
        for at in range(0, 40, 8):
            step, *stages = rows[at:at + 8]
            assert step[0] == "step" and [row[1] for row in stages] == ["hadamard", "bucket", "pack", "append", "distance",
                                                                        "topk", "attention"]
            assert step[3] <= stages[0][3] and stages[-1][4] <= step[4]
            assert all(a[4] <= b[3] for a, b in pairwise(stages))
    assert query(fake.database, "SELECT count(*) FROM event e WHERE clock = 'gpu' AND NOT EXISTS (SELECT 1 FROM config "
                                "WHERE config_id = e.config_id)") == [(0,)]


def test_gaps_and_busy_time_of_a_call(fake):
    fake.profile("--timeline", "--launch", "stream")
    span = {step: (end - start, busy) for step, start, end, busy in query(
        fake.database,
        "SELECT step, min(start_ns), max(end_ns), sum(end_ns - start_ns) FROM activity JOIN config USING (config_id) "
                       "WHERE variant = 'six' AND budget = 16 GROUP BY step")}
    stored = {metric: [value for _, value in query(
                       fake.database, "SELECT i, value FROM sample JOIN measurement USING (measurement_id) "
                       "JOIN metric USING (metric_id) JOIN config USING (config_id) WHERE name = ? AND variant = 'six' AND "
                       "budget = 16 ORDER BY i", metric)] for metric in ("kernel_time_ns", "launch_gap_ns")}
    assert stored["kernel_time_ns"] == [700.0] * 5 == [busy for _, busy in span.values()]
    assert stored["launch_gap_ns"] == [whole - busy for whole, busy in span.values()] and min(stored["launch_gap_ns"]) >= 6000


def test_dependent_launches_overlap_and_events_do_not(fake):
    fake.profile("--timeline", "--launch", "stream", ADAMAS_FAKE_CUPTI_EARLY="1")
    kernels = query(fake.database, "SELECT start_ns, end_ns FROM activity ORDER BY start_ns")
    assert all(b[0] == a[1] - 40 for a, b in pairwise(kernels))
    stages = query(fake.database, "SELECT start_ns, end_ns FROM event WHERE clock = 'gpu' AND kind = 'stage' ORDER BY start_ns")
    assert all(a[1] <= b[0] for a, b in pairwise(stages))
    assert {row[4] for row in fake.traced("launch_gap_ns")} == {0.0}
    assert {row[4] for row in fake.traced("kernel_time_ns") if row[1] != "six"} == {60.0}


def test_kernels_of_a_graph_are_told_apart_by_their_order(fake):
    fake.profile("--timeline", "--launch", "graph", ADAMAS_FAKE_CUPTI_KERNELS="7")
    stages = [stage for stage, in query(
        fake.database, "SELECT stage FROM activity JOIN config USING (config_id) WHERE variant = 'six' "
        "AND budget = 16 AND step = 2 ORDER BY start_ns")]
    assert stages == ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention"]
    # A unit of one node cannot be told apart from seven kernels, and need not be.
    assert query(fake.database,
                 "SELECT DISTINCT stage FROM activity JOIN config USING (config_id) WHERE variant = 'l1'") == [("distance",)]
    # A graph that ran other kernels than were captured is of its step alone.
    fake.profile("--timeline", "--launch", "graph", ADAMAS_FAKE_CUPTI_KERNELS="3")
    assert query(fake.database,
                 "SELECT DISTINCT stage FROM activity JOIN config USING (config_id) WHERE variant = 'six'") == [(None,)]


def test_lost_records_are_counted(fake):
    fake.profile("--timeline", ADAMAS_FAKE_CUPTI_LOST="1")
    assert {row[4] for row in fake.traced("activity_dropped")} == {5.0}
    fake.profile("--timeline")
    assert {row[4] for row in fake.traced("activity_dropped")} == {0.0}


@pytest.mark.parametrize("function, result, says", [
    ("cuptiActivityEnable", 39, "another profiler"), ("cuptiActivityRegisterCallbacks", 999, "fake error 999"),
    ("cuptiActivityFlushAll", 999, "fake error 999")])
def test_a_trace_that_cannot_be_is_a_reason(fake, function, result, says):
    printed = fake.profile("--timeline", ADAMAS_FAKE_CUPTI=f"{function}:{result}").out
    assert "not traced: " in printed and says in printed
    for metric in ("kernel_time_ns", "launch_gap_ns", "kernel_launches"):
        rows = fake.traced(metric)
        assert len(rows) == n_units(fake.database) and {row[5] for row in rows} == {"skipped"}, metric


def test_the_timeline_is_exported(fake):
    fake.profile("--timeline", "--launch", "graph,stream")
    assert fake("db", "export", "--timeline", "1", "--db", fake.database, "-o", "t.json").code == 0
    document = json.loads((fake.folder / "t.json").read_text())
    slices = [e for e in document["traceEvents"] if e["ph"] == "X"]
    threads = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    kernels = [e for e in slices if threads[e["tid"]] == "gpu kernels"]
    assert set(threads.values()) == {"host clock", "gpu clock", "gpu kernels"}
    assert len(kernels) == query(fake.database, "SELECT count(*) FROM activity")[0][0] and kernels[0]["args"]["registers"] == 32


# ---- what newer CUPTI releases offer ----

FACTS = ("SELECT name, median, measurement.status, ifnull(reason, '') FROM measurement JOIN metric USING (metric_id) "
         "JOIN config USING (config_id) WHERE variant = 'cupti'")


def facts(fake):
    return {metric: (value, status, reason) for metric, value, status, reason in query(fake.database, FACTS)}


def test_what_cupti_offers_is_recorded(fake):
    fake.profile("--timeline")
    assert fake.log.read_text().splitlines()[0] == "hardware timestamps 1"
    rows = facts(fake)
    assert rows["cupti_version"] == (130001, "ok", "") and rows["hardware_timestamps"] == (1, "ok", "")
    assert rows["clock_lock_status"] == (2, "ok", "")
    assert rows["cupti_cache_control"][:2] == (None, "skipped") and "came with 13.4" in rows["cupti_cache_control"][2]


@pytest.mark.parametrize("arguments, says", [
    (["--timeline", "--timestamps", "software"], "not asked for"), (["--counters", "basic"], "not asked for")])
def test_hardware_timestamps_are_not_always_asked_for(fake, arguments, says):
    fake.profile(*arguments)
    assert not fake.log.exists() or "hardware" not in fake.log.read_text()
    assert facts(fake)["hardware_timestamps"] == (None, "skipped", says)


@pytest.mark.parametrize("function, metric", [("cuptiActivityEnableHWTrace", "hardware_timestamps"),
                                              ("cuptiClockControlGetStatus", "clock_lock_status")])
def test_what_cupti_refuses_is_a_reason(fake, function, metric):
    fake.profile("--timeline", ADAMAS_FAKE_CUPTI=f"{function}:43")
    assert facts(fake)[metric][:2] == (None, "skipped") and "MIG" in facts(fake)[metric][2]
    assert {row[5] for row in fake.traced("kernel_time_ns")} == {"ok"}


def test_without_counters_and_timeline_cupti_is_not_looked_for(fake):
    fake.profile()
    assert facts(fake) == {}


def test_timestamps_are_auto_or_software(fake):
    result = fake("profile", *SMALL, "--timestamps", "precise", "--db", fake.database)
    assert result.code == 2 and "--timestamps: 'precise' is not known; there are auto, software" in result.err


# ---- ranges for tools, and the device's state ----

def test_a_tool_sees_the_profile_as_ranges(fake):
    if not TOOL.exists():
        pytest.skip("this build has no NVTX")
    fake.profile("--counters", "basic", "--timeline", "--launch", "stream", NVTX_INJECTION64_PATH=str(TOOL),
                 ADAMAS_NVTX_LOG=str(fake.folder / "nvtx.txt"))
    log = read_log(fake.folder / "nvtx.txt")
    assert log.domains == ["adamas"] and log.n_plain == 0
    assert log.ranges[-1].name == "profile" and log.ranges[-1].category == "session"
    n = n_units(fake.database)
    outer = [r for r in log.ranges if r.parents == ("profile",)]
    # Each unit is checked; those that run are timed, in every pass of the counters, and traced five times.
    n_checked = query(fake.database, "SELECT count(*) FROM (SELECT DISTINCT stage, variant, budget FROM stage_summary WHERE "
                                     "metric = 'time_ns')")[0][0]
    assert len(outer) == n_checked + n * (1 + N_PASSES + 5)
    assert {r.payload["seq_len"] for r in outer} == {100} and {r.payload["budget"] for r in outer} == {0, 16, 64}
    inside = [r for r in log.ranges if len(r.parents) == 2]
    assert {r.parents for r in inside} == {("profile", "step")}
    assert Counter(r.name for r in inside
                   if r.payload["step"] >= 0)["attention"] == 2 * 5  # of `six`; fused steps have one `step`


def test_without_nvml_every_state_has_its_reason(fake):
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver, hence NVML")
    fake.profile()
    rows = query(fake.database,
                 "SELECT metric, status, reason FROM stage_summary WHERE metric IN ('sm_clock_hz', 'memory_clock_hz', "
                                "'power_w', 'temperature_c', 'throttled_ratio')")
    assert len(rows) == 5 * n_units(fake.database) and all(r[1] == "skipped" and "libnvidia-ml" in r[2] for r in rows)
    assert query(fake.database, "SELECT DISTINCT throttle FROM sample") == [(None,)]
