"""`adamas report` as a user meets it: the page is a text file that any browser takes, names in the data stay text, and
what cannot be reported is refused without a page. How the page looks in a browser is tested in web-report/tests.
"""
import html.parser
import json
import re
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from conftest import files_of, refuse  # noqa: E402

EVIL = "</script><script>alert(\"1\")</script><!-- <b>'&amp;\u2028"


class Page(html.parser.HTMLParser):
    """Text and tags of a page; what is inside <script> is neither."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.scripts, self.inside = "", {}, [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.inside = tag
        if tag == "script":
            self.scripts.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1] += data
        else:
            self.text += data


def test_report_shows_hostile_names_as_text(adamas, write_trace, tmp_path):
    pages = {}
    for name, text in (("plain", "plain"), ("evil", EVIL)):
        trace = write_trace(f"{name}.safetensors", metadata={"model": text, "text_source": text, text: text})
        assert adamas("replay", trace, "--db", f"{name}.db", "--label", text, "--quiet").code == 0
        result = adamas("report", "--db", f"{name}.db", "-o", f"{name}.html")
        assert (result.code, result.err) == (0, "") and f"{name}.html" in result.out
        pages[name] = Page((tmp_path / f"{name}.html").read_text())
    assert pages["evil"].tags == pages["plain"].tags, "a name became markup"
    assert EVIL in pages["evil"].text
    data = [text for attributes, text in pages["evil"].scripts if attributes.get("type") == "application/json"]
    assert len(data) == 1 and EVIL in strings_of(json.loads(data[0])), "the page's data lost the name"
    page, printed = json.loads(data[0]), json.loads(adamas("report", "--db", "evil.db", "--json").out)
    assert page.pop("generated_utc") <= printed.pop("generated_utc")
    assert page == printed


def strings_of(value):
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return set(value).union(*map(strings_of, value.values()))
    return set().union(*map(strings_of, value)) if isinstance(value, list) else set()


def test_report_names_nothing_on_the_network(adamas, small_run, tmp_path):
    assert adamas("report", "--db", small_run[1], "--quiet").code == 0
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", page)
    assert not re.search(r"<(?:link|iframe|img|object|embed)\b", page)


@pytest.mark.parametrize("arguments, says", [
    (["-o", "none/r.html"], ["none/r.html", "No such file"]), (["-o", "."], ["."]), (["-o", ""], []),
    (["--run", "7"], ["7"]), (["--run", "0"], ["--run", "0"]), (["--run", "x"], ["--run", "'x'"]),
])
def test_report_with_bad_values(adamas, small_run, tmp_path, arguments, says):
    refuse(adamas, "report", "--db", small_run[1], *arguments, says=says)
    assert list(tmp_path.iterdir()) == []


def test_report_of_a_database_without_a_replay(adamas, write_trace, tmp_path):
    """A killed run leaves such a database."""
    with adamas.start("replay", write_trace(n_tokens=1000, n_steps=900), "--db", "x.db", "--quiet") as process:
        while not (tmp_path / "x.db-wal").exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    refuse(adamas, "report", "--db", "x.db", says=["x.db"])
    assert not (tmp_path / "report.html").exists()


def test_report_does_not_change_the_database(adamas, small_run):
    before = small_run[1].read_bytes()
    assert adamas("report", "--db", small_run[1], "--quiet").code == 0
    assert files_of(small_run[1]) == {small_run[1].name: before}
