"""Sweeps in shards: one piece and many give the same rows; what is missing, doubled, killed or foreign is named."""
import argparse
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[1] / "kernels/tune"))
import bench_merge
from sweeps import CANDIDATES, GRID, MODEL, QUALITY, ROWS, Fleet
from test_tune_gpu import FAULTS, build
from tune_faults import RIGHT, wrong_source

from conftest import BUNDLED, PROGRAM, check_sound, query


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_a_profile_in_shards_and_in_one_piece_has_the_same_rows(fleet, n):
    fleet.run("profile", db=fleet.folder / "one.db")
    fleet.all("profile", n)
    [sweep] = fleet.joined()
    assert (sweep["n_joined"], sweep["n_there"], sweep["status"], sweep["left"]) == (n, n, "complete", [])
    check_sound(fleet.folder / "all.db")
    assert fleet.ask(ROWS) == fleet.ask(ROWS, "one.db")
    ours = [row for row in fleet.ask(MODEL) if row[6] != "floor_ns"]
    assert ours == [row for row in fleet.ask(MODEL, "one.db") if row[6] != "floor_ns"]
    assert fleet.ask("SELECT count(*) FROM run") == [(1,)]
    assert fleet.ask("SELECT DISTINCT host IS NOT NULL, gpu, shard IS NOT NULL FROM stage_summary") == [
        (1, "fake GPU of the tests", 1)]


@pytest.mark.parametrize("n", [2, 5])
def test_a_replay_in_shards_and_in_one_piece_has_the_same_values(fleet, n):
    fleet.run("replay", db=fleet.folder / "one.db")
    fleet.all("replay", n)
    [sweep] = fleet.joined()
    assert (sweep["n_there"], sweep["status"]) == (n, "complete")
    check_sound(fleet.folder / "all.db")
    assert len(fleet.ask(QUALITY)) > 100 and fleet.ask(QUALITY) == fleet.ask(QUALITY, "one.db")
    assert fleet.ask(ROWS) == fleet.ask(ROWS, "one.db")
    thresholds = "SELECT variant, layer, t0, t1, t2 FROM calibration ORDER BY 1, 2"
    assert fleet.ask(thresholds) == fleet.ask(thresholds, "one.db")


def test_a_profile_by_asym4_in_16_shards_and_in_one_piece_has_the_same_rows(fleet):
    more = ["--metric", "l1,asym4"]
    fleet.run("profile", db=fleet.folder / "one.db", more=more)
    fleet.all("profile", 16, more=more)
    [sweep] = fleet.joined()
    assert (sweep["n_there"], sweep["status"]) == (16, "complete")
    assert any("asym4" in row[2] for row in fleet.ask(ROWS)) and fleet.ask(ROWS) == fleet.ask(ROWS, "one.db")


def test_a_replay_by_asym4_in_shards_and_in_one_piece_has_the_same_values(fleet):
    more = ["--metric", "l1,asym4"]
    fleet.run("replay", db=fleet.folder / "one.db", more=more)
    fleet.all("replay", 2, more=more)
    [sweep] = fleet.joined()
    assert (sweep["n_there"], sweep["status"]) == (2, "complete")
    assert any("asym4" in row[2] for row in fleet.ask(QUALITY)) and fleet.ask(QUALITY) == fleet.ask(QUALITY, "one.db")
    assert fleet.ask(ROWS) == fleet.ask(ROWS, "one.db")


def bring(fleet, command):
    """Words that bring a right kernel and a wrong one of top-k, and what the fake GPU is to be."""
    if command == "profile":
        files = [build(fleet.folder, "mine"), build(fleet.folder, "tie", [FAULTS["tie_to_the_older"][:2]])]
        return [word for name in files for word in ("--candidate", f"topk={fleet.folder / name}")], "honest"
    (fleet.folder / "mine.c").write_text(RIGHT["topk"])
    (fleet.folder / "tie.c").write_text(wrong_source("topk", "tie_to_the_older"))
    return [word for name in ("mine", "tie") for word in ("--candidate", fleet.folder / f"{name}.c")], ""


def without_reasons(fleet, db="all.db"):
    """Inputs are drawn anew in every session, so that a wrong kernel is wrong at another token."""
    return [row[:12] + row[13:] for row in fleet.ask(ROWS, db)]


@pytest.mark.parametrize("command", ["profile", "replay"])
def test_candidates_in_shards_and_in_one_piece_have_the_same_verdicts(fleet, command):
    more, faults = bring(fleet, command)
    fleet.run(command, db=fleet.folder / "one.db", more=more, faults=faults, code=4)
    codes = {fleet.run(command, f"{i}/4", more=more, faults=faults, code=None).code for i in range(1, 5)}
    assert 4 in codes and codes <= {0, 4}  # a shard without the wrong one's configurations ends well
    [sweep] = fleet.joined()
    assert (sweep["n_there"], sweep["status"]) == (4, "complete")
    found = fleet.ask(CANDIDATES)
    assert {row[8] for row in found} == {"right", "wrong"} and found == fleet.ask(CANDIDATES, "one.db")
    assert without_reasons(fleet) == without_reasons(fleet, "one.db")
    check_sound(fleet.folder / "all.db")


@pytest.mark.parametrize("command", ["profile", "replay"])
def test_candidates_of_a_shard_that_goes_on_or_is_repeated_are_not_doubled(fleet, command):
    more, faults = bring(fleet, command)
    for i in (1, 2):
        fleet.run(command, f"{i}/2", more=more, faults=faults, code=None)
    fleet.merge()
    before = fleet.ask(CANDIDATES), without_reasons(fleet)
    with sqlite3.connect(fleet.path(1)) as db:
        db.execute("UPDATE run SET status = 'running'")
    db.close()
    fleet.run(command, "1/2", more=more, faults=faults, code=None)  # goes on
    assert query(fleet.path(1), "SELECT count(*) FROM run") == [(1,)]
    [first] = query(fleet.path(1), "SELECT run_uuid FROM run")
    fleet.merge(db="on.db")
    assert (fleet.ask(CANDIDATES, "on.db"), without_reasons(fleet, "on.db")) == before
    fleet.run(command, "1/2", more=more, faults=faults, code=None)  # replaces itself
    assert query(fleet.path(1), "SELECT run_uuid FROM run") != [first]
    fleet.merge()
    assert (fleet.ask(CANDIDATES), without_reasons(fleet)) == before


def test_another_candidate_of_the_same_name_is_another_sweep(fleet):
    more, faults = bring(fleet, "profile")
    fleet.run("profile", "1/2", more=more, faults=faults, code=None)
    build(fleet.folder, "mine", [FAULTS["tie_to_the_older"][:2]])
    fleet.run("profile", "2/2", more=more, faults=faults, code=None)
    [one] = query(fleet.path(1), "SELECT sweep_inputs FROM run")
    assert query(fleet.path(2), "SELECT sweep_inputs FROM run") != [one]


def test_a_simulation_in_shards_and_in_one_piece_has_the_same_values(fleet):
    values = ("SELECT s.policy, s.budget, s.memory, k.name, m.n, m.mean, m.p50, m.p95, m.p99, m.max FROM simulation s JOIN "
              "simulation_metric m USING (simulation_id) JOIN metric k USING (metric_id) WHERE k.name NOT LIKE '%wall%' "
              "ORDER BY 1, 2, 3, 4")
    fleet.run("simulate", db=fleet.folder / "one.db")
    fleet.all("simulate", 3)
    [sweep] = fleet.joined()
    assert (sweep["n_there"], sweep["status"]) == (3, "complete")
    assert len(fleet.ask(values)) > 50 and fleet.ask(values) == fleet.ask(values, "one.db")
    assert {row[0] for row in fleet.ask("SELECT of_shard FROM simulation")} == {1, 2, 3}


def test_figures_of_the_device_are_one_row_with_a_sample_per_shard(fleet):
    fleet.all("profile", 3)
    fleet.merge()
    [(n, least, most, of_shard)] = fleet.ask("SELECT m.n, m.min, m.max, m.of_shard FROM measurement m "
                                             "JOIN metric USING (metric_id) WHERE name = 'read_limit_bytes_per_s'")
    assert (n, least, most, of_shard) == (3, 1e9, 1e9, None)
    assert fleet.ask("SELECT i, value FROM sample JOIN measurement USING (measurement_id) JOIN metric USING (metric_id) WHERE "
                     "name = 'read_limit_bytes_per_s' ORDER BY i") == [(1, 1e9), (2, 1e9), (3, 1e9)]


def test_what_is_missing_is_named_and_comes_later(fleet):
    fleet.all("profile", 5)
    kept = {i: fleet.path(i).rename(fleet.folder / f"{i}.kept") for i in (2, 4, 5)}
    result = fleet.merge(code=3)
    assert "2 shards joined, 2 of 5 are in run 1" in result.out and "shards 2, 4-5 of 5 are missing" in result.out
    assert fleet.ask("SELECT status, reason FROM run") == [("interrupted", "shards 2, 4-5 of 5 are missing")]
    for i, path in kept.items():
        path.rename(fleet.path(i))
    result = fleet.merge()
    assert "3 shards joined, 5 of 5 are in run 1" in result.out
    assert fleet.ask("SELECT status, reason FROM run") == [("complete", None)]
    before = fleet.ask("SELECT count(*), total(median) FROM measurement")
    again = fleet.merge().out
    assert "0 shards joined, 5 of 5" in again and "runs added" not in again, again  # shards alone: the sweep's line counts them
    assert fleet.ask("SELECT count(*), total(median) FROM measurement") == before


def test_a_shard_that_is_repeated_replaces_itself(fleet):
    fleet.all("profile", 2)
    [first] = query(fleet.path(1), "SELECT run_uuid FROM run")
    fleet.merge()
    rows = fleet.ask("SELECT count(*) FROM measurement"), fleet.ask("SELECT count(*) FROM sample")
    fleet.run("profile", "1/2")
    [second] = query(fleet.path(1), "SELECT run_uuid FROM run")  # one run, and another
    assert first != second
    assert query(fleet.path(1), "PRAGMA foreign_key_check") == []
    fleet.merge()
    assert fleet.ask("SELECT run_uuid FROM shard WHERE shard = 1") == [second]
    assert (fleet.ask("SELECT count(*) FROM measurement"), fleet.ask("SELECT count(*) FROM sample")) == rows
    check_sound(fleet.folder / "all.db")


def test_a_doubled_shard_is_named_and_the_later_one_counts(fleet):
    fleet.all("profile", 2)
    shutil.copy(fleet.path(1), fleet.shards / "again.db")
    assert fleet.joined()[0]["left"] == []  # the same run twice is no double
    fleet.run("profile", "1/2", db=fleet.shards / "other.db")
    [later] = query(fleet.shards / "other.db", "SELECT run_uuid FROM run")
    result = fleet.merge(db="new.db")
    assert (result.out.count("shard 1 is doubled") == 1 and "1.db of" in result.out) or "again.db of" in result.out
    assert fleet.ask("SELECT run_uuid FROM shard WHERE shard = 1", "new.db") == [later]


def kill_while_running(fleet, shard, after_rows):
    """Kills a shard's process when its database has so many rows; it must not be complete then."""
    db = fleet.path(shard.split("/")[0])
    with fleet.fake.start("profile", *GRID, "--shard", shard, "--db", db, "--quiet",
                          env={**os.environ, "ADAMAS_FAKE_GPU": "slow"}) as process:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            try:
                if query(db, "SELECT count(*) FROM measurement")[0][0] >= after_rows:
                    break
            except sqlite3.OperationalError:
                pass
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    return query(db, "SELECT run_id, status FROM run")


def test_a_killed_shard_is_named_and_goes_on_where_it_was(fleet):
    fleet.run("profile", "2/2")
    rows = kill_while_running(fleet, "1/2", 30)
    assert rows == [(1, "running")], rows
    there = query(fleet.path(1), "SELECT measurement_id FROM measurement ORDER BY 1")
    result = fleet.merge(code=3)
    assert "shard 1 is unfinished (running)" in result.out and "shard 1 of 2 is missing" in result.out
    fleet.run("profile", "1/2")
    assert query(fleet.path(1), "SELECT run_id, status FROM run") == [(1, "complete")]
    # What was measured before the kill is there still, but for the configuration at hand.
    after = query(fleet.path(1), "SELECT measurement_id FROM measurement ORDER BY 1")
    assert len(after) > len(there) and after[:10] == there[:10]
    fleet.merge()
    fleet.run("profile", db=fleet.folder / "one.db")
    assert fleet.ask(ROWS) == fleet.ask(ROWS, "one.db")


def test_an_empty_file_of_a_killed_shard_stops_nobody(fleet):
    fleet.run("profile", "1/3")
    fleet.run("profile", "3/3")
    fleet.path(2).touch()
    result = fleet.merge(code=3)
    assert "2.db is empty, and left out" in result.out and "shard 2 of 3 is missing" in result.out
    result = fleet.program("db", "merge", fleet.path(2), "--db", fleet.folder / "all.db")  # named, it is a mistake
    assert result.code == 2 and "2.db is empty" in result.err
    fleet.run("profile", "2/3")
    assert fleet.joined()[0]["status"] == "complete"


def test_many_shards_of_which_ten_were_killed(tmp_path, capsys):
    """The benchmark of 1,000 shards, on 50: it ends the test if a row is missing or a killed shard is not named."""
    options = argparse.Namespace(shards=50, rows=200, killed=10, new=str(PROGRAM))
    bench_merge.merge_shards(options, tmp_path)
    assert "8000 rows, 16000 samples" in capsys.readouterr().out
    check_sound(tmp_path / "joined.db")
    hosts = query(tmp_path / "joined.db", "SELECT host, count(*) FROM stage_summary GROUP BY 1")
    assert len(hosts) == 40 and {n for _, n in hosts} == {200}


def edit(path, sql):
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()


def test_other_builds_are_refused_unless_asked_for_and_then_said(fleet):
    fleet.all("profile", 3)
    edit(fleet.path(2), "UPDATE run SET git_commit = 'abc', sweep_build = '0.0.9 abc', sweep_id = 'f00'")
    result = fleet.merge(code=2)
    assert "1.db (shard 1)" in result.err and "2.db (shard 2)" in result.err and "differ in their build" in result.err
    assert not (fleet.folder / "all.db").exists() or fleet.ask("SELECT count(*) FROM run") == [(0,)]
    result = fleet.merge("--across-builds")
    assert "of different builds or machines" in result.out
    [(commit, status)] = fleet.ask("SELECT git_commit, status FROM run")
    assert commit.startswith("2 builds: ") and "abc" in commit and status == "complete"
    assert "2 builds: " in fleet.program("db", "list", "--db", fleet.folder / "all.db").out


def test_other_gpus_are_refused_unless_asked_for_and_then_said(fleet):
    fleet.run("profile", "1/2")
    fleet.run("profile", "2/2", faults="h200")
    result = fleet.merge(code=2)
    assert "differ in their GPU: 'fake GPU of the tests' and 'NVIDIA H200'" in result.err and "--across-machines" in result.err
    assert "of different builds or machines" in fleet.merge("--across-machines").out
    assert fleet.ask("SELECT gpu_name FROM run") == [("NVIDIA H200 + fake GPU of the tests",)]
    assert fleet.ask("SELECT DISTINCT shard, gpu FROM stage_summary ORDER BY 1") == [
        (1, "fake GPU of the tests"), (2, "NVIDIA H200")]


def test_other_inputs_are_refused(fleet):
    other = fleet.folder / BUNDLED.name
    shutil.copy(BUNDLED, other)
    with open(other, "r+b") as file:  # a value of the last tensor
        file.seek(-2, os.SEEK_END)
        file.write(b"\x01\x20")
    fleet.run("replay", "1/2")
    result = fleet.program("replay", other, "--seq-lens", "1024,2048,4096", "--budgets", "64,256", "--policies", "adamas,quest",
                           "--timed-steps", "2", "--shard", "2/2", "--db", fleet.path(2), "--quiet")
    assert result.code == 0, result
    result = fleet.merge("--across-builds", "--across-machines", code=2)
    assert "what their input files hold" in result.err and "1.db" in result.err and "2.db" in result.err


def test_the_order_of_options_and_where_files_lie_do_not_matter(fleet):
    other = fleet.folder / BUNDLED.name
    shutil.copy(BUNDLED, other)
    fleet.run("replay", "1/2")
    result = fleet.program("replay", "--policies=adamas,quest", "--timed-st", "2", "-b", "64,256", other, "--seq-lens",
                           "1024,2048,4096", "--threads", "1", "--label", "x", "--shard=2/2", "--db", fleet.path(2), "-q")
    assert result.code == 0, result
    assert fleet.joined()[0]["status"] == "complete"


def test_the_plan_shows_every_shard_and_the_balance(fleet):
    whole = json.loads(fleet.fake("profile", *GRID, "--shard", "1/4", "--dry-run", "--json").out)["shards"]
    assert whole["n_units"] > whole["n_ours"] > 0 and len(whole["estimated_s"]) == 4 and 1 <= whole["largest_over_mean"] < 1.15
    ours = sum(json.loads(fleet.fake("profile", *GRID, "--shard", f"{i}/4", "--dry-run", "--json").out)["shards"]["n_ours"]
               for i in range(1, 5))
    assert ours == whole["n_units"]
    assert "the largest shard takes" in fleet.fake("profile", *GRID, "--shard", "2/4", "--dry-run").out
    words = [BUNDLED, "--seq-lens", "1024,2048,4096", "--shard", "1/2", "--dry-run"]
    plan = json.loads(fleet.program("replay", *words, "--json").out)
    assert sorted(item["shard"] for item in plan["items"]) == [1, 2, 2] and plan["largest_over_mean"] < 1.15
    assert "the largest shard reads 1.13 times the mean" in fleet.program("replay", *words).out
    assert not list(fleet.folder.glob("*.db"))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_wrong_shard_is_refused(fleet, text):
    result = fleet.program("replay", BUNDLED, "--shard", text)
    assert result.code == 2 and "such as 3/16" in result.err


def test_report_compare_and_history_take_a_sweep_as_one_run(fleet):
    for label in ("a", "b"):
        fleet.all("replay", 3, more=["--label", label])
        fleet.merge()
        shutil.rmtree(fleet.shards)
        fleet.shards.mkdir()
    # The label is not what is measured: the same shards again replace the first ones.
    assert fleet.ask("SELECT count(*) FROM run") == [(1,)]
    edit(fleet.folder / "all.db", "UPDATE run SET sweep_id = 'of another commit'")
    fleet.all("replay", 3)
    fleet.merge()
    assert fleet.ask("SELECT status, n_shards, shard FROM run") == [("complete", 3, None)] * 2
    report = fleet.program("report", "--db", fleet.folder / "all.db", "-o", fleet.folder / "r.html")
    assert report.code == 0, report
    document = fleet.program("report", "--db", fleet.folder / "all.db", "--json", "-o", fleet.folder / "r.html").out
    assert all(f'"seq_len":{n}' in document.replace(" ", "") for n in (1024, 2048, 4096))
    result = fleet.program("compare", "1", "2", "--db", fleet.folder / "all.db")
    assert result.code in (0, 1, 3) and "cannot" not in result.err, result
    result = fleet.program("history", "--db", fleet.folder / "all.db", "--runs", "all")
    assert result.code in (0, 1, 3), result
