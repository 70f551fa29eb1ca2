"""The shell blocks of the documented workflows, run: a repository of a few commits, a configure.py that does nothing, and a
program that plays recorded times (support/recorded_program.py) where `adamas check` would build and measure.

What is tested is what a workflow adds: that it uses commits that exist, keeps the runs whatever the verdict, and ends with it.
"""
import os
import re
import subprocess

import pytest

from conftest import BUNDLED, PROGRAM, ROOT, Adamas, query
from recorded_program import RecordedPrograms

yaml = pytest.importorskip("yaml", reason="no PyYAML in this Python: run ./configure.py --setup test")

BLOCKS = [yaml.safe_load(block)
          for block in re.findall(r"^```yaml\n(.*?)^```", (ROOT / "analysis/README.md").read_text(), re.S | re.M)]
GITHUB, ACK, GITLAB = BLOCKS


def git(folder, *arguments):
    return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True,
                          capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def one_run(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    result = Adamas(folder)("replay", BUNDLED, "--policies", "adamas", "--budgets", "64", "--seq-lens", "1024", "--timed-steps",
                            "2", "--db", "one.db", "--quiet")
    assert result.code == 0, result
    return BUNDLED, folder / "one.db"


@pytest.fixture
def checkout(tmp_path, one_run):
    """checkout(slower) -> a repository of three commits with a build whose candidate is slower by that."""
    def make(slower=None, n_commits=3):
        git(tmp_path, "init", "-q", "-b", "main")
        programs = RecordedPrograms(tmp_path, one_run)
        base, cand = programs.make("base"), programs.make("cand", slower)
        for path in ("build/release/adamas", "configure.py"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        # `check` gets the recorded programs in the place of its ref, which must be a commit, and of itself.
        (tmp_path / "build/release/adamas").write_text(
            "#!/bin/bash\nif [ \"$1\" != check ]; then exec " + f"{PROGRAM} \"$@\"; fi\n"
            "git rev-parse --quiet --verify \"$3^{commit}\" > resolved || exit 2\nshift 3\n"
            f"exec {PROGRAM} check --baseline {base} --candidate {cand} --runs 10 --margin 30 \"$@\"\n")
        (tmp_path / "configure.py").write_text("#!/bin/sh\nexit 0\n")
        for path in ("build/release/adamas", "configure.py"):
            (tmp_path / path).chmod(0o755)
        for n in range(n_commits):
            git(tmp_path, "commit", "-q", "--allow-empty", "-m", str(n))
        return tmp_path
    return make


def run_block(folder, text, env, options=("-e",)):
    """As GitHub runs a block that names no shell: the exit code of a pipeline is that of its last command. GitLab: pipefail."""
    return subprocess.run(["bash", "--noprofile", "--norc", *options, "-c", text], cwd=folder, capture_output=True,
                          text=True, env={"PATH": os.environ["PATH"], "HOME": str(folder), **env})


def run_github(folder, base, ref="refs/heads/main"):
    """The exit codes of the run steps by their id or place; a failed step skips those without always()."""
    outputs, codes, failed = {}, {}, False
    for number, step in enumerate(GITHUB["jobs"]["check"]["steps"]):
        condition = str(step.get("if", ""))
        if any(not (folder / name).exists() for name in re.findall(r"hashFiles\('([^']+)'\) != ''", condition)):
            continue
        if "run" not in step or (failed and "always()" not in condition) or ("refs/heads/main" in condition and
                                                                             ref != "refs/heads/main"):
            continue
        name = step.get("id", step.get("name", str(number)))
        (folder / "out").write_text("")
        env = {"BASE": base, "GITHUB_OUTPUT": str(folder / "out"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
        for key, value in step.get("env", {}).items():
            env[key] = re.sub(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", lambda m: outputs.get(m[1], {}).get(m[2], ""), value)
        result = run_block(folder, step["run"], env)
        codes[name] = result.returncode
        failed |= result.returncode != 0
        outputs[name] = dict(line.split("=", 1) for line in (folder / "out").read_text().splitlines())
    return codes, outputs


def test_a_good_commit_passes(checkout):
    folder = checkout()
    codes, outputs = run_github(folder, git(folder, "rev-parse", "HEAD~1"))
    assert set(codes.values()) == {0}, (codes, outputs)
    assert outputs["check"] == {"code": "0"} and outputs["history"] == {"code": "0"}
    assert query(folder / "runs.db", "SELECT count(*) FROM check_result") == [(1,)]
    assert "## Adamas" in (folder / "summary.md").read_text()


@pytest.mark.parametrize("base", ["0" * 40, "f" * 40, ""])
def test_a_base_that_is_not_there_is_the_commit_before(checkout, base):
    """A push of a new branch, one after a rebase, and an event that names none."""
    folder = checkout()
    assert run_github(folder, base)[0]["Verdict"] == 0
    assert (folder / "resolved").read_text().strip() == git(folder, "rev-parse", "HEAD~1")


def test_a_regression_fails_and_its_runs_are_kept(checkout):
    folder = checkout({"topk": 1.8})
    codes, outputs = run_github(folder, git(folder, "rev-parse", "HEAD~1"))
    assert codes["Verdict"] != 0 and codes["check"] == codes["history"] == 0, codes
    assert outputs["check"] == {"code": "1"} and outputs["history"] == {"code": "1"}
    assert query(folder / "runs.db", "SELECT exit_code, count(*) FROM check_result GROUP BY 1") == [(1, 1)]
    assert query(folder / "runs.db", "SELECT count(*) >= 20 FROM run") == [(1,)]
    assert "**regressed**" in (folder / "summary.md").read_text()
    # Somebody knows of it: the second workflow, for each change that history showed.
    ids = re.findall(r"^([0-9a-f]{12})  worse", (folder / "history.txt").read_text(), re.M)
    (step,) = [step for step in ACK["jobs"]["ack"]["steps"] if "ack" in step.get("run", "")]
    for change in ids:
        assert run_block(folder, step["run"], {"ID": change, "WHY": "wanted: 'x'; $(y)", "WHO": "Ada"}).returncode == 0
    assert ids and query(folder / "runs.db", "SELECT DISTINCT who, why FROM acknowledgement") == [("Ada", "wanted: 'x'; $(y)")]


def test_a_pull_request_leaves_the_stored_runs_alone(checkout):
    folder = checkout()
    codes, outputs = run_github(folder, git(folder, "rev-parse", "HEAD~1"), ref="refs/pull/1/merge")
    assert codes["Verdict"] == 0 and "history" not in codes and not (folder / "runs.db").exists()


def test_what_cannot_be_measured_is_no_success(checkout):
    folder = checkout(n_commits=1)  # no commit before the first
    codes, outputs = run_github(folder, "0" * 40)
    assert outputs["check"] == {"code": "2"} and any(codes.values())


@pytest.mark.parametrize("slower, want", [(None, 0), ({"topk": 1.8}, 1)])
def test_gitlab(checkout, slower, want):
    folder = checkout(slower)
    script = "\n".join(line for line in GITLAB["adamas"]["script"] if not line.startswith(("apt-get", "git config")))
    env = {"CI_COMMIT_BEFORE_SHA": git(folder, "rev-parse", "HEAD~1"), "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main",
           "CI_PROJECT_DIR": str(folder)}
    result = run_block(folder, script, env, ("-eo", "pipefail"))
    assert result.returncode == want, result
    assert query(folder / "runs.db", "SELECT exit_code FROM check_result") == [(want,)]
