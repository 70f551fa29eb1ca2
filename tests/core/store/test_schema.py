"""The schema that people read, and the one place that says how many versions there are."""
import json
import re
import sqlite3
import sys

import pytest

from conftest import ROOT, SCHEMA_VERSION, check_sound, query, refuse

sys.path[:0] = [str(ROOT / "core/store/schema")]
from write_now import schema

from configure import SCHEMA, SCHEMA_NOW

MIGRATIONS = [ROOT / name for name in SCHEMA]


def structure(database):
    """What a schema means, without comments and layout."""
    objects = database.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2").fetchall()
    columns = {name: database.execute("SELECT * FROM pragma_table_xinfo(?)", [name]).fetchall() for _, name in objects}
    indexes = {name: database.execute("SELECT * FROM pragma_index_xinfo(?)", [name]).fetchall() for _, name in objects}
    keys = {name: database.execute("SELECT * FROM pragma_foreign_key_list(?)", [name]).fetchall() for _, name in objects}
    strict = database.execute("SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name").fetchall()
    return objects, columns, indexes, keys, strict


def test_now_is_what_the_migrations_leave():
    assert (ROOT / SCHEMA_NOW).read_text() == schema(MIGRATIONS), f"{SCHEMA_NOW} is stale: run ninja and commit it"


def test_now_creates_the_same_database(adamas):
    assert adamas("db", "create", "--db", "x.db").code == 0
    now = sqlite3.connect(":memory:")
    now.executescript((ROOT / SCHEMA_NOW).read_text())
    program = sqlite3.connect(adamas.folder / "x.db")
    assert structure(now) == structure(program)
    assert query(adamas.folder / "x.db", "PRAGMA user_version") == [(SCHEMA_VERSION,)]


def test_a_file_of_version_11_learns_which_runs_took_a_few_times(adamas):
    """The command line said it, in either spelling; one that is no list says nothing."""
    path = adamas.folder / "old.db"
    old = sqlite3.connect(path)
    for migration in MIGRATIONS[:11]:
        old.executescript(migration.read_text())
    lines = ['["adamas","replay","t","--only-times","topk@64/32,pack"]', '["adamas","replay","--only-times=topk"]',
             '["adamas","replay","--only-times","a","--only-times","b"]', '["adamas","replay","--only-times"]',
             '["adamas","replay","t"]', '["adamas","--only-times', '{"--only-times": 3}', '["x",{"--only-times": 1}]']
    for line in lines:
        old.execute("INSERT INTO run (run_uuid, argv, command, status, started_utc, tool_version, git_commit, seed, host_name, "
                    "os, cpu_model, n_cpus, memory_bytes, compiler, gpu_reason) VALUES (?1, ?1, 'replay', 'complete', "
                    "'2026-01-01T00:00:00.000Z', '0', 'unknown', 0, 'h', 'o', 'c', 1, 1, 'c', 'none')", [line])
    old.executescript(f"PRAGMA application_id = {0x41444d4c}; PRAGMA user_version = 11")
    old.close()
    before = path.read_bytes()
    listed = json.loads(adamas("db", "list", "--json", "--db", "old.db").out)  # of a copy in memory
    assert [row["only_times"] for row in reversed(listed)] == [True] * 3 + [False] * 5
    for words in (["report", "-o", "r.html"], ["history"], ["db", "show", "1"], ["compare", "1", "2"]):
        result = adamas(*words, "--db", "old.db")
        assert "schema version" not in result.err and result.code in (0, 2, 3), result
    assert path.read_bytes() == before and not list(path.parent.glob("old.db-*"))
    # what goes back to the file by its name needs it migrated, and says the whole command
    said = refuse(adamas, "db", "merge", "old.db", "--db", "x.db", says=["schema version 11", f"version {SCHEMA_VERSION}"])
    assert re.search("`(.*)`", said)[1] == "adamas db create --db old.db"
    assert adamas("db", "create", "--db", "old.db").code == 0
    assert [only for only, in query(path, "SELECT only_times FROM run ORDER BY run_id")] == [
        "topk@64/32,pack", "topk", "b", None, None, None, None, None]
    check_sound(path)


def test_every_added_column_keeps_its_comment():
    now = (ROOT / SCHEMA_NOW).read_text()
    migrations = "".join(path.read_text() for path in MIGRATIONS)
    added = re.findall(r"^ALTER TABLE \w+ ADD COLUMN (\w+)", migrations, re.M)
    assert added
    for column in added:
        line = re.search(rf"^((?:    --.*\n)*)    {column} .*$", now, re.M)
        assert line and "--" in line[0], column


@pytest.mark.parametrize("name", ["column", "index"])
def test_a_stale_text_would_be_seen(tmp_path, name):
    change = {"column": "ALTER TABLE run ADD COLUMN x INTEGER; -- new", "index": "CREATE INDEX x ON run (label);"}[name]
    (tmp_path / "new.sql").write_text(change + "\n")
    text = schema([*MIGRATIONS, tmp_path / "new.sql"])
    assert text != schema(MIGRATIONS) and f"version {SCHEMA_VERSION + 1}" in text
    assert bool(re.search(r"^    x {14}INTEGER,? +-- new\n", text, re.M)) == (name == "column")


def test_stages_are_those_of_the_program(adamas):
    """C has the list; the report's script reads it from the document, and the schema checks it."""
    assert adamas("db", "import", ROOT / "analysis/recorded/h200.json", "--db", "x.db").code == 0
    names = json.loads(adamas("report", "--json", "--db", "x.db").out)["stage_names"]
    checked = re.search(r"CHECK \(stage IN \((.*?)\)\)", (ROOT / SCHEMA_NOW).read_text(), re.S)[1]
    assert names == re.findall(r"'(\w+)'", checked)
    assert names[-2:] == ["step", "dense"]  # which the script takes for granted
