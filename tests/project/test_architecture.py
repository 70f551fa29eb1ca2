"""ARCHITECTURE.md says what the code says: its table of directions, its rooms, and every function it names.

A walk names a function as `folder/file.c`: `function()`. The file must define or hold that function.
"""
import re

from test_layering import MAY

from configure import SCHEMA
from conftest import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_table_of_directions_is_the_layering_test_s():
    table = re.search(r"^\| room \| may include.*?\n\n", TEXT, re.S | re.M)[0]
    said = {}
    for room, allowed in re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.M):
        said[room] = set(re.findall(r"`([^`]+)`", allowed))
    assert said == {room: set(allowed) for room, allowed in MAY.items()}


def test_every_file_to_know_is_there():
    table = re.search(r"^\| room \| owns.*?\n\n", TEXT, re.S | re.M)[0]
    rows = re.findall(r"^\| `([^`]+)` \| .* \| (.*) \|$", table, re.M)
    named = [f"{room}/{name}" for room, files in rows for name in re.findall(r"`([\w/]+\.\w+)`", files)]
    assert len(named) > 100 and {room for room, _ in rows} >= set(MAY)
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_last_migration_is_the_one_named():
    assert re.findall(r"`schema/(\d+)[.]sql` \(the last migration", TEXT) == [str(len(SCHEMA))]


def test_every_room_has_a_readme():
    assert [room for room in MAY if not (ROOT / room / "README.md").is_file()] == []


def unknown_functions(text):
    """Every `file`: `function()` whose file is not there or has no such function."""
    for name, functions in re.findall(r"`([\w./-]+\.\w+)`:\s+((?:`\w+\(\)`(?:,\s+)?)+)", text):
        path = ROOT / name
        source = path.read_text() if path.is_file() else ""
        for function in re.findall(r"\w+", functions):
            held = rf"^[^\n*/]*\b{function}\(|def {function}\(|function {function}\(|#define {function}\b"
            if not re.search(held, source, re.M):
                yield f"{name}: {function}()"


def test_every_function_named_is_there():
    assert list(unknown_functions(TEXT)) == []


def test_a_function_that_is_gone_is_found():
    text = "`core/cli/main.c`: `main()`, `gone()`; `core/cli/gone.c`: `main()`"
    assert list(unknown_functions(text)) == ["core/cli/main.c: gone()", "core/cli/gone.c: main()"]


def test_the_glossary_is_short():
    words = re.search(r"^## Words of this project\n(.*)", TEXT, re.S | re.M)[1]
    assert 0 < len(re.findall(r"^\| (?!word|---)", words, re.M)) <= 20
