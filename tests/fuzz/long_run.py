#!/usr/bin/env python3
"""Runs the libFuzzer targets one after another, each for as long as asked, and adds a line per target to build/fuzz/log.tsv:
date, target, executions, seconds, features covered, what it found. Ends with 1 if anything was found.

    tests/fuzz/long_run.py --seconds 3600 [--only metrics] [--only database]

A run goes on from the corpus of the last (build/fuzz/corpus-NAME). A finding is kept in build/fuzz/NAME-crash-*, -timeout-*,
-oom-*; one that was a fault of ours belongs in tests/fuzz/corpus/NAME with its cure.
"""
import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from configure import FUZZERS

MOST_BYTES, ONE_INPUT_S, MEMORY_MB = 32768, 25, 2048


def run(name, seconds):
    """(executions, features, what was found) of one target."""
    build = ROOT / "build/fuzz"
    corpus = build / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        [build / name, f"-max_total_time={seconds}", f"-artifact_prefix={build}/{name}-", f"-max_len={MOST_BYTES}",
         f"-timeout={ONE_INPUT_S}", f"-rss_limit_mb={MEMORY_MB}", "-close_fd_mask=1", "-print_final_stats=1", corpus,
         f"tests/fuzz/corpus/{name}"], cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace")
    n = re.findall(r"stat::number_of_executed_units:\s*(\d+)", result.stderr)
    features = re.findall(r"\bft: (\d+)", result.stderr)
    found = re.findall(r"Test unit written to (\S+)", result.stderr)
    if result.returncode != 0:
        print(result.stderr[-4000:], file=sys.stderr)
        found = found or [f"ended with {result.returncode}"]
    return int(n[-1]) if n else 0, int(features[-1]) if features else 0, ", ".join(Path(f).name for f in found) or "nothing"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="per target (default %(default)s)")
    parser.add_argument("--only", action="append", choices=FUZZERS, help="may be repeated")
    options = parser.parse_args()
    log, n_found = ROOT / "build/fuzz/log.tsv", 0
    for name in options.only or FUZZERS:
        start = time.monotonic()
        n, features, found = run(name, options.seconds)
        n_found += found != "nothing"
        line = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), name, n, round(time.monotonic() - start), features, found]
        with open(log, "a") as file:
            file.write("\t".join(map(str, line)) + "\n")
        print(f"{name:<12} {n:>12,} executions, {features:>6} features: {found}", flush=True)
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
