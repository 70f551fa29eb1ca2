"""What `adamas` does when the database is not its own, cannot be written, is locked or out of room, and what is in it
after a replay was killed or interrupted: whole segments, and a run that says how it ended.

    a killed replay of lengths L1 < L2 < ...      | L1 complete | L2 complete | (nothing of L3) |    run: 'running'
"""
import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import ROOT, SCHEMA_VERSION, Adamas, check_sound, files_of, query, refuse

NOBODY = 65534


@pytest.fixture
def own(small_run, tmp_path):
    """A database with one complete run, to be spoilt."""
    return Path(shutil.copy(small_run[1], tmp_path / "own.db"))


def execute(database, *statements):
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# ---------------------------------------------------------------- whose database it is

def text_file(path):
    path.write_text("Call me Ishmael. " * 100)
    return "is not an SQLite database"


def short_text_file(path):
    path.write_text("notes\n")
    return "is not an SQLite database"


def the_trace_itself(path):
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    return "is not an SQLite database"


def of_another_application(path):
    execute(path, "CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)")
    return "another application's database"


def of_another_application_without_tables(path):
    execute(path, "PRAGMA user_version = 7", "VACUUM")
    return "another application's database"


def newer(path):
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    return f"schema version {SCHEMA_VERSION + 1}"


def much_newer(path):
    execute(path, "PRAGMA user_version = 2000000000")
    return f"knows versions up to {SCHEMA_VERSION}"


def damaged(path):
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xa5" * 3996  # the first page behind its header: the schema's own table
    path.write_bytes(data)
    return "is damaged"


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()
    return "is a folder"


@pytest.mark.parametrize("make", [text_file, short_text_file, the_trace_itself, of_another_application,
                                  of_another_application_without_tables, newer, much_newer, damaged, folder])
@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_database_that_is_not_ours_is_refused_and_left_alone(adamas, small_run, own, make, command):
    if make not in (newer, much_newer, damaged):
        own.unlink()
    says = make(own)
    before = files_of(own) if own.is_file() else None
    argument = [small_run[0]] if command == "replay" else ["-o", adamas.folder / "report.html"]
    refuse(adamas, command, *argument, "--db", own, says=[str(own), says])
    assert before is None or files_of(own) == before
    assert not (adamas.folder / "report.html").exists()


@pytest.mark.parametrize("name, says", [("", "file name is empty"), ("none/x.db", "there is no folder none"),
                                        ("/dev/null", "is not a regular file"), ("x" * 300, "name too long")])
def test_a_database_that_cannot_be_created(adamas, small_run, name, says):
    sentence = refuse(adamas, "replay", small_run[0], "--db", name)
    assert says.lower() in sentence.lower()


def test_report_does_not_create_what_it_reads(adamas, tmp_path):
    refuse(adamas, "report", "--db", "none.db", "-o", "report.html", says=["none.db", "does not exist"])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_database(adamas, small_run, tmp_path):
    (tmp_path / "new.db").touch()
    assert adamas("replay", small_run[0], "--db", "new.db", "--quiet").code == 0
    check_sound(tmp_path / "new.db")


@pytest.mark.parametrize("name", [":memory:", "file:x.db?mode=memory", "a b%41#?.db", "-wal"])
def test_odd_names_are_plain_file_names(adamas, small_run, tmp_path, name):
    assert adamas("replay", small_run[0], f"--db={name}", "--quiet").code == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


# ---------------------------------------------------------------- permissions

@pytest.fixture
def nobody(program, small_run):
    """The program for a user without rights, in a folder that everybody can reach: Adamas with a `trace` and a `db`."""
    public = Path(tempfile.mkdtemp(prefix="adamas-nobody-", dir="/tmp"))  # TMPDIR may be closed to others
    try:
        public.chmod(0o755)
        for source, name in ((program, "adamas"), (small_run[0], "trace.safetensors"), (small_run[1], "x.db")):
            shutil.copy(source, public / name)
            (public / name).chmod(0o755 if name == "adamas" else 0o644)
        caller = Adamas(public)
        caller.path, caller.trace, caller.db = public / "adamas", public / "trace.safetensors", public / "x.db"
        caller.user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        yield caller
    finally:
        public.chmod(0o755)
        shutil.rmtree(public)


def test_a_read_only_database(nobody):
    nobody.db.chmod(0o444)
    before = files_of(nobody.db)
    refuse(nobody, "replay", nobody.trace, "--db", nobody.db, says=[str(nobody.db), "read-only"], **nobody.user)
    assert files_of(nobody.db) == before


def test_a_database_that_cannot_be_read(nobody):
    nobody.db.chmod(0o000)
    for command in (["replay", nobody.trace], ["report", "-o", "/dev/null"]):
        refuse(nobody, *command, "--db", nobody.db, says=[str(nobody.db), "cannot be read"], **nobody.user)


def test_a_read_only_folder(nobody):
    nobody.db.chmod(0o666)
    nobody.folder.chmod(0o555)
    before = files_of(nobody.db)
    refuse(nobody, "replay", nobody.trace, "--db", nobody.db, says=[str(nobody.db), "not writable"], **nobody.user)
    refuse(nobody, "replay", nobody.trace, "--db", "new.db", says=["new.db", "not writable"], **nobody.user)
    assert files_of(nobody.db) == before and not (nobody.folder / "new.db").exists()


def test_a_trace_that_cannot_be_read(nobody):
    nobody.trace.chmod(0o000)
    refuse(nobody, "trace", "info", nobody.trace, says=[str(nobody.trace), "Permission denied"], **nobody.user)


# ---------------------------------------------------------------- locks

@contextlib.contextmanager
def locked(database):
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield connection
    finally:
        connection.close()


def test_a_locked_database_is_waited_for_and_given_up(adamas, small_run, own):
    before, start = own.read_bytes(), time.monotonic()
    with locked(own):  # reading the file in this process would end the lock, as POSIX has it
        refuse(adamas, "replay", small_run[0], "--db", own, code=4, says=[str(own), "locked", "5.0 s"])
    assert time.monotonic() - start > 4.5
    assert own.read_bytes() == before


def test_a_lock_that_ends_in_time_does_no_harm(adamas, small_run, own):
    with locked(own) as connection:
        threading.Timer(1, connection.rollback).start()
        assert adamas("replay", small_run[0], "--db", own, "--quiet").code == 0
    assert query(own, "SELECT count(*) FROM run WHERE status = 'complete'") == [(2,)]


def test_others_may_write_while_a_replay_measures(adamas, bundled, tmp_path):
    """Else a second replay into the same file gives up after 5 s, because the first takes longer."""
    database = tmp_path / "shared.db"
    n_free = n_busy = 0
    slow = ("--policies", "dense,oracle,adamas,quest,random", "--target", "output_rel_l2=0.001", "--threads", "1")
    with adamas.start("replay", bundled, "--db", database, "--quiet", "--seq-lens", "4096", *slow) as process:
        while process.poll() is None:
            time.sleep(0.01)
            if stored_lengths(database) is None:  # the run has not begun
                continue
            with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    n_free += 1
                except sqlite3.OperationalError:
                    n_busy += 1
    assert process.returncode == 0
    assert n_free > n_busy, f"locked at {n_busy} of {n_busy + n_free} looks"


# ---------------------------------------------------------------- no room

def test_a_limit_on_file_sizes_is_an_error_and_no_crash(adamas, small_run, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    database = tmp_path / "full.db"
    refuse(adamas, "db", "import", ROOT / "analysis/recorded/h100.json", "--db", database, code=4,
           says=[str(database), "free", "space"], preexec_fn=limit)
    check_sound(database)
    assert query(database, "SELECT (SELECT count(*) FROM measurement) + (SELECT count(*) FROM run)") == [(0,)]
    # A replay checks its stages first, in memory that is shared like a file, which the limit counts.
    refuse(adamas, "replay", small_run[0], "--db", tmp_path / "other.db", code=4, says=["a check", "File too large"],
           preexec_fn=limit)


def test_a_full_disk_takes_nothing_from_the_runs_before(adamas, small_run, own, tmp_path):
    """On a small file system of its own, which ends with the shell that mounts it."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    unshare = ["unshare", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=400k none "$1"'
    try:
        tried = subprocess.run([*unshare, mount, "sh", disk], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no unshare(1) to mount a small file system with")
    if tried.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    script = (f'{mount} && cp "$2" "$1/full.db" || exit 99; '
              '"$3" replay "$4" --db "$1/full.db"; code=$?; cp "$1"/* "$5"; exit $code')
    done = subprocess.run([*unshare, script, "sh", disk, own, adamas.path, small_run[0], out],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done
    assert str(disk / "full.db") in done.stderr and "free some disk space" in done.stderr
    check_sound(out / "full.db")
    everything = "SELECT * FROM measurement NATURAL JOIN config WHERE run_id = 1 ORDER BY measurement_id"
    assert query(out / "full.db", everything) == query(own, everything)
    assert query(out / "full.db", "SELECT count(*) FROM measurement WHERE run_id > 1") == [(0,)]
    assert set(query(out / "full.db", "SELECT status FROM run WHERE run_id > 1")) <= {("failed",), ("running",)}


# ---------------------------------------------------------------- kill and interrupt

LONG = {"n_tokens": 1000, "n_steps": 900}  # a dozen segments of 64 steps and more
FEW = ["--budgets", "16,64"]


def stored_lengths(database):
    """The sequence lengths with measurements, or None while there is no run yet."""
    if not database.exists():
        return None
    try:
        if query(database, "SELECT count(*) FROM run") == [(0,)]:
            return None
        rows = query(database, "SELECT DISTINCT seq_len FROM config JOIN measurement USING (config_id) "
                     "WHERE run_id = (SELECT max(run_id) FROM run) ORDER BY 1")
        return [seq_len for seq_len, in rows]
    except sqlite3.OperationalError:  # not created yet
        return None


def wait_for_lengths(process, database, n):
    deadline = time.monotonic() + 300
    while (lengths := stored_lengths(database)) is None or len(lengths) < n:
        assert process.poll() is None, f"the replay ended before it had stored {n} lengths"
        assert time.monotonic() < deadline, f"no {n} lengths after five minutes"
        time.sleep(0.002)


def rows_of(database, run_id):
    """{length: every measurement of the run at it}; of times only how many were taken."""
    found = {}
    for seq_len, stage, *row in query(
            database, "SELECT seq_len, stage, policy, variant, budget, k.name, layer, head, n, m.status, mean, median, "
            "max FROM measurement m JOIN config USING (config_id) JOIN metric k USING (metric_id) WHERE run_id = ?",
            run_id):
        found.setdefault(seq_len, []).append((stage or "", *map(str, row if stage is None else row[:-3])))
    return {seq_len: sorted(rows) for seq_len, rows in found.items()}


def check_whole_segments(adamas, trace, database, run_id):
    """What the ended run left is what a run of just these lengths leaves."""
    found = rows_of(database, run_id)
    if found:
        other = database.with_name("whole.db")
        other.unlink(missing_ok=True)
        lengths = ",".join(map(str, sorted(found)))
        assert adamas("replay", trace, *FEW, "--seq-lens", lengths, "--db", other, "--quiet").code == 0
        assert found == rows_of(other, 1)
    return sorted(found)


@pytest.mark.parametrize("n_lengths", [0, 2])
def test_a_killed_replay_leaves_whole_segments(adamas, write_trace, tmp_path, n_lengths):
    trace, database = write_trace(**LONG), tmp_path / "killed.db"
    with adamas.start("replay", trace, *FEW, "--db", database) as process:
        wait_for_lengths(process, database, n_lengths)
        process.kill()
    check_sound(database)
    assert query(database, "SELECT status, finished_utc, elapsed_ns FROM run") == [("running", None, None)]
    lengths = check_whole_segments(adamas, trace, database, 1)
    assert n_lengths <= len(lengths) < 10
    assert adamas("replay", trace, *FEW, "--seq-lens", "100", "--db", database, "--quiet").code == 0
    assert query(database, "SELECT run_id, status FROM run") == [(1, "running"), (2, "complete")]
    assert set(files_of(database)) == {"killed.db"}, "the journal of the killed run is still there"


def test_kills_at_any_moment_never_cost_the_file(adamas, write_trace, tmp_path):
    trace, database = write_trace(**LONG), tmp_path / "killed.db"
    for delay_ms in (0, 5, 10, 15, 20, 40, 80, 160, None):
        with adamas.start("replay", trace, *FEW, "--db", database) as process:
            if delay_ms is None:  # on a busy machine none of the others may have begun a run
                wait_for_lengths(process, database, 0)
            else:
                time.sleep(delay_ms / 1000)
            process.kill()
        if stored_lengths(database) is not None:
            check_sound(database)
    n_runs = query(database, "SELECT count(*) FROM run")[0][0]
    assert n_runs >= 1
    assert query(database, "SELECT DISTINCT status FROM run") == [("running",)]
    for run_id in range(1, n_runs + 1):
        check_whole_segments(adamas, trace, database, run_id)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_keeps_whole_segments_and_says_so(adamas, write_trace, tmp_path, signal_number):
    trace, database = write_trace(**LONG), tmp_path / "interrupted.db"
    with adamas.start("replay", trace, *FEW, "--db", database) as process:
        wait_for_lengths(process, database, 1)
        process.send_signal(signal_number)
        out, err = (stream.decode() for stream in process.communicate(timeout=120))
    assert (process.returncode, out) == (130, "")
    assert err.startswith("adamas: interrupted") and err.count("\n") == 1 and str(trace) in err
    check_sound(database)
    run, = query(database, "SELECT status, reason, finished_utc, elapsed_ns FROM run")
    status, reason, finished, elapsed_ns = run
    assert status == "interrupted" and f"adamas: {reason}\n" == err and finished and elapsed_ns > 0
    assert "--resume last goes on from there" in err or "interrupted before" in err, err
    assert 1 <= len(check_whole_segments(adamas, trace, database, 1)) < 10
    assert set(files_of(database)) == {"interrupted.db"}


def test_an_interrupted_replay_goes_on_where_it_was(adamas, write_trace, tmp_path):
    trace, database = write_trace(**LONG), tmp_path / "resumed.db"
    with adamas.start("replay", trace, *FEW, "--db", database) as process:
        wait_for_lengths(process, database, 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    before = rows_of(database, 1)
    refuse(adamas, "replay", trace, "--budgets", "16", "--db", database, "--resume", "1", code=2,
           says=["run 1 cannot be resumed", "command line"])
    refuse(adamas, "replay", trace, *FEW, "--db", database, "--resume", "2", code=2, says=["has no run 2"])
    refuse(adamas, "replay", trace, *FEW, "--db", tmp_path / "other.db", "--resume", "1", code=2,
           says=["other.db", "not there"])
    assert not (tmp_path / "other.db").exists()
    assert adamas("replay", trace, *FEW, "--db", database, "--resume", "1", "--quiet").code == 0  # quiet or not: the same work
    check_sound(database)
    assert query(database, "SELECT run_id, status, reason FROM run") == [(1, "complete", None)]
    after = rows_of(database, 1)
    assert 2 <= len(before) < len(after) and {length: after[length] for length in before} == before
    assert adamas("replay", trace, *FEW, "--db", tmp_path / "whole.db", "--quiet").code == 0

    def quality(rows):  # the first length of a resumed run encodes the tokens before it in bulk once more, and times that
        return {length: [row for row in of_length if row[0] == ""] for length, of_length in rows.items()}
    assert quality(after) == quality(rows_of(tmp_path / "whole.db", 1))
    refuse(adamas, "replay", trace, *FEW, "--db", database, "--resume=1", code=2, says=["is complete"])


def test_a_trace_that_is_cut_short_keeps_whole_segments(adamas, write_trace, tmp_path):
    trace, database = write_trace(**LONG), tmp_path / "cut.db"
    with adamas.start("replay", trace, *FEW, "--db", database) as process:
        wait_for_lengths(process, database, 1)
        os.truncate(trace, 8192)
        out, err = (stream.decode() for stream in process.communicate(timeout=120))
    assert (process.returncode, out) == (2, "") and err.count("\n") == 1, err
    assert str(trace) in err and "was changed while being read" in err
    check_sound(database)
    assert query(database, "SELECT status FROM run") == [("failed",)]
    found = rows_of(database, 1)
    whole = write_trace(**LONG)
    assert adamas("replay", whole, *FEW, "--seq-lens", ",".join(map(str, sorted(found))), "--db", tmp_path / "other.db",
                  "--quiet").code == 0
    assert 1 <= len(found) < 12 and found == rows_of(tmp_path / "other.db", 1)


def test_the_command_line_is_kept_as_it_was(adamas, small_run, tmp_path):
    arguments = ["replay", str(small_run[0]), "--db", "x.db", "--label", 'a "b" </script> \u00e4', "--quiet"]
    assert adamas(*arguments).code == 0
    (argv, label), = query(tmp_path / "x.db", "SELECT argv, label FROM run")
    assert label == 'a "b" </script> \u00e4'
    assert json.loads(argv)[-len(arguments) + 1:] == arguments[1:] and "replay" in json.loads(argv)[0]
