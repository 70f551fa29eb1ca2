"""`adamas history`: change points with their commits, one series a machine, and who acknowledged them."""
import json

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
    assert code == 0 and document["changes"] == [] and document["n_parts"] == 2 * document["n_series"]


def test_another_power_limit_is_another_series(runs, history):
    ids = runs.add(12) + runs.add(12, slower={"topk": 1.5})
    assert [change for change in history()[1]["changes"] if change["stage"] == "topk"]
    runs.limit_power(ids[:12], 700)
    runs.limit_power(ids[12:], 500)
    document = history()[1]
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
