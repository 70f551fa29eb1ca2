"""`adamas db export --run` and `adamas db import`: a run as a text file, and back: the same rows, once, all or none."""
import contextlib
import json
import shutil
import sqlite3

import pytest

from conftest import PROGRAM, ROOT, Adamas, check_sound, files_of, query, refuse

# Tables of a run, and what identifies a row in any database; `sample` stays behind.
CONFIG = """(SELECT t.xxh128 FROM trace t WHERE t.trace_id = c.trace_id), c.policy, c.variant, c.n_q_heads, c.n_kv_heads,
    c.head_dim, c.dtype, c.seq_len, c.budget, c.batch, c.n_sinks, c.n_recent, c.selection, c.cache, c.launch"""
ROWS = {
    "measurement": f"""SELECT {CONFIG}, m.source, m.stage, m.layer, m.head, k.name, k.unit, k.better, k.description, m.n,
        m.mean, m.min, m.p01, m.p05, m.p10, m.median, m.p90, m.p95, m.p99, m.max, m.status, m.reason
        FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) WHERE m.run_id = ?
        ORDER BY m.measurement_id""",
    "event": f"""SELECT {CONFIG}, e.kind, e.name, e.variant, e.step, e.layer, e.clock, e.end_ns - e.start_ns, e.start_ns -
        (SELECT min(start_ns) FROM event WHERE run_id = e.run_id)
        FROM event e LEFT JOIN config c USING (config_id) WHERE e.run_id = ? ORDER BY e.event_id""",
    "calibration": """SELECT t.xxh128, b.variant, b.layer, b.t0, b.t1, b.t2, b.xxh128 FROM calibration b JOIN trace t
        USING (trace_id) WHERE b.run_id = ? ORDER BY 1, 2, 3""",
    "activity": """SELECT stage, kind, name, end_ns - start_ns, registers, grid_x, bytes FROM activity WHERE run_id = ?
        ORDER BY activity_id""",
}


def execute(database, sql, *values):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(sql, values)
        connection.commit()


@pytest.fixture(scope="session")
def recorded(program, small_run, tmp_path_factory):
    """(database, file) of a replay with a timeline, a skipped measurement and two activities of a GPU."""
    folder = tmp_path_factory.mktemp("recorded")
    adamas, database = Adamas(folder), folder / "r.db"
    assert adamas("replay", small_run[0], "--db", "r.db", "--quiet", "--timeline", "--budgets", "16",
                  "--label", "naïve “数”").code == 0
    execute(database,
            "UPDATE measurement SET status = 'skipped', reason = 'no \"permission\"', n = 0, mean = NULL, min = NULL, "
                      "p01 = NULL, p05 = NULL, p10 = NULL, median = NULL, p90 = NULL, p95 = NULL, p99 = NULL, max = NULL "
                      "WHERE measurement_id = 7")
    execute(database,
            "INSERT INTO activity (run_id, config_id, stage, kind, name, stream, start_ns, end_ns, registers, grid_x) "
                      "VALUES (1, 1, 'topk', 'kernel', 'select<int>', 7, 9007199254740993, 9007199254741993, 32, 8)")
    execute(database, "INSERT INTO activity (run_id, kind, name, stream, start_ns, end_ns, bytes) "
                      "VALUES (1, 'memcpy', 'HtoD', 7, 9007199254742993, 9007199254742993, 4096)")
    assert adamas("db", "export", "--run", "1", "--db", "r.db", "-o", "r.json").code == 0
    return database, folder / "r.json"


def close(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-4 * max(abs(a), abs(b))  # half of the fifth digit, and room for how it is written
    return a == b


def what(row):
    """All of a row but what was measured; rows alike in that stay in their order. The file puts rows of a configuration
    together."""
    return str([value for value in row if not isinstance(value, float)])


def test_a_run_comes_back_as_it_was(adamas, recorded, tmp_path):
    result = adamas("db", "import", recorded[1], "--db", "new.db")
    assert (result.code, result.err) == (0, "") and "'recorded:naïve “数”'" in result.out
    check_sound(tmp_path / "new.db")
    for table, sql in ROWS.items():
        was, now = query(recorded[0], sql, 1), query(tmp_path / "new.db", sql, 1)
        assert len(was) == len(now) >= 2, table
        for a, b in zip(*(sorted(rows, key=what) for rows in (was, now))):
            assert all(map(close, a, b)), (table, a, b)
    assert query(tmp_path / "new.db", "SELECT count(*) FROM sample") == [(0,)]
    columns = [row[1] for row in query(recorded[0], "PRAGMA table_info(run)") if row[1] not in ("run_id", "label", "argv")]
    for table, sql in (("run", f"SELECT {', '.join(columns)} FROM run"), ("trace", "SELECT * FROM trace")):
        assert query(recorded[0], sql) == query(tmp_path / "new.db", sql), table


def test_figures_keep_five_digits_and_whole_numbers_all(adamas, recorded, tmp_path):
    """Exporting what was imported gives the same text: nothing is rounded twice, nothing is lost on the way."""
    assert adamas("db", "import", recorded[1], "--db", "new.db", "--quiet").out == ""
    again = adamas("db", "export", "--run", "1", "--db", "new.db")
    assert again.code == 0 and again.out == recorded[1].read_text()
    execute(tmp_path / "new.db", "UPDATE measurement SET mean = 123456789.0, max = 1.23456789 WHERE measurement_id = 1")
    text = adamas("db", "export", "--run", "1", "--db", "new.db").out
    assert "123456789," in text and "1.2346]" in text and "1.23456" not in text


def test_importing_twice_changes_nothing(adamas, recorded, tmp_path):
    shutil.copy(recorded[1], tmp_path / "r.json")
    assert adamas("db", "import", "r.json", "--db", "new.db").code == 0
    before = files_of(tmp_path / "new.db")
    result = adamas("db", "import", "r.json", "r.json", "--db", "new.db")
    assert result.code == 0 and result.out == "r.json: run 1 'recorded:naïve “数”' was there already\n" * 2
    assert query(tmp_path / "new.db", "SELECT count(*) FROM run") == [(1,)]
    assert files_of(tmp_path / "new.db").keys() == before.keys()
    rows = json.loads(adamas("db", "import", "r.json", "--db", "new.db", "--json").out)
    assert [(row["run_id"], row["new"]) for row in rows] == [(1, False)] and rows[0]["n_measurements"] > 100


def test_imported_runs_share_what_is_there(adamas, recorded, small_run, tmp_path):
    """Beside another run of the same trace: traces, configurations and metrics are found, not doubled."""
    shutil.copy(small_run[1], tmp_path / "own.db")
    counts = "SELECT (SELECT count(*) FROM trace), (SELECT count(*) FROM metric)"
    assert query(tmp_path / "own.db", counts)[0][0] == 1
    assert adamas("db", "import", recorded[1], "--db", "own.db").code == 0
    check_sound(tmp_path / "own.db")
    assert query(tmp_path / "own.db", counts)[0][0] == 1
    assert query(tmp_path / "own.db", "SELECT count(*), count(DISTINCT name) FROM metric")[0][0] > 5
    configs = {row[0] for row in query(tmp_path / "own.db", "SELECT config_id FROM measurement WHERE run_id = 1")}
    shared = {row[0] for row in query(tmp_path / "own.db", "SELECT config_id FROM measurement WHERE run_id = 2")} & configs
    assert shared, "the replays have budget 16 in common"
    own, = query(recorded[0], "SELECT count(*) FROM measurement")
    assert query(tmp_path / "own.db", "SELECT count(*) FROM measurement WHERE run_id = 2") == [own]


def test_several_runs_and_labels(adamas, small_run, tmp_path):
    shutil.copy(small_run[1], tmp_path / "own.db")
    assert adamas("replay", small_run[0], "--db", "own.db", "--quiet", "--budgets", "8").code == 0
    assert adamas("db", "export", "--run", "1,2", "--label", "two", "--db", "own.db", "-o", "two.json").code == 0
    assert adamas("db", "import", "two.json", "--db", "new.db", "--quiet").code == 0
    assert query(tmp_path / "new.db", "SELECT label, command FROM run") == [("recorded:two", "replay")] * 2
    lines = (tmp_path / "two.json").read_text().splitlines()
    assert max(map(len, lines)) < 4000, "a row is a line"
    adamas("db", "export", "--run", "1", "--db", "new.db", "-o", "one.json")
    assert '"label": "recorded:two"' in (tmp_path / "one.json").read_text(), "the prefix comes once"
    machine, = query(tmp_path / "own.db", "SELECT cpu_model FROM run WHERE run_id = 1")
    assert f'"label": "recorded:{machine[0]}"' in adamas("db", "export", "--run", "1", "--db", "own.db").out


def test_folders_of_the_machine_stay_behind(adamas, recorded, tmp_path):
    shutil.copy(recorded[0], tmp_path / "own.db")
    argv = ["adamas replay", "/home/me/a b.safetensors", "--db=/home/me/own.db", "--db", "rel/own.db", "a=b", "/"]
    execute(tmp_path / "own.db", "UPDATE run SET argv = ?", json.dumps(argv))
    document = json.loads(adamas("db", "export", "--run", "1", "--db", "own.db").out)
    shown = json.loads(document["runs"][0]["run"]["argv"])
    assert shown == ["adamas replay", "a b.safetensors", "--db=own.db", "--db", "rel/own.db", "a=b", ""]
    execute(tmp_path / "own.db", "UPDATE run SET argv = 'no list'")
    document = json.loads(adamas("db", "export", "--run", "1", "--db", "own.db").out)
    assert document["runs"][0]["run"]["argv"] == "no list"


def spoiled(change):
    """change(document) -> a file's text that is wrong in one place."""
    def make(text):
        document = json.loads(text)
        change(document)
        return json.dumps(document)
    return make


def first_line(document):
    """["host", "hadamard", {"time_ns": [n, ...], ...}]"""
    return next(line for config in document["runs"][0]["configs"] for line in config["measurements"] if "time_ns" in line[-1])


def first_figures(document):
    figures = first_line(document)[-1]["time_ns"]
    assert len(figures) == 11
    return figures


WRONG = {
    "empty": (lambda text: "", "line"),
    "text": (lambda text: "hello", "line 1"),
    "cut": (lambda text: text[:len(text) // 2], "line"),
    "array": (lambda text: "[]", "format"),
    "deep": (lambda text: "[" * 100000, "line 1"),
    "other format": (lambda text: '{"format": "adamas-report/1"}', "adamas-runs/1"),
    "newer format": (lambda text: '{"format": "adamas-runs/2"}', "newer adamas"),
    "no run": (spoiled(lambda d: d.update(runs=[])), "no run"),
    "runs missing": (spoiled(lambda d: d.pop("runs")), "'runs'"),
    "doubled key": (lambda text: text.replace('"seed": ', '"seed": 1,"seed": ', 1), "uplicate"),
    "unknown column": (spoiled(lambda d: d["config_columns"].append("colour")), "'colour'"),
    "column twice": (spoiled(lambda d: d["config_columns"].append("policy")), "'policy'"),
    "column missing": (spoiled(lambda d: d["config_columns"].remove("policy")), "policy"),
    "unknown field": (spoiled(lambda d: d["runs"][0]["run"].update(mood="good")), "runs[0]"),
    "field missing": (spoiled(lambda d: d["runs"][0]["run"].pop("started_utc")), "'started_utc' is missing"),
    "not recorded": (spoiled(lambda d: d["runs"][0]["run"].update(label="mine")), "recorded:"),
    "wrong type": (spoiled(lambda d: d["runs"][0]["run"].update(seed="1")), "'seed' must be a whole number"),
    "fraction": (spoiled(lambda d: d["runs"][0]["run"].update(n_cpus=1.5)), "'n_cpus' must be a whole number"),
    "run status": (spoiled(lambda d: d["runs"][0]["run"].update(status="fine")), "status"),
    "config short": (spoiled(lambda d: d["runs"][0]["configs"][0]["config"].pop()), "configs[0]"),
    "config long": (spoiled(lambda d: d["runs"][0]["configs"][0]["config"].extend([1] * 30)), "configs[0]: it has"),
    "config null": (spoiled(lambda d: d["runs"][0]["configs"][0].update(config=None)), "configs[0]"),
    "unknown trace": (spoiled(lambda d: d["traces"].clear()), "trace that the file does not hold"),
    "trace of no kind": (spoiled(lambda d: d["traces"][0].update(kind="imagined", xxh128="0")), "traces[0]"),
    "unknown stage": (spoiled(lambda d: first_line(d).__setitem__(1, "lunch")),
                      ".time_ns: own.db does not take the row: CHECK"),
    "unknown metric": (spoiled(lambda d: first_line(d)[-1].update(joy=1)), ".joy: this metric is not"),
    "no metrics": (spoiled(lambda d: first_line(d).pop()), "an object"),
    "half a place": (spoiled(lambda d: first_line(d).insert(2, 5)), "an object"),
    "source missing": (spoiled(lambda d: first_line(d).__setitem__(0, None)), "'source' is missing"),
    "figures missing": (spoiled(lambda d: first_figures(d).pop()), "list of 10 values is no measurement"),
    "figure null": (spoiled(lambda d: first_figures(d).__setitem__(-1, None)), "is missing"),
    "figure text": (spoiled(lambda d: first_figures(d).__setitem__(-1, "1")), "must be a number"),
    "n not whole": (spoiled(lambda d: first_figures(d).__setitem__(0, 1.5)), "'n' must be a whole number"),
    "measurement null": (spoiled(lambda d: first_line(d)[-1].update(time_ns=None)), "is missing"),
    "infinite": (lambda text: text.replace('"elapsed_ns": ', '"elapsed_ns": 1e999', 1), "line"),
    "head beyond any": (spoiled(lambda d: next(line for config in d["runs"][0]["configs"] for line in config["measurements"]
                                               if len(line) == 5).__setitem__(3, 4_000_000_000)), "head is 4000000000"),
    "layer beyond any": (spoiled(lambda d: next(line for config in d["runs"][0]["configs"] for line in config["measurements"]
                                                if len(line) == 5).__setitem__(2, 5000)), "layer is 5000, outside 0 to 4095"),
    "head dimension": (spoiled(lambda d: d["runs"][0]["configs"][0]["config"].__setitem__(
        d["config_columns"].index("head_dim"), 1 << 40)), "head_dim is"),
    "long label": (spoiled(lambda d: d["runs"][0]["run"].update(label="recorded:" + "x" * (1 << 20))),
                   "label has 1048585 bytes"),
    "invalid UTF-8": (lambda text: text.replace('"unit":"', '"unit":"\udcff', 1), "invalid UTF-8"),
    "measured twice": (spoiled(lambda d: [config["measurements"].extend(config["measurements"]) for config in
                                           d["runs"][0]["configs"]]), "UNIQUE"),
    "metric of another unit": (spoiled(lambda d: d["metrics"][0].update(unit="miles")), "another unit"),
    "event of no configuration": (spoiled(lambda d: d["runs"][0]["events"][-1].__setitem__(0, 10**6)), "events["),
    "event backwards": (spoiled(lambda d: d["runs"][0]["activities"][-1].__setitem__(
        d["activity_columns"].index("end_ns"), -1)), "activities[1]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_leaves_no_trace(adamas, recorded, small_run, tmp_path, case):
    """Exit 2 with one sentence that names the file; whatever was read before the wrong place is taken back."""
    spoil, says = WRONG[case]
    (tmp_path / "wrong.json").write_text(spoil(recorded[1].read_text()), errors="surrogateescape")
    shutil.copy(small_run[1], tmp_path / "own.db")
    tables = ["run", "config", "metric", "measurement", "event", "activity", "trace", "calibration"]
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    before = query(tmp_path / "own.db", count)
    refuse(adamas, "db", "import", "wrong.json", "--db", "own.db", says=["wrong.json", says])
    assert query(tmp_path / "own.db", count) == before
    check_sound(tmp_path / "own.db")


@pytest.mark.parametrize("arguments, says", [
    (["export", "--run", "9", "--db", "{db}"], "no run 9"), (["export", "--run", "x", "--db", "{db}"], "'x'"),
    (["export", "--run", "1", "--db", "{db}", "-o", "none/r.json"], "none/r.json"),
    (["import", "gone.json", "--db", "new.db"], "gone.json"), (["import", ".", "--db", "new.db"], "regular file")])
def test_what_cannot_be_done_is_said(adamas, recorded, arguments, says):
    refuse(adamas, "db", *(argument.format(db=recorded[0]) for argument in arguments), says=[says])


def test_an_unfinished_run_is_not_exported(adamas, recorded, tmp_path):
    shutil.copy(recorded[0], tmp_path / "own.db")
    execute(tmp_path / "own.db", "UPDATE run SET status = 'interrupted', reason = 'by hand'")
    refuse(adamas, "db", "export", "--run", "1", "--db", "own.db", "-o", "r.json", says=["interrupted"])
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("arguments", [["import"], ["export", "--run", "1", "--timeline", "1"],
                                       ["export", "--timeline", "1", "--label", "x"]])
def test_bad_usage(adamas, arguments):
    result = adamas("db", *arguments)
    assert (result.code, result.out) == (2, "") and "adamas db" in result.err


def test_the_repository_s_recorded_runs(adamas, tmp_path):
    """Every file in analysis/recorded/ goes into a database and its report, labelled as recorded."""
    files = sorted((ROOT / "analysis/recorded").glob("*.json"))
    if not files:
        pytest.skip("no run has been recorded in the repository yet")
    result = adamas("db", "import", *files, "--db", "new.db")
    assert (result.code, result.err) == (0, "")
    check_sound(tmp_path / "new.db")
    assert adamas("report", "--db", "new.db", "--quiet").code == 0
    page = (tmp_path / "report.html").read_text()
    for gpu, in query(tmp_path / "new.db", "SELECT DISTINCT gpu_name FROM run WHERE gpu_name IS NOT NULL"):
        assert f"<h3>{gpu} <span class=\"badge recorded\">" in page


def test_every_table_of_a_run_is_decided_on(recorded):
    """A table that a later schema adds to a run belongs into the file, or into this list of what stays behind."""
    carried = {"measurement", "calibration", "event", "activity"}
    behind = {"check_run",            # says which runs of one database were compared
              "candidate", "tuned",   # name files of one machine
              "shard",                # the parts of a joined run, each a run where it was measured
              "simulation", "validation", "whole_validation"}  # are computed anew from what is carried
    with_run = {name for name, in query(recorded[0], "SELECT m.name FROM sqlite_schema m, pragma_table_info(m.name) c "
                                        "WHERE m.type = 'table' AND c.name = 'run_id' AND m.name <> 'run'")}
    assert with_run == carried | behind
    measured = {"run_id", "config_id", "metric_id", "measurement_id", "source", "stage", "layer", "head", "n", "mean", "min",
                "p01", "p05", "p10", "median", "p90", "p95", "p99", "max", "status", "reason",
                "of_shard"}  # stays behind with the parts that it names
    assert {row[1] for row in query(recorded[0], "PRAGMA table_info(measurement)")} == measured


# ---- raw samples -------------------------------------------------------------------------------------------------------

SAMPLES = """SELECT c.seq_len, c.variant, c.budget, m.stage, s.i, s.value, s.throttle FROM sample s JOIN measurement m
    USING (measurement_id) JOIN config c USING (config_id) JOIN metric k USING (metric_id) WHERE m.run_id = 1
    AND k.name = 'time_ns' ORDER BY 1, 2, 3, 4, 5"""
PROVENANCE = "recorded without samples"


@pytest.fixture(scope="session")
def timed(program, tmp_path_factory):
    """The folder of gpu.db: a run of `adamas profile` on a device of host memory, with raw samples; one was throttled."""
    folder = tmp_path_factory.mktemp("timed")
    adamas = Adamas(folder)
    adamas.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    result = adamas("profile", "--db", "gpu.db", "--seq-lens", "100", "--budgets", "16", "--heads", "4", "--kv-heads", "4",
                    "--head-dim", "64", "--quiet")
    assert result.code == 0, result
    execute(folder / "gpu.db", "UPDATE sample SET throttle = 4 * (i = 3) WHERE measurement_id = (SELECT min(measurement_id) "
                               "FROM measurement WHERE stage = 'topk' AND status = 'ok' AND n = 20)")
    return folder


def exported(adamas, timed, *arguments):
    result = adamas("db", "export", "--run", "1", "--db", timed / "gpu.db", *arguments)
    assert result.code == 0, result
    return result.out


def run_in_report(adamas, database):
    [run] = json.loads(adamas("report", "--db", database, "--json").out)["runs"]
    return run


def test_samples_come_back_where_they_were_asked_for(adamas, timed, tmp_path):
    text = exported(adamas, timed, "--samples")
    (tmp_path / "s.json").write_text(text)
    assert adamas("db", "import", "s.json", "--db", "new.db", "--quiet").code == 0
    check_sound(tmp_path / "new.db")
    was, now = query(timed / "gpu.db", SAMPLES), query(tmp_path / "new.db", SAMPLES)
    assert len(was) == len(now) >= 9 * 20 and any(row[-1] == 4 for row in was)
    for a, b in zip(was, now):
        assert all(map(close, a, b)), (a, b)
    assert adamas("db", "export", "--run", "1", "--samples", "--db", "new.db").out == text
    n = len(was) // 20
    assert run_in_report(adamas, "new.db")["samples"] == f"of {n} of {n} times"
    assert adamas("report", "--db", "new.db", "--quiet").code == 0
    assert PROVENANCE not in (tmp_path / "report.html").read_text()


def test_a_file_without_samples_is_as_before_and_the_report_says_so(adamas, timed, tmp_path):
    text = exported(adamas, timed)
    assert "samples" not in json.loads(text)["runs"][0]
    (tmp_path / "s.json").write_text(text)
    assert adamas("db", "import", "s.json", "--db", "new.db", "--quiet").code == 0
    assert query(tmp_path / "new.db", "SELECT count(*) FROM sample") == [(0,)]
    assert run_in_report(adamas, "new.db")["samples"] == PROVENANCE
    assert adamas("report", "--db", "new.db", "--quiet").code == 0
    page = (tmp_path / "report.html").read_text()
    assert f'<td class=text>{PROVENANCE}' in page and "They were recorded without samples" in page
    with_samples = json.loads(exported(adamas, timed, "--samples"))
    del with_samples["runs"][0]["samples"]
    assert with_samples == json.loads(text), "a program that does not know the list reads the rest"


@pytest.mark.parametrize("spoil, says", [
    (lambda lines: lines[0][2].pop(), "n of its time is 20"), (lambda lines: lines[0].__setitem__(0, 99), "position"),
    (lambda lines: lines[0].__setitem__(1, "nothing"), "'nothing'"), (lambda lines: lines.append(lines[0]), "already"),
    (lambda lines: lines[0][2].__setitem__(3, "x"), "a number"), (lambda lines: lines.append(7), "samples["),
])
def test_samples_that_do_not_fit_are_refused_whole(adamas, timed, tmp_path, spoil, says):
    document = json.loads(exported(adamas, timed, "--samples"))
    spoil(document["runs"][0]["samples"])
    (tmp_path / "s.json").write_text(json.dumps(document))
    refuse(adamas, "db", "import", "s.json", "--db", "new.db", says=["s.json", "runs[0].samples[", says])
    if (tmp_path / "new.db").exists():
        assert query(tmp_path / "new.db", "SELECT count(*) FROM run") == [(0,)]


def test_shipped_files_say_that_they_have_no_samples(adamas, tmp_path):
    for file in sorted((ROOT / "analysis/recorded").glob("*.json")):
        assert adamas("db", "import", file, "--db", "all.db", "--quiet").code == 0
    shown = json.loads(adamas("report", "--db", "all.db", "--json").out)["runs"]
    assert shown and {run["samples"] for run in shown} == {PROVENANCE}


def test_samples_go_with_runs(adamas, timed):
    result = adamas("db", "export", "--timeline", "1", "--samples", "--db", timed / "gpu.db")
    assert result.code == 2 and "--samples goes with --run" in result.err
