"""Documents: README keeps its size, every link leads somewhere, and every option of a command exists.

Every Markdown file that git tracks is read. test_ci_docs.py looks into their shell blocks and workflows.
"""
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

LISTED = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT,
                        capture_output=True, text=True).stdout.split()
DOCUMENTS = [name for name in LISTED or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.md")]
             if not name.startswith("build/") and "node_modules" not in name]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def slug(heading):
    """The anchor that a heading gets: lower case, letters, digits and hyphens."""
    text = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def broken_links(name, text):
    """Targets of a document's relative links that are not there."""
    prose = BLOCK.sub("", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists():
            yield target
        elif anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", file.read_text()), re.M)
            if anchor not in [slug(heading) for heading in headings]:
                yield target


def calls(text):
    """(words of the command, its long options) of every adamas call in the shell blocks of a document."""
    for language, block in BLOCK.findall(text):
        if language != "sh":
            continue
        joined = re.sub(r"\\\n\s*", " ", block)
        for call in re.findall(r"(?:^|[\s/])adamas ((?:trace|db|counters) \w+|[a-z]+)([^\n]*)", joined, re.M):
            own = re.split(r" -- |&&|\|\||;|\s#\s|   ", call[1])[0]
            yield call[0], re.findall(r"(?<=\s)--[a-z-]+", own)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    assert list(broken_links(name, (ROOT / name).read_text())) == []


def test_a_broken_link_is_found():
    text = "[a](gone.md) [b](README.md#no-such) [c](README.md) [d](https://example.org/x)\n```sh\n[e](gone2.md)\n```\n"
    assert list(broken_links("README.md", text)) == ["gone.md", "README.md#no-such"]


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if list(calls((ROOT / name).read_text()))])
def test_every_option_in_a_command_exists(adamas, name):
    wrong, help_of = [], {}
    for command, options in calls((ROOT / name).read_text()):
        if command not in help_of:
            help_of[command] = adamas(*command.split(), "--help")
            assert help_of[command].code == 0, f"{name}: `adamas {command}` is no command"
        wrong += [f"{command} {option}" for option in options
                  if not re.search(rf"{option}(?![a-z-])", help_of[command].out)]
    assert wrong == []


def test_calls_are_read():
    text = "```sh\nadamas check --runs 2 -- replay T --label x\n"
    text += "build/release/adamas db export --run 1 \\\n   -o f   # --no\n```\n"
    assert list(calls(text)) == [("check", ["--runs"]), ("db export", ["--run"])]
    assert Path(__file__).is_file() and len(DOCUMENTS) > 5


def test_every_finding_is_in_the_table():
    scripts = {path.stem for path in (ROOT / "findings").glob("*.sh")}
    assert scripts == set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "findings/README.md").read_text(), re.M))
    assert [name for name in scripts if subprocess.run(["bash", "-n", ROOT / f"findings/{name}.sh"]).returncode] == []
