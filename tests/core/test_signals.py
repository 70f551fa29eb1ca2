"""TERM and INT end every command within a second, whatever it is at: work of its own, SQLite's, or output that nobody takes.
The database is whole then, and nothing is left behind."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import sqlite3
import time

import pytest

from conftest import PROGRAM, ROOT, Adamas, check_sound, query

RECORDED = ROOT / "analysis/recorded/h200.json"
CODES = (-signal.SIGTERM, -signal.SIGINT, 130)

# Work of many seconds.
WORK = {
    "replay": ["replay", "{trace}", "--budgets", "16-2048:x2", "--threads", "1", "--db", "x.db", "--policies",
               "oracle,quest,streaming,h2o,accumulated,random,adamas:metric=l1+dot+asym4"],
    "calibrate": ["calibrate", "{trace}", "--threads", "1", "-o", "c.json", "--db", "x.db"],
    "profile": ["profile", "--seq-lens", "32K-1M:x2", "--budgets", "64-4096:x2", "--kv-heads", "1,8,32", "--db", "x.db"],
    "tune": ["tune", "--stage", "attention", "--seq-len", "128K", "--db", "x.db"],
    "decode": ["decode", "--model", "model.json", "--seq-lens", "1K-64K:x2", "--db", "x.db"],
    "simulate": ["simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--budgets", "64-4096:x2", "--threads",
                 "1", "--db", "x.db"],
    "check": ["check", "--baseline", "{program}", "--db", "x.db", "--", "replay", "{trace}"],
    "trace gen": ["trace", "gen", "-o", "big", "--tokens", "8000000", "--head-dim", "256"],
    "trace verify": ["trace", "verify", *["{trace}"] * 200],
    "trace info": ["trace", "info", *["{trace}"] * 20000],
    "trace import": ["trace", "import", *["requests.csv"] * 20],
    "db merge": ["db", "merge", "parts", "--db", "x.db"],
    "db import": ["db", "import", *[RECORDED] * 200, "--db", "x.db"],
}

# What waits for a database that somebody else has locked, or for a reader of its output. "{db}" is the locked one.
WAITING = {
    "history": ["history", "--db", "{db}"],
    "history ack": ["history", "ack", "1", "--why", "x", "--db", "{db}"],
    "compare": ["compare", "1", "2", "--all", "--db", "{db}"],
    "report": ["report", "--db", "{db}", "-o", "out"],
    "explain": ["explain", "--stage", "topk", "--db", "{db}"],
    "tune --show": ["tune", "--show", "--db", "{db}"],
    "simulate --validate": ["simulate", "--validate", "--calibration", "1", "--db", "{db}"],
    "db list": ["db", "list", "--db", "{db}"],
    "db show": ["db", "show", "1", "--db", "{db}"],
    "db diff": ["db", "diff", "1", "1", "--db", "{db}"],
    "db create": ["db", "create", "--db", "{db}"],
    "db import": ["db", "import", RECORDED, "--db", "{db}"],
    "db export": ["db", "export", "--run", "1", "-o", "out", "--db", "{db}"],
    "db gc": ["db", "gc", "--keep", "1", "--db", "{db}"],
    "db merge": ["db", "merge", "y.db", "--db", "{db}"],
    "replay": ["replay", "{trace}", "--db", "{db}"],
    "calibrate": ["calibrate", "{trace}", "-o", "c.json", "--db", "{db}"],
    "profile": ["profile", "--seq-lens", "256", "--db", "{db}"],
    "decode": ["decode", "--model", "model.json", "--seq-lens", "64", "--db", "{db}"],
    "tune": ["tune", "--stage", "pack", "--seq-len", "256", "--db", "{db}"],
    "simulate": ["simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--db", "{db}"],
    "words": ["words", "labels", "--db", "{db}"],
}
PRINTING = {
    **{name: words for name, words in WAITING.items() if name in (
        "history", "compare", "explain", "db list", "db show", "db diff", "words", "tune --show")},
    "help": ["--help"],
    "kernel header": ["kernel", "header"],
    "kernel resources": ["kernel", "resources"],
    "counters list": ["counters", "list"],
    "counters plan": ["counters", "plan"],
    "counters explain": ["counters", "explain", "dram__bytes_read.sum"],
    "doctor": ["doctor"],
    "trace info": ["trace", "info", "{trace}"],
    "trace verify": ["trace", "verify", "{trace}"],
    "trace import": ["trace", "import", "few.csv"],
    "report -o -": ["report", "--db", "{db}", "-o", "-"],
    "db export -o -": ["db", "export", "--run", "1", "-o", "-", "--db", "{db}"],
    "profile --dry-run": ["profile", "--dry-run", "--seq-lens", "1024"],
    "decode --dry-run": ["decode", "--dry-run", "--model", "model.json"],
}
MODEL = {"name": "m", "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
         "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 32000}


@pytest.fixture(scope="module")
def made(program, small_run, tmp_path_factory):
    """Inputs of all of them."""
    folder = tmp_path_factory.mktemp("signals")
    shutil.copy(small_run[1], folder / "y.db")
    again = Adamas(folder)("replay", small_run[0], "--db", "y.db")
    assert again.code == 0 and Adamas(folder)("db", "import", RECORDED, "--db", "y.db").code == 0
    (folder / "model.json").write_text(json.dumps(MODEL))
    head, row = "TIMESTAMP,ContextTokens,GeneratedTokens\n", "2023-11-16 18:{:02d}:{:02d}.{:03d}0000,{},{}\n"
    rows = [row.format(i // 60000 % 60, i // 1000 % 60, i % 1000, 1000 + i % 5000, 50 + i % 700) for i in range(400000)]
    (folder / "requests.csv").write_text(head + "".join(rows))
    (folder / "few.csv").write_text(head + "".join(rows[:10]))
    (folder / "parts").mkdir()
    for i in range(60):
        shutil.copy(folder / "y.db", folder / f"parts/{i:02}.db")
        with contextlib.closing(sqlite3.connect(folder / f"parts/{i:02}.db")) as connection:
            connection.execute("UPDATE run SET run_uuid = printf('%08x', ?) || substr(run_uuid, 9)", [i])
            connection.commit()
    return folder


@pytest.fixture
def place(made, bundled, tmp_path, monkeypatch):
    """place(words) -> a started command, in a folder with links to the inputs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    def start(words, **options):
        adamas = Adamas(tmp_path)
        if words[0] in ("profile", "decode"):
            adamas.path = PROGRAM.parent / "tests/adamas-fake-gpu"
        known = {"{trace}": bundled, "{program}": PROGRAM, "{db}": "locked.db"}
        return adamas.start(*(known.get(word, word) for word in words), **options)
    start.inputs = {path.name for path in made.iterdir()}
    return start


def check_end(process, signal_number):
    """It ends within a second of the signal; on a busy machine it has to wait for its turn."""
    patience = 1.5 + 0.5 * os.getloadavg()[0] / os.cpu_count()
    process.send_signal(signal_number)
    sent = time.monotonic()
    said = process.communicate(timeout=30)
    seconds = time.monotonic() - sent
    assert seconds < patience and process.returncode in CODES, (seconds, patience, process.returncode, said)
    return said[1] if isinstance(said[1], str) else (said[1] or b"").decode()


def check_left(tmp_path, inputs):
    left = {path.name for path in tmp_path.iterdir()} - inputs - {"x.db", "x.db-wal", "x.db-shm", "locked.db"}
    assert left == set(), left
    if (tmp_path / "x.db").exists() and query(tmp_path / "x.db", "PRAGMA user_version") != [(0,)]:
        check_sound(tmp_path / "x.db")


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_work(place, tmp_path, name, signal_number):
    with place(WORK[name]) as process:
        time.sleep(1.2)
        assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"
        said = check_end(process, signal_number)
    assert "database in memory" not in said and ("--resume" not in said or WORK[name][0] == "replay"), said
    check_left(tmp_path, place.inputs)


@pytest.mark.parametrize("name", WAITING)
def test_a_signal_ends_what_waits_for_a_database(place, made, tmp_path, name):
    shutil.copy(made / "y.db", tmp_path / "locked.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "locked.db", isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with place(WAITING[name]) as process:
            time.sleep(0.5)
            assert process.poll() is None, f"it did not wait: {process.communicate()}"
            check_end(process, signal.SIGTERM)
    check_left(tmp_path, place.inputs)
    check_sound(tmp_path / "locked.db")


@contextlib.contextmanager
def full_pipe():
    """The writing end of a pipe that takes no byte more."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    for n in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * n)
    fcntl.fcntl(writer, fcntl.F_SETFL, 0)
    try:
        yield writer
    finally:
        os.close(writer)
        os.close(reader)


@pytest.mark.parametrize("name", PRINTING)
def test_a_signal_ends_what_waits_for_a_reader(place, made, tmp_path, name):
    shutil.copy(made / "y.db", tmp_path / "locked.db")
    with full_pipe() as pipe, place(PRINTING[name], stdout=pipe) as process:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if process.poll() == 77:
                pytest.skip(process.communicate()[1].decode().strip())
            assert process.poll() is None, f"it did not wait: {process.returncode} {process.communicate()}"
            with open(f"/proc/{process.pid}/wchan") as file:
                if "pipe" in file.read():
                    break
            time.sleep(0.05)
        else:
            pytest.fail("it did not come to its output")
        check_end(process, signal.SIGTERM)
    check_left(tmp_path, place.inputs)


def test_every_command_is_here(adamas):
    """A new command belongs above."""
    def verbs(*group):
        return re.findall(r"^  ([a-z]+) {2,}\S", adamas(*group, "--help").out, re.MULTILINE)
    top = verbs()
    assert len(top) > 12
    names = set()
    for name in top:
        inside = verbs(name) if name in ("db", "trace", "counters", "kernel") else []
        names |= {f"{name} {verb}" for verb in inside} or {name}
    # Its verbs are above; sass asks cuobjdump, which a machine may lack.
    assert names - set(WORK) - set(WAITING) - set(PRINTING) == {"counters", "kernel sass"}
