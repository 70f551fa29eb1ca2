"""Programs that `adamas check` can start in the place of adamas, whose times were recorded: what is decided on them does not
depend on how busy this machine is.

    programs = RecordedPrograms(folder, run)    # run: (trace, database) of one replay, which gives shape and counts
    same, slow = programs.make("same"), programs.make("slow", slower={"topk": 1.2})

Each call of such a program appends one complete run to the database of --db. The n-th call in a folder, whoever makes it, takes
the times of the n-th process of tests/bench/noise/host.tsv, for every stage that is there, and what the reference loop took
beside them; bench/noise_record.py says how that file came about. With only=True it knows --only-times, and takes those times
0.95 times as long as with the whole command, as happens on a machine.
"""
import contextlib
import json
import os
import shutil
import sqlite3
import sys
import uuid
from itertools import pairwise
from pathlib import Path

from tracked_runs import insert

NOISE = Path(__file__).resolve().parents[1] / "bench/noise/host.tsv"
QUANTILES = (0, .05, .25, .4, .5, .6, .75, .95, 1)  # of a P line
LOOP = {"time_ns": "core_loop_ns", "encode_ns_per_key": "encode_core_loop_ns"}
LOOP_NS = 980  # what the reference loop takes alone
COLUMNS = {"min": 0, "p01": .01, "p05": .05, "p10": .1, "median": .5, "p90": .9, "p95": .95, "p99": .99, "max": 1}


def read_noise(path=NOISE):
    """{(stage, metric): [(ascending samples, loop in ns or None), ...] by process}, of the first series of each."""
    noise, unit, at = {}, 1, None
    for line in path.read_text().splitlines():
        kind, *fields = line.split("\t")
        if kind == "S":
            stage, metric, _, unit = fields
            at = None if (stage, metric) in noise else noise.setdefault((stage, metric), [])
        elif kind == "P" and at is not None:
            n, *parts = map(int, fields)
            deviations, loop = parts[:len(QUANTILES)], parts[len(QUANTILES):]
            at.append(([float(unit) * (1 + 1e-5 * between(deviations, (i + .5) / n)) for i in range(n)],
                       LOOP_NS * loop[0] / 1000 if loop else None))
    return noise


def between(deviations, u):
    k = max(i for i in range(len(QUANTILES) - 1) if QUANTILES[i] < u)
    return deviations[k] + (u - QUANTILES[k]) / (QUANTILES[k + 1] - QUANTILES[k]) * (deviations[k + 1] - deviations[k])


class RecordedPrograms:
    def __init__(self, folder, run):
        self.folder, self.template = folder, run[1]

    def make(self, name, slower=None, only=False):
        """A program that takes times[stage] * slower[stage]; only: it knows --only-times."""
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\nsys.path[:0] = {sys.path!r}\nfrom recorded_program import play\n"
                        f"play({str(self.template)!r}, {str(self.folder / 'n_calls')!r}, {slower or {}!r}, sys.argv, {only})\n")
        path.chmod(0o755)
        return path


def is_wanted(only, row, seq_len, budget):
    """Whether a time is in the list of --only-times."""
    stage = row["stage"] + (":bulk" if row["metric"] == "encode_ns_per_key" else "")
    return f"{stage}@{seq_len}" + (f"/{budget}" if budget else "") in only.split(",")


def play(template, calls, slower, argv, knows_only):
    """One process: a run in the database that argv names, with the next recorded times."""
    settings = dict(pairwise(argv))
    only = settings.get("--only-times")
    if only is not None and not knows_only:
        sys.exit(2)
    if "--dry-run" in argv:
        return
    with open(calls, "a+b") as counter:  # as long as there were calls
        position = counter.seek(0, os.SEEK_END)
        counter.write(b".")
    path = settings["--db"]
    fresh = not os.path.exists(path)
    if fresh:
        shutil.copy(template, path)
    with contextlib.closing(sqlite3.connect(template)) as source, contextlib.closing(sqlite3.connect(path)) as db, db:
        source.row_factory = sqlite3.Row
        if fresh:
            for table in ("event", "sample", "measurement", "calibration", "run"):
                db.execute(f"DELETE FROM {table}")
        run = dict(source.execute("SELECT * FROM run").fetchone())
        del run["run_id"]
        run_id = insert(db, "run", {**run, "run_uuid": str(uuid.uuid4()), "label": settings.get("--label", ""),
                                    "argv": json.dumps(argv), "only_times": only,
                                    "started_utc": f"2026-01-01T{position // 60:02}:{position % 60:02}"
                                    ":00.000Z"})
        noise = read_noise()
        for row in source.execute("SELECT m.*, k.name AS metric, c.seq_len, c.budget FROM measurement m JOIN metric k "
                                  "USING (metric_id) JOIN config c USING (config_id) WHERE layer IS NULL AND head IS NULL "
                                  "AND status = 'ok'").fetchall():
            if only is not None and (row["stage"] is None or not is_wanted(only, row, row["seq_len"], row["budget"])):
                continue
            row = {name: row[name] for name in row.keys() if name != "measurement_id"} | {"run_id": run_id}  # noqa: SIM118
            metric, _, _ = row.pop("metric"), row.pop("seq_len"), row.pop("budget")
            recorded = noise.get((row["stage"], metric))
            if recorded:
                samples, loop = recorded[position % len(recorded)]
                factor = slower.get(row["stage"], 1) * (1 if only is None else .95)
                store(db, row, [sample * factor for sample in samples])
                if loop is not None:
                    db.execute("INSERT OR IGNORE INTO metric (name, unit, better, description) VALUES (?, 'ns', 'none', '')",
                               (LOOP[metric],))
                    (row["metric_id"],) = db.execute("SELECT metric_id FROM metric WHERE name = ?", (LOOP[metric],)).fetchone()
                    store(db, row, [loop] * len(samples))
            elif row["stage"] is None:
                insert(db, "measurement", row)


def store(db, row, samples):
    """A measurement of ascending samples."""
    n = len(samples)
    figures = {name: samples[min(int(q * n), n - 1)] for name, q in COLUMNS.items()}
    measurement_id = insert(db, "measurement", {**row, **figures, "n": n, "mean": sum(samples) / n})
    db.executemany("INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
                   [(measurement_id, i, value) for i, value in enumerate(samples)])
