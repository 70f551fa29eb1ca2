"""A year of a team in one database: sixty commits, three hosts with two kinds of GPU, measured out of order, some again, merged
from a file per host. Four changes are planted, one in quality; `adamas history` names these four with their commits and nothing
else. A branch whose check failed is a change of its own and moves none of them."""
import json
import os
import random
import shutil
import subprocess

import pytest

from conftest import Adamas, check_sound
from tracked_runs import Runs

N_COMMITS = 60
HOSTS = {  # host: (what differs, how much slower its times are)
    "alpha": ({"gpu_name": "G1", "gpu_uuid": "GPU-1", "gpu_reason": None, "driver_version": "1", "cuda_version": "13.0"}, 1.0),
    "beta": ({"gpu_name": "G1", "gpu_uuid": "GPU-2", "gpu_reason": None, "driver_version": "1", "cuda_version": "13.0"}, 1.3),
    "gamma": ({"gpu_name": "G2", "gpu_uuid": "GPU-3", "gpu_reason": None, "driver_version": "2", "cuda_version": "13.5"}, 0.7),
}
SLOWER = {"topk": (15, 1.10), "attention": (30, 1.08), "pack": (45, 0.90)}  # stage: from which commit on, by how much
WORSE_RECALL = (38, 0.95)
RENAMED_AT = 25  # the stages' implementations have another name from here on


def make_commits(folder):
    """Their hashes, the oldest first. Two in five were written before their parent, as rebased ones are."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    hashes = []
    for n in range(N_COMMITS):
        day = n - 3 if n % 5 in (1, 3) else n
        when = f"2026-{3 + day // 28:02}-{1 + day % 28:02}T12:00:00Z"
        env = {**os.environ, "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
        git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", f"{n}"], env=env, check=True)
        hashes.append(subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip())
    return hashes


def measure(runs, n, commit, host, slower_by=()):
    """One run of the n-th commit on a host, or of a branch from there, which makes stages slower by slower_by."""
    machine, factor = HOSTS[host]
    slower = {stage: factor for stage in ("hadamard", "bucket", "pack", "distance", "topk", "attention")}
    for stage, (at, by) in SLOWER.items():
        slower[stage] *= by if n >= at else 1
    for stage, by in slower_by:
        slower[stage] *= by
    quality = {"recall": WORSE_RECALL[1] if n >= WORSE_RECALL[0] else 1}
    (run,) = runs.add(1, git_commit=commit, host_name=host, slower=slower, quality=quality, samples=3, **machine)
    if n >= RENAMED_AT:
        with runs.open() as db:
            db.execute("UPDATE measurement SET config_id = config_id + 1000 WHERE run_id = ? AND stage IS NOT NULL", (run,))
    return run


def open_file(path, small_run, seed):
    runs = Runs(path, small_run)
    runs.random = random.Random(seed)
    runs.copy_configs("config_id + 1000", variant="variant || '-new'")
    return runs


@pytest.fixture(scope="module")
def merged(program, small_run, tmp_path_factory):
    """A folder with the repository and the merged database, and the commits."""
    tmp_path = tmp_path_factory.mktemp("team")
    adamas, commits = Adamas(tmp_path), make_commits(tmp_path)
    for number, host in enumerate(HOSTS):
        runs = open_file(tmp_path / f"{host}.db", small_run, number)
        order = [*range(N_COMMITS), 10, 40, 40, 41]  # some again
        random.Random(number).shuffle(order)
        for n in order:
            measure(runs, n, commits[n], host)
        assert adamas("db", "merge", f"{host}.db", "--db", "team.db", "--quiet").code == 0
    return tmp_path, commits


@pytest.fixture
def team(adamas, merged, tmp_path):
    """A copy: the database and the commits."""
    shutil.copytree(merged[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "team.db", merged[1]


def planted(commits, at):
    return f"{commits[at - 1][:12]}..{commits[at][:12]}"


def all_planted(commits):
    return {("topk", planted(commits, 15), True), ("attention", planted(commits, 30), True),
            ("pack", planted(commits, 45), False), ("recall", planted(commits, 38), True)}


def named(changes):
    return {(c["stage"] or c["metric"], c["commit_range"], c["worse"]) for c in changes}


def test_what_was_planted_is_named_and_nothing_else(adamas, team):
    database, commits = team
    check_sound(database)
    result = adamas("history", "--gate", "--db", database, "--json")
    document = json.loads(result.out)
    assert result.code == 1 and document["n_runs"] == 3 * (N_COMMITS + 4)
    assert document["order"] == {"git": document["n_runs"], "commit_date": 0, "start": 0} and document["n_renamed"] > 0

    assert named(document["changes"]) == all_planted(commits)
    for change in document["changes"]:
        listed = subprocess.run(["git", "log", "--format=%s", change["commit_range"]], cwd=database.parent, check=True,
                                capture_output=True, text=True).stdout.split()
        assert len(listed) == 1, change
    # Quality goes on over the hosts; times are each host's own.
    assert {c["n_before"] + c["n_after"] for c in document["changes"] if c["stage"] is None} == {document["n_runs"]}
    assert max(c["n_before"] + c["n_after"] for c in document["changes"] if c["stage"]) == N_COMMITS + 4


def test_a_branch_that_failed_its_check_is_a_change_of_its_own(adamas, team, small_run):
    """Its database, merged, has a top-k that is 80% slower; the gate finds it, and none of the four moves."""
    database, commits = team
    branch = "b" * 40
    runs = open_file(database.parent / "check.db", small_run, 9)
    for position in range(20):
        side = "candidate" if position % 4 in (1, 2) else "baseline"
        commit, by = (branch, [("topk", 1.8)]) if side == "candidate" else (commits[50], [])
        run = measure(runs, 50, commit, "alpha", by)
        runs.execute("INSERT INTO check_run VALUES (?, 'c0ffee', ?, ?, 'a branch')", run, side, position)
    assert adamas("db", "merge", "check.db", "--db", database, "--quiet").code == 0
    result = adamas("history", "--gate", "--db", database, "--json")
    document = json.loads(result.out)
    checks = [c for c in document["changes"] if c["kind"] == "check"]
    assert result.code == 1 and document["n_checks_failed"] == 1 and document["n_runs"] == 3 * (N_COMMITS + 4)
    assert named(checks) == {("topk", f"{commits[50][:12]}..{branch[:12]}", True)}
    assert all(0.7 < c["after"] / c["before"] - 1 < 0.9 for c in checks)
    assert named(c for c in document["changes"] if c["kind"] != "check") == all_planted(commits)
    # What was known about main stays known: only the check's own change is open then.
    acknowledge(adamas, database, [c for c in document["changes"] if c["kind"] != "check"])
    assert adamas("history", "--gate", "--db", database).code == 1
    acknowledge(adamas, database, checks)
    assert adamas("history", "--gate", "--db", database).code == 0


def acknowledge(adamas, database, changes):
    for change in changes:
        if change["worse"]:
            said = adamas("history", "ack", change["id"], "--why", "known", "--who", "Ada", "--db", database)
            assert said.code == 0, said


def test_acknowledging_all_of_it_makes_the_gate_green(adamas, team):
    database, _ = team
    acknowledge(adamas, database, json.loads(adamas("history", "--db", database, "--json").out)["changes"])
    assert adamas("history", "--gate", "--db", database).code == 0
