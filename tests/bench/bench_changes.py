#!/usr/bin/env python3
"""Change points of `adamas history` beside Apache Otava's on series of 100 runs, made from the noise that tests/bench/noise
holds.

    python3 -m venv build/deps/otava && build/deps/otava/bin/pip install apache-otava==0.8.0
    build/deps/otava/bin/python tests/bench/bench_changes.py [--seed N]

Without Otava in this Python only ours are counted, and the table says so. Otava runs with its own defaults. Exit status 1 if a
goal of ours is missed. A step is found within three runs; what is found elsewhere is false.
"""
import argparse
import math
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/release/tests/bench_changes"
N_SERIES, N_RUNS, NEAR = 150, 100, 3


def read_noise():
    """The medians of the processes of every recorded series that ran alone, as deviations on the log scale."""
    noise = []
    for name in ("host.tsv",):
        for line in (ROOT / "tests/bench/noise" / name).read_text().splitlines():
            kind, *fields = line.split("\t")
            if kind == "S":
                noise.append([])
            elif kind == "P" and (len(fields) < 11 or int(fields[10]) <= 1100):
                noise[-1].append(math.log1p(int(fields[5]) * 1e-5))
    return [[v - statistics.median(series) for v in series] for series in noise if len(series) >= 20]


def make(rng, noise, rho=0, level=lambda i: 0, n_spikes=0):
    """A series: x' = rho x + sqrt(1 - rho^2) e on the log scale, around a level."""
    own, x, out = rng.choice(noise), 0, []
    for i in range(N_RUNS):
        e = rng.choice(own)
        x = rho * x + math.sqrt(1 - rho * rho) * e if i else e
        out.append(1000 * math.exp(x + level(i)))
    for i in rng.sample(range(N_RUNS), n_spikes):
        out[i] *= rng.uniform(1.1, 1.5)
    return out


def conditions(rng, noise):
    """(what, series, the places of each one's steps, goal in steps found or None, most false ones)."""
    def several(**options):
        return [make(rng, noise, **options) for _ in range(N_SERIES)]

    def stepped(*sizes):
        series, places = [], []
        for _ in range(N_SERIES):
            at = [rng.randrange(20, 81)] if len(sizes) == 1 else [rng.randrange(20, 41), rng.randrange(60, 81)]
            series.append(make(rng, noise,
                               level=lambda i, at=at: sum(math.log1p(size) for size, k in zip(sizes, at) if i >= k)))
            places.append(at)
        return series, places

    none = [[]] * N_SERIES
    yield "noise alone", several(), none, None, 0
    yield "four single spikes", several(n_spikes=4), none, None, 0
    yield "lag-1 correlation 0.3", several(rho=0.3), none, None, 0
    yield "lag-1 correlation 0.6", several(rho=0.6), none, None, 0
    yield "one step of +5%", *stepped(0.05), 145, None
    yield "one step of -3%", *stepped(-0.03), 136, None
    yield "+5%, then -3%", *stepped(0.05, -0.03), 290, None
    yield "a drift of 6%", several(level=lambda i: math.log1p(0.06) * i / (N_RUNS - 1)), none, None, None


def ours(series):
    text = "".join(" ".join(f"{v:.9g}" for v in values) + "\n" for values in series)
    lines = subprocess.run([PROGRAM], input=text, check=True, capture_output=True, text=True).stdout.splitlines()
    steps = [[int(word) for word in line.split() if not word.startswith("drift")] for line in lines]
    return steps, sum("drift" in line for line in lines)


def otavas(series):
    try:
        from otava.analysis import compute_change_points
    except ImportError:
        return None
    return [[point.index for point in compute_change_points(values, window_len=50, max_pvalue=0.001, min_magnitude=0.0)[0]]
            for values in series]


def count(found, places):
    """(steps found, false ones, series with a false one)."""
    n_found = n_false = n_series = 0
    for at, true in zip(found, places, strict=True):
        n_found += sum(any(abs(k - t) <= NEAR for k in at) for t in true)
        wrong = sum(not any(abs(k - t) <= NEAR for t in true) for k in at)
        n_false += wrong
        n_series += wrong > 0
    return n_found, n_false, n_series


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    if not PROGRAM.exists():
        sys.exit(f"bench_changes.py: {PROGRAM.relative_to(ROOT)} is not built: run ninja")
    rng, noise, missed = random.Random(seed), read_noise(), 0
    print(f"{N_SERIES} series of {N_RUNS} runs each; steps found, false steps (series that have one)")
    print(f"{'':<24} {'adamas history':>34}   {'Apache Otava 0.8.0':>24}")
    for what, series, places, goal, most_false in conditions(rng, noise):
        found, n_drifts = ours(series)
        mine, other = count(found, places), otavas(series)
        said = ["not installed" if other is None else "{}; {} ({})".format(*count(other, places))]
        ok = (goal is None or mine[0] >= goal) and (most_false is None or mine[2] <= most_false)
        if "drift" in what:
            ok = n_drifts >= 0.9 * N_SERIES and mine[1] <= 0.1 * N_SERIES
        missed += not ok
        drifts = f", {n_drifts} drifts" if n_drifts else ""
        print(f"{what:<24} {f'{mine[0]}; {mine[1]} ({mine[2]}){drifts}':>34}   {said[0]:>24}   {'' if ok else 'MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
