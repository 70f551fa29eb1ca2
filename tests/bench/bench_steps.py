#!/usr/bin/env python3
"""Points of a grid where a step costs what it should not, in the `adamas profile` runs of a database.

    budget   a point that takes longer than its neighbour with the next larger budget, same variant
    launches a point where the faster of the steps of one launch (fused, grouped) takes longer than six stages

    adamas profile --seq-lens 8192,32768 --budgets 64,256,1024 --kv-heads 8,32 --db grid.db
    tests/bench/bench_steps.py grid.db

A difference counts when it is beyond both medians' 95% intervals, and beyond --slack. Prints every violation with its ratio,
the worst first; exit status 1 if there is one, 2 if the database has no steps to compare.
"""
import argparse
import sqlite3
import sys

ONE_LAUNCH = ("fused", "grouped")
SQL = """
SELECT t.run_id, t.q_heads, t.kv_heads, t.head_dim, t.batch, ifnull(t.batch_lens, ''), t.dtype, t.launch, t.cache, t.selection,
       ifnull(t.page_size, 0), t.seq_len, t.budget, t.variant, t.median,
       ifnull((SELECT c.median FROM stage_summary c WHERE c.run_id = t.run_id AND c.config_id = t.config_id
               AND c.stage = 'step' AND c.metric = 'median_ci_ratio'), 0)
FROM stage_summary t WHERE t.stage = 'step' AND t.metric = 'time_ns' AND t.status = 'ok' AND t.source = 'gpu'
"""


def read(path):
    """{(run, shape...): {(seq_len, budget, variant): (ns, half the interval as a ratio)}}"""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    grids = {}
    for row in connection.execute(SQL):
        grids.setdefault(row[:11], {})[row[11:14]] = row[14:]
    connection.close()
    return grids


def ratio_beyond(a, b, slack):
    """How many times longer a takes than b, if that is beyond doubt; else None."""
    ratio = a[0] / b[0]
    return ratio if ratio > (1 + a[1]) / (1 - min(b[1], 0.9)) and ratio > 1 + slack else None


def larger_budgets(points, slack):
    for (length, budget, variant), cost in points.items():
        larger = min((b for n, b, v in points if n == length and v == variant and b > budget), default=None)
        ratio = larger and ratio_beyond(cost, points[length, larger, variant], slack)
        if ratio:
            yield ratio, (f"{variant} at {length} tokens: {cost[0] / 1e3:.2f} us at a budget of {budget}, "
                          f"{points[length, larger, variant][0] / 1e3:.2f} at {larger}")


def slower_than_six(points, slack):
    for (length, budget, variant), six in points.items():
        fused = {v: points[length, budget, v] for v in ONE_LAUNCH if (length, budget, v) in points}
        if variant != "six" or not fused:
            continue
        best = min(fused, key=fused.get)
        ratio = ratio_beyond(fused[best], six, slack)
        if ratio:
            yield ratio, (f"{best} at {length} tokens, budget {budget}: {fused[best][0] / 1e3:.2f} us, "
                          f"six stages {six[0] / 1e3:.2f}")


def name_of(shape):
    run, heads, kv_heads, head_dim, batch, lens, dtype, launch, cache, selection, page_size = shape
    return (f"run {run}, {heads}/{kv_heads} heads, d = {head_dim}, batch {lens or batch}, {dtype}, {launch}, {cache}, "
            f"per {selection}" + (f", pages of {page_size}" if page_size else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database")
    parser.add_argument("--slack", type=float, default=0.01, metavar="RATIO",
                        help="differences up to this are none (default 0.01)")
    options = parser.parse_args()
    grids = read(options.database)
    if not grids:
        print(f"bench_steps.py: {options.database} has no timed steps", file=sys.stderr)
        sys.exit(2)
    n_points, found = sum(len(points) for points in grids.values()), 0
    for title, violations in (("dearer than the next larger budget", larger_budgets),
                              ("slower than six stages", slower_than_six)):
        rows = sorted(((ratio, f"{text}  ({name_of(shape)})") for shape, points in grids.items()
                       for ratio, text in violations(points, options.slack)), reverse=True)
        print(f"{len(rows)} of {n_points} points {title}")
        for ratio, text in rows:
            print(f"  {ratio:6.3f} times  {text}")
        found += len(rows)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
