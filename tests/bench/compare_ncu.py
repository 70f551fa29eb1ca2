#!/usr/bin/env python3
"""Compares our GPU counters with Nsight Compute's for the same kernels on the same inputs.

    tests/bench/compare_ncu.py [--adamas PROGRAM] [--seq-lens L] [--budgets L] [--kv-heads L] [--out FOLDER]

One run of `adamas profile --counters memory --timeline` gives our counts, a range a unit, and the kernels of each unit. One run
of `ncu` over `adamas profile --check-only`, filtered by our NVTX ranges, gives its counts, a row a kernel; a unit of several
kernels is their sum. Clocks are left alone (--clock-control none), caches are cold on both sides. Units are matched by their
order, and their kernels' names must be the same.

Counts must agree within 5%; or bytes from memory within 256 KiB, which a flush cannot keep the rest of the GPU from moving, and
sectors of the L2 within 512 KiB, since ncu empties the instruction caches too: a kernel's code then comes once from memory and
some ten times from the L2 (on an H100 25 KB and 281 KB of top-k's 30 KB, 24 KB and 280 KB of attention's 28 KB).
Shown and not judged: what several kernels of one unit read, since ncu empties the caches before each of them; times, since a
range holds the profiler's entry and exit and the gaps between kernels; and bytes written, which stay in the L2 after a range of
ours and are written back when ncu saves and restores memory. Exit status 0: they agree; 1: they do not; 77: there is no ncu or
no GPU.
"""
import argparse
import csv
import io
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

STAGES = ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"]
JUDGED = {  # metric: absolute difference that is nothing
    "dram__bytes_read.sum": 256 << 10, "lts__t_sectors_op_read.sum": (512 << 10) // 32, "smsp__inst_executed.sum": 0,
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum": 1000}
CACHED = ["dram__bytes_read.sum", "lts__t_sectors_op_read.sum"]
SHOWN = ["dram__bytes_write.sum", "gpu__time_duration.sum"]
LIMIT = 0.05


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def run(command, log, allowed=(0,)):
    with open(log, "w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code == 77:
        skip(Path(log).read_text().strip())
    if code not in allowed:
        sys.exit(f"compare_ncu.py: {command[0]} ended with {code}:\n{Path(log).read_text()[-2000:]}")


def our_units(database):
    """[(label, [kernel], {metric: value})] in the order in which they ran, of the newest run."""
    db = sqlite3.connect(database)
    units = []
    # Stages whose implementations share a name share a configuration; the stages inside a step belong to the step.
    order = db.execute("SELECT config_id, CASE variant WHEN 'six' THEN 'step' ELSE stage END AS unit, min(activity_id) FROM "
                       "activity JOIN config USING (config_id) WHERE run_id = (SELECT max(run_id) FROM run) AND launch = "
                       "'stream' GROUP BY 1, 2 ORDER BY 3").fetchall()
    for config_id, stage, _ in order:
        kernels = [name for name, in db.execute(
            "SELECT name FROM activity WHERE config_id = ? AND step = 0 AND kind = 'kernel' AND ? IN (stage, 'step') ORDER BY "
            "start_ns",
            (config_id, stage))]
        rows = db.execute("SELECT variant, seq_len, kv_heads, ifnull(budget, ''), metric, median FROM stage_summary "
                          "WHERE config_id = ? AND stage = ? AND source = 'gpu' AND status = 'ok'",
                          (config_id, stage)).fetchall()
        variant, seq_len, kv_heads, budget = rows[0][:4]
        label = f"{seq_len:>7} {kv_heads:>3}  {stage:<10} {variant:<10} {budget:>5}"
        units.append((label, kernels, {row[4]: row[5] for row in rows}))
    return units


def ncu_rows(text):
    """[(kernel, {metric: value})] of a raw page in CSV."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    table = list(csv.DictReader(io.StringIO("\n".join(lines))))[1:]  # the first row has the units
    wanted = [*JUDGED, *SHOWN]
    return [(row["Kernel Name"], {metric: float(row[metric].replace(",", "")) for metric in wanted if row.get(metric)})
            for row in table]


def base(name):
    """The function's own name, without its template arguments, namespaces and parameters."""
    return re.sub(r"^.*::", "", re.split(r"[<(]", name.removeprefix("void ").replace("(anonymous namespace)::", ""))[0]).strip()


def compare(units, rows):
    """Prints a line a unit and metric; returns the number of those that do not agree."""
    at, n_bad, worst = 0, 0, {}
    print(f"{'tokens':>7} {'KV':>3}  {'stage':<10} {'variant':<10} {'budget':>5}  {'metric':<50} {'ours':>15} {'ncu':>15} "
          f"{'off':>8}")
    for label, kernels, ours in units:
        theirs = rows[at:at + len(kernels)]
        at += len(kernels)
        if [base(name) for name, _ in theirs] != [base(name) for name in kernels]:
            sys.exit(f"compare_ncu.py: {label}: we ran {kernels}, ncu saw {[name for name, _ in theirs]}")
        for metric in [*JUDGED, *SHOWN]:
            if metric not in ours or any(metric not in values for _, values in theirs):
                print(f"{label}  {metric:<50} {'not on both sides':>31}")
                continue
            mine, other = ours[metric], sum(values[metric] for _, values in theirs)
            off = abs(mine - other) / other if other else float(mine != other)
            judged = metric in JUDGED and (len(kernels) == 1 or metric not in CACHED)
            bad = judged and off > LIMIT and abs(mine - other) > JUDGED[metric]
            n_bad += bad
            if judged and abs(mine - other) > JUDGED[metric]:
                worst[metric] = max(worst.get(metric, 0), off)
            print(f"{label}  {metric:<50} {mine:>15,.0f} {other:>15,.0f} {off:>8.2%}{'  <-' if bad else ''}")
    if at != len(rows):
        sys.exit(f"compare_ncu.py: ncu saw {len(rows)} kernels, our units have {at}")
    print("\nlargest difference beyond what is nothing: " +
          (", ".join(f"{m} {w:.2%}" for m, w in sorted(worst.items())) or "none"))
    return n_bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--adamas", default="build/release/adamas")
    parser.add_argument("--seq-lens", default="32768")
    parser.add_argument("--budgets", default="256")
    parser.add_argument("--kv-heads", default="32")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--out", default="build/compare-ncu", help="where logs and the database go")
    options = parser.parse_args()
    if not shutil.which("ncu"):
        skip("ncu is not on the PATH: install Nsight Compute")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    database = out / "ours.db"
    grid = ["--seq-lens", options.seq_lens, "--budgets", options.budgets, "--kv-heads", options.kv_heads, "--stages",
            options.stages, "--quiet"]
    run([options.adamas, "profile", *grid, "--launch", "stream", "--cap-ms", "1", "--counters", "memory", "--timeline",
         "--db", str(database)], out / "ours.log")
    filters = [word for stage in STAGES for word in ("--nvtx-include", f"adamas@{stage}/")]
    run(["ncu", "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none", "--cache-control", "all",
         "--nvtx", *filters, "--metrics", ",".join([*JUDGED, *SHOWN]), options.adamas, "profile", *grid, "--check-only", "--db",
         str(out / "ncu.db")], out / "ncu.csv")
    n_bad = compare(our_units(database), ncu_rows((out / "ncu.csv").read_text()))
    print(f"{n_bad} figures differ by more than {LIMIT:.0%}" if n_bad else f"all counts agree within {LIMIT:.0%}")
    return n_bad > 0


if __name__ == "__main__":
    sys.exit(main())
