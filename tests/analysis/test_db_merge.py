"""`adamas db merge` and `adamas db gc`: baselines that are put together, and kept small."""
import json
import shutil

import pytest

from conftest import SCHEMA_VERSION, check_sound, query, refuse
from tracked_runs import Runs, insert

TABLES = ("run", "measurement", "sample", "config", "trace", "metric", "event", "calibration", "check_run", "margin",
          "acknowledgement")


def counts(path):
    return {table: query(path, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def content(path):
    """Every figure with all that says what it is, independent of ids."""
    return query(path,
                 "SELECT r.run_uuid, r.label, c.policy, c.variant, c.seq_len, c.budget, t.xxh128, m.source, m.stage, m.layer, "
                       "m.head, k.name, m.median, (SELECT group_concat(value) FROM (SELECT value FROM sample s WHERE "
                       "s.measurement_id = m.measurement_id ORDER BY i)) FROM measurement m JOIN run r USING (run_id) JOIN "
                       "config c USING (config_id) JOIN metric k USING (metric_id) LEFT JOIN trace t USING (trace_id) ORDER BY "
                       "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")


@pytest.fixture
def two(small_run, tmp_path):
    """Two databases of 3 and 4 runs, whose ids clash; the second knows a metric and configurations that the first does not."""
    a, b = Runs(tmp_path / "a.db", small_run), Runs(tmp_path / "b.db", small_run)
    b.random.seed(99)
    a.add(3, label="a")
    b.execute("UPDATE config SET config_id = config_id + 500")
    for measurement in b.measurements:
        measurement["config_id"] += 500
    b.add(4, label="b", extra=[("topk", "registers", "1", "lower", 7)])
    b.copy_configs("900", "LIMIT 1", variant="'new'")
    return a, b


def test_what_is_merged_is_what_was_there(adamas, two, tmp_path):
    a, b = two
    want = sorted(content(a.path) + content(b.path), key=str)
    result = adamas("db", "merge", b.path, "--db", a.path)
    assert (result.code, result.out) == (0, f"{b.path}: 4 runs added, 0 were there\n"), result
    check_sound(a.path)
    assert sorted(content(a.path), key=str) == want
    assert query(a.path, "SELECT group_concat(label, '') FROM run") == [("aaabbbb",)]


def test_merging_again_changes_nothing(adamas, two):
    a, b = two
    assert adamas("db", "merge", b.path, "--db", a.path).code == 0
    before = counts(a.path)
    result = adamas("db", "merge", b.path, b.path, "--db", a.path, "--json")
    assert [(row["n_runs"], row["n_present"]) for row in json.loads(result.out)] == [(0, 4), (0, 4)]
    assert counts(a.path) == before
    assert adamas("db", "merge", a.path, "--db", b.path).out.endswith("3 runs added, 4 were there\n")
    assert sorted(content(a.path), key=str) == sorted(content(b.path), key=str)


def test_into_a_new_file_with_all_that_belongs_to_a_run(adamas, small_run, two, tmp_path):
    a, _ = two
    with a.open() as db:
        run, config, metric = 1, a.measurements[0]["config_id"], a.measurements[0]["metric_id"]
        uuid = db.execute("SELECT run_uuid FROM run WHERE run_id = 1").fetchone()[0]
        insert(db, "check_run", {"run_id": run, "check_uuid": "u", "side": "baseline", "position": 0, "subject": "s"})
        insert(db, "event",
               {"run_id": run, "config_id": config, "kind": "stage", "name": "topk", "variant": "v", "clock": "host",
                             "start_ns": 1, "end_ns": 2})
        insert(db, "calibration",
               {"run_id": run, "trace_id": 1, "variant": "v", "layer": 0, "t0": 0, "t1": 1, "t2": 2, "xxh128": "x"})
        insert(db, "margin", {"config_id": config, "source": "host", "stage": "topk", "metric_id": metric, "host_name": "h",
                              "cpu_model": "c", "margin_ratio": 0.1, "n_processes": 20, "measured_utc": "t"})
        insert(db, "acknowledgement",
               {"config_id": config, "source": "host", "stage": "topk", "metric_id": metric, "run_uuid": uuid,
                                       "verdict": "ignored", "who": "w", "why": "y", "made_utc": "t"})
    for _ in range(2):
        assert adamas("db", "merge", a.path, "--db", tmp_path / "new.db").code == 0
        check_sound(tmp_path / "new.db")
        assert counts(tmp_path / "new.db") == counts(a.path)


def test_a_whole_replay_survives(adamas, small_run, tmp_path):
    assert adamas("db", "merge", small_run[1], "--db", "new.db", "--quiet").code == 0
    assert content(tmp_path / "new.db") == content(small_run[1])
    (before,), (after,) = (query(path, "SELECT * FROM run") for path in (small_run[1], tmp_path / "new.db"))
    assert after == before


def test_unfinished_runs_stay_behind(adamas, two):
    a, b = two
    b.execute("UPDATE run SET status = 'running' WHERE run_id = 2")
    assert adamas("db", "merge", b.path, "--db", a.path).out.endswith("3 runs added, 0 were there, 1 unfinished left out\n")
    check_sound(a.path)


def test_what_cannot_be_merged(adamas, two, tmp_path):
    a, b = two
    before = a.path.read_bytes()
    (tmp_path / "text").write_text("no database " * 100)
    refuse(adamas, "db", "merge", "none.db", "--db", a.path, says=["none.db", "does not exist"])
    refuse(adamas, "db", "merge", "text", "--db", a.path, says=["text is not an SQLite database"])
    refuse(adamas, "db", "merge", a.path, "--db", a.path, says=["into itself"])
    b.execute("UPDATE metric SET unit = 'us' WHERE name = 'time_ns'")
    refuse(adamas, "db", "merge", b.path, "--db", a.path, says=["'time_ns' in us", "in ns"])
    assert content(a.path) and query(a.path, "SELECT count(*) FROM run") == [(3,)] and len(a.path.read_bytes()) == len(before)
    old = shutil.copy(b.path, tmp_path / "old.db")
    Runs.execute(type("R", (), {"path": old, "open": Runs.open})(), "PRAGMA user_version = 3")
    refuse(adamas, "db", "merge", old, "--db", a.path, says=["schema version 3"])


def make_large(runs):
    """More than the 16 MiB from which a second thread looks at the rows; all but the rows is free pages."""
    runs.execute("CREATE TABLE filling AS SELECT zeroblob(17 << 20) AS x")
    runs.execute("DROP TABLE filling")
    assert runs.path.stat().st_size > 16 << 20


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("into", ["runs", "nothing"])
def test_a_large_file_gives_the_same_rows(adamas, two, tmp_path, into, mode):
    a, b = two
    want = sorted(content(b.path) + (content(a.path) if into == "runs" else []), key=str)
    make_large(b)
    b.execute(f"PRAGMA journal_mode = {mode}")
    target = a.path if into == "runs" else tmp_path / "new.db"
    result = adamas("db", "merge", b.path, "--db", target)
    assert (result.code, result.out) == (0, f"{b.path}: 4 runs added, 0 were there\n"), result
    check_sound(target)
    assert sorted(content(target), key=str) == want


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("into", ["runs", "nothing"])
def test_rows_that_hang_on_nothing_are_left_behind(adamas, two, tmp_path, into, large):
    a, b = two
    want = sorted(content(b.path) + (content(a.path) if into == "runs" else []), key=str)
    b.execute("INSERT INTO sample (measurement_id, i, value) VALUES (1000000, 0, 1.0)")
    if large:
        make_large(b)
    target = a.path if into == "runs" else tmp_path / "new.db"
    assert adamas("db", "merge", b.path, "--db", target).code == 0
    check_sound(target)
    assert sorted(content(target), key=str) == want
    assert query(target, "SELECT count(*) FROM sample WHERE measurement_id NOT IN (SELECT measurement_id FROM "
                         "measurement)") == [(0,)]


@pytest.mark.parametrize("value", ["2.5", "'two'", "x'02'"])
@pytest.mark.parametrize("large", [False, True])
def test_a_value_of_another_type_is_refused(adamas, two, tmp_path, value, large):
    """A file whose table was not STRICT when the row was written, and is now."""
    _, b = two

    def declare(old, new):
        with b.open() as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'sample'", (old, new))

    declare(") STRICT, WITHOUT", ") WITHOUT")
    b.execute(f"UPDATE sample SET i = {value} WHERE i = 2")
    declare(") WITHOUT", ") STRICT, WITHOUT")
    if large:
        make_large(b)
    result = adamas("db", "merge", b.path, "--db", tmp_path / "new.db")
    said = "i is no text and no number" if value[0] == "x" else "another type than"
    assert result.code == 2 and str(b.path) in result.err and said in result.err, result
    assert query(tmp_path / "new.db", "SELECT count(*) FROM run") == [(0,)]


@pytest.mark.parametrize("change, says", [
    ("UPDATE measurement SET stage = 'sorting' WHERE measurement_id = (SELECT max(measurement_id) FROM measurement)",
     "1 rows of the table measurement hold what its CHECKs forbid"),
    ("UPDATE measurement SET n = -1", "rows of the table measurement hold what its CHECKs forbid"),
    ("UPDATE measurement SET median = NULL WHERE measurement_id = 1",
     "1 rows of the table measurement hold what its CHECKs forbid"),
    ("UPDATE measurement SET status = 'skipped', median = NULL, reason = CAST(x'ff' AS TEXT) WHERE measurement_id = 1",
     "row 1 of the table measurement: reason is not UTF-8"),
    ("UPDATE measurement SET max = 9e999 WHERE measurement_id = 1",
     "row 1 of the table measurement: max is not a finite number"),
    ("UPDATE sample SET value = -9e999 WHERE i = 3", "row 4 of the table sample: value is not a finite number"),
    ("UPDATE sample SET throttle = 1 << 60 WHERE i = 0", "row 1 of the table sample: throttle is"),
])
@pytest.mark.parametrize("case", ["all", "shared", "large into nothing"])
def test_rows_that_are_not_sound_are_refused(adamas, two, tmp_path, change, says, case):
    """Where all runs are copied, where one of them is there already, and from a large file, which a second thread looks at."""
    a, b = two
    shared = case == "shared"
    if case == "large into nothing":
        a.path = tmp_path / "empty.db"
        assert adamas("db", "create", "--db", a.path).code == 0
    if shared:
        with a.open() as db:
            uuid = db.execute("SELECT run_uuid FROM run WHERE run_id = 1").fetchone()[0]
        b.execute("UPDATE run SET run_uuid = ? WHERE run_id = 4", uuid)
    before = counts(a.path)
    with b.open() as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(change)
    if case.startswith("large"):
        make_large(b)
    result = adamas("db", "merge", b.path, "--db", a.path)
    if shared and "max(" in change:  # of the run that is not copied
        assert result.code == 0
        return
    assert result.code == 2 and str(b.path) in result.err and says in result.err, result
    assert counts(a.path) == before
    check_sound(a.path)


def test_without_files_it_migrates(adamas, tmp_path):
    (tmp_path / "x.db").touch()
    assert adamas("db", "merge", "--db", "x.db").code == 0
    assert query(tmp_path / "x.db", "PRAGMA user_version") == [(SCHEMA_VERSION,)]


# ---------------------------------------------------------------- gc

def test_the_newest_of_each_are_kept(adamas, small_run, tmp_path):
    runs = Runs(tmp_path / "x.db", small_run)
    for label in ("main", "recorded:h100", "main", "keep", "main"):
        runs.add(2, label=label)
    runs.add(1, label="main", status="running", finished_utc=None)
    kept = sorted(content(runs.path), key=str)
    dry = json.loads(adamas("db", "gc", "--keep", "3", "--keep-label", "keep", "--dry-run", "--json", "--db", "x.db").out)
    assert sorted(content(runs.path), key=str) == kept and dry["bytes_after"] == dry["bytes_before"]
    done = json.loads(adamas("db", "gc", "--keep", "3", "--keep-label", "keep", "--json", "--db", "x.db").out)
    check_sound(runs.path)
    assert (done["n_runs"], dry["n_runs"], done["n_samples"]) == (3, 3, dry["n_samples"]) and done["n_samples"] > 0
    assert done["bytes_after"] < done["bytes_before"] and runs.path.stat().st_size == done["bytes_after"]
    assert query(runs.path, "SELECT label, count(*) FROM run GROUP BY label") == [("keep", 2), ("main", 4),
                                                                                  ("recorded:h100", 2)]
    assert query(runs.path, "SELECT min(run_id) FROM run WHERE label = 'main'") == [(6,)]


def test_samples_go_and_figures_stay(adamas, small_run, tmp_path):
    runs = Runs(tmp_path / "x.db", small_run)
    runs.add(6)
    before = query(runs.path, "SELECT run_id, config_id, stage, metric_id, median FROM measurement")
    assert adamas("db", "gc", "--keep-samples", "2", "--db", "x.db").code == 0
    check_sound(runs.path)
    assert query(runs.path, "SELECT run_id, config_id, stage, metric_id, median FROM measurement") == before
    sampled = query(runs.path, "SELECT DISTINCT run_id FROM measurement JOIN sample USING (measurement_id) ORDER BY 1")
    assert sampled == [(5,), (6,)]
    # A comparison still works, by medians.
    assert adamas("compare", "1-3", "4-6", "--db", "x.db").code == 3


def test_unused_configurations_and_traces_go(adamas, small_run, tmp_path):
    runs = Runs(tmp_path / "x.db", small_run)
    runs.add(3)
    assert adamas("db", "gc", "--keep", "0", "--yes", "--db", "x.db").code == 0
    check_sound(runs.path)
    left = counts(runs.path)
    assert left["run"] == left["config"] == left["trace"] == left["sample"] == 0 < left["metric"]


@pytest.mark.parametrize("arguments, says", [
    ([], None), (["--keep", "-1"], ["--keep"]), (["--keep", "x"], ["--keep", "'x'"]),
    (["--keep-samples", "1.5"], ["--keep-samples"]), (["--keep", "1", "--db", "none.db"], ["none.db does not exist"])])
def test_bad_values(adamas, small_run, tmp_path, arguments, says):
    shutil.copy(small_run[1], tmp_path / "x.db")
    if says is None:
        assert adamas("db", "gc", "--db", "x.db").code == 2
    else:
        refuse(adamas, "db", "gc", "--db", "x.db", *arguments, says=says)
    assert not (tmp_path / "none.db").exists() and query(tmp_path / "x.db", "SELECT count(*) FROM run") == [(1,)]
