"""Foreign text has one way to a terminal and one into markup: what prints without it does not pass, and what would mix up
markup and text does not compile."""
import re
import subprocess

import pytest
from test_layering import ROOT, TOPS

# Files that print text of our own only (help, completions), or JSON that another function has written.
OWN_TEXT = {"core/base/print.c", "core/base/format.c", "core/base/error.c", "core/base/printable.c",
            "core/system/output_file.c", "core/system/interrupt.c", "core/cli/group.c", "core/cli/options.c",
            "analysis/db/recorded_export.c", "analysis/db/recorded_samples.c", "analysis/db/timeline_export.c"}
PRINTS = re.compile(r"""(?<![\w"'%*])(?:v?f?printf|puts|putchar|fputs|fputc|putc)\s*\(""")
HARMLESS = [r'fputs\("\\r\\033\[K", stderr\)',  # the progress line
            r"fputc\('\\n', output\.file\)"]


def printing_lines(name, text):
    text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        for harmless in HARMLESS:
            line = re.sub(harmless, "", line)
        if PRINTS.search(line) and not line.lstrip().startswith(('"', "//")):
            yield f"{name}:{number}: {line.strip()}"


def test_every_command_prints_through_one_function():
    found = []
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.c")):
            name = str(path.relative_to(ROOT))
            if name not in OWN_TEXT:
                found += printing_lines(name, path.read_text())
    assert not found, "use adm_print() or adm_print_to() (core/base/print.h):\n" + "\n".join(found)


@pytest.mark.parametrize("line", ['    printf("%s\\n", name);', "    fputs(text, stderr);", '    if (x) fprintf(stderr, "a");'])
def test_the_rule_finds(line):
    assert list(printing_lines("x.c", line))


PROGRAM = """#include "analysis/output/text.h"
void f(adm_text *page, const char *name);
void f(adm_text *page, const char *name) {{ (void)name; {} }}
"""


def compiles(statement):
    return subprocess.run(["cc", "-std=gnu11", "-I.", "-Wall", "-Werror", "-fsyntax-only", "-x", "c", "-"], cwd=ROOT, text=True,
                          input=PROGRAM.format(statement), capture_output=True).returncode == 0


@pytest.mark.parametrize("statement", [
    'adm_text_add(page, "<td>");', 'adm_text_format(page, "<td>%s", name);', "adm_text_escaped(page, name);",
    'adm_text_markup(page, ADM_MARKUP("<b>"));', 'adm_text_markup(page, name ? ADM_MARKUP("<a>") : ADM_MARKUP("<b>"));'])
def test_markup_from_literals_compiles(statement):
    assert compiles(statement)


@pytest.mark.parametrize("statement", [
    "adm_text_add(page, name);", "adm_text_format(page, name);", "adm_text_markup(page, name);",
    "adm_text_markup(page, ADM_MARKUP(name));", 'adm_text_add(page, name ? "a" : name);', 'adm_text_format(page, "%d", name);'])
def test_markup_from_anything_else_does_not(statement):
    assert not compiles(statement)


def test_markup_is_made_by_its_macro_alone():
    """The exceptions: the template, which is in the program, by two lines of html.c; and squeeze.c, which copies parts of
    markup that was written."""
    for path in sorted((ROOT / "analysis").rglob("*.[ch]")):
        n = len(re.findall(r"\(adm_markup\)\s*\{", path.read_text()))
        assert n == {"text.h": 1, "html.c": 2, "squeeze.c": 1}.get(path.name, 0), path
