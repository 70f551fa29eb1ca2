"""The tools around the tests: what the runner reads, what lint complains about, what coverage adds up; and that this tree is in
style."""
import subprocess
import sys
import threading
from collections import Counter

import pytest

import coverage
import lint
import run
from conftest import ROOT


def test_tap_of_cmocka_is_read():
    tests = run.parse_tap("TAP version 13\n1..4\nok 1 - a\nwhy\nok 2 # SKIP b\nnot ok 3 - c\n# at x.c:1\nok 4 - d\n")
    assert [(test.name, test.status) for test in tests] == [("a", "passed"), ("b", "skipped"), ("c", "failed"), ("d", "passed")]
    assert tests[1].detail == "why" and "x.c:1" in tests[2].detail
    crashed = run.parse_tap("1..2\nok 1 - a\n")
    assert [test.status for test in crashed] == ["passed", "failed"] and "crashed between" in crashed[1].detail


class FakeRunner:
    """Runs nothing; a suite's result is what its kind says, and the first waits for the last."""

    def __init__(self):
        self.children, self.last_ran = set(), threading.Event()

    def run(self, suite):
        if suite.name == "c/z":
            self.last_ran.set()
        else:
            assert self.last_ran.wait(60)
        return [run.Test("t", suite.kind)]


def test_suites_side_by_side_report_in_their_order(capsys):
    suites = [run.Suite(f"c/{name}", kind, ROOT) for name, kind in (("a", "passed"), ("b", "failed"), ("z", "skipped"))]
    results = list(run.run_all(suites, FakeRunner(), 3))
    assert [suite.name for suite, _, _ in results] == ["c/a", "c/b", "c/z"]
    assert run.report(results, "release", 1.0) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "1 passed, 1 failed, 1 skipped" and any(line.startswith("slowest: ") for line in said)


@pytest.mark.parametrize("text, says", [
    ("x" * 129 + "\n", "1: 129 columns; 128 fit"), ("a \n", "1: ends in blanks"), ("a\n\tb\n", "2: has a tab"),
    ("a", "does not end in one newline"), ("a\n\n", "does not end in one newline"),
])
def test_a_line_that_does_not_fit_is_found(text, says):
    [fault] = lint.line_faults("f.c", text)
    assert fault.startswith("f.c:") and says in fault


def test_lines_that_fit():
    assert list(lint.line_faults("f.c", "x" * 128 + "\n" + "# https://example.org/" + "y" * 120 + "\n")) == []
    assert list(lint.line_faults("f.c", "")) == []


def test_lines_add_up_by_room():
    lines = {"core/a.c": {1: 0, 2: 5}, "core/in/b.h": {1: 1}, "tests/t.c": {1: 1}}
    rows = [row.split() for row in coverage.table(lines, ["core", "core/in", "kernels"])]
    assert rows[1:] == [["core", "1", "2", "1", "50.0%"], ["core/in", "1", "1", "1", "100.0%"], ["all", "2", "3", "2", "66.7%"]]


@pytest.mark.parametrize("compiler, gcov", [("gcc", "gcov"), ("/usr/bin/gcc-13", "gcov-13"), ("clang-16", "llvm-cov-16 gcov")])
def test_each_compiler_has_its_gcov(compiler, gcov):
    assert " ".join(coverage.gcov_command(compiler)) == gcov


def test_gcov_is_read(tmp_path):
    (tmp_path / "a.c").write_text("int idle(void) {\n    return 1;\n}\nint main(int n, char **v) {\n    (void)v;\n"
                                  "    if (n > 1)\n        n = 7;\n    return n - 1;\n}\n")
    (tmp_path / "b.c").write_text("int unused(void) {\n    return 2;\n}\n")
    subprocess.run(["gcc", "--coverage", "-O0", "-c", "b.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "--coverage", "-O0", "a.c", "-o", "a"], cwd=tmp_path, check=True)
    subprocess.run(["./a"], cwd=tmp_path, check=True)
    notes = [str(path) for path in tmp_path.glob("*.gcno")]
    lines, entered = coverage.lines_of(notes, coverage.gcov_command("gcc"))
    assert lines["a.c"][7] == 0 and lines["a.c"][6] == lines["a.c"][8] == 1
    assert lines["b.c"] == {1: 0, 2: 0}  # a file that never ran counts
    assert entered == {("a.c", "idle"): 0, ("a.c", "main"): 1, ("b.c", "unused"): 0}


def test_functions_that_no_test_enters_are_named():
    entered = {("core/a.c", "idle"): 0, ("core/a.c", "main"): 3, ("core/a.c", "odd"): 0, ("tests/t.c", "idle"): 0}
    assert list(coverage.never_entered(entered, ["core"])) == ["2 functions that no test enters", "  core/a.c: idle, odd"]


def test_every_file_is_in_style():
    if not (lint.tool("clang-format") and lint.tool("ruff")):
        pytest.skip("no clang-format and ruff in build/deps/venv: run ./configure.py --setup test")
    done = subprocess.run([sys.executable, "tests/lint.py"], cwd=ROOT, capture_output=True, text=True)
    faults = done.stdout.splitlines()
    assert done.returncode == 0, f"{Counter(fault.split(':')[0] for fault in faults)}\n" + "\n".join(faults[:40])


@pytest.mark.parametrize("tool, option, value, says", [
    *(("bench_report.py", "--large", value, f"'{value}' is not RUNS,SAMPLES") for value in ("abc", "5", "0,5", "5,6,7", "")),
    *(("bench_sdpa.py", "--shapes", value, "is not HEADS/KV-HEADS/D/TOKENS/BATCH") for value in ("abc", "32/8", "1/1/64/9/0"))])
def test_a_mistyped_size_of_a_benchmark_is_a_sentence(tool, option, value, says):
    done = subprocess.run([sys.executable, ROOT / "tests/bench" / tool, option, value], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr, done
