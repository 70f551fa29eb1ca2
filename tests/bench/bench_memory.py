#!/usr/bin/env python3
"""What large inputs cost in memory: a trace of 4 GB is replayed, and a database of 16.8 million samples is reported on:

    bench_memory.py [ADAMAS] [--only trace|report] [--folder FOLDER]

The replay may take 1 GB beyond the mapped file, that is memory that no file backs, at its peak (looked at every 20 ms); the
report 1 s and 100 MB, the best of five. Needs 7 GB in FOLDER (default: where temporary files go). Ends with 1 if a goal is
missed.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_report import ROOT, make_large, run

GENERATE = ["--tokens", "1048576", "--head-dim", "128", "--heads", "8", "--kv-heads", "8", "--steps", "4", "--layers", "2"]
REPLAY = ["--budgets", "256", "--policies", "adamas,quest", "--timed-steps", "1", "--threads", "1"]
N_RUNS, N_SAMPLES = 200, 16_800_000
GOAL_TRACE_MIB, GOAL_REPORT_S, GOAL_REPORT_MB = 1024, 1.0, 100


def peaks(*command):
    """Seconds, and the peaks of all memory and of what no file backs, in MiB."""
    start, most = time.monotonic(), [0, 0]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                text = Path(f"/proc/{process.pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                break
            rss = {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
            most = [max(most[0], rss.get("VmRSS", 0)), max(most[1], rss.get("RssAnon", 0))]
            time.sleep(0.02)
        if process.wait():
            sys.exit(f"bench_memory.py: {command[1]} ended with {process.returncode}")
    return time.monotonic() - start, *most


def measure_trace(program, folder):
    trace = folder / "large.safetensors"
    run(program, "trace", "gen", "-o", trace, *GENERATE, "-q")
    seconds, whole, anonymous = peaks(program, "replay", trace, *REPLAY, "--db", folder / "trace.db", "-q")
    size_gb = trace.stat().st_size / 1e9
    trace.unlink()
    print(f"replay of {size_gb:.2f} GB: {anonymous:.0f} MiB beyond the mapping (goal {GOAL_TRACE_MIB}), {whole:.0f} MiB with "
          f"it, {seconds:.0f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    return anonymous < GOAL_TRACE_MIB


def measure_report(program, folder):
    database = folder / "large.db"
    n_runs, n_samples = make_large(program, database, N_RUNS, N_SAMPLES)
    rounds = [run(program, "report", "--db", database, "-o", folder / "report.html", "-q") for _ in range(5)]
    seconds, processor_s, megabytes = min(r[0] for r in rounds), min(r[1] for r in rounds), max(r[2] for r in rounds)
    print(f"report of {n_runs} runs, {n_samples:,} samples, {database.stat().st_size / 1e6:.0f} MB: {seconds:.2f} s (goal "
          f"{GOAL_REPORT_S:.0f}; all: {', '.join(f'{r[0]:.2f}' for r in rounds)}), {processor_s:.2f} s of "
          f"it processor time, {megabytes:.0f} MB (goal {GOAL_REPORT_MB}); load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds < GOAL_REPORT_S and megabytes < GOAL_REPORT_MB


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?", type=Path, default=ROOT / "build/release/adamas")
    parser.add_argument("--only", choices=["trace", "report"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    right = True
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, measure in {"trace": measure_trace, "report": measure_report}.items():
            if options.only in (None, name):
                right &= measure(options.program.resolve(), Path(folder))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
