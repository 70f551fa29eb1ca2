"""`adamas db list`, `show` and `diff`, and the words that name runs."""
import json
import shlex
import sqlite3
import subprocess

import pytest

from conftest import ROOT, refuse
from tracked_runs import Runs


@pytest.fixture
def runs(small_run, tmp_path):
    made = Runs(tmp_path / "x.db", small_run)
    made.add(3, label="night", samples=2)
    made.add(2, label="day", host_name="other", git_commit="ab" * 20, samples=2)
    return made


def listed(adamas, *arguments):
    result = adamas("db", "list", *arguments, "--db", "x.db", "--json")
    assert (result.code, result.err) == (0, ""), result
    return json.loads(result.out)


def test_list(adamas, runs):
    rows = listed(adamas)
    assert [row["run_id"] for row in rows] == [5, 4, 3, 2, 1]  # the newest first
    newest = rows[0]
    assert (newest["label"], newest["host"], newest["commit"], newest["status"]) == ("day", "other", "ab" * 20, "complete")
    assert newest["n_rows"] > 20 and newest["of"].endswith(".safetensors") and newest["side"] is None
    text = adamas("db", "list", "--limit", "2", "--db", "x.db").out
    assert len(text.splitlines()) == 4 and "only the newest 2 are shown" in text and "night" not in text
    runs.execute("INSERT INTO check_run VALUES (2, 'u', 'candidate', 0, 'x')")
    runs.execute("UPDATE run SET label = 'a' || char(27) || '[31m', status = 'failed', reason = 'x' WHERE run_id = 1")
    text = adamas("db", "list", "--db", "x.db").out
    assert "check: candidate" in text and "\x1b" not in text and "failed" in text


NOT_COUNTED = {"sample",              # belong to a measurement
               "check_run", "shard"}  # what the run is part of
VALUES = {"INTEGER": 1, "REAL": 0.5, "TEXT": "x", "BLOB": b"x"}


def owned_by_a_run(connection):
    """Tables with rows of a run, and by which column and value run 1 has some: found in the schema."""
    tables = [name for name, in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    parents = {name: {column: table for _, _, table, column, *_ in connection.execute(f"PRAGMA foreign_key_list({name})")}
               for name in tables}
    return [name for name in tables if {"run", "simulation"} & set(parents[name].values())
            and {"run_id", "simulation_id"} & set(parents[name]) and name not in NOT_COUNTED]


def test_list_counts_rows_of_every_table(adamas, runs, tmp_path):
    """The tables come from the schema: one that a migration adds is counted, or named above."""
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    tables = owned_by_a_run(connection)
    assert {"measurement", "simulation", "simulation_metric", "candidate", "calibration", "validation"} <= set(tables)
    for table in sorted(tables, key=lambda name: name != "simulation"):  # the others hang on it
        before = {row["run_id"]: row["n_rows"] for row in listed(adamas)}
        columns = [(name, VALUES[kind]) for _, name, kind, needed, *_ in connection.execute(f"PRAGMA table_info({table})")
                   if needed]
        with connection:
            connection.execute(f"INSERT INTO {table} ({', '.join(name for name, _ in columns)}) "
                               f"VALUES ({', '.join('?' * len(columns))})", [value for _, value in columns])
        after = {row["run_id"]: row["n_rows"] for row in listed(adamas)}
        assert after == {**before, 1: before[1] + 1}, table
    connection.close()


@pytest.mark.parametrize("named, want", [
    ("last", [5]), ("last~1", [4]), ("last~1-last", [5, 4]), ("1,last", [5, 1]), ("2-3", [3, 2]), ("night", [3, 2, 1]),
    ("label:day", [5, 4]), ("commit:abab", [5, 4]), ("all", [5, 4, 3, 2, 1])])
def test_words_for_runs(adamas, runs, named, want):
    assert [row["run_id"] for row in listed(adamas, named)] == want
    result = adamas("compare", named, "1-2", "--db", "x.db", "--quiet", "--across-machines")
    assert result.code == (2 if {1, 2} & set(want) else 3), result  # the same words everywhere


@pytest.mark.parametrize("named, says", [("last~9", ["no run last~9"]), ("last~", ["'last~'"]), ("9", ["no run 9"]),
                                         ("5-3", ["'5-3' is no list"])])
def test_words_for_no_run(adamas, runs, named, says):
    refuse(adamas, "db", "list", named, "--db", "x.db", says=says)


@pytest.fixture
def checked(runs):
    """Run 6 is of a check, 7 and 8 are those that it added, 9 is one that somebody started with a few times, 10 has failed."""
    runs.add(4, label="", samples=2)
    runs.execute("INSERT INTO check_run VALUES (6, 'u', 'baseline', 0, 'x'), (7, 'u', 'candidate', 1, 'x'), "
                 "(8, 'u', 'baseline', 2, 'x')")
    runs.execute("UPDATE run SET only_times = 'topk' WHERE run_id IN (7, 8, 9)")
    runs.add(1, status="failed", reason="a reason", samples=2)
    return runs


def shown(adamas, named):
    return json.loads(adamas("db", "show", named, "--db", "x.db", "--json").out)["run_id"]


def test_last_is_none_that_a_check_added(adamas, checked):
    assert [shown(adamas, f"last~{n}" if n else "last") for n in range(4)] == [10, 9, 6, 5]
    assert [row["run_id"] for row in listed(adamas, "last~2-last")] == [10, 9, 6]
    assert [row["run_id"] for row in listed(adamas, "6-9")] == [9, 8, 7, 6]  # by number they are there
    assert [row["only_times"] for row in listed(adamas, "6-9")] == [True, True, True, False]
    differs = json.loads(adamas("db", "diff", "last~1", "last~2", "--db", "x.db", "--json").out)
    assert differs == {"only_times": ["topk", None], "git_commit": [f"{n:040x}" for n in (9, 6)]}
    for arguments in (["compare", "last~1-last", "1-4"], ["history", "--runs", "last"]):  # only complete ones: 6 and 9
        assert adamas(*arguments, "--db", "x.db", "--across-machines" if arguments[0] == "compare" else "--all").code in (0, 3)
    refuse(adamas, "db", "show", "last~8", "--db", "x.db", says=["no run last~8", "holds fewer runs"])
    refuse(adamas, "compare", "last~7", "1", "--db", "x.db", says=["no run last~7", "holds fewer complete runs"])
    refuse(adamas, "db", "list", "last-last~1", "--db", "x.db", says=["ends before it begins"])


def test_last_goes_by_start_whatever_the_number(adamas, runs):
    """A merged file's older runs have higher numbers."""
    runs.add(2, started_utc="2025-01-01T00:00:00.000Z", label="old", samples=2)
    assert shown(adamas, "last") == 5 and [row["run_id"] for row in listed(adamas, "last~2-last")] == [5, 4, 3]
    assert shown(adamas, "last~6") == 6 and [row["run_id"] for row in listed(adamas, "last~6-last~5")] == [7, 6]


@pytest.fixture
def recorded_profile(adamas, tmp_path):
    assert adamas("db", "import", ROOT / "analysis/recorded/h200.json", "--db", "h200.db").code == 0
    return tmp_path / "h200.db"


def test_every_command_takes_the_same_words(adamas, checked, recorded_profile):
    """report, explain and simulate; a run that is not complete is shown if it is asked for."""
    for named in ("last", "3-5,last", "night", "label:day", "10", "commit:abab"):
        assert adamas("report", "--run", named, "--db", "x.db", "-o", "r.html", "--quiet").code == 0, named
    refuse(adamas, "report", "--run", "evening", "--db", "x.db", says=["no run that is 'evening'", "last~1"])
    for named in ("last", "1", "recorded:h200", "label:recorded:h200"):
        text = adamas("explain", "--stage", "topk", "--run", named, "--db", recorded_profile)
        assert text.code == 0 and "topk" in text.out, text
        traffic = ["--generate", "rate=2,duration=4,input_tokens=99,output_tokens=8", "--model", "llama-2-7b", "-b", "256"]
        assert adamas("simulate", *traffic, "--calibration", named, "--db", recorded_profile, "--quiet").code == 0, named
    refuse(adamas, "explain", "--stage", "topk", "--run", "last~40", "--db", recorded_profile, says=["no run last~40"])


def test_one_run_is_one(adamas, runs):
    refuse(adamas, "db", "show", "night", "--db", "x.db", says=["'night' names 3 runs", "3 is the newest"])
    assert json.loads(adamas("db", "show", "last~1", "--db", "x.db", "--json").out)["run_id"] == 4
    assert adamas("db", "export", "--run", "last", "--db", "x.db", "-o", "r.json").code == 0


def test_show_is_lines_for_a_shell(adamas, runs, tmp_path):
    runs.execute("""UPDATE run SET label = 'it''s $(x)', argv = '["adamas", "replay", "a b.safetensors"]' WHERE run_id = 5""")
    result = adamas("db", "show", "last", "--db", "x.db")
    assert result.code == 0
    *assignments, checkout, command = result.out.splitlines()
    assert checkout == "git checkout " + "ab" * 20 and shlex.split(command) == ["adamas", "replay", "a b.safetensors"]
    said = subprocess.run(["bash", "-eu", "-c", "\n".join([*assignments, 'printf "%s|%s" "$label" "$host_name"'])],
                          capture_output=True, text=True, check=True).stdout
    assert said == "it's $(x)|other"


def test_the_command_that_a_run_stores_is_shown_as_words(adamas, small_run):
    """A program's name in its help, "adamas replay", is two words of a shell."""
    command = adamas("db", "show", "1", "--db", small_run[1]).out.splitlines()[-1]
    assert shlex.split(command)[:3] == ["adamas", "replay", small_run[0].name], command


def test_diff_names_what_differs(adamas, runs):
    result = adamas("db", "diff", "3", "4", "--db", "x.db", "--json")
    document = json.loads(result.out)
    assert document["host_name"][1] == "other" and document["git_commit"][1] == "ab" * 20
    assert document["label"] == ["night", "day"] and "run_uuid" not in document
    text = adamas("db", "diff", "4", "5", "--db", "x.db").out
    assert text == "no difference but when they ran\n"


def test_gc_asks_before_it_removes_everything(adamas, runs):
    refuse(adamas, "db", "gc", "--keep", "0", "--db", "x.db", says=["all 5 runs", "--yes"])
    assert adamas("db", "gc", "--keep", "0", "--dry-run", "--db", "x.db").code == 0
    assert runs.execute("SELECT count(*) FROM run") == [(5,)]
    assert adamas("db", "gc", "--keep", "1", "--db", "x.db", "--quiet").code == 0  # one of each label and host
    assert runs.execute("SELECT run_id FROM run ORDER BY 1") == [(3,), (5,)]
    assert adamas("db", "gc", "--keep", "0", "--yes", "--db", "x.db", "--quiet").code == 0
    left = "SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM sample) + (SELECT count(*) FROM config)"
    assert runs.execute(left) == [(0,)]
    assert runs.execute("PRAGMA foreign_key_check") == [] and runs.execute("PRAGMA integrity_check") == [("ok",)]


def test_gc_counts_a_pool_as_one_host_and_added_processes_by_themselves(adamas, runs):
    pool = [run for host in "abc" for run in runs.add(1, host_name=host, machine="pool", label="l", samples=2)]
    kept = [3, 5, pool[-1]]
    for host in ("d", "e"):  # no pool: each host by itself
        kept += runs.add(1, host_name=host, label="l", samples=2)
    whole = runs.add(2, host_name="f", label="l", samples=2)
    added = runs.add(9, host_name="f", label="l", only_times="topk", samples=2)  # later than the whole ones
    assert adamas("db", "gc", "--keep", "1", "--db", "x.db", "--quiet").code == 0
    assert runs.execute("SELECT run_id FROM run ORDER BY 1") == [(run,) for run in [*kept, whole[-1], added[-1]]]


@pytest.mark.parametrize("keep", ["1", "4"])
def test_samples_go_and_the_rest_stays(adamas, runs, keep):
    """Where most samples go they are copied, where few go they are deleted: the result is the same."""
    runs.add(5, label="night", samples=4)
    before = runs.execute("SELECT count(*) FROM sample s JOIN measurement USING (measurement_id) WHERE run_id > 10 - ?",
                          int(keep))
    samples = "SELECT m.run_id, s.* FROM sample s JOIN measurement m USING (measurement_id) JOIN run r USING (run_id) "
    kept = runs.execute(samples + "WHERE r.label = 'night' AND run_id > 10 - ? ORDER BY 2, 3", int(keep))
    assert before and adamas("db", "gc", "--keep-samples", keep, "--db", "x.db", "--quiet").code == 0
    assert runs.execute(samples + "WHERE r.label = 'night' ORDER BY 2, 3") == kept
    assert runs.execute("SELECT count(*) FROM run") == [(10,)]
