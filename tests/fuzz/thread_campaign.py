#!/usr/bin/env python3
"""Runs what has threads with ThreadSanitizer's build, at 1 to 8 of them; ends with 1 if a race was reported.

    tests/fuzz/thread_campaign.py ADAMAS TEST_THREADS
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RACED = 66  # ThreadSanitizer's exit code


def run(folder, *words):
    environment = {**os.environ, "TSAN_OPTIONS": f"exitcode={RACED} halt_on_error=0"}
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    n_reports = result.stderr.count("WARNING: ThreadSanitizer")
    if result.returncode != 0 or n_reports:
        print(result.stderr[-3000:], file=sys.stderr)
    return result.returncode == 0 and n_reports == 0


def main():
    adamas, threads = (Path(name).resolve() for name in sys.argv[1:])
    wrong = []
    with tempfile.TemporaryDirectory(prefix="adamas-tsan-") as folder:
        gen = ["trace", "gen", "-o", "t.safetensors", "--tokens", "1024", "--n-steps", "4", "--steps", "600", "-q"]
        if not run(folder, adamas, *gen) or not run(folder, threads):
            wrong.append("trace gen or test_threads")
        for n in range(1, 9):
            words = ["replay", "t.safetensors", "--threads", str(n), "--budgets", "16,64", "--dense-layers", "0", "--policies",
                     "dense,oracle,adamas,quest,streaming", "--timed-steps", "1", "-q", "--db", f"{n}.db"]
            if not run(folder, adamas, *words):
                wrong.append(f"replay with {n} threads")
            print(f"replay with {n} threads: {'a race' if wrong else 'no race'}", flush=True)
    print("wrong: " + ", ".join(wrong) if wrong else "no race reported")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
