#!/usr/bin/env python3
"""What the shards of a profile took, beside what they were estimated to take.

    for i in $(seq 16); do adamas profile ... --shard $i/16 --db shards/$i.db --seconds $i.tsv; done
    bench_balance.py *.tsv [--db JOINED] [--write FILE]

Each file is a shard. Prints seconds per part and per kind of unit, measured and by kernels/profile/grid/cost.c, whose constants
are fitted to that; then per shard, with the largest over the mean. --db: also by the shards' wall times in a merged database.
--write: what each configuration and unit took, which tests/fleet/test_balance.py divides anew.
"""
import argparse
import collections
import csv
import sqlite3
import statistics
from pathlib import Path


def read(path):
    with open(path) as file:
        return [row | {"seconds": float(row["seconds"]), "estimated": float(row["estimated"])}
                for row in csv.DictReader(file, delimiter="\t")]


def totals(rows, key):
    """Measured and estimated seconds by key(row), the largest first."""
    sums = collections.defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        sums[key(row)][0] += row["seconds"]
        sums[key(row)][1] += row["estimated"]
    return dict(sorted(sums.items(), key=lambda item: -item[1][0]))


def show(title, sums):
    print(f"{title:34s} {'seconds':>8s} {'estimated':>9s}  ratio")
    for name, (measured, estimated) in sums.items():
        print(f"{' '.join(name):34s} {measured:8.3f} {estimated:9.3f}  {measured / max(estimated, 1e-9):.2f}")


def largest_over_mean(seconds):
    return max(seconds) * len(seconds) / sum(seconds)


def write(rows, path):
    """Seconds of a unit, and of a configuration without a unit: of each part the mean over those who did it."""
    keys = ("tokens", "kv_heads", "batch", "stage", "variant", "budget")
    seconds = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        seconds[tuple(row[key] for key in keys)][row["part"]].append(row["seconds"])
    with open(path, "w") as file:
        print(*keys, "seconds", sep="\t", file=file)
        for key, parts in seconds.items():
            print(*key, f"{sum(statistics.mean(values) for values in parts.values()):.4f}", sep="\t", file=file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--db")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    paths = sorted(options.files, key=lambda path: (len(path.stem), path.stem))
    shards = [read(path) for path in paths]
    rows = [row for shard in shards for row in shard]
    show("part", totals(rows, lambda row: (row["part"],)))
    show("check of", totals([row for row in rows if row["part"] == "check"], lambda row: (row["stage"], row["variant"])))
    show("timing of", totals([row for row in rows if row["part"] == "timing"], lambda row: (row["stage"], row["variant"])))
    show("tokens, KV heads, batch", totals(rows, lambda row: (row["tokens"], row["kv_heads"], row["batch"])))
    sums = [[sum(row[name] for row in shard) for name in ("seconds", "estimated")] for shard in shards]
    show("shard", {(path.stem,): pair for path, pair in zip(paths, sums)})
    print(f"largest shard over the mean: {largest_over_mean([s for s, _ in sums]):.3f} measured, "
          f"{largest_over_mean([e for _, e in sums]):.3f} estimated; {len(sums)} shards")
    if options.write:
        write(rows, options.write)
    if options.db:
        walls = [row[0] for row in sqlite3.connect(options.db).execute("SELECT elapsed_ns * 1e-9 FROM shard ORDER BY shard")]
        print(f"walls: {' '.join(f'{wall:.2f}' for wall in walls)} s")
        print(f"balance: the slowest of {len(walls)} shards takes {largest_over_mean(walls):.3f} times the mean   goal 1.15")


if __name__ == "__main__":
    main()
