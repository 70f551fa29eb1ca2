#!/usr/bin/env python3
"""The demo: fills a database with one of everything that the report can show, writes the report, and sums it up.

    analysis/recorded/*.json -> adamas db import ---+
    traces/*.safetensors     -> adamas replay ------+-> adamas.db -> adamas report -> report.html
    docs/tuning/naive_topk.c -> adamas tune, check -+

Recorded profiles are GPU figures of another machine, and labelled so; importing them again changes nothing. All else is
measured here: six short replays are the first points of a history, and a naive top-k kernel is tuned and then compared
with the registry's, which shows what a regression looks like. Each run is appended to adamas.db, so its history stays; the
summary is of the newest long replay. With --bench only the
host's stages are timed, on the longest context, into a database of their own. `./configure.py --setup demo` and
`ninja demo` call this; so may you, once build/release/adamas is there.
"""
import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PROGRAM = "build/release/adamas"
TRACE = "traces/smollm2-135m-kjv.safetensors"
BUDGETS = "16,32,64,128,256,512,1024"
SEQ_LENS = "1024,2048,4096"
POLICIES = "dense,oracle,adamas,adamas:metric=asym4,quest,streaming"
RECORDED = "analysis/recorded"
NAIVE = "docs/tuning/naive_topk.c"
SHORT = [TRACE, "--policies", "adamas", "--budgets", "256", "--seq-lens", "2048"]
N_SHORT = 6  # a change point needs three runs on either side
CHECK_VERDICTS = (1, 3)  # of a check: regressed, as the naive kernel should be, or not decided on a busy machine


def adamas(*arguments, also_fine=()):
    """Runs the program; its progress shows, its own tables do not."""
    print("$ " + " ".join([PROGRAM, *arguments]), flush=True)
    status = subprocess.call([PROGRAM, *arguments], stdout=subprocess.DEVNULL)
    if status and status not in also_fine:
        sys.exit(f"demo.py: adamas {arguments[0]} ended with status {status}")


def rows(database, query, *values):
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


NEWEST_REPLAY = """
SELECT run_id, trace, max(seq_len) FROM quality_summary
WHERE run_id = (SELECT max(run_id) FROM quality_summary WHERE policy = 'oracle')"""

QUALITY = """
SELECT policy, variant, budget, p50 FROM quality_summary
WHERE run_id = ? AND seq_len = ? AND metric = ? AND policy IN ('adamas', 'oracle')"""

STAGE_TIMES = """
SELECT stage, variant, budget, n, median / 1e3, p10 / 1e3, p90 / 1e3 FROM stage_summary
WHERE run_id = ? AND seq_len = ? AND source = 'host' AND metric = 'time_ns' AND status = 'ok' ORDER BY median"""


def summarise(database):
    """Ten lines: what each budget selects, loses and costs at the longest context."""
    run, trace, seq_len = rows(database, NEWEST_REPLAY)[0]
    columns = {}  # heading -> {budget: text}
    for metric, heading in (("recall", "recall"), ("output_rel_l2", "error")):
        for policy, variant, budget, p50 in rows(database, QUALITY, run, seq_len, metric):
            if policy == "adamas":
                columns.setdefault(f"{heading} {variant.removeprefix('l1 ')}", {})[budget] = f"{p50:.3f}"
            elif metric != "recall":  # an exact top-k recalls itself
                columns.setdefault(f"{heading} exact top-k", {})[budget] = f"{p50:.3f}"
    times = {(stage, budget): f"{median_us:.0f}"
             for stage, _, budget, _, median_us, _, _ in rows(database, STAGE_TIMES, run, seq_len)}
    columns["us a layer"] = {budget: text for (stage, budget), text in times.items() if stage == "step"}

    print(f"run {run}: {trace}, {seq_len} tokens of context; medians; error: relative L2 of the attention output")
    print("budget  " + "  ".join(columns))
    for budget in sorted(columns["us a layer"]):
        print(f"{budget:6}  " + "  ".join(f"{cells.get(budget, '-'):>{len(heading)}}"
                                          for heading, cells in columns.items()))
    print(f" dense  {times['dense', None]} us a layer on this host; the report has every other figure")


GPU_STEPS = """
SELECT run_id, label, seq_len, q_heads, kv_heads, batch, budget, variant, median / 1e3 FROM stage_summary
WHERE source = 'gpu' AND stage = 'step' AND metric = 'time_ns' AND status = 'ok' AND label LIKE 'recorded:%'
ORDER BY run_id, seq_len = 32768 DESC, kv_heads = q_heads DESC, batch, budget = 256 DESC, median"""

GPU_DENSE = """
SELECT median / 1e3 FROM stage_summary WHERE run_id = ? AND source = 'gpu' AND stage = 'dense' AND metric = 'time_ns'
AND status = 'ok' AND seq_len = ? AND kv_heads = ? AND batch = ? ORDER BY median"""


def summarise_recorded(database):
    """A line a recorded profile: the fastest step at 32K tokens, or what was measured, beside dense attention."""
    seen = set()
    for run, label, seq_len, q_heads, kv_heads, batch, budget, variant, step_us in rows(database, GPU_STEPS):
        dense = rows(database, GPU_DENSE, run, seq_len, kv_heads, batch)
        if run not in seen and dense:
            print(f"run {run} ({label}): {seq_len} tokens, budget {budget}, {q_heads} query and {kv_heads} KV heads, "
                  f"batch {batch}: "
                  f"step ({variant}) {step_us:.1f} us, dense {dense[0][0]:.1f} us: {dense[0][0] / step_us:.1f} times")
        seen.add(run)


def bench():
    """The host's stages on the longest context, slowest last."""
    database = "build/bench.db"
    adamas("replay", TRACE, "--policies", "dense,adamas", "--budgets", "64,256,1024", "--seq-lens", "4096",
           "--db", database)
    run, trace, seq_len = rows(database, NEWEST_REPLAY)[0]
    print(f"\nrun {run} in {database}: {trace}, {seq_len} tokens of context, one layer of one decode step")
    print("stage      variant    budget    n   median us      p10 us      p90 us")
    for stage, variant, budget, n, *times_us in rows(database, STAGE_TIMES, run, seq_len):
        print(f"{stage:10} {variant:10} {budget or '':>6} {n:4}" + "".join(f"{time:12.2f}" for time in times_us))


def add_history(database):
    """The first points of a history, and a kernel that is slower on purpose: judged, then compared process by process."""
    for _ in range(N_SHORT):
        adamas("replay", *SHORT, "--label", "demo: history", "--db", database, "-q")
    adamas("tune", "--stage", "topk", NAIVE, "--label", "demo: a naive kernel", "--db", database, "-q")
    adamas("check", "--candidate", f"topk={NAIVE}", "--runs", "6", "--max-runs", "6", "--db", database, "-q", "--", "replay",
           *SHORT, also_fine=CHECK_VERDICTS)


def demo(folder):
    """Fills adamas.db in the folder and writes report.html there."""
    database, report = os.path.relpath(folder / "adamas.db"), os.path.relpath(folder / "report.html")
    recorded = sorted(str(path) for path in Path(RECORDED).glob("*.json"))
    if recorded:
        adamas("db", "import", *recorded, "--db", database)
    add_history(database)
    adamas("replay", TRACE, "--policies", POLICIES, "--budgets", BUDGETS, "--seq-lens", SEQ_LENS, "--target", "mass=0.99",
           "--target", "output_rel_l2=0.05", "--db", database)
    adamas("report", "--db", database, "-o", report)
    print()
    summarise(database)
    summarise_recorded(database)
    print(f"database: {folder / 'adamas.db'}\nreport:   {folder / 'report.html'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--bench", action="store_true", help="only time the host's stages, on the longest context")
    parser.add_argument("--into", type=Path, default=ROOT, metavar="FOLDER", help="where adamas.db and report.html go; "
                        "made if need be (default: the top of the repository)")
    options = parser.parse_args()
    folder = options.into.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        parser.error(f"--into: {folder}: {why.strerror}")
    os.chdir(ROOT)
    bench() if options.bench else demo(folder)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ndemo.py: interrupted; adamas.db holds whole batches only", file=sys.stderr)
        sys.exit(130)
