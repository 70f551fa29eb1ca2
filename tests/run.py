#!/usr/bin/env python3
"""Runs every test and ends with one line: `N passed, N failed, N skipped`.

A suite is one file, named after its kind:

    c/test_NAME            cmocka program of tests/ROOM/test_NAME.c, read as TAP
    c/test_NAME_emulated   the same tests of CUDA code, with kernels that the host runs (tests/support/emulate)
    python/test_NAME.py    pytest file under tests/, read as JUnit XML
    web/NAME.test.mjs      Node test file under web-report/tests/, read as JUnit XML
    asan/c/..., asan/python/...  the same once more with the programs of build/asan: the suites of AGAIN, by --with-asan

The files in the tree decide what must run, not what happens to be built: a program that is missing is a failure.
So are a suite that crashed, that ran no test or that lacks its tool, and a test that skipped without saying why.
A skipped test is never counted as passed. Exit status 0 only when nothing failed.

Suites run side by side (--jobs), the slowest first; their results are printed in the order of their names.
"""
import argparse
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
import install_deps as deps
from configure import CUDA_TESTS

SUITE_LIMIT_S = 900
FAST = ["c/", "python/project/"]  # what `ninja check` runs, but for
SLOW = ("_emulated", "test_replay_faults")  # those of a minute and more
N_SLOWEST = 5                     # suites named at the end

# Of what `ninja asan` runs, what --with-asan runs beside the rest: the command line, and what reads or writes a database that
# others may have made. Our CI does.
AGAIN = ["python/core/cli/test_cli.py", "python/analysis/test_compare.py", "python/analysis/test_history.py",
         "python/analysis/test_db_merge.py", "python/analysis/test_recorded.py", "python/analysis/test_timeline_export.py",
         "c/test_series", "c/test_shift", "c/test_change_points", "c/test_store", "c/test_store_insert", "c/test_command_line"]

# Suites that take long; begun first, so that none of them runs alone at the end.
LONG = ["web/", "asan/", "c/test_gpu_emulated", "c/test_gpu_attention_emulated", "python/analysis/", "python/core/",
        "c/test_replay", "python/traces/", "python/kernels/", "python/probes/", "c/test_safetensors"]
CURE = "run ./configure.py --setup test"


@dataclass
class Test:
    name: str
    status: str  # passed | failed | skipped
    detail: str = ""


@dataclass
class Suite:
    name: str
    kind: str    # c | python | web
    source: Path
    profile: str = "release"


def find_suites():
    suites = [Suite(f"c/{path.stem}", "c", path) for path in sorted((ROOT / "tests").rglob("test_*.c"))]
    suites += [Suite(f"c/{name}_emulated", "c", ROOT / f"tests/kernels/gpu/{name}.c") for name in CUDA_TESTS]
    suites += [Suite(f"python/{path.relative_to(ROOT / 'tests')}", "python", path)
               for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    suites += [Suite(f"web/{path.name}", "web", path)
               for path in sorted((ROOT / "web-report/tests").glob("*.test.mjs"))]
    return suites


def suites_with_asan(suites):
    """The suites of AGAIN under names of their own."""
    found = {suite.name: suite for suite in suites}
    return [replace(found[name], name=f"asan/{name}", profile="asan") for name in AGAIN]


def python_with_pytest():
    for python in (str(deps.VENV_PYTHON), sys.executable):
        if deps.output_of(python, "-c", "import numpy, pytest; print('yes')"):
            return python
    return None


def needs_models(suite):
    """Whether the suite needs PyTorch and transformers (tests/traces/tiny_models.py)."""
    return "\nskip_module_without_models()\n" in suite.source.read_text()


def end_group(child):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


class Runner:
    """The tools and the environment that the suites share; `scratch` goes away with everything in it."""

    def __init__(self, scratch, with_models=False):
        self.scratch, self.with_models = Path(scratch), with_models
        self.lock = threading.Lock()  # around what the first suite that needs it looks up
        self.python = self.node = None
        self.children = set()
        self.processors = queue.SimpleQueue()  # one for each suite of the coverage profile: its threads do not count at once
        for processor in sorted(os.sched_getaffinity(0)):
            self.processors.put(processor)
        self.environment = {
            **os.environ, "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1",
            "ADAMAS_LIB": str(ROOT / "build/release/libadamas.so"), "NODE_PATH": str(deps.WEB_MODULES)}

    def environment_of(self, suite):
        own = {"ADAMAS_BIN": str(ROOT / "build" / suite.profile / "adamas")}
        if suite.profile == "asan":  # any finding ends the process, with an exit code that no test expects
            own |= {"ASAN_OPTIONS": "exitcode=99:allocator_may_return_null=1", "LSAN_OPTIONS": "exitcode=99",
                    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99"}
        return {**self.environment, **own}

    def run(self, suite):
        """The tests of one suite, failures of the suite itself among them."""
        tests, status, output = getattr(self, "run_" + suite.kind)(suite)
        if status is None:
            tests.append(Test("(suite)", "failed", output))
        elif status != 0 and not any(test.status == "failed" for test in tests):
            ended = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            tests.append(Test("(suite)", "failed", f"{ended} though no test failed\n{output}"))
        elif not tests:
            tests.append(Test("(suite)", "failed", f"ran no test\n{output}"))
        for test in tests:
            if test.status == "skipped" and not test.detail.strip():
                test.status = "failed"
                test.detail = "skipped without saying why (in C, print_message() the reason before skip())"
        return tests

    def execute(self, suite, argv, **environment):
        """(exit status or None after the time limit, standard output, standard error) of one suite's process."""
        processor = self.processors.get() if suite.profile == "coverage" else None
        bound = ["taskset", "--cpu-list", str(processor)] if processor is not None else []
        child = subprocess.Popen([*bound, *argv], cwd=ROOT, env={**self.environment_of(suite), **environment}, text=True,
                                 errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, start_new_session=True)
        self.children.add(child)
        try:
            out, err = child.communicate(timeout=SUITE_LIMIT_S)
            return child.returncode, out, err
        except subprocess.TimeoutExpired:
            end_group(child)
            out, err = child.communicate()
            return None, out, f"{err}\nstopped after {SUITE_LIMIT_S} s"
        finally:  # whatever the suite left running, a browser say, ends with it
            end_group(child)
            self.children.discard(child)
            if processor is not None:
                self.processors.put(processor)

    def report_of(self, suite):
        """Where the suite's JUnit XML goes."""
        return self.scratch / (suite.name.replace("/", "_") + ".xml")

    def run_c(self, suite):
        program = ROOT / "build" / suite.profile / "tests" / Path(suite.name).name
        if not program.exists():
            cure = "`ninja emulated` does" if program.stem.endswith("_emulated") else "is the test listed in configure.py?"
            return [], None, f"{program.relative_to(ROOT)} is not built; {cure}"
        status, out, err = self.execute(suite, [str(program)], CMOCKA_MESSAGE_OUTPUT="TAP")
        tests = parse_tap(out)
        for test in [test for test in tests if test.status == "failed"][-1:]:
            test.detail += "\n" + err
        return tests, status, out + err

    def run_python(self, suite):
        with self.lock:
            self.python = self.python or python_with_pytest()
        if not self.python:
            return [], None, f"no Python with NumPy and pytest; {CURE}"
        report, python, environment = self.report_of(suite), self.python, {}
        if self.with_models and needs_models(suite):  # one thread: suites run side by side
            python, environment = str(deps.MODELS_PYTHON), {"ADAMAS_WITH_MODELS": "1", "OMP_NUM_THREADS": "1"}
        status, out, err = self.execute(suite, [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o",
                                                "junit_logging=all", f"--junitxml={report}", str(suite.source)], **environment)
        return parse_junit(report), (0 if status == 5 else status), out + err  # 5: pytest found no test

    def run_web(self, suite):
        with self.lock:
            self.node = self.node or deps.find_node()
            if "CHROMIUM" not in self.environment:
                self.environment["CHROMIUM"] = deps.find_chromium() or ""
        if not self.node:
            return [], None, f"no Node; {CURE}"
        report = self.report_of(suite)
        status, out, err = self.execute(suite, [self.node[0], "--test-reporter=junit",
                                                f"--test-reporter-destination={report}", str(suite.source)])
        return parse_junit(report), status, out + err


def parse_tap(text):
    """Tests of cmocka's TAP. It reports a skip without a reason; what the test printed just before is the reason."""
    tests, said, planned = [], [], 0
    for line in text.splitlines():
        plan = re.fullmatch(r"1\.\.(\d+)", line)
        result = re.match(r"(not )?ok \d+(?: -)?(?: # (SKIP))?\s*(.*)", line)
        if plan:
            planned += int(plan[1])
        elif result:
            status = "skipped" if result[2] else "failed" if result[1] else "passed"
            tests.append(Test(result[3], status, "\n".join(said) if status != "passed" else ""))
            said = []
        elif line.startswith("#") and tests and tests[-1].status == "failed":
            tests[-1].detail += "\n" + line
        elif not line.startswith(("#", "TAP version")):
            said.append(line)
    if len(tests) < planned:
        tests.append(Test("(suite)", "failed", f"{planned} tests planned, {len(tests)} reported: crashed between"))
    return tests


def parse_junit(path):
    """Tests of a JUnit XML file, which pytest and Node write alike; none if it was never written."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
        path.unlink()
    except (OSError, ElementTree.ParseError):
        return []
    tests = []
    for case in cases:
        bad = [e for e in case if e.tag in ("failure", "error")]
        skip = case.find("skipped")
        if bad:
            said = [e.text or "" for e in case if e.tag in ("system-out", "system-err")]
            said = re.sub(r"-+ Captured \w+ -+\n", "", "\n".join(said)).strip()
            tests.append(Test(case.get("name"), "failed",
                              "\n".join([e.text or e.get("message", "") for e in bad] + [said])))
        elif skip is not None:
            reason = skip.get("message") or skip.text or ""
            if reason == "collection skipped":  # a whole file, whose reason pytest puts elsewhere
                reason = (skip.text or "").partition("Skipped: ")[2].rstrip("')\" ")
            tests.append(Test(case.get("name"), "skipped", reason))
        else:
            tests.append(Test(case.get("name"), "passed"))
    return tests


def summary(counts):
    return ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped"))


def timed(runner, suite):
    """(tests, seconds) of one suite."""
    begun = time.monotonic()
    tests = runner.run(suite)
    return tests, time.monotonic() - begun


def run_all(suites, runner, n_jobs):
    """Runs the suites, n_jobs at a time; yields (suite, tests, seconds) in their order, each as soon as it can be told."""
    def urgency(suite):
        return next((i for i, name in enumerate(LONG) if suite.name.startswith(name)), len(LONG))
    with ThreadPoolExecutor(n_jobs) as pool:
        running = {suite.name: pool.submit(timed, runner, suite) for suite in sorted(suites, key=urgency)}
        try:
            for suite in suites:
                yield suite, *running[suite.name].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(runner.children):
                end_group(child)
            raise


def report(results, profile, elapsed_s):
    """What failed and what was skipped, the slowest suites, and the one line that sums up; returns how many failed."""
    tests = [(suite, test) for suite, tests, _ in results for test in tests]
    counts = Counter(test.status for _, test in tests)
    for suite, test in tests:
        if test.status == "failed":
            print(f"\nFAILED {suite.name}: {test.name}\n{test.detail.strip()}")
    for suite, test in tests:
        if test.status == "skipped":
            print(f"skipped {suite.name}: {test.name}: {' '.join(test.detail.split())}")
    slowest = sorted(results, key=lambda result: -result[2])[:N_SLOWEST]
    print("slowest: " + ", ".join(f"{suite.name} {seconds:.0f} s" for suite, _, seconds in slowest))
    profiles = " and ".join(dict.fromkeys([profile, *(suite.profile for suite, _, _ in results)]))
    print(f"total {elapsed_s:.1f} s in {len(results)} suites, profile {profiles}")
    print(summary(counts))
    return counts["failed"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="Run the tests.", allow_abbrev=False)
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="only suites whose name contains NAME, such as c/, python/ or topk; may be repeated")
    parser.add_argument("--fast", action="store_true", help="only the C programs and the checks of the sources")
    parser.add_argument("--with-models", action="store_true",
                        help="also the tests that need PyTorch and transformers, in build/deps/models")
    parser.add_argument("--with-asan", action="store_true", help="also some suites once more with address and "
                        "undefined-behaviour checks (build/asan, which `ninja asan-programs` builds)")
    parser.add_argument("--without", action="append", default=[], metavar="NAME",
                        help="no suite whose name contains NAME; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the suites and run nothing")
    parser.add_argument("--profile", default="release", choices=["release", "debug", "asan", "coverage"],
                        help="whose programs to test (default %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=min(os.cpu_count() or 1, 4), metavar="N",
                        help="suites at a time (default %(default)s: the processors, at most 4)")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"argument --jobs: {options.jobs} is below 1")
    if options.with_models and not deps.model_wheels_installed():
        parser.error("argument --with-models: build/deps/models is not there or not up to date; "
                     "run ./configure.py --setup test --with-models")
    options.only += FAST if options.fast else []
    suites = [replace(suite, profile=options.profile) for suite in find_suites()]
    suites += suites_with_asan(suites) if options.with_asan else []
    options.suites = [s for s in suites if not options.only or any(name in s.name for name in options.only)]
    options.suites = [s for s in options.suites if not (options.fast and s.name.endswith(SLOW))]
    options.suites = [s for s in options.suites if not any(name in s.name for name in options.without)]
    if not options.suites:
        parser.error("no suite has a name that contains " + " or ".join(options.only))
    return options


def main():
    options = parse_arguments()
    if options.list:
        print("\n".join(suite.name for suite in options.suites))
        return 0
    results, start = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adamas-tests-") as scratch:
        for suite, tests, seconds in run_all(options.suites, Runner(scratch, options.with_models), options.jobs):
            results.append((suite, tests, seconds))
            here = Counter(test.status for test in tests)
            print(f"{'FAIL' if here['failed'] else 'ok  '}  {suite.name:<38} {summary(here):<34} {seconds:7.2f} s", flush=True)
    return 1 if report(results, options.profile, time.monotonic() - start) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ntests/run.py: interrupted", file=sys.stderr)
        sys.exit(130)
