"""`adamas history`: change points with their commits, one series a machine, and who acknowledged them."""
import json
import os
import subprocess
import uuid

import pytest

from conftest import check_sound, refuse
from tracked_runs import Runs


@pytest.fixture
def runs(small_run, tmp_path):
    return Runs(tmp_path / "x.db", small_run)


@pytest.fixture
def history(adamas, runs):
    """history(...) -> (exit code, the document of --json)"""
    def call(*arguments):
        result = adamas("history", "--db", runs.path, "--json", *arguments)
        assert result.err == "", result
        return result.code, json.loads(result.out)
    return call


def test_a_level_that_stays_has_no_change(runs, history):
    runs.add(30)
    code, document = history("--gate")
    assert code == 0 and document["changes"] == []
    assert document["n_runs"] == 30 and document["n_series"] == document["n_parts"] > 20


def test_a_step_names_its_commits(runs, history):
    runs.add(20)
    runs.add(15, slower={"topk": 1.1})
    code, document = history("--metric", "time_ns")
    assert code == 0 and {change["stage"] for change in document["changes"]} == {"topk"}
    for change in document["changes"]:
        assert change["worse"] and (change["n_before"], change["n_after"]) == (20, 15)
        assert change["last_commit_before"] == f"{20:040x}" and change["first_commit_after"] == f"{21:040x}"
        assert 1.07 < change["after"] / change["before"] < 1.13 and change["p"] <= 0.004
    assert history("--gate")[0] == 1
    assert history("--stage", "distance")[1]["changes"] == []
    assert history("--min-change", "20")[1]["changes"] == []


def test_two_runs_after_are_too_few(runs, history):
    runs.add(30)
    runs.add(2, slower={"topk": 1.3})
    assert history("--metric", "time_ns")[1]["changes"] == []
    runs.add(4, slower={"topk": 1.3})
    assert {change["n_after"] for change in history("--metric", "time_ns")[1]["changes"]} == {6}


def test_directions_and_counts(runs, history):
    def registers(n):
        return [("topk", "registers", "1", "lower", n)]
    runs.add(10, extra=registers(100))
    runs.add(10, extra=registers(101), quality={"recall": 0.9}, slower={"pack": 0.8})
    changes = history()[1]["changes"]
    assert {(change["metric"], change["worse"]) for change in changes} == {
        ("registers", True), ("recall", True), ("time_ns", False), ("encode_ns_per_key", False)}
    assert history("--gate")[0] == 1


@pytest.mark.parametrize("column, value", [("driver_version", "999"), ("cuda_version", "14.0"), ("gpu_name", "Other"),
                                           ("cpu_model", "Other"), ("host_name", "other")])
def test_another_machine_is_another_series(runs, history, column, value):
    gpu = {"gpu_name": "G", "gpu_reason": None, "driver_version": "1", "cuda_version": "13.0"}
    runs.add(12, **gpu)
    runs.add(12, slower={"topk": 1.5}, **{**gpu, column: value})
    code, document = history("--gate")
    assert code == 0 and document["changes"] == []
    times = history("--metric", "time_ns")[1]
    assert times["n_parts"] == 2 * times["n_series"]
    quality = history("--metric", "recall")[1]  # does not depend on the machine
    assert quality["n_parts"] == quality["n_series"]


def test_another_power_limit_is_another_series(runs, history):
    ids = runs.add(12) + runs.add(12, slower={"topk": 1.5})
    assert [change for change in history()[1]["changes"] if change["stage"] == "topk"]
    runs.limit_power(ids[:12], 700)
    runs.limit_power(ids[12:], 500)
    document = history("--metric", "time_ns")[1]
    assert document["n_parts"] == 2 * document["n_series"] and not [c for c in document["changes"] if c["stage"] == "topk"]


def test_a_power_limit_that_is_not_known_is_that_of_the_runs_around(runs, history):
    ids = runs.add(24)  # 6 of an older program, 6 at 700 W, 6 that could not read it, 6 at 700 W
    runs.limit_power(ids[6:12] + ids[18:], 700)
    document = history()[1]
    assert document["n_parts"] == document["n_series"]


def test_runs_in_company_are_left_out(runs, history):
    ids = runs.add(12) + runs.add(12, slower={"topk": 1.5})
    assert [change for change in history()[1]["changes"] if change["stage"] == "topk"]
    runs.loops(ids, 980)
    runs.loops(ids[12:], 1500)
    assert not [change for change in history()[1]["changes"] if change["stage"] == "topk"]


def test_too_few_runs_are_counted(runs, history):
    runs.add(5)
    document = history()[1]
    assert document["n_too_short"] == document["n_series"] > 0


def test_acknowledged_and_ignored(adamas, runs, history):
    runs.add(20)
    runs.add(10, slower={"topk": 1.2})
    first, second = [change["id"] for change in history("--metric", "time_ns", "--stage", "topk")[1]["changes"]][:2]
    said = adamas("history", "ack", first[:8], "--why", "bigger tiles: <script>", "--who", "Ada", "--db", runs.path)
    assert (said.code, said.out) == (0, f"{first} acknowledged\n"), said
    assert history("--gate")[0] == 1  # the other is open
    said = adamas("history", "ack", second, "--why", "a test", "--ignore", "--db", runs.path, env={"USER": "Bob"})
    assert (said.code, said.out) == (0, f"{second} ignored\n"), said
    check_sound(runs.path)

    changes = {change["id"]: change for change in history()[1]["changes"]}
    assert (changes[first]["verdict"], changes[first]["who"], changes[first]["why"]) == ("acknowledged", "Ada",
                                                                                         "bigger tiles: <script>")
    assert second not in changes
    hidden = next(change for change in history("--all")[1]["changes"] if change["id"] == second)
    assert (hidden["verdict"], hidden["who"]) == ("ignored", "Bob")
    assert "acknowledged by Ada: bigger tiles" in adamas("history", "--db", runs.path).out
    assert len(changes) > 1 and history("--gate")[0] == 1  # other budgets are open
    for change in changes:
        adamas("history", "ack", change, "--why", "the same", "--who", "Ada", "--db", runs.path)
    assert history("--gate")[0] == 0

    # More runs come: the change point is still the one that was acknowledged.
    runs.add(10, slower={"topk": 1.2})
    assert history("--gate")[0] == 0


def test_the_newest_word_counts(adamas, runs, history):
    runs.add(20)
    runs.add(10, slower={"topk": 1.2})
    change = history("--metric", "time_ns", "--stage", "topk")[1]["changes"][0]["id"]
    for word, arguments in (("ignored", ["--ignore"]), ("acknowledged", [])):
        assert adamas("history", "ack", change, "--why", word, "--who", "A", "--db", runs.path, *arguments).code == 0
        found = next(c for c in history("--all")[1]["changes"] if c["id"] == change)
        assert (found["verdict"], found["why"]) == (word, word)


@pytest.mark.parametrize("arguments, says", [
    (["ack", "zzz", "--why", "x", "--who", "y"], ["0 of 1 change points", "'zzz'"]),
    (["ack", "", "--why", "x", "--who", "y"], ["''"]),
    (["--min-change", "x"], ["--min-change", "'x'"]), (["--runs", "nobody"], ["'nobody'"]), (["--seed", "x"], ["--seed"])])
def test_bad_values(adamas, runs, arguments, says):
    runs.add(10, extra=[("topk", "registers", "1", "lower", 1)])
    runs.add(10, extra=[("topk", "registers", "1", "lower", 2)])
    runs.execute("DELETE FROM measurement WHERE measurement_id NOT IN (SELECT measurement_id FROM measurement JOIN metric "
                 "USING (metric_id) JOIN config USING (config_id) WHERE name = 'registers' AND config_id = (SELECT "
                 "min(config_id) FROM measurement JOIN metric USING (metric_id) WHERE name = 'registers'))")
    refuse(adamas, "history", *arguments, "--db", runs.path, says=says)


def test_who_and_why_are_needed(adamas, runs, history):
    runs.add(20)
    runs.add(10, slower={"topk": 1.2})
    change = history()[1]["changes"][0]["id"]
    refuse(adamas, "history", "ack", change, "--who", "A", "--db", runs.path, says=["--why"])
    refuse(adamas, "history", "ack", change, "--why", "A", "--db", runs.path, says=["--who"], env={})
    assert adamas("history", "--why", "x", "--db", runs.path).code == 2
    assert adamas("history", "ack", "--db", runs.path).code == 2


def test_text_for_people(adamas, runs):
    runs.add(20)
    runs.add(10, slower={"topk": 1.2})
    out = adamas("history", "--metric", "time_ns", "--stage", "topk", "--db", runs.path).out
    assert "  worse   host topk time_ns: " in out and f"{20:040x}"[:12] + ".." + f"{21:040x}"[:12] in out
    assert out.splitlines()[-1].endswith(" over 30 runs")


# ---------------------------------------------------------------- the order of commits

def commit(repository, text, when):
    """A commit in a repository, made at a time; returns its hash."""
    env = {**os.environ, "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for command in (["commit", "-q", "--allow-empty", "-m", text], ["rev-parse", "HEAD"]):
        said = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=repository, env=env,
                              capture_output=True, text=True, check=True)
    return said.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """The folder that the program runs in is a repository of eight commits; their hashes. Every date says the opposite of the
    real order, so that only git knows it."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return [commit(tmp_path, f"{n}", f"2026-02-{20 - n:02}T00:00:00Z") for n in range(8)]


def test_an_old_commit_measured_later_takes_its_place(runs, history, repository):
    runs.add(6, git_commit=repository[5], quality={"recall": 0.8}, slower={"topk": 1.2})
    runs.add(6, git_commit=repository[2])  # a backfill
    code, document = history("--gate")
    assert code == 1 and document["order"] == {"git": 12, "commit_date": 0, "start": 0}
    changes = document["changes"]
    assert {(c["metric"], c["stage"], c["worse"]) for c in changes} == {("recall", None, True), ("time_ns", "topk", True)}
    for change in changes:
        assert change["commit_range"] == f"{repository[2][:12]}..{repository[5][:12]}"
        listed = subprocess.run(["git", "log", "--format=%s", change["commit_range"]], cwd=runs.path.parent, check=True,
                                capture_output=True, text=True).stdout.split()
        assert listed == ["5", "4", "3"]


def test_without_git_the_commits_dates_decide(runs, history):
    def made(day):
        return {"git_commit": f"{day:040x}", "commit_utc": f"2026-01-{day:02}T00:00:00Z"}
    runs.add(6, **made(9), slower={"topk": 1.2})
    runs.add(6, **made(3))
    document = history("--metric", "time_ns")[1]
    assert document["order"] == {"git": 0, "commit_date": 12, "start": 0}
    assert {(c["stage"], c["worse"], c["first_commit_after"]) for c in document["changes"]} == {("topk", True, f"{9:040x}")}


def test_what_git_does_not_know_stands_between_what_it_knows(runs, history, tmp_path):
    """A commit that was rebased away has the place of its date."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    known = [commit(tmp_path, f"{n}", f"2026-02-{n:02}T00:00:00Z") for n in (3, 9)]
    runs.add(4, git_commit=known[1], slower={"topk": 1.3})
    runs.add(4, git_commit="f" * 40, commit_utc="2026-02-05T12:00:00Z", slower={"topk": 1.3})
    runs.add(4, git_commit=known[0])
    document = history("--metric", "time_ns", "--stage", "topk")[1]
    assert document["order"] == {"git": 8, "commit_date": 4, "start": 0}
    assert {c["first_commit_after"] for c in document["changes"]} == {"f" * 40}


def test_runs_of_one_commit_are_replicates(runs, history):
    """No change lies inside a commit, however its runs differ; ten runs in a bad hour are one witness."""
    runs.add(6, git_commit="a" * 40)
    runs.add(6, git_commit="a" * 40, slower={"topk": 1.3})
    code, document = history("--gate")
    assert code == 3 and document["changes"] == [] and "one commit" in document["missing"]
    levels = [1, 1.03, 0.98, 1.02, 0.97, 1.01, 0.99, 1.04]
    for n, level in enumerate(levels):
        runs.add(10, git_commit=f"{n + 1:040x}", slower={"distance": level}, noise=0.001)
    assert history("--metric", "time_ns", "--stage", "distance")[1]["changes"] == []


def test_modified_sources_are_no_replicates(runs, history):
    runs.add(8, git_commit="a" * 40, git_dirty=1)
    runs.add(8, git_commit="a" * 40, git_dirty=1, slower={"topk": 1.3})
    changes = history("--metric", "time_ns")[1]["changes"]
    assert {c["stage"] for c in changes} == {"topk"} and changes[0]["modified"]


# ---------------------------------------------------------------- machines and names

def test_a_pool_is_one_machine(runs, history):
    for n in range(24):
        runs.add(host_name=f"runner-{n}", slower={"topk": 1 if n < 12 else 1.3})
    code, document = history("--gate", "--metric", "time_ns")
    assert code == 3 and document["changes"] == [] and "fewer than 6 runs" in document["missing"]
    code, document = history("--gate", "--metric", "time_ns", "--same-machine", "^runner-[0-9]+$")
    assert code == 1 and {c["stage"] for c in document["changes"]} == {"topk"}
    runs.execute("UPDATE run SET machine = 'pool'")
    assert history("--metric", "time_ns")[1]["changes"] == document["changes"]


def test_a_renamed_variant_goes_on(runs, history):
    runs.add(12)
    ids = runs.add(12, slower={"topk": 1.3})
    runs.copy_configs("config_id + 1000", variant="variant || '-new'")
    for run in ids:
        runs.execute("UPDATE measurement SET config_id = config_id + 1000 WHERE run_id = ? AND stage IS NOT NULL", run)
    document = history("--metric", "time_ns")[1]
    assert {c["stage"] for c in document["changes"]} == {"topk"} and document["n_renamed"] == document["n_series"] > 0
    assert all(c["configuration"].split(",")[0].endswith("-new") for c in document["changes"])


def test_the_noise_reference_is_no_series(runs, history):
    ids = runs.add(24)
    runs.loops(ids, 980)
    before = history()[1]["n_series"]
    runs.execute("DELETE FROM measurement WHERE metric_id IN (SELECT metric_id FROM metric WHERE name LIKE '%core_loop_ns')")
    assert history()[1]["n_series"] == before


# ---------------------------------------------------------------- a gate that judged nothing

def test_a_gate_without_enough_runs_is_not_green(adamas, runs, history):
    runs.add(5)
    code, document = history("--gate")
    assert code == 3 and "nothing was judged" in document["missing"]
    assert history()[0] == 0  # no gate was asked for
    result = adamas("history", "--gate", "--db", runs.path)
    assert result.code == 3 and "nothing was judged" in result.out


def test_a_name_that_the_database_lacks_is_refused_with_the_nearest(adamas, runs):
    runs.add(5)
    for option, typed, meant in (("--metric", "tme_ns", "time_ns"), ("--stage", "atention", "attention")):
        result = adamas("history", option, typed, "--db", runs.path)
        assert result.code == 2 and f"'{typed}'; did you mean '{meant}'?" in result.err
    assert adamas("history", "--metric", "nothing_like_it", "--db", runs.path).code == 2
    assert adamas("history", "--metric", "time_ns", "--stage", "attention", "--db", runs.path).code == 0


def test_a_gate_whose_times_ran_on_shared_cores_is_not_green(runs, history):
    ids = runs.add(24)
    runs.loops(ids, 1500)
    runs.loops(ids[:1], 980)
    code, document = history("--gate")
    assert code == 3 and "no time was judged" in document["missing"] and "shared core" in document["missing"]
    assert document["n_contended"] > 100


# ---------------------------------------------------------------- checks

def add_check(runs, slower, label="c", commit="c" * 40, base="b" * 40, n=10):
    """The runs of a check as its database holds them; returns its UUID. Nobody has stored its verdict."""
    check = str(uuid.UUID(int=runs.random.getrandbits(128)))
    for side, factors, at in (("baseline", {}, base), ("candidate", slower, commit)):
        for position, run in enumerate(runs.add(n, slower=factors, git_commit=at, label=label)):
            runs.execute("INSERT INTO check_run VALUES (?, ?, ?, ?, 'x')", run, check, side, position)
    return check


def test_a_failed_check_does_not_look_fine(adamas, runs, history):
    check = add_check(runs, {"topk": 1.8})
    code, document = history("--gate")
    assert code == 1 and document["n_runs"] == 0 and document["n_checks_failed"] == 1
    assert {(c["kind"], c["check"], c["stage"]) for c in document["changes"]} == {("check", check, "topk")}
    n, text = len(document["changes"]), adamas("history", "--db", runs.path).out
    assert f"no series: runs of a failed check make none; 1 check, 1 failed with {n} regression{'s' * (n != 1)}\n" in text
    change = document["changes"][0]
    assert change["after"] / change["before"] == pytest.approx(1.8, abs=0.05)
    assert change["commit_range"] == f"{'b' * 12}..{'c' * 12}"
    for change in document["changes"]:
        said = adamas("history", "ack", change["id"], "--why", "wanted", "--who", "Ada", "--db", runs.path)
        assert said.code == 0, said
    assert history("--gate")[0] == 3  # nothing is open, and nothing was judged


def test_history_uses_one_side_of_a_check(runs, history):
    runs.add(20)
    add_check(runs, {})
    assert history()[1]["n_runs"] == 30
    for sides, n in (("passed", 30), ("candidates", 30), ("baselines", 30), ("none", 20)):
        assert history("--series", sides)[1]["n_runs"] == n
    add_check(runs, {"topk": 1.8})
    for sides, n in (("passed", 30), ("candidates", 40), ("baselines", 40), ("none", 20)):
        assert history("--series", sides)[1]["n_runs"] == n


def test_other_sides_are_refused(adamas, runs):
    runs.add(1)
    refuse(adamas, "history", "--series", "left", "--db", runs.path, says=["'left' is not known; there are passed, candidates"])
    refuse(adamas, "history", "--same-machine", "(", "--db", runs.path, says=["'(' is not a regular expression"])
