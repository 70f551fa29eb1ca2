"""A database from somebody else: each command that reads or merges it refuses it with one sentence and exit code 2, or shows
it, within seconds. test_signals.py has what TERM does to a command at work."""
import contextlib
import os
import shutil
import sqlite3
import subprocess
import time

import pytest

from conftest import ROOT, Adamas, check_sound, query, refuse

READERS = [["report", "-o", "r.html"], ["history"], ["compare", "1", "1", "--all"],
           ["db", "export", "--run", "1", "-o", "e.json"]]
WRITERS = [["db", "gc", "--keep", "1"], ["db", "merge"]]


@pytest.fixture
def spoil(small_run, tmp_path):
    """spoil(*statements) -> a copy of a small database in which SQLite ran them."""
    def make(*statements, name="x.db"):
        shutil.copy(small_run[1], tmp_path / name)
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
            for statement in ["PRAGMA foreign_keys = OFF", "PRAGMA writable_schema = ON", *statements]:
                connection.execute(statement)
            connection.commit()
        return tmp_path / name
    return make


def as_endless_view(database, table):
    columns = [row[1] for row in query(database, f"PRAGMA table_info({table})")]
    body = ", ".join("x AS " + name if i == 0 else "kept." + name for i, name in enumerate(columns))
    return [f"ALTER TABLE {table} RENAME TO {table}_kept",
            f"CREATE VIEW {table} AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
            f"SELECT {body} FROM r, {table}_kept AS kept"]


# ---------------------------------------------------------------- the schema

SPOILS = {
    "a view that was changed": (["DROP VIEW stage_summary", "CREATE VIEW stage_summary AS SELECT 1"], "view 'stage_summary'"),
    "a view that is gone": (["DROP VIEW quality_summary"], "no view 'quality_summary'"),
    "a table that is gone": (["DROP TABLE event"], "no table 'event'"),
    "a column more": (["ALTER TABLE run ADD COLUMN extra TEXT"], "table 'run'"),
    "a column of another type": (["UPDATE sqlite_schema SET sql = replace(sql, 'label          TEXT', 'label          ANY') "
                                  "WHERE name = 'run'"], "table 'run'"),
    "rules taken out": (["UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'metric'"], "table 'metric'"),
    "an index that is gone": (["DROP INDEX config_identity"], "no index 'config_identity'"),
    "a trigger": (["CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM metric; END"], "trigger"),
    "an older number on a newer schema": (["PRAGMA user_version = 2"], ""),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_schema_that_is_not_ours_is_refused(adamas, spoil, small_run, tmp_path, name):
    statements, says = SPOILS[name]
    database = spoil(*statements)
    before = database.read_bytes()
    for command in READERS + WRITERS:
        refuse(adamas, *command, "--db", database, says=["x.db", says], timeout=20)
    assert database.read_bytes() == before
    shutil.copy(small_run[1], tmp_path / "to.db")
    refuse(adamas, "db", "merge", database, "--db", "to.db", says=["x.db", says])


@pytest.mark.parametrize("table", ["run", "metric", "measurement", "config"])
def test_an_endless_view_in_place_of_a_table_is_refused(adamas, spoil, small_run, table):
    database = spoil(*as_endless_view(small_run[1], table))
    for command in READERS + WRITERS:
        refuse(adamas, *command, "--db", database, says=["x.db"], timeout=20)


def test_what_a_user_adds_is_left_alone(adamas, spoil, tmp_path):
    database = spoil("CREATE TABLE notes (run_id INTEGER, text TEXT)", "INSERT INTO notes VALUES (1, 'mine')",
                     "CREATE VIEW mine AS SELECT * FROM notes", "CREATE INDEX by_label ON run (label)")
    for command in READERS:
        assert adamas(*command, "--db", database).code in (0, 2, 3)
    assert adamas("db", "create", "--db", "to.db").code == 0
    assert adamas("db", "merge", database, "--db", "to.db").code == 0
    assert adamas("db", "merge", "to.db", "--db", database).code == 0
    assert query(database, "SELECT text FROM notes") == [("mine",)]
    assert query(tmp_path / "to.db", "SELECT count(*) FROM run") == [(1,)]


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_journal_that_is_no_file_is_refused(adamas, spoil, suffix, kind):
    database = spoil()
    journal = database.with_name(database.name + suffix)
    if kind == "pipe":
        os.mkfifo(journal)
    elif kind == "folder":
        journal.mkdir()
    else:
        journal.symlink_to("/dev/zero")
    for command in READERS + WRITERS:
        refuse(adamas, *command, "--db", database, says=[suffix, "no regular file"], timeout=20)


# ---------------------------------------------------------------- values

REFUSED_IN_A_MERGE = {
    "an infinity": ("UPDATE measurement SET median = 9e999 WHERE measurement_id = 1", ["measurement", "median", "finite"]),
    "text that is not UTF-8": ("UPDATE metric SET unit = CAST(x'ff' AS TEXT)", ["metric", "unit", "UTF-8"]),
    "a zero byte in a text": ("UPDATE run SET label = CAST(x'610062' AS TEXT)", ["run", "label", "zero byte"]),
    "a head of four thousand million": ("UPDATE measurement SET head = 4000000000 WHERE measurement_id = 1", ["head", "4095"]),
    "a layer below zero": ("UPDATE measurement SET layer = -1 WHERE measurement_id = 1", ["layer"]),
    "a label of two megabytes": ("UPDATE run SET label = hex(zeroblob(1000000))", ["label", "1048576"]),
    "a length without an end": ("UPDATE config SET seq_len = 9223372036854775807", ["seq_len"]),
}


@pytest.mark.parametrize("name", REFUSED_IN_A_MERGE)
def test_a_merge_refuses(adamas, spoil, tmp_path, name):
    statement, says = REFUSED_IN_A_MERGE[name]
    database = spoil(statement)
    assert adamas("db", "create", "--db", "to.db").code == 0
    refuse(adamas, "db", "merge", database, "--db", "to.db", says=["x.db", *says])
    assert query(tmp_path / "to.db", "SELECT count(*) FROM run") == [(0,)]
    check_sound(tmp_path / "to.db")


def test_a_report_of_such_values_is_written_or_refused_with_the_reason(adamas, spoil):
    for i, (statement, _) in enumerate(REFUSED_IN_A_MERGE.values()):
        result = adamas("report", "--db", spoil(statement, name=f"{i}.db"), "-o", "r.html", "--quiet", timeout=60)
        assert result.code == 0 or (result.code == 2 and "memory" not in result.err and result.err.count("\n") == 1), result


# ---------------------------------------------------------------- kill -9

def test_killed_checks_leave_nothing_for_long(adamas, small_run, tmp_path, monkeypatch):
    """kill -9 in the middle of a check: its child ends with it, and the next check removes its scratch folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    slow.chmod(0o755)
    with adamas.start("check", "--baseline", slow, "--db", "x.db", "--", "replay", small_run[0]) as process:
        give_up = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        process.kill()
        process.wait(timeout=30)
    child = int((tmp_path / "pid").read_text())
    while os.path.exists(f"/proc/{child}") and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{child}")
    assert len(list(tmp_path.glob("adamas-check-*"))) == 1
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 2\n")
    failing.chmod(0o755)
    assert adamas("check", "--baseline", failing, "--db", "x.db", "--", "replay", small_run[0]).code == 2
    assert list(tmp_path.glob("adamas-check-*")) == []


# ---------------------------------------------------------------- what is printed

def test_help_that_cannot_be_written_is_a_failure(program):
    for words in ([], ["replay"], ["db", "gc"], ["report"]):
        with open("/dev/full", "w") as full:
            result = subprocess.run([program, *words, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=20)
        assert result.returncode == 4 and b"could not be written" in result.stderr, words


FOREIGN = "\x1b[31m\x9b1m\u202eabc\u2066\x07"


def test_foreign_text_never_drives_a_terminal(adamas, spoil):
    expression = "char(27) || '[31m' || char(155) || '1m' || char(8238) || 'abc' || char(8294) || char(7)"
    database = spoil(*(f"UPDATE {table} SET {column} = {column} || {expression}" for table, column in (
        ("config", "policy"), ("config", "variant"), ("metric", "name"), ("metric", "unit"), ("metric", "description"),
        ("run", "label"), ("run", "host_name"), ("run", "cpu_model"), ("trace", "name"), ("trace", "model"))))
    said = ""
    for command in [*READERS, ["history", "--json"], ["compare", "1", "1", "--all", "--json"], ["report", "--json"],
                    ["db", "export", "--run", "1", "-o", "/dev/stdout"], ["db", "merge", "none" + FOREIGN],
                    ["replay", "none" + FOREIGN]]:
        result = adamas(*command, "--db", database)
        said += result.out + result.err
    assert "abc" in said
    assert not [c for c in said if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202e\u2066"]


# ---------------------------------------------------------------- markup in every text

MARKER = "<b id=planted>"
MARKERS = f"replace(hex(zeroblob(200)), '00', '{MARKER}')"  # begins with it, and any cut goes through one


@pytest.fixture(scope="module")
def full_database(program, small_run, tmp_path_factory):
    """Figures of a host and of two GPUs, counters and a timeline among them."""
    folder = tmp_path_factory.mktemp("full")
    shutil.copy(small_run[1], folder / "full.db")
    for name in ("h200.json", "h100-observed.json"):
        assert Adamas(folder)("db", "import", ROOT / "analysis/recorded" / name, "--db", "full.db").code == 0
    return folder / "full.db"


def text_columns(database):
    for (table,) in query(database, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        for _, name, kind, *_ in query(database, f"PRAGMA table_info({table})"):
            if kind == "TEXT" and query(database, f"SELECT count({name}) FROM {table}") != [(0,)]:
                yield table, name


def test_no_text_of_a_database_becomes_markup(adamas, full_database, tmp_path):
    n_planted, raw = 0, []
    for table, column in text_columns(full_database):
        shutil.copy(full_database, tmp_path / "m.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            is_unique = column in ("name", "run_uuid", "xxh128") and table in ("metric", "run", "trace")
            unique = " || rowid" if is_unique else ""
            try:
                connection.execute(f"UPDATE {table} SET {column} = {MARKERS}{unique}")
                connection.commit()
            except sqlite3.IntegrityError:
                continue  # a column that takes a few words only
        n_planted += 1
        for command in (["report", "-o", "r.html", "-q"],
                        ["compare", "1", "1", "--markdown", "c.md", "--junit", "c.xml", "-q"]):
            adamas(*command, "--db", "m.db", timeout=60)
        for name in ("r.html", "c.md", "c.xml"):
            if (tmp_path / name).exists():
                text = (tmp_path / name).read_text()
                raw += [f"{table}.{column} in {name}"] * ("<b id" in text)
                (tmp_path / name).unlink()
    assert not raw and n_planted > 25, (raw, n_planted)


# ---------------------------------------------------------------- every file, every command that takes one

def test_every_command_ends_soon_on_every_hostile_file(adamas):
    """A minute is the limit; what takes long says so before. None crashes, and none takes bytes for a database."""
    commands = [["trace", "info"], ["trace", "verify"], ["trace", "import"], ["replay"], ["db", "import", "--db", "x.db"],
                ["report", "-o", "r.html", "--db"], ["history", "--db"], ["db", "merge", "--db", "x.db"],
                ["counters", "plan", "--set"], ["replay", "none", "--calibration"], ["report", "--run"]]
    files = sorted(path for path in (ROOT / "tests/fuzz/corpus").rglob("*") if path.is_file())
    assert len(files) > 40
    for path in files:
        for command in commands:
            result = adamas(*command, path, timeout=60)
            assert result.code in (0, 2, 77), (command, path, result)
            assert result.code == 0 or result.err.startswith("adamas: "), (command, path, result)
