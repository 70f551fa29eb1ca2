"""A database from somebody else: each command that reads or merges it refuses it with one sentence and exit code 2, or shows
it, within seconds. test_signals.py has what TERM does to a command at work."""
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest

from conftest import PROGRAM, ROOT, Adamas, check_sound, query, refuse

sys.path.insert(0, str(ROOT / "tests/fuzz"))
import corpus_campaign
import hostile_files
from hostile_files import REFUSED_IN_A_MERGE, SPOILS

READERS = [["report", "-o", "r.html"], ["history"], ["compare", "1", "1", "--all"],
           ["db", "export", "--run", "1", "-o", "e.json"]]
WRITERS = [["db", "gc", "--keep", "1"], ["db", "merge"]]


@pytest.fixture
def spoil(small_run, tmp_path):
    """spoil(*statements) -> a copy of a small database in which SQLite ran them."""
    return lambda *statements, name="x.db": hostile_files.spoil(small_run[1], tmp_path / name, statements)


# ---------------------------------------------------------------- the schema

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
def test_an_endless_view_in_place_of_a_table_is_refused(adamas, small_run, tmp_path, table):
    database = hostile_files.spoil(small_run[1], tmp_path / "x.db", lambda c: hostile_files.as_endless_view(c, table))
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
# Rows of what no short command makes.
ROWS = {
    "margin": "SELECT 1, config_id, source, stage, metric_id, 'h', 'c', 'g', 0.1, 10, '2026-01-01T00:00:00Z' FROM measurement",
    "acknowledgement": "SELECT 1, config_id, source, stage, metric_id, (SELECT run_uuid FROM run), 'ignored', 'w', 'y', "
                       "'2026-01-01T00:00:00Z' FROM measurement",
    "shard": "SELECT run_id, 1, run_uuid, 's', 'b', git_commit, started_utc, finished_utc, 1, host_name, cpu_model, 'g', 'u', "
             "'d', 1 FROM run WHERE run_id < 3",
    "whole_validation": "SELECT run_id, run_uuid, 'm', 1, 1024, 256, 0, 1.0, 1.0 FROM run",
}


@pytest.fixture(scope="module")
def full_database(program, small_run, tmp_path_factory):
    """Figures of a host and of two GPUs, counters and a timeline among them, and rows in every other table."""
    folder = tmp_path_factory.mktemp("full")
    shutil.copy(small_run[1], folder / "full.db")
    (folder / "requests.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    command = ["replay", small_run[0], "--budgets", "16", "--policies", "adamas", "--timed-steps", "1", "--layers", "2"]
    for words in (["simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--budgets", "256"],
                  ["simulate", "--validate", "--calibration", "recorded:h200"],
                  ["db", "import", ROOT / "tests/fuzz/corpus/recorded/gpu.json"],
                  ["db", "import", ROOT / "analysis/recorded/h200-observed.json"],
                  ["db", "import", ROOT / "analysis/recorded/h200-decode.json"],
                  ["tune", "--stage", "pack", "--seq-len", "256", "--heads", "2", "--kv-heads", "1", "--cap-ms", "5"],
                  ["check", "--baseline", PROGRAM, "--runs", "2", "--max-runs", "2", "--", *command]):
        at = words.index("--") if "--" in words else len(words)
        result = Adamas(folder)(*words[:at], "--db", "full.db", "-q", *words[at:])
        assert result.code in ((0, 1, 3) if words[0] == "check" else (0,)), (words, result)
    with contextlib.closing(sqlite3.connect(folder / "full.db")) as connection:
        connection.execute("PRAGMA foreign_keys = ON")  # the simulations' own recordings are many rows
        connection.execute("DELETE FROM run WHERE label LIKE 'recorded:%' AND run_id < (SELECT run_id FROM simulation)")
        for table, sql in ROWS.items():
            connection.execute(f"INSERT INTO {table} {sql} LIMIT 1")
        connection.commit()
    return folder / "full.db"


def columns(database, is_text):
    """(table, column, whether the table has rowids) of all tables of the schema, none of which may be empty."""
    for table, sql in query(database, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        assert query(database, f"SELECT count(*) > 0 FROM {table}") == [(1,)], f"no row of {table}: give full_database one"
        has_rowid = "WITHOUT ROWID" not in sql
        for _, name, kind, _, _, key in query(database, f"PRAGMA table_info({table})"):
            if (kind == "TEXT") == is_text and not (has_rowid and key and kind == "INTEGER"):  # which stays a number
                yield table, name, has_rowid


def read_as_markup(adamas, *commands):
    """Runs what reads m.db; returns the files that have the marker as it was planted."""
    for command in commands:
        adamas(*command, "-q", "--db", "m.db", timeout=60)
    found = []
    for path in (adamas.folder / name for name in ("r.html", "c.md", "c.xml")):
        if path.exists():
            found += [path.name] * ("<b id" in path.read_text())
            path.unlink()
    return found


REPORT = ["report", "-o", "r.html"]
COMPARE = ["compare", "1", "1", "--markdown", "c.md", "--junit", "c.xml"]


def test_no_text_of_a_database_becomes_markup(adamas, full_database, tmp_path):
    raw, n_planted, n_texts = [], 0, len(re.findall(r"^ +\w+ +TEXT\b", (ROOT / "core/store/schema/now.sql").read_text(), re.M))
    for table, column, has_rowid in columns(full_database, is_text=True):
        shutil.copy(full_database, tmp_path / "m.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            for pragma in ("foreign_keys = OFF", "ignore_check_constraints = ON"):
                connection.execute(f"PRAGMA {pragma}")
            unique = " || rowid" if has_rowid else ""
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {MARKERS}{unique}")
            assert connection.total_changes > 0, (table, column)
            connection.commit()
        n_planted += 1
        commands = [REPORT, COMPARE] if table in ("run", "config", "metric", "measurement", "margin", "trace") else [REPORT]
        raw += [(table, column, name) for name in read_as_markup(adamas, *commands)]
    assert not raw and n_planted >= n_texts > 100, (raw, n_planted, n_texts)


def test_no_text_in_a_column_of_numbers_becomes_markup(adamas, full_database, tmp_path):
    tables = {}
    for table, column, _ in columns(full_database, is_text=False):
        tables.setdefault(table, []).append(column)
    for table, names in tables.items():
        changes = ", ".join(f"{name} = {MARKERS}" for name in names)
        hostile_files.without_rules(full_database, tmp_path / "m.db", [f"UPDATE OR IGNORE {table} SET {changes}"])
        assert read_as_markup(adamas, REPORT) == [], table
    assert len(tables) > 20


def test_no_text_of_a_database_drives_a_terminal(adamas, full_database, tmp_path):
    """Of each table all texts at once, in everything that prints."""
    tables, printed = {}, ""
    for table, column, _ in columns(full_database, is_text=True):
        tables.setdefault(table, []).append(f"{column} = {column} || {hostile_files.FOREIGN}")
    for table, changes in tables.items():
        hostile_files.spoil(full_database, tmp_path / "m.db", [f"UPDATE OR IGNORE {table} SET {', '.join(changes)}"])
        for command in (["report", "--json"], ["history", "--all"], ["compare", "1", "1", "--all"], ["words", "labels"],
                        ["explain", "--stage", "topk"], ["tune", "--show"], ["db", "list"], ["db", "show", "1"],
                        ["db", "diff", "1", "2"], ["db", "export", "--run", "1", "-o", "/dev/stdout"]):
            result = adamas(*command, "--db", "m.db")
            driving = [c for c in result.out + result.err if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160
                       or c in "\u202e\u2066"]
            assert driving == [], (table, command, driving)
            printed += result.out
    assert printed.count("abc") > 50


# ---------------------------------------------------------------- every file, every command that takes one

def test_every_command_ends_soon_on_every_kind_of_hostile_file(program, tmp_path):
    """A few files in every place; tests/fuzz/corpus_campaign.py takes all of them."""
    campaign = corpus_campaign.Campaign(PROGRAM, tmp_path)
    assert len(campaign.files) > 120
    wanted = ("pipe", "pipe.so", "folder", "device", "half.db", "an-endless-run.db", "words-of-a-foreign-tongue.db",
              "counts-without-an-end.db", "text-in-numbers.db", "bytes.so", "escapes.json")
    campaign.files = [path for path in campaign.files if path.name in wanted]
    assert len(campaign.files) == len(wanted)
    assert campaign.go() == []


def test_every_command_is_in_that_campaign(adamas):
    """A new command belongs there."""
    def verbs(*group):
        return re.findall(r"^  ([a-z]+) {2,}\S", adamas(*group, "--help").out, re.MULTILINE)
    names = set()
    for name in verbs():
        names |= {f"{name} {verb}" for verb in verbs(name)} if name in ("db", "trace", "kernel") else {name}
    there = {" ".join(place[:2]) for place in corpus_campaign.PLACES} | {place[0] for place in corpus_campaign.PLACES}
    assert len(names) > 20 and names - there == set(corpus_campaign.FREE)
