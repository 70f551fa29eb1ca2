"""`adamas db export --timeline`: Chrome trace-event JSON of a run's events, read back and compared with the database."""
import contextlib
import json
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from conftest import Adamas, query, refuse


@pytest.fixture(scope="session")
def timeline(program, small_run, tmp_path_factory):
    """A database of a replay with --timeline; who changes it copies it first."""
    folder = tmp_path_factory.mktemp("timeline")
    assert Adamas(folder)("replay", small_run[0], "--db", "t.db", "--quiet", "--timeline", "--budgets", "16").code == 0
    return folder / "t.db"


@pytest.fixture
def export(adamas):
    """export(database, run=1) -> the document on standard output."""
    def run(database, run_id=1):
        result = adamas("db", "export", "--timeline", run_id, "--db", database)
        assert (result.code, result.err) == (0, "")
        result.out.encode("ascii")
        return json.loads(result.out)
    return run


def events_of(document):
    assert document["displayTimeUnit"] == "ns"
    return [e for e in document["traceEvents"] if e["ph"] == "X"]


def execute(database, sql, *rows):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executemany(sql, rows)
        connection.commit()


def test_every_event_is_there_in_microseconds(export, timeline):
    events = events_of(export(timeline))
    rows = query(timeline, "SELECT e.kind, e.name, e.variant, e.step, e.layer, c.seq_len, c.budget, e.start_ns, e.end_ns "
                           "FROM event e LEFT JOIN config c USING (config_id)")
    origin = min(row[7] for row in rows)
    wanted = []
    for kind, name, variant, step, layer, seq_len, budget, start_ns, end_ns in rows:
        args = {"variant": variant or None, "step": step, "layer": layer, "seq_len": seq_len, "budget": budget}
        wanted.append((start_ns - origin, end_ns - start_ns, kind, name,
                       {key: value for key, value in args.items() if value is not None}))
    seen = [(round(e["ts"] * 1000), round(e["dur"] * 1000), e["cat"], e["name"], e["args"]) for e in events]
    assert all(abs(e[key] * 1000 - round(e[key] * 1000)) < 1e-3 for e in events for key in ("ts", "dur"))
    assert len(seen) > 300 and sorted(seen, key=str) == sorted(wanted, key=str)


def test_events_nest(export, timeline):
    """In the order of the file a stack of open events is enough: what Perfetto draws as one thread."""
    stack, depths = [], {}
    for event in events_of(export(timeline)):
        start, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        while stack and stack[-1] <= start and stack[-1] < end:
            stack.pop()
        assert not stack or end <= stack[-1], event
        depths.setdefault(event["cat"], set()).add(len(stack))
        stack.append(end)
    assert depths == {"session": {0}, "step": {1}, "layer": {2}, "stage": {1, 3}}  # stages outside a step encode keys


def test_it_says_whose_timeline_it_is(export, timeline):
    document = export(timeline)
    [(started, version)] = query(timeline, "SELECT started_utc, tool_version FROM run")
    assert document["otherData"]["run_id"] == 1 and document["otherData"]["started_utc"] == started
    assert document["otherData"]["tool_version"] == version and "gpu_name" not in document["otherData"]
    names = {e["name"]: e["args"]["name"] for e in document["traceEvents"] if e["ph"] == "M"}
    assert names == {"process_name": "adamas run 1", "thread_name": "host clock"}


def test_names_are_escaped_and_clocks_kept_apart(export, timeline, tmp_path):
    database = Path(shutil.copy(timeline, tmp_path / "own.db"))
    nasty = ['a "quoted" \\ name', "line\nbreak\tand \x01", "</script>", "naïve – 数", "\U0001f600"]
    execute(database, "DELETE FROM event WHERE rowid > ?", (3,))
    execute(database, "INSERT INTO event (run_id, kind, name, variant, clock, start_ns, end_ns) "
                      "VALUES (1, 'stage', ?, ?, 'gpu', ?, ?)",
            *((name, name, 9_007_199_254_740_993 + 1000 * i, 9_007_199_254_740_994 + 1000 * i) for i, name in enumerate(nasty)))
    document = export(database)
    gpu = [e for e in events_of(document) if e["tid"] == 2]
    assert [e["name"] for e in gpu] == [e["args"]["variant"] for e in gpu] == nasty
    assert [e["ts"] for e in gpu] == [0, 1, 2, 3, 4] and {e["dur"] for e in gpu} == {0.001}
    host = [e for e in events_of(document) if e["tid"] == 1]
    assert len(host) == 3 and min(e["ts"] for e in host) == 0
    assert [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"] == ["host clock", "gpu clock"]


def test_a_file_is_whole_or_not_there(adamas, timeline, tmp_path):
    result = adamas("db", "export", "--timeline", "1", "--db", timeline, "-o", "t.json")
    assert (result.code, result.err) == (0, "") and result.out.startswith("t.json: ")
    events = events_of(json.loads((tmp_path / "t.json").read_text()))
    assert f"t.json: {len(events)} events" in result.out
    assert stat.S_IMODE((tmp_path / "t.json").stat().st_mode) == 0o666 & ~current_umask()
    before = (tmp_path / "t.json").read_bytes()
    refuse(adamas, "db", "export", "--timeline", "9", "--db", timeline, "-o", "t.json", says=["no run 9"])
    assert sorted(os.listdir(tmp_path)) == ["t.json"] and (tmp_path / "t.json").read_bytes() == before
    result = adamas("db", "export", "--timeline", "1", "--db", timeline, "-o", "t.json", "--json")
    assert json.loads(result.out) == {"run_id": 1, "n_events": len(events)}


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_device_is_written_not_replaced(adamas, timeline):
    assert adamas("db", "export", "--timeline", "1", "--db", timeline, "-o", "/dev/null", "--quiet").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    refuse(adamas, "db", "export", "--timeline", "1", "--db", timeline, "-o", "/dev/full", code=4,
           says=["could not be written: No space left"])
    with open("/dev/full", "w") as full:
        result = adamas("db", "export", "--timeline", "1", "--db", timeline, stdout=full)
    assert result.code == 4 and "could not be written" in result.err


@pytest.mark.parametrize("arguments, says", [
    (["--timeline", "1", "--db", "{small}"], "--timeline"), (["--timeline", "2", "--db", "{timeline}"], "no run 2"),
    (["--timeline", "x", "--db", "{timeline}"], "'x'"), (["--timeline", "0", "--db", "{timeline}"], "no run 0"),
    (["--timeline", "1", "--db", "{timeline}", "-o", "."], "is a directory"),
    (["--timeline", "1", "--db", "{timeline}", "-o", "none/t.json"], "none/t.json"),
    (["--timeline", "1", "--db", "gone.db"], "gone.db")])
def test_what_cannot_be_exported_is_said(adamas, small_run, timeline, arguments, says):
    filled = [argument.format(small=small_run[1], timeline=timeline) for argument in arguments]
    refuse(adamas, "db", "export", *filled, says=[says])
    assert os.listdir(adamas.folder) == []


@pytest.mark.parametrize("arguments", [[], ["export"], ["exprot"], ["export", "--timeline"], ["export", "extra"]])
def test_bad_usage(adamas, arguments):
    result = adamas("db", *arguments)
    assert (result.code, result.out) == (2, "") and "adamas db" in result.err
