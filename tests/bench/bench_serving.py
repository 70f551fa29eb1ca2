#!/usr/bin/env python3
"""How long `adamas simulate` takes for a Mooncake trace of 23,608 requests, on one core.

    --requests FILE   a trace (default: one made here, with lengths and prefixes spread as in Mooncake's conversation trace)
    --repeat N        times, in turns (default 5)

Processor seconds are what the goal of 2 s is about: what else runs on the machine moves them less than wall time. Starting the
program, parsing the file and writing the database are in them. The ratio to parsing alone is measured in the same run.
"""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
N_REQUESTS = 23608


def make(path):
    """Conversations of a few turns: each prompt repeats the one before, of blocks of 512 tokens."""
    rng, rows, next_id = random.Random(1), [], 0
    while len(rows) < N_REQUESTS:
        blocks, at = [], rng.randrange(3600)
        for _ in range(1 + int(rng.expovariate(0.7))):
            blocks += range(next_id, next_id + 1 + int(rng.lognormvariate(2.4, 1)))
            next_id = blocks[-1] + 1
            at += rng.randrange(3, 120)
            rows.append((at, len(blocks) * 512 - rng.randrange(512), 1 + int(rng.lognormvariate(5.5, 0.8)), list(blocks)))
    rows = sorted(rows[:N_REQUESTS])
    with open(path, "w") as file:
        for at, tokens, answer, blocks in rows:
            file.write(json.dumps({"timestamp": 3000 * (at // 3), "input_length": tokens, "output_length": answer,
                                   "hash_ids": blocks}) + "\n")


def run(*arguments):
    """(wall seconds, processor seconds) of one process, on one core."""
    def one_core():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([ROOT / "build/release/adamas", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL,
                   preexec_fn=one_core)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = options.requests or Path(folder) / "mooncake.jsonl"
        if not options.requests:
            make(trace)
        base = ["simulate", "--requests", trace, "--model", "llama-3.1-8b", "--threads", 1, "--db", f"{folder}/x.db", "--quiet"]
        run(*base, "--limit", 1)  # puts the calibration into the database
        cases = {"parsing alone (trace import)": ["trace", "import", trace, "--quiet"],
                 "dense and one budget": [*base, "--budgets", 256],
                 "dense and seven budgets": [*base, "--budgets", "64,128,256,512,1024,2048,4096"]}
        taken = {name: [] for name in cases}
        for _ in range(options.repeat):
            for name, arguments in cases.items():
                taken[name].append(run(*arguments))
    parse = statistics.median(cpu for _, cpu in taken["parsing alone (trace import)"])
    print(f"{'':30} processor s   wall s   over parsing   (medians of {options.repeat})")
    for name, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times))
        print(f"{name:30} {cpu:11.3f} {wall:8.3f} {cpu / parse:14.2f}")


if __name__ == "__main__":
    main()
