"""`adamas check`: two programs in turn, from their processes to the exit code and the files for a CI.

What is decided is tested on programs that hand in recorded times (tests/support/recorded_program.py), so that nothing here
depends on how busy this machine is. The live path has tests/adamas-planted, whose top-k takes 20 times as long (configure.py
--plant-slowdown).
"""
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import PROGRAM, ROOT, Adamas, check_sound, query, refuse
from recorded_program import RecordedPrograms

PLANTED = PROGRAM.parent / "tests/adamas-planted"


REPLAY = ["--policies", "adamas", "--thresholds", "calibrated", "--budgets", "64"]


@pytest.fixture(scope="session")
def one_run(program, small_run, tmp_path_factory):
    """(trace, database) of one replay as the checks here ask for it."""
    folder = tmp_path_factory.mktemp("one")
    result = Adamas(folder)("replay", small_run[0], *REPLAY, "--db", "one.db", "--quiet")
    assert result.code == 0, result
    return small_run[0], folder / "one.db"


@pytest.fixture
def recorded(one_run, tmp_path):
    """recorded(name, slower={stage: factor}) -> a program with recorded times."""
    return RecordedPrograms(tmp_path, one_run).make


@pytest.fixture
def check(adamas, small_run, tmp_path, monkeypatch):
    """check(baseline, candidate, ...) -> Result; replays a small trace, in a scratch folder of the test."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))

    def call(*arguments, replay=(), **options):
        result = adamas("check", "--db", "x.db", *arguments, "--", "replay", small_run[0], *REPLAY, *replay, **options)
        assert list(scratch.iterdir()) == [], "the scratch folder stays"
        return result
    return call


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


# ---------------------------------------------------------------- the whole path

def test_a_planted_slowdown_is_found(check, recorded, tmp_path):
    result = check("--baseline", recorded("a"), "--candidate", recorded("b", slower={"topk": 1.2}), "--runs", "10",
                   "--max-runs", "40", "--markdown", "s.md", "--junit", "j.xml", "--benchmark-json", "b.json", "--json")
    document = json.loads(result.out)
    assert (result.code, result.err) == (1, "")
    rows = {row["stage"]: row for row in document["rows"] if row["kind"] == "time"}
    assert set(rows) == {"hadamard", "bucket", "pack", "distance", "topk", "attention"}
    assert {stage for stage, row in rows.items() if row["verdict"] == "regressed"} == {"topk"}
    topk = rows["topk"]["time"]
    assert topk["low_ratio"] < topk["shift_ratio"] < topk["high_ratio"] and topk["shift_ratio"] == pytest.approx(0.2, abs=0.01)

    failures = ElementTree.parse(tmp_path / "j.xml").getroot().findall(".//testcase[failure]")
    assert {case.get("classname") for case in failures} == {"adamas.host.topk"}
    assert "**regressed** | host topk" in (tmp_path / "s.md").read_text()
    assert any("topk" in entry["name"] for entry in json.loads((tmp_path / "b.json").read_text()))

    check_sound(tmp_path / "x.db")
    order = query(tmp_path / "x.db",
                  "SELECT group_concat(substr(side, 1, 1), '') FROM (SELECT side FROM check_run ORDER BY position)")
    n = len(order[0][0])
    assert n in (20, 40, 80) and order == [("bccb" * (n // 4),)]
    assert query(tmp_path / "x.db", "SELECT count(DISTINCT run_uuid), min(status) FROM run") == [(n, "complete")]
    # The same once more, from what is stored.
    again = Adamas(tmp_path)("compare", f"check:{document['check']}:baseline", f"check:{document['check']}:candidate", "--db",
                             "x.db", "--json")
    assert again.code == 1
    stored = {row["stage"]: row for row in json.loads(again.out)["rows"] if row["kind"] == "time"}
    assert stored["topk"]["time"] == topk and stored["topk"]["verdict"] == "regressed"


def test_a_slowdown_of_this_machine_is_found(check):
    """The live path. Processes that shared their core do not count while five others do; with fewer than eight on a side no
    shift can be proven, so the verdict may then stay open, but the shift itself may not."""
    assert PLANTED.exists(), f"{PLANTED} is not built"
    result = check("--baseline", PROGRAM, "--candidate", PLANTED, "--runs", "10", "--json")
    document = json.loads(result.out)
    topk = next(row for row in document["rows"] if row["stage"] == "topk" and row["kind"] == "time")
    assert topk["time"]["low_ratio"] > 2 and topk["time"]["shift_ratio"] > 5, topk
    if min(topk["n_baseline"], topk["n_candidate"]) >= 8:
        assert result.code == 1 and topk["verdict"] == "regressed", topk


def test_a_program_against_itself_does_not_regress(check, recorded):
    same = recorded("same")
    document = json.loads(check("--baseline", same, "--candidate", same, "--runs", "10", "--max-runs", "10",
                                "--json").out)
    times = [row for row in document["rows"] if row["kind"] == "time"]
    assert document["n_regressed"] == 0 and len(times) == 6
    # Recorded on a machine that others used: the processes that shared their core are left out.
    assert all(row["n_baseline"] + row["n_candidate"] + row["n_throttled"] == 20 for row in times)
    assert {row["n_throttled"] for row in times} != {0}


def test_a_gpu_profile_is_checked_the_same_way(adamas, tmp_path):
    fake = PROGRAM.parent / "tests/adamas-fake-gpu"
    result = adamas("check", "--db", "x.db", "--baseline", fake, "--candidate", fake, "--runs", "5", "--max-runs", "5",
                    "--margin", "100", "--json", "--",
                    "profile", "--seq-lens", "256", "--budgets", "16", "--heads", "4", "--kv-heads", "2", "--head-dim", "64",
                    timeout=300)
    assert result.code in (0, 1, 3), result  # times of a fake GPU mean nothing
    document = json.loads(result.out)
    assert {row["source"] for row in document["rows"]} == {"gpu"}
    assert {row["stage"] for row in document["rows"]} >= {"topk", "dense"}


# ---------------------------------------------------------------- candidates that do not run

def failed(tmp_path, result, code, says):
    """The sentence, the database and the files say that the candidate failed; it is no regression."""
    assert result.code == code and all(part in result.err for part in says), result
    suite = ElementTree.parse(tmp_path / "j.xml").getroot().find("testsuite")
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert says[0] in suite.find("testcase/error").get("message")
    assert "not compared" in (tmp_path / "s.md").read_text() and json.loads((tmp_path / "b.json").read_text()) == []
    check_sound(tmp_path / "x.db")


FILES = ["--markdown", "s.md", "--junit", "j.xml", "--benchmark-json", "b.json"]


def test_a_crashed_candidate_is_no_regression(check, tmp_path):
    crash = script(tmp_path / "crash", "echo 'about to fall' >&2\nkill -SEGV $$\n")
    result = check("--baseline", PROGRAM, "--candidate", crash, "--runs", "2", *FILES)
    failed(tmp_path, result, 4, ["the candidate crashed: process 1 was ended by signal 11", "about to fall"])
    assert query(tmp_path / "x.db", "SELECT side FROM check_run") == [("baseline",)]


def test_a_candidate_that_crashes_later(check, tmp_path):
    later = script(tmp_path / "later", f'[ -e seen ] && exit 9\ntouch seen\nexec {PROGRAM} "$@"\n')
    failed(tmp_path, check("--baseline", PROGRAM, "--candidate", later, "--runs", "2", *FILES), 4,
           ["the candidate failed: process 2 ended with 9: it said nothing"])


@pytest.mark.parametrize("code", [2, 77])
def test_exit_codes_of_a_side_are_its_own(check, tmp_path, code):
    side = script(tmp_path / "side", f"echo 'adamas: the reason' >&2\nexit {code}\n")
    failed(tmp_path, check("--baseline", side, "--candidate", PROGRAM, *FILES), code,
           [f"the baseline failed: process 1 ended with {code}: the reason"])


def test_a_program_that_is_no_adamas(check, tmp_path):
    other = script(tmp_path / "other", "exit 0\n")
    failed(tmp_path, check("--baseline", other, "--candidate", other, "--runs", "2", *FILES), 4,
           ["0 complete runs in 1 processes"])


def test_an_interrupt_ends_it(adamas, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    slow = script(tmp_path / "slow", f"touch {tmp_path}/started\nsleep 60\n")
    with adamas.start("check", "--baseline", slow, "--db", "x.db", "--", "replay", small_run[0],
                      start_new_session=True) as process:
        give_up = time.monotonic() + 120
        while not (tmp_path / "started").exists():
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and b"interrupted" in err and not list(tmp_path.glob("adamas-check-*"))


# ---------------------------------------------------------------- git refs

@pytest.fixture
def checkout(recorded, tmp_path):
    """A checkout whose build makes a program that is ours, and a tag `broken` whose build fails."""
    top = tmp_path / "top"
    top.mkdir()

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=top, check=True,
                       capture_output=True)
    git("init", "-q")
    (top / "adamas.sh").write_text(f'#!/bin/sh\nexec {recorded("built")} "$@"\n')
    script(top / "configure.py", """echo "$@" > arguments
printf 'rule make\\n  command = mkdir -p build/release && cp adamas.sh $out && chmod +x $out\\n' > build.ninja
printf 'build build/release/adamas: make\\n' >> build.ninja
""")
    (top / "web-report").mkdir()
    for name in ("package.json", "package-lock.json"):
        (top / "web-report" / name).write_text("{}\n")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "good")
    script(top / "configure.py", "echo 'no such option' >&2; exit 1\n")
    git("commit", "-qam", "two")
    git("tag", "broken")
    (top / "build").mkdir()
    (top / "build.ninja").write_text("rule configure\n  command = python3 configure.py --cuda=off --arch=sm_90 "
                                     "--plant-slowdown=7\n")
    return top


def test_a_git_ref_is_built_once(check, checkout, recorded, tmp_path):
    arguments = ["--baseline", "good", "--candidate", recorded("same"), "--runs", "5", "--margin", "100", "--db",
                 tmp_path / "y.db"]
    first = check(*arguments, cwd=checkout)
    assert first.code in (0, 3) and "building good (" in first.err, first
    second = check(*arguments, "--json", cwd=checkout)
    assert second.code in (0, 3) and "building" not in second.err, second
    assert json.loads(second.out)["baseline"].startswith("good (")
    (folder,) = [path for path in (checkout / "build/check").iterdir() if path.is_dir()]
    # those of the checkout, as far as all refs know them
    assert (folder / "arguments").read_text() == "--cuda=off --arch=sm_90\n"


@pytest.mark.parametrize("deps", [False, True])
def test_a_ref_of_a_checkout_that_was_never_built(check, checkout, recorded, deps):
    """A fresh clone beside an installed program; with deps, what a build needs was set up."""
    (checkout / "build").rmdir()
    (checkout / "build.ninja").unlink()
    if deps:
        (checkout / "build/deps").mkdir(parents=True)
    result = check("--baseline", "good", "--candidate", recorded("same"), "--runs", "2", "--max-runs", "2", "--margin", "100",
                   cwd=checkout)
    assert result.code == 3 and "building good (" in result.err, result
    (folder,) = [path for path in (checkout / "build/check").iterdir() if path.is_dir()]
    assert (folder / "build/deps").is_symlink() == deps
    # as the program that asks was configured: without CUDA it builds no CUDA for all architectures
    command = re.search(r"configure\.py (--cuda=\S+) (?:--cuda-version=\S+ )?(--arch=\S+)", (ROOT / "build.ninja").read_text())
    has_cuda = "\nrule nvcc" in (ROOT / "build.ninja").read_text()
    assert (folder / "arguments").read_text() == f"{command[1] if has_cuda else '--cuda=off'} {command[2]}\n"


def test_a_ref_that_does_not_build(check, checkout):
    result = check("--baseline", "broken", "--quiet", cwd=checkout)
    assert result.code == 4 and result.err.startswith("adamas: broken (commit ") and ".log says why" in result.err
    (log,) = (checkout / "build/check").glob("*.log")
    assert "no such option" in log.read_text()


# ---------------------------------------------------------------- margins, looks and stored baselines

def test_calibration_leaves_margins_that_a_check_uses(check, recorded, tmp_path):
    same = recorded("same")
    result = check("--calibrate", "--candidate", same, "--runs", "8", "--json")
    assert (result.code, result.err) == (0, "")
    margins = json.loads(result.out)  # of 16 processes, or fewer where some shared their core
    assert {row["stage"] for row in margins} == {"hadamard", "bucket", "pack", "distance", "topk", "attention"}
    assert all(row["margin_ratio"] >= 0.01 and 10 <= row["n_processes"] <= 16 for row in margins)
    stored = query(tmp_path / "x.db", "SELECT count(*), max(margin_ratio) FROM margin")
    assert stored == [(len(margins), max(row["margin_ratio"] for row in margins))]
    document = json.loads(check("--baseline", same, "--candidate", same, "--runs", "5", "--json").out)
    used = {(row["stage"], row["metric"], row["configuration"]): row["margin_ratio"] for row in document["rows"]
            if row["kind"] == "time"}
    assert used == {(row["stage"], row["metric"], row["configuration"]): row["margin_ratio"] for row in margins}


def test_more_runs_while_something_is_open(check, recorded, tmp_path):
    same = recorded("same")
    result = check("--baseline", same, "--candidate", same, "--runs", "2", "--max-runs", "5", "--margin", "0.01", "--quiet")
    assert result.code == 3  # a margin below the clock's resolution is never proven
    assert query(tmp_path / "x.db", "SELECT side, count(*) FROM check_run GROUP BY side") == [("baseline", 5), ("candidate", 5)]


def test_a_stored_baseline(check, recorded, tmp_path):
    same = recorded("same")
    arguments = ["--candidate", same, "--runs", "5", "--max-runs", "5", "--margin", "100"]
    assert check("--baseline", same, *arguments, "--quiet", replay=["--label", "night"]).code in (0, 3)
    before = query(tmp_path / "x.db", "SELECT count(*) FROM run")[0][0]
    result = check("--baseline", "label:night", *arguments, "--json")
    assert result.code in (0, 3) and json.loads(result.out)["baseline"] == "label:night"
    assert query(tmp_path / "x.db", "SELECT count(*) FROM run") == [(before + 5,)]


# ---------------------------------------------------------------- few processes

def test_few_processes_are_told_before_they_run(check, recorded):
    same, slow = recorded("same"), recorded("slow", slower={"topk": 5.64})
    result = check("--baseline", same, "--candidate", slow, "--runs", "5", "--max-runs", "5", "--json")
    assert result.code == 3 and "5 processes per side cannot reach 1% for one of 2 times" in result.err, result
    (topk,) = [row for row in json.loads(result.out)["rows"] if row["stage"] == "topk" and row["kind"] == "time"]
    assert topk["verdict"] == "inconclusive" and topk["time"]["shift_ratio"] == pytest.approx(4.64, abs=0.3)
    assert topk["time"]["low_ratio"] > 4 and "cannot reach 1% among" in topk["why"], topk


def test_a_check_adds_processes_until_it_is_decided(check, recorded, tmp_path):
    same, slow = recorded("same"), recorded("slow", slower={"topk": 5.64})
    result = check("--baseline", same, "--candidate", slow, "--runs", "5", "--margin", "20", "--json")
    (topk,) = [row for row in json.loads(result.out)["rows"] if row["stage"] == "topk" and row["kind"] == "time"]
    assert result.code == 1 and "take all times" in result.err and topk["verdict"] == "regressed"
    (n,), = query(tmp_path / "x.db", "SELECT count(*) FROM check_run WHERE side = 'candidate'")
    assert 5 < n <= 40


def test_fewer_than_five_show_what_they_found(check, recorded):
    same, slow = recorded("same"), recorded("slow", slower={"topk": 5.64})
    result = check("--baseline", same, "--candidate", slow, "--runs", "3", "--max-runs", "3", "--json")
    (topk,) = [row for row in json.loads(result.out)["rows"] if row["stage"] == "topk" and row["kind"] == "time"]
    assert topk["time"]["shift_ratio"] == pytest.approx(4.64, abs=0.3) and topk["time"]["low_ratio"] is None
    assert "at least 5 processes per side are needed" in topk["why"]


# ---------------------------------------------------------------- what is stored

def test_a_checks_verdicts_are_stored_merged_and_gated(adamas, check, recorded, tmp_path):
    same, slow = recorded("same"), recorded("slow", slower={"topk": 1.8})
    result = check("--baseline", same, "--candidate", slow, "--max-runs", "10", "--json")
    document = json.loads(result.out)
    assert result.code == 1
    for _ in range(2):
        assert adamas("db", "merge", "x.db", "--db", "y.db", "--quiet").code == 0
    for name in ("x.db", "y.db"):
        check_sound(tmp_path / name)
        stored = query(tmp_path / name, "SELECT check_uuid, exit_code, n_rows, n_regressed FROM check_result")
        assert stored == [(document["check"], 1, len(document["rows"]), document["n_regressed"])]
        verdicts = query(tmp_path / name, "SELECT verdict, count(*) FROM check_row GROUP BY verdict")
        assert dict(verdicts) == {v: n for v in ("regressed", "improved", "equivalent", "inconclusive")
                                  if (n := document[f"n_{v}"])}
        report = json.loads(adamas("report", "--db", name, "--json").out)
        assert [(c["check"], c["verdict"]) for c in report["checks"]] == [(document["check"], "regressed")]
        assert {r["stage"] for r in report["check_rows"] if r["verdict"] == "regressed"} == {"topk"}
        assert adamas("report", "--db", name, "-o", "r.html").code == 0
        page = (tmp_path / "r.html").read_text()
        assert 'id=checks' in page and f"<code>{document['check'][:8]}</code>" in page
        gate = adamas("history", "--gate", "--db", name, "--json")
        changes = json.loads(gate.out)["changes"]
        assert gate.code == 1 and {(c["kind"], c["stage"]) for c in changes} == {("check", "topk")}, gate
    # The same commit passes a later check: what regressed is settled.
    assert check("--baseline", same, "--candidate", same, "--max-runs", "10", "--margin", "50").code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as db, db:
        db.execute("UPDATE check_result SET candidate_commit = 'c'")
    assert adamas("history", "--gate", "--db", "x.db", "--json").code == 0


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("arguments, says", [
    (["--baseline", PROGRAM], ["after --"]), (["--baseline", PROGRAM, "--"], ["after --"]),
    (["--baseline", PROGRAM, "--", "report"], ["'report'", "replay or profile"]),
    (["--", "replay", "x"], ["--baseline is missing"]),
    (["--calibrate", "--baseline", PROGRAM, "--", "replay", "x"], ["--calibrate", "no --baseline"]),
    (["--baseline", PROGRAM, "--", "replay", "x", "--db", "y"], ["--db belongs before --"]),
    (["--baseline", PROGRAM, "--", "replay", "x", "--db=y"], ["--db=y belongs before --"]),
    (["--baseline", PROGRAM, "--runs", "1", "--", "replay", "x"], ["--runs", "2 to 500"]),
    (["--baseline", PROGRAM, "--max-runs", "3", "--", "replay", "x"], ["--max-runs", "10 to 500"]),
    (["--baseline", "/dev/null", "--", "replay", "x"], ["/dev/null is no program"]),
    (["--baseline", "no-such-ref", "--", "replay", "x"], ["'no-such-ref' is neither a program nor a git ref"]),
    (["--baseline", "--upload-pack=x", "--", "replay", "x"], ["neither a program nor a git ref"]),
    (["--baseline", PROGRAM, "--margin", "x", "--", "replay", "x"], ["--margin"]),
])
def test_bad_usage(adamas, tmp_path, arguments, says):
    refuse(adamas, "check", "--db", "x.db", *arguments, says=says)
    assert not (tmp_path / "x.db").exists() or query(tmp_path / "x.db", "SELECT count(*) FROM run") == [(0,)]


# ---------------------------------------------------------------- git's own reasons

def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True,
                   capture_output=True)


def test_git_says_why(adamas, program, small_run, tmp_path):
    """A shallow clone, a repository of another owner, and no git: each message names the cause."""
    origin, shallow, bin_ = tmp_path / "origin", tmp_path / "shallow", tmp_path / "bin"
    origin.mkdir()
    bin_.mkdir()
    git(origin, "init", "-q")
    for n in range(2):
        git(origin, "commit", "-q", "--allow-empty", "-m", str(n))
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{origin}", shallow)
    call = ["check", "--baseline", "HEAD~1", "--db", "x.db", "--", "replay", small_run[0]]
    refuse(adamas, *call, cwd=shallow, says=["'HEAD~1'", "git says: Needed a single revision", "this clone is shallow"])
    refuse(adamas, *call, cwd=origin, env={"PATH": str(bin_)}, says=["git cannot be run", "is it installed?"])
    refuse(adamas, *call, cwd=tmp_path, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
           says=["git says: not a git repository"])
    owner = script(bin_ / "git", "echo \"fatal: detected dubious ownership in repository at '/x'\" >&2; exit 128\n")
    refuse(adamas, *call, cwd=origin, env={"PATH": str(owner.parent)}, says=["dubious ownership", "safe.directory"])


# ---------------------------------------------------------------- what this machine can tell

def test_a_noisy_time_is_equivalent_within_the_baselines_own_scatter(check, recorded):
    """The same program, with times recorded on a busy machine: nothing is left open, and what was decided so is said."""
    same = recorded("same")
    result = check("--baseline", same, "--candidate", same, "--json")
    document = json.loads(result.out)
    own = [row for row in document["rows"] if "which the baseline differs by from itself" in row["why"]]
    assert len(own) == document["n_within_own_scatter"] > 0 and document["n_regressed"] == 0
    for row in own:
        assert row["verdict"] == "equivalent" and 0.01 < row["margin_ratio"] <= 0.03 and row["p_adjusted"] > 0.01
    assert document["n_open"] == document["n_inconclusive"] and (document["n_open"] == 0) == (result.code == 0)


def test_a_slow_program_is_not_hidden_in_its_scatter(check, recorded):
    result = check("--baseline", recorded("same"), "--candidate", recorded("slow", slower={"topk": 1.035}), "--json")
    rows = {row["stage"]: row for row in json.loads(result.out)["rows"] if row["kind"] == "time"}
    assert result.code == 1 and rows["topk"]["verdict"] == "regressed", rows["topk"]


# ---------------------------------------------------------------- added processes take the open times alone

ONLY = "only_times IS NOT NULL"


def test_added_processes_take_what_is_open(adamas, check, recorded, tmp_path):
    """On another level than in the whole command, by 5%, on both sides: no row changes by that, and no history."""
    same = recorded("same", only=True)
    result = check("--baseline", same, "--candidate", same, "--runs", "5", "--margin", "0.7", "--json")
    document = json.loads(result.out)
    n_whole, n_open, n_others = query(tmp_path / "x.db", f"""SELECT sum(NOT {ONLY}), sum({ONLY}),
        (SELECT count(*) FROM measurement m JOIN run USING (run_id) WHERE {ONLY} AND m.stage IS NULL) FROM run""")[0]
    assert n_whole == 10 and n_open >= 10 and n_others == 0
    assert "times are open after 5 processes per side" in result.err and "take those alone" in result.err
    sides = query(tmp_path / "x.db", f"SELECT side, count(*) FROM check_run JOIN run USING (run_id) WHERE {ONLY} GROUP BY 1")
    assert [n for _, n in sides] == [n_open // 2] * 2
    times = [row for row in document["rows"] if row["kind"] == "time"]
    assert {row["n_baseline"] <= 5 for row in times} == {True, False} and document["n_regressed"] == 0
    assert all(abs(row["time"]["shift_ratio"]) < 0.02 for row in times)
    names = [row for row in document["rows"] if row["kind"] != "time"]
    assert names and all(row["verdict"] == "equivalent" and row["n_baseline"] == 5 for row in names)
    (uuid,) = query(tmp_path / "x.db", "SELECT DISTINCT check_uuid FROM check_run")[0]
    again = json.loads(adamas("compare", "--db", "x.db", f"check:{uuid}:baseline", f"check:{uuid}:candidate", "--json").out)
    shifts = {(row["stage"], row["metric"]): row["time"] for row in again["rows"] if row["kind"] == "time"}
    assert shifts == {(row["stage"], row["metric"]): row["time"] for row in times}
    last = json.loads(adamas("db", "list", "last", "--db", "x.db", "--json").out)
    assert [row["only_times"] for row in last] == [False]
    assert "over 5 runs" in adamas("history", "--db", "x.db").out
    for named in ("last", "last~1"):
        assert json.loads(adamas("db", "show", named, "--db", "x.db", "--json").out)["only_times"] is None
    listed = adamas("db", "list", "--limit", "0", "--db", "x.db").out
    assert listed.count("a few times") == n_open


def test_a_slowdown_is_found_by_the_added_processes(check, recorded):
    slow = recorded("slow", slower={"topk": 1.05}, only=True)
    result = check("--baseline", recorded("same", only=True), "--candidate", slow, "--runs", "5", "--json")
    rows = {row["stage"]: row for row in json.loads(result.out)["rows"] if row["kind"] == "time"}
    assert result.code == 1 and rows["topk"]["verdict"] == "regressed", rows["topk"]
    assert rows["topk"]["n_baseline"] > 5 and rows["topk"]["time"]["shift_ratio"] == pytest.approx(.05, abs=.02)


def test_a_side_that_cannot_take_a_few_takes_all(check, recorded, tmp_path):
    result = check("--baseline", recorded("old"), "--candidate", recorded("new", only=True), "--runs", "5", "--max-runs", "10",
                   "--margin", "0.01", "--json")
    assert "take all times" in result.err
    assert query(tmp_path / "x.db", f"SELECT count(*), sum({ONLY}) FROM run") == [(20, 0)]


def test_a_program_takes_a_few_times(adamas, small_run, tmp_path):
    """What a replay takes with --only-times, and what it says otherwise."""
    call = ["replay", small_run[0], *REPLAY, "--db", "o.db", "--quiet", "--only-times"]
    length, = query(tmp_path / "o.db", "SELECT max(seq_len) FROM config") if adamas(*call, "topk").code == 0 else [None]
    taken = query(tmp_path / "o.db", "SELECT DISTINCT stage, k.name FROM measurement JOIN metric k USING (metric_id) ORDER BY "
                                     "k.name")
    assert taken == [("topk", "core_loop_ns"), ("topk", "time_ns")]
    assert adamas(*call, f"step@{length[0]}/64").code == 0
    stages = query(tmp_path / "o.db", "SELECT DISTINCT stage FROM measurement WHERE run_id = 2")
    assert {stage for stage, in stages} == {"hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step"}
    assert adamas(*call, f"pack:bulk@{length[0]}").code == 0
    encoded = query(tmp_path / "o.db", "SELECT DISTINCT stage, k.name FROM measurement JOIN metric k USING (metric_id) WHERE "
                                       "run_id = 3")
    assert set(encoded) <= {("pack", "encode_ns_per_key"), ("pack", "encode_core_loop_ns")}
    refuse(adamas, *call, "topk@3", says=["--only-times", "none of these lengths"])
    for bad in ("", "fft", "topk:bulk", "pack@64/3", "topk@64/", "topk@0", "topk,,pack", "topk@99999999999"):
        refuse(adamas, *call, bad, says=["--only-times", "is none of"])
    for option in ("--timeline", "--counters=host", "--resume=1"):
        refuse(adamas, *call, "topk", option, says=["--only-times", "cannot be joined"])
