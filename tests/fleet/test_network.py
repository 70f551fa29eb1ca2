"""One writer per database on a network file system: statfs(2) is made to say NFS (tests/support/fake_nfs.c)."""
import os
import signal
import socket
import time

import pytest

from conftest import BUNDLED, PROGRAM, query

WORDS = ["replay", BUNDLED, "--seq-lens", "1024", "--budgets", "64", "--policies", "adamas", "--quiet"]


@pytest.fixture
def nfs(adamas, tmp_path):
    (tmp_path / "home").mkdir()
    env = {**os.environ, "FAKE_NFS": str(tmp_path / "home"), "LD_PRELOAD": str(PROGRAM.parent / "tests/fake_nfs.so")}
    return adamas, tmp_path / "home/x.db", env


def test_one_writer_alone_may(nfs):
    adamas, db, env = nfs
    for _ in range(2):
        result = adamas(*WORDS, "--db", db, env=env)
        assert result.code == 0, result
    assert query(db, "SELECT status FROM run") == [("complete",)] * 2
    assert os.listdir(db.parent) == ["x.db"]  # no journal, no claim


def test_a_second_writer_is_refused_with_the_first_ones_host_and_process(nfs):
    adamas, db, env = nfs
    claim = db.parent / "x.db-writer"
    claim.write_text("node17 4711")
    result = adamas(*WORDS, "--db", db, env=env)
    assert result.code == 2, result
    assert "is on NFS" in result.err and "process 4711 of host node17" in result.err and "a database of its own" in result.err
    assert claim.read_text() == "node17 4711" and not db.exists()
    claim.write_text(f"{socket.gethostname()} {os.getpid()}")  # of this host, and alive
    assert "is writing it" in adamas(*WORDS, "--db", db, env=env).err


def test_a_claim_of_a_process_that_is_gone_is_taken_over(nfs):
    adamas, db, env = nfs
    with adamas.start("replay", BUNDLED, "--db", db, env=env) as process:
        end = time.monotonic() + 30
        while not (db.parent / "x.db-writer").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert (db.parent / "x.db-writer").exists()
    result = adamas(*WORDS, "--db", db, env=env)
    assert result.code == 0, result
    assert not (db.parent / "x.db-writer").exists()


def test_a_process_killed_before_it_wrote_its_claim_is_in_nobodys_way(nfs):
    adamas, db, env = nfs
    killed = adamas(*WORDS, "--db", db, env={**env, "FAKE_NFS_KILLS": "x.db-writer"})
    assert killed.code == -signal.SIGKILL, killed
    assert any(name.startswith("x.db-writer") for name in os.listdir(db.parent))  # it was that far
    result = adamas(*WORDS, "--db", db, env=env)
    assert result.code == 0, result
    assert query(db, "SELECT status FROM run") == [("complete",)]


def test_readers_are_not_refused_and_local_files_are_not_claimed(nfs):
    adamas, db, env = nfs
    assert adamas(*WORDS, "--db", db, env=env).code == 0
    (db.parent / "x.db-writer").write_text("node17 4711")
    assert adamas("db", "list", "--db", db, env=env).code == 0
    local = db.parent.parent / "y.db"
    (local.parent / "y.db-writer").write_text("node17 4711")
    assert adamas(*WORDS, "--db", local, env=env).code == 0
