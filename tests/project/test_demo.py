"""`demo.py --into FOLDER`, without its replays: where it writes, and what it says of that."""
import sys

import pytest

import demo
from conftest import ROOT


@pytest.fixture
def steps(monkeypatch):
    """The commands it runs; none is run."""
    said = []
    monkeypatch.setattr(demo, "adamas", lambda *words, **_: said.append([str(word) for word in words]))
    for name in ("summarise", "summarise_recorded"):
        monkeypatch.setattr(demo, name, lambda database: None)
    monkeypatch.chdir(ROOT)
    return said


def test_the_folder_is_made_and_named(steps, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    monkeypatch.setattr(sys, "argv", ["demo.py", "--into", str(folder)])
    demo.main()
    assert folder.is_dir() and len(steps) > 3
    assert all(f"{folder.name}/adamas.db" in words[words.index("--db") + 1] for words in steps)
    assert f"database: {folder / 'adamas.db'}\nreport:   {folder / 'report.html'}\n" in capsys.readouterr().out


def test_a_file_in_the_folders_place_is_named(steps, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--into", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as end:
        demo.main()
    assert end.value.code == 2 and not steps and "--into" in capsys.readouterr().err
