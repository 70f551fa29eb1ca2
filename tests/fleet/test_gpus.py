"""`profile --gpus` and `--ranks` on several fake GPUs: a process per GPU, and ranks over an NCCL of host memory."""
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from sweeps import GRID, ROWS

from conftest import PROGRAM, Adamas, check_sound, query

NCCL = PROGRAM.parent / "tests/fake_nccl.so"


@pytest.fixture
def fake(tmp_path):
    program = Adamas(tmp_path)
    program.path = PROGRAM.parent / "tests/adamas-fake-gpu"

    def profile(*words, devices=2, code=0, db="x.db", **env):
        result = program("profile", *GRID, *words, "--db", tmp_path / db, env={
            **os.environ, "ADAMAS_FAKE_GPU": f"devices={devices}", "ADAMAS_NCCL": str(NCCL), "TMPDIR": str(tmp_path), **env})
        assert result.code == code, result
        return result

    profile.db = tmp_path / "x.db"
    profile.folder = tmp_path
    return profile


def test_every_gpu_has_a_run_of_its_own_and_nothing_is_averaged(fake):
    document = json.loads(fake("--gpus", "all", "--alone", "--json", devices=3).out)
    runs = query(fake.db, "SELECT run_id, gpu_uuid, n_together, together_uuid FROM run ORDER BY run_id")
    assert [row[2] for row in runs] == [1, 1, 1, 3, 3, 3] and {row[3] for row in runs} == {document["together"]}
    assert [row[1][-1] for row in runs] == ["0", "1", "2"] * 2
    assert [gpu["run_id"] for gpu in document["gpus"]] == [4, 5, 6]
    assert [gpu["alone_run_id"] for gpu in document["gpus"]] == [1, 2, 3]
    n = query(fake.db, "SELECT count(*) FROM stage_summary WHERE run_id = 4 AND metric = 'time_ns' AND status = 'ok'")[0][0]
    assert document["gpus"][0]["against_first"] is None
    for gpu in document["gpus"]:
        assert gpu["read_limit_bytes_per_s"] == 1e9 and gpu["together_against_alone"]["n"] == n
    assert [gpu["against_first"]["n"] for gpu in document["gpus"][1:]] == [n, n]
    check_sound(fake.db)
    assert not list(fake.folder.glob("adamas-gpus-*"))


def test_chosen_gpus_run_and_others_do_not(fake):
    result = fake("--gpus", "0,2", devices=3)
    assert [row[0][-1] for row in query(fake.db, "SELECT gpu_uuid FROM run ORDER BY run_id")] == ["0", "2"]
    assert "GPU 0 " in result.out and "GPU 2 " in result.out and "against the first GPU" in result.out
    assert "--gpus" in fake("--gpus", "0,3", devices=3, code=2).err


@pytest.mark.parametrize("words, said", [
    (["--gpus", "all", "--device", "0"], "leave out --ranks, --static and --device"),
    (["--gpus", "all", "--split", "--alone"], "leave out --alone and --shard"),
    (["--alone"], "--alone does nothing without --gpus"),
    (["--gpus", "7"], "--gpus"),
    (["--ranks", "1,2", "--shard", "1/2"], "leave out"),
])
def test_what_makes_no_sense_together_is_refused(fake, words, said):
    result = fake(*words, code=2)
    assert said in result.err
    assert not fake.db.exists() or query(fake.db, "SELECT count(*) FROM run") == [(0,)]


def test_a_split_grid_is_one_run_with_the_same_rows(fake):
    result = fake("--gpus", "all", "--split", devices=3)
    fake("--quiet", devices=1, db="one.db")
    assert result.out.count("rows in") == 3
    assert query(fake.db, "SELECT status, n_shards, n_together FROM run") == [("complete", 3, 3)]
    assert query(fake.db, ROWS) == query(fake.folder / "one.db", ROWS)
    assert len(query(fake.db, "SELECT DISTINCT gpu_uuid FROM stage_summary")) == 3


def test_a_gpu_that_fails_is_named(fake):
    result = fake("--gpus", "all", code=4, ADAMAS_FAKE_GPU="devices=2 memory=1000")
    assert "GPU 0: " in result.err


# ---------------------------------------------------------------- ranks

def test_ranks_share_heads_and_reduce(fake):
    document = json.loads(fake("--ranks", "1,2", "--json", devices=4).out)
    assert query(fake.db, "SELECT command, status FROM run") == [("ranks", "complete")]
    rows = document["rows"]
    assert {row["ranks"] for row in rows} == {1, 2} and {row["stage"] for row in rows} == {"step", "dense"}
    for row in rows:
        heads = row["kv_heads"] / row["ranks"]
        assert row["step_ns"] == pytest.approx(1000 * heads * (1 + 0.01 * (row["ranks"] - 1)))  # the slowest rank's
        if row["ranks"] == 1:
            assert row["all_reduce_ns"] is None and row["total_ns"] == row["step_ns"]
        else:
            assert row["all_reduce_ns"] == pytest.approx(500 + 1e-3 * row["batch"] * 4 * 64)
            assert row["total_ns"] == pytest.approx(row["step_ns"] + row["all_reduce_ns"])
            assert row["rank_spread_ratio"] == pytest.approx(0.01)
    # The byte model knows the link: each of n ranks sends 2 (n - 1) / n of the message.
    [(n_bytes,)] = query(fake.db, "SELECT DISTINCT median FROM stage_summary WHERE metric = 'link_bytes'")
    assert n_bytes == 2 * (2 - 1) / 2 * 4 * 64 * 2
    limit, floor = (query(fake.db, "SELECT DISTINCT median FROM measurement JOIN metric USING (metric_id) "
                                   f"WHERE name = '{name}'")[0][0]
                    for name in ("link_limit_bytes_per_s", "link_floor_ns"))
    assert floor == pytest.approx(n_bytes / limit * 1e9)
    # A rank moves half of what one GPU moves, but for what every query head reads.
    whole, half = (query(fake.db, "SELECT median FROM stage_summary WHERE metric = 'model_bytes' AND stage = 'dense' AND "
                                  f"seq_len = 300 AND kv_heads = 4 AND variant = 'fake, {ranks}'")[0][0]
                   for ranks in ("1 rank", "2 ranks"))
    assert half == whole / 2


def test_a_wrong_sum_is_an_error_and_nothing_is_timed(fake):
    result = fake("--ranks", "2", code=4, FAKE_NCCL="wrong")
    assert "all-reduce over 2 ranks: element 5 of rank 0" in result.err
    assert query(fake.db, "SELECT status, (SELECT count(*) FROM measurement) FROM run") == [("failed", 0)]


def test_a_wrong_stage_is_recorded_and_not_timed(fake):
    result = fake("--ranks", "2", code=4, ADAMAS_FAKE_GPU="devices=2 wrong=dense")
    assert "failed their check" in result.err
    rows = query(fake.db, "SELECT status, reason FROM stage_summary WHERE stage = 'dense' AND metric = 'sharded_step_ns'")
    assert rows and {row[0] for row in rows} == {"failed"}


def test_without_nccl_and_with_too_few_gpus_it_says_so(fake):
    result = fake("--ranks", "2", code=77, ADAMAS_NCCL="/nowhere/libnccl.so.2")
    assert "NCCL is not found" in result.err and "ADAMAS_NCCL" in result.err
    assert "this host shows 2 GPUs" in fake("--ranks", "4", code=77).err
    assert "must be multiples" in fake("--ranks", "4", devices=4, code=2).err
