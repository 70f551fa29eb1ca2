"""What other viewers are given: timelines for Perfetto, metadata for Datasette, a dashboard for Grafana.
test_viewer_packages.py has them read by Perfetto and Datasette, and by Grafana's own types."""
import json
import re
import sqlite3
import subprocess
from collections import Counter

import pytest

from conftest import BUNDLED, PROGRAM, ROOT

VIEWERS = ROOT / "docs/viewers"
DATASETTE = json.loads((VIEWERS / "datasette.json").read_text())["databases"]["adamas"]
GRAFANA = json.loads((VIEWERS / "grafana.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """adamas.db: a replay, and an H100's recorded run with counters and a timeline."""
    folder = tmp_path_factory.mktemp("viewers")
    for arguments in (["replay", BUNDLED, "--seq-lens", "1024", "--budgets", "32,64", "--timeline", "--quiet"],
                      ["db", "import", ROOT / "analysis/recorded/h100-observed.json", "--quiet"]):
        subprocess.run([PROGRAM, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def connection(folder):
    connection = sqlite3.connect(f"file:{folder}/adamas.db?mode=ro", uri=True)
    yield connection
    connection.close()


# ---- Perfetto --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def gpu_timeline(folder):
    subprocess.run([PROGRAM, "db", "export", "--timeline", "2", "-o", "gpu.json", "--quiet"], cwd=folder, check=True)
    return json.loads((folder / "gpu.json").read_text())["traceEvents"]


def kernels_of(events):
    [tid] = [e["tid"] for e in events if e["name"] == "thread_name" and e["args"]["name"] == "gpu kernels"]
    return [e for e in events if e["ph"] == "X" and e["tid"] == tid]


def test_arrows_lead_from_each_step_to_its_kernels(gpu_timeline, connection):
    steps = {e["bind_id"]: e for e in gpu_timeline if e.get("flow_out")}
    kernels = [e for e in kernels_of(gpu_timeline) if e.get("flow_in")]
    [(wanted,)] = connection.execute(
        "SELECT count(DISTINCT activity_id) FROM activity a JOIN event e USING (run_id, config_id, step) WHERE run_id = 2 AND "
        "e.kind = 'step' AND e.clock = 'gpu' AND a.start_ns >= e.start_ns AND a.end_ns <= e.end_ns")
    assert len(kernels) == wanted > 100 and {kernel["bind_id"] for kernel in kernels} <= steps.keys()
    for kernel in kernels:
        step = steps[kernel["bind_id"]]
        assert step["ts"] <= kernel["ts"] and kernel["ts"] + kernel["dur"] <= step["ts"] + step["dur"] + 1e-3
        assert step["args"]["step"] == kernel["args"]["step"]


def test_counters_are_what_was_counted(gpu_timeline, connection):
    counted = {(name, value) for name, value in connection.execute(
        "SELECT name || ' [%]', median FROM measurement JOIN metric USING (metric_id) WHERE run_id = 2 AND unit = '%' AND "
        "median IS NOT NULL")}
    drawn = [e for e in gpu_timeline if e["ph"] == "C"]
    assert len(drawn) > 1000 and all(e["args"]["value"] == 0 or (e["name"], e["args"]["value"]) in counted for e in drawn)
    assert any(e["args"]["value"] > 0 for e in drawn) and any("dram__throughput" in e["name"] for e in drawn)
    spans = Counter(e["ts"] for e in kernels_of(gpu_timeline))
    assert all(e["ts"] in spans for e in drawn if e["args"]["value"] > 0)


# ---- Datasette -------------------------------------------------------------------------------------------------------

def columns_of(connection, table):
    return {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def test_the_metadata_names_tables_and_columns_that_there_are(connection):
    for table, about in DATASETTE["tables"].items():
        columns = columns_of(connection, table)
        assert columns and set(about.get("units", {})) <= columns, table
        assert {about[key] for key in ("label_column", "sort_desc") if key in about} <= columns, table
        for column, unit in about.get("units", {}).items():
            assert column.endswith({"ns": "_ns", "byte": "bytes", "Hz": "_hz"}[unit]), column


@pytest.mark.parametrize("name", DATASETTE["queries"])
def test_every_query_answers(connection, name):
    query = DATASETTE["queries"][name]
    named = re.findall(r":(\w+)", query["sql"])
    assert sorted(named) == sorted(query.get("params", [])) and query["title"]
    rows = connection.execute(query["sql"], {"metric": "output_rel_l2", "stage": "topk"}).fetchall()
    assert len(rows) > 0 or name in ("regressions", "not_measured")


# ---- Grafana ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("panel", GRAFANA["panels"], ids=lambda panel: panel["title"])
def test_every_panel_has_an_answer(connection, panel):
    [target] = panel["targets"]
    assert target["queryText"] == target["rawQueryText"]
    cursor = connection.execute(target["queryText"].replace("$stage", "topk"))
    names, rows = [column[0] for column in cursor.description], cursor.fetchall()
    assert rows or panel["title"] == "What could not be measured"
    if target["queryType"] == "time series":
        assert names == ["time", "metric", "value"] and target["timeColumns"] == ["time"]
        assert all(row[0] > 1.6e9 for row in rows) and [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_panels_do_not_overlap():
    places = [(x, y) for panel in GRAFANA["panels"] for place in [panel["gridPos"]]
              for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
    assert len(places) == len(set(places)) and all(x < 24 for x, _ in places)
    assert len({panel["id"] for panel in GRAFANA["panels"]}) == len(GRAFANA["panels"])


# ---- the page --------------------------------------------------------------------------------------------------------

def commands_of_the_page():
    """docs/viewers.md's shell blocks, a command per line."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/viewers.md").read_text(), re.S)
    assert len(blocks) == 2
    return "".join(blocks).splitlines()


def test_the_pages_commands_run(tmp_path):
    ours = [line for line in commands_of_the_page() if line.startswith("adamas ")]
    for line in ours:
        command = line.replace("adamas ", f"{PROGRAM} ", 1).replace("traces/", f"{ROOT}/traces/")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert len(ours) == 3 and json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
