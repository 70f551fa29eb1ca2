"""Datasette serves what docs/viewers has for it, and Grafana's own types know every field of the dashboard."""
import json
import subprocess
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/traces"))
from tiny_models import skip_module_without_models

skip_module_without_models()
import test_viewers
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from test_viewers import DATASETTE, GRAFANA, VIEWERS, commands_of_the_page

register_default_plugins()
folder = test_viewers.folder  # the fixture


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
