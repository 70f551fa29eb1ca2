"""The Python package: databases as Tables, and selections. Frames and capture want packages: test_python_models.py."""
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from conftest import BUNDLED, PROGRAM, ROOT

sys.path.insert(0, str(ROOT / "core/python"))
os.environ.setdefault("ADAMAS_LIBRARY", str(PROGRAM.parent / "libadamas.so"))
import adamas
from adamas.table import Table


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("python") / "runs of mine?.db"
    for label in ("first", "second"):
        subprocess.run([PROGRAM, "replay", BUNDLED, "--budgets", "64,256", "--seq-lens", "1024", "--label", label, "--quiet",
                        "--db", path], check=True)
    return path


def test_the_package_is_written_for_python_3_10():
    """What setup.py promises, whichever Python runs this: the Python package itself runs from 3.10 on."""
    import ast
    files = [*(ROOT / "core/python").rglob("*.py")]
    assert len(files) > 8 and 'requires-python = ">=3.10"' in (ROOT / "pyproject.toml").read_text()
    for path in files:
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))


# ---- databases -------------------------------------------------------------------------------------------------------

def test_runs_and_views_are_those_of_sqlite(path):
    with adamas.open(path) as db, sqlite3.connect(path) as plain:
        assert db.runs()["label"] == ["first", "second"] and db.runs().units == {"elapsed_ns": "ns"}
        for table, sql in ((db.quality(), "SELECT * FROM quality_summary"),
                           (db.quality(run=2, metric="mass"),
                            "SELECT * FROM quality_summary WHERE run_id = 2 AND metric = 'mass'"),
                           (db.stages(stage="topk"),
                            "SELECT * FROM stage_summary WHERE stage = 'topk' AND metric = 'time_ns'"),
                           (db.stages(source="host", metric=None), "SELECT * FROM stage_summary WHERE source = 'host'"),
                           (db.counters(), "SELECT * FROM stage_summary WHERE metric <> 'time_ns'")):
            assert len(table) > 0 and sorted(map(repr, table.rows)) == sorted(map(repr, plain.execute(sql).fetchall()))


def test_units_follow_the_metric(path):
    with adamas.open(path) as db:
        assert db.stages().units["median"] == "ns" and db.quality(metric="kl").units["p95"] == "nats"
        assert db.quality().units.get("mean") is None, "several metrics have no common unit"
        assert db.quality().units["budget"] == "tokens"


def test_compare_is_the_programs(path, monkeypatch):
    monkeypatch.setenv("ADAMAS_BIN", str(PROGRAM))
    with adamas.open(path) as db:
        rows = db.compare("1", "2")
        assert set(rows["verdict"]) == {"equivalent", "inconclusive"} and "recall" in rows["metric"]
        with pytest.raises(ValueError, match="no run 9"):
            db.compare("1", "9")


def test_the_database_is_read_only(path):
    before = path.read_bytes()
    with adamas.open(path) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.sql("DELETE FROM run")
    assert path.read_bytes() == before


def test_what_is_no_database(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.db"):
        adamas.open(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(ValueError, match="not an SQLite database"):
        adamas.open(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.commit()
    with pytest.raises(ValueError, match="not a database of Adamas Lab"):
        adamas.open(tmp_path / "other.db")


def test_a_table_shows_itself():
    table = Table(["a<b", "t"], [("<script>", 1.23456789), (None, 2)] * 150, {"t": "ns", "not here": "x"})
    assert len(table) == 300 and table["t"][:2] == [1.23456789, 2] and next(iter(table)) == {"a<b": "<script>", "t": 1.23456789}
    assert table.units == {"t": "ns"}
    page = table._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "t [ns]" in page and "300 rows" in page
    assert "1.23457" in repr(table) and "300 rows" in repr(table)
    with pytest.raises(KeyError, match="no column 'x'; there are a<b, t"):
        table["x"]


# ---- selections ------------------------------------------------------------------------------------------------------

def arrays(n_steps=5, n_q=4, n_kv=2, n=300, d=64):
    rng = np.random.default_rng(7)
    return (rng.normal(size=(n_steps, n_q, d)).astype(np.float32), rng.normal(size=(n_kv, n, d)).astype(np.float32))


def test_the_oracle_takes_the_largest_products():
    q, k = arrays()
    chosen = adamas.select(q, k, policy="oracle", budget=16)
    assert chosen.shape == (5, 4, 16) and chosen.dtype == np.int64
    for step in range(5):
        for head in range(4):
            scores = k[head // 2, :296 + step].astype(float) @ q[step, head].astype(float)
            assert chosen[step, head].tolist() == sorted(np.argsort(-scores, kind="stable")[:16])


def test_selections_are_those_of_a_replay(tmp_path):
    """The softmax mass of what select() gives is the mass that a replay of the same tensors reports."""
    import json
    raw = BUNDLED.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    layer = next(name.split(".")[1] for name in header if name.endswith(".k"))

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        kind = {"F16": np.float16, "F32": np.float32, "I64": np.int64}[header[name]["dtype"]]
        return np.frombuffer(raw[8 + n + begin:8 + n + end], kind).reshape(header[name]["shape"])

    q, k = (np.asarray(tensor(f"layers.{layer}.{x}"), np.float32) for x in "qk")
    steps = np.flatnonzero(tensor("positions") == tensor("positions")[-1])[-1:]
    position = int(tensor("positions")[steps[0]])
    keys = np.ascontiguousarray(k[:, :position + 1])
    scale = float(header["__metadata__"].get("softmax_scale", k.shape[-1] ** -0.5))
    for policy in ("oracle", "quest", "streaming"):
        chosen = adamas.select(q[steps[0]], keys, policy=policy, budget=64)
        masses = []
        for head in range(q.shape[1]):
            scores = keys[head // (q.shape[1] // k.shape[0])].astype(float) @ q[steps[0], head].astype(float) * scale
            weights = np.exp(scores - scores.max())
            masses.append(weights[chosen[head][chosen[head] >= 0]].sum() / weights.sum())
        subprocess.run([PROGRAM, "replay", BUNDLED, "--policies", policy, "--budgets", "64", "--layers", layer, "--seq-lens",
                        str(position), "--quiet", "--db", tmp_path / f"{policy}.db"], check=True)
        with adamas.open(tmp_path / f"{policy}.db") as db:
            mass = db.sql("SELECT head, mean FROM measurement JOIN metric USING (metric_id) JOIN config USING (config_id) "
                          "WHERE name = 'mass' AND head IS NOT NULL AND budget = 64 AND n = 1 ORDER BY head")
        assert mass["mean"] == pytest.approx(masses, abs=1e-9), policy


def test_float32_is_read_in_place(monkeypatch):
    from adamas import selection
    q, k = arrays()
    assert selection.as_float32(k, "k") is k and selection.as_float32(k.astype(np.float16), "k").dtype == np.float32
    seen = []
    real = selection.Sparse
    monkeypatch.setattr(selection, "Sparse", lambda *a: seen.append(a[4]) or real(*a))
    adamas.select(q, k, policy="adamas", budget=16)
    assert seen == [k.ctypes.data]


def test_budgets_and_shorter_lists():
    q, k = arrays()
    assert adamas.select(q[-1], k, policy="adamas", budget=10**6).tolist() == [list(range(300))] * 4
    pages = adamas.select(q, k, policy="quest", budget=48)
    assert (pages[..., -1] == -1).any() and all(len(set(row[row >= 0])) == (row >= 0).sum() for row in pages.reshape(-1, 48))


@pytest.mark.parametrize("change, says", [
    ({"policy": "adamsa"}, "adamsa"), ({"policy": "adamas:metric=l3"}, "l3"), ({"policy": "h2o"}, "h2o"),
    ({"budget": 0}, "budget is 0"),
    ({"q": np.zeros((1, 3, 64), np.float32)}, "3 query heads"), ({"q": np.zeros((300, 4, 64), np.float32)}, "300 steps"),
    ({"q": np.zeros((1, 4, 32), np.float32)}, "32 elements"), ({"q": np.zeros(64, np.float32)}, r"\[64\]"),
    ({"k": np.zeros((2, 300, 96), np.float32), "q": np.zeros((1, 4, 96), np.float32)}, "96")])
def test_what_cannot_be_selected_says_why(change, says):
    q, k = arrays()
    with pytest.raises(ValueError, match=says):
        adamas.select(**{"q": q, "k": k, "policy": "adamas", "budget": 16} | change)


def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="int64"):
        adamas.select(np.zeros((1, 4, 64), np.int64), arrays()[1], policy="adamas", budget=16)


def test_a_missing_library_says_where_it_was_looked_for(tmp_path):
    script = "import sys; sys.path.insert(0, sys.argv[1]); from adamas import library; library.load()"
    done = subprocess.run([sys.executable, "-c", script, str(ROOT / "core/python")], capture_output=True, text=True,
                          env={"ADAMAS_LIBRARY": str(tmp_path / "none.so")})
    assert done.returncode == 1 and "ImportError: libadamas.so was not found" in done.stderr and "none.so" in done.stderr
