"""tests/bench/bench_steps.py finds the points of a grid where a step costs what it should not: on a grid of the fake GPU, whose
times are then set."""
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROGRAM, Adamas

BENCH = Path(__file__).resolve().parents[1] / "bench/bench_steps.py"


@pytest.fixture
def grid(tmp_path):
    """A database with fused and six at budgets 16, 64 and 128, lengths 300 and 600."""
    adamas = Adamas(tmp_path)
    adamas.path = PROGRAM.parent / "tests/adamas-fake-gpu"
    result = adamas("profile", "--db", tmp_path / "grid.db", "--seq-lens", "300,600", "--budgets", "16,64,128", "--heads", "4",
                    "--kv-heads", "4", "--head-dim", "64", "--stages", "step", "--quiet", env=dict(os.environ))
    assert result.code == 0, result
    return tmp_path / "grid.db"


def set_time(grid, variant, length, budget, ns):
    connection = sqlite3.connect(grid)
    cursor = connection.execute(
        "UPDATE measurement SET median = ? WHERE stage = 'step' AND source = 'gpu' AND metric_id = (SELECT metric_id FROM "
        "metric WHERE name = 'time_ns') AND config_id IN (SELECT config_id FROM config WHERE variant = ? AND seq_len = ? AND "
        "budget = ?)",
        (ns, variant, length, budget))
    assert cursor.rowcount == 1
    connection.commit()
    connection.close()


def bench(grid, *arguments):
    done = subprocess.run([sys.executable, BENCH, grid, *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_grid_in_order_has_no_violations(grid):
    assert bench(grid) == (0, "0 of 12 points dearer than the next larger budget\n0 of 12 points slower than six stages\n")


def test_a_budget_dearer_than_the_next_is_named(grid):
    set_time(grid, "fused", 300, 64, 1500)
    code, out = bench(grid)
    assert code == 1 and out.startswith("1 of 12 points dearer than the next larger budget\n")
    assert "fused at 300 tokens: 1.50 us at a budget of 64, 1.01 at 128" in out and "0 of 12 points slower" in out
    assert bench(grid, "--slack", "0.6")[0] == 0


def test_a_step_slower_than_six_stages_is_named(grid):
    set_time(grid, "fused", 600, 128, 9000)
    code, out = bench(grid)
    assert code == 1 and "0 of 12 points dearer" in out
    assert "fused at 600 tokens, budget 128: 9.00 us, six stages 7.01" in out
    set_time(grid, "six", 600, 128, 8990)
    assert bench(grid)[0] == 0  # within the medians' intervals


def test_a_database_without_steps_is_an_error(tmp_path):
    connection = sqlite3.connect(tmp_path / "empty.db")
    connection.execute("CREATE TABLE stage_summary (run_id, q_heads, kv_heads, head_dim, batch, batch_lens, dtype, launch, "
                       "cache, selection, page_size, seq_len, budget, variant, median, config_id, stage, metric, status, "
                       "source)")
    connection.commit()
    connection.close()
    code, out = bench(tmp_path / "empty.db")
    assert code == 2 and "no timed steps" in out
