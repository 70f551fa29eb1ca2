"""The workflows in analysis/README.md use options that the program has."""
import re

import pytest

from conftest import ROOT

README = ROOT / "analysis/README.md"
BLOCKS = re.findall(r"```(?:yaml|sh)\n(.*?)```", README.read_text(), re.S)


def commands():
    """(subcommand, its options, command to measure, its options) of every call in the blocks."""
    for block in BLOCKS:
        joined = re.sub(r"\\?\n\s*(?=--)", " ", block)
        for call in re.findall(r"\badamas ((?:check|compare|history|db merge|db gc)\b[^\n]*)", joined):
            call = re.split(r" \|\| | # |   ", call)[0]
            own, _, measured = call.partition(" -- ")
            yield (re.match(r"db \w+|\w+", own)[0], re.findall(r"--[a-z-]+", own),
                   measured.split(" ")[0], re.findall(r"--[a-z-]+", measured))


def test_there_are_workflows():
    assert {command for command, *_ in commands()} >= {"check", "compare", "history", "db merge", "db gc"}
    assert sum("customSmallerIsBetter" in block for block in BLOCKS) == 1 and sum("junit:" in block for block in BLOCKS) == 1


@pytest.mark.parametrize("command, options, measured, its_options", list(commands()))
def test_every_option_is_one(adamas, command, options, measured, its_options):
    for words, used in ((command.split(), options), ([measured], its_options)):
        known = adamas(*words, "--help").out if used else ""
        assert [option for option in used if not re.search(rf"{option}\b", known)] == []
