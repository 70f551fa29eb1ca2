#!/usr/bin/env python3
"""Writes the noise of a database of A/A runs as a small text file for tests/bench_regression: every stage's samples in every
process, as nine quantiles.

    adamas check --calibrate --runs 40 --db aa.db -- replay TRACE ...
    tests/bench/noise_record.py aa.db tests/bench/noise/NAME.tsv "what was run, where, when"

    S  stage  metric  configuration  median of the processes' medians
    P  n  nine deviations from that median, in 1e-5 of it: the quantiles 0, .05, .25, .4, .5, .6, .75, .95, 1 of n samples
       one line a process, in the order in which they ran; a last field, where the process ran a reference loop beside its times
       (core/system/contention.h): its median over the fastest of all processes, in thousandths. Samples from a
       contended core are left out,
       unless most of the process's are, as a comparison leaves them out
"""
import argparse
import contextlib
import sqlite3
import statistics
from collections import defaultdict

QUANTILES = (0, .05, .25, .4, .5, .6, .75, .95, 1)
SERIES = """
SELECT c.config_id, m.stage, k.name, c.variant, c.seq_len, c.budget, m.run_id, m.measurement_id, l.measurement_id, l.median
FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) JOIN run r USING (run_id)
LEFT JOIN (measurement l JOIN metric n ON n.metric_id = l.metric_id AND n.name IN ('core_loop_ns', 'encode_core_loop_ns'))
ON l.run_id = m.run_id AND l.config_id = m.config_id AND l.stage = m.stage AND
  n.name = CASE k.name WHEN 'time_ns' THEN 'core_loop_ns' ELSE 'encode_core_loop_ns' END
WHERE m.layer IS NULL AND m.head IS NULL AND m.status = 'ok' AND r.status = 'complete'
AND ((k.name = 'time_ns' AND m.stage IN ('distance', 'topk', 'attention')) OR (m.stage IN ('hadamard', 'bucket', 'pack') AND
     k.name = CASE m.source WHEN 'host' THEN 'encode_ns_per_key' ELSE 'time_ns' END))
ORDER BY m.stage, c.variant, c.seq_len, c.budget, r.started_utc, m.run_id"""
MOST_LOOP = 1.1  # of the fastest: beyond that something else used the core, as in analysis/regress/contended.c


def quantile(ordered, q):
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database")
    parser.add_argument("out")
    parser.add_argument("provenance")
    options = parser.parse_args()
    rows = defaultdict(list)
    series = defaultdict(list)
    with contextlib.closing(sqlite3.connect(f"file:{options.database}?mode=ro", uri=True)) as db:
        machine = db.execute("SELECT DISTINCT cpu_model, n_cpus, ifnull(gpu_name, 'no GPU'), ifnull(driver_version, '-'), "
                             "compiler, substr(git_commit, 1, 12) FROM run").fetchall()
        for config, stage, metric, variant, seq_len, budget, _, measurement, loop_id, loop in db.execute(SERIES):
            title = f"{variant}, {seq_len} tokens" + (f", budget {budget}" if budget else "")
            rows[config, stage, metric, title].append((measurement, loop_id, loop))
        for key, processes in rows.items():
            fastest = min((loop for *_, loop in processes if loop is not None), default=None)
            for measurement, loop_id, loop in processes:
                ratio = None if loop is None else loop / fastest
                most = None if ratio is None or ratio > MOST_LOOP else MOST_LOOP * fastest
                values = sorted(v for v, in db.execute(
                    "SELECT s.value FROM sample s LEFT JOIN sample l ON l.measurement_id = :loop AND l.i = s.i WHERE "
                    "s.measurement_id = :time AND (:most IS NULL OR l.value <= :most)",
                    {"time": measurement, "loop": loop_id, "most": most}))
                series[key].append((len(values), [quantile(values, q) for q in QUANTILES], ratio))
    with open(options.out, "w", encoding="utf-8") as out:
        print(f"# {options.provenance}", file=out)
        for row in machine:
            print("# " + ", ".join(map(str, row)), file=out)
        for (_, stage, metric, title), processes in series.items():
            median = statistics.median(q[4] for _, q, _ in processes)
            print("S", stage, metric, title, f"{median:.6g}", sep="\t", file=out)
            for n, q, ratio in processes:
                loop_ratio = [] if ratio is None else [round(1000 * ratio)]
                print("P", n, *(round((value / median - 1) * 1e5) for value in q), *loop_ratio, sep="\t", file=out)
    print(f"{options.out}: {len(series)} series")


if __name__ == "__main__":
    main()
