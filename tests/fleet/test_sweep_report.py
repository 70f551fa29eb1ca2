"""The report of a sweep in shards: one session, the host and GPU of every row, a warning where builds or machines meet."""
import json
import re
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from sweeps import Fleet


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


def name_host(path, name, more=""):
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE run SET host_name = ?{more}", (name,))
    db.close()


def report(fleet):
    """The document and the page."""
    document = fleet.program("report", "--db", fleet.folder / "all.db", "--json")
    assert document.code == 0, document
    assert fleet.program("report", "--db", fleet.folder / "all.db", "-o", fleet.folder / "r.html", "--quiet").code == 0
    return json.loads(document.out), (fleet.folder / "r.html").read_text()


def places(rows):
    return {row["place"] for row in rows}


def cells(page, word):
    """How many cells of tables hold just this."""
    return len(re.findall(rf"<td>{re.escape(word)}(?=<)", page))


def test_a_sweep_is_one_session_whose_rows_name_their_host(fleet):
    fleet.all("replay", 3)
    for i in (1, 2, 3):
        name_host(fleet.path(i), f"node-{i} <&>")
    fleet.merge()
    document, page = report(fleet)
    assert len(document["sessions"]) == 1 and [row["shard"] for row in document["shards"]] == [1, 2, 3]
    hosts = {f"node-{i} <&>" for i in (1, 2, 3)}
    assert places(document["quality"]) == hosts and places(document["stages"]) == hosts
    by_host = fleet.ask("SELECT host, count(*) FROM quality_summary WHERE metric = 'recall' GROUP BY 1")
    assert {host: sum(row["place"] == host for row in document["quality"] if row["metric"] == "recall")
            for host in hosts} == dict(by_host)
    assert "Joined from 3 shards, measured on 3 hosts" in page and "kinds of machine (" not in page
    assert page.count(">measured on<") > 10 and cells(page, "node-2 &lt;&amp;&gt;") > 20
    assert "node-2 <&>" not in page.split("<script", 1)[0]


def test_a_profile_names_host_and_gpu_and_warns_of_other_gpus_and_builds(fleet):
    fleet.run("profile", "1/2")
    fleet.run("profile", "2/2", faults="h200")
    name_host(fleet.path(1), "a")
    name_host(fleet.path(2), "b", ", git_commit = 'abcdef123456', sweep_build = '0.0.9 abc'")
    fleet.merge("--across-machines", "--across-builds")
    document, page = report(fleet)
    for place in places(document["units"]):
        assert re.fullmatch(r"a, fake GPU of the tests GPU-\S{8}, commit \S+|b, NVIDIA H200 GPU-\S{8}, commit abcdef1234",
                            place), place
    assert len(places(document["units"])) == 2
    warning = re.search(r"<strong>Its rows are of (.*?)\.</strong>", page)[1]
    assert warning.startswith("2 builds (") and "2 kinds of machine (fake GPU of the tests; NVIDIA H200)" in warning
    assert any("joins shards of 2 builds" in row["text"] and row["level"] == "warn" for row in document["verdict"]["health"])


def test_other_runs_have_no_such_column(fleet):
    fleet.run("replay", db=fleet.folder / "all.db")
    document, page = report(fleet)
    assert document["shards"] == [] and places(document["quality"]) == {None}
    assert "measured on" not in page.split("<script", 1)[0] and "Joined from" not in page
