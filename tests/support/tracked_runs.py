"""Databases of many runs for the tests of regression tracking: one real run, copied with noise and planted changes.

    runs = Runs(path, small_run)            # an empty copy of the schema, and the run to copy
    runs.add(10, label="base")              # ten processes: every time scattered by 0.5%
    runs.add(10, label="cand", slower={"topk": 1.03})
"""
import contextlib
import random
import shutil
import sqlite3
import uuid

STAGES = ("hadamard", "bucket", "pack", "distance", "topk", "attention")


class Runs:
    def __init__(self, path, small_run):
        self.path = path
        shutil.copy(small_run[1], path)
        self.random = random.Random(7)
        self.n = 0
        with self.open() as db:
            self.run = dict(zip([c[0] for c in db.execute("SELECT * FROM run").description],
                                db.execute("SELECT * FROM run").fetchone())) | {"git_dirty": 0, "commit_utc": None}
            cursor = db.execute("SELECT m.*, k.name AS metric FROM measurement m JOIN metric k USING (metric_id) "
                                "WHERE layer IS NULL AND head IS NULL AND status = 'ok'")
            names = [c[0] for c in cursor.description]
            self.measurements = [dict(zip(names, row)) for row in cursor]
            for table in ("event", "sample", "measurement", "calibration", "run"):
                db.execute(f"DELETE FROM {table}")

    @contextlib.contextmanager
    def open(self):
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:
            yield db

    def execute(self, sql, *values):
        with self.open() as db:
            return db.execute(sql, values).fetchall()

    def copy_configs(self, config_id, rest="", **changed):
        """Adds configurations that are copies but for their id and what `changed` names, as SQL expressions of the old row."""
        columns = [name for name, in self.execute("SELECT name FROM pragma_table_info('config')")]
        values = ", ".join({"config_id": config_id, **changed}.get(name, name) for name in columns)
        self.execute(f"INSERT INTO config ({', '.join(columns)}) SELECT {values} FROM config {rest}")

    def add(self, n=1, slower=None, noise=0.005, samples=15, quality=None, without=(), extra=None, **run):
        """Adds n runs; slower: {stage: factor}, quality: {metric: factor}, without: stages left out, extra: a list of
        (stage, metric, unit, better, value) for every configuration of a stage; the rest are columns of the run."""
        ids = []
        with self.open() as db:
            for _ in range(n):
                self.n += 1
                row = {**self.run, "run_uuid": str(uuid.UUID(int=self.random.getrandbits(128))), "label": "",
                       "started_utc": f"2026-01-{1 + self.n // 1440:02}T{self.n // 60 % 24:02}:{self.n % 60:02}:00.000Z",
                       "git_commit": f"{self.n:040x}", **run}
                row.pop("run_id")
                run_id = insert(db, "run", row)
                ids.append(run_id)
                # A process is off by a little of its own, the same in none of its stages.
                for measurement in self.measurements:
                    if measurement["stage"] not in without:
                        self.copy(db, measurement, run_id, slower or {}, quality or {}, noise, samples)
                for stage, metric, unit, better, value in extra or []:
                    self.add_extra(db, run_id, stage, metric, unit, better, value)
        return ids

    def limit_power(self, run_ids, watts):
        """Stores the power limit of runs as a profile does."""
        with self.open() as db:
            db.execute("INSERT OR IGNORE INTO metric (name, unit, better, description) VALUES ('power_limit_w', 'W', 'none', "
                       "'')")
            for run_id in run_ids:
                db.execute("INSERT INTO measurement (run_id, config_id, source, metric_id, n, mean, min, p01, p05, p10, "
                           "median, p90, p95, p99, max, status) SELECT ?1, (SELECT min(config_id) FROM config), 'gpu', "
                           "metric_id, 1, ?2, ?2, ?2, ?2, ?2, ?2, ?2, ?2, ?2, ?2, 'ok' FROM metric WHERE "
                           "name = 'power_limit_w'", (run_id, watts))

    def loops(self, run_ids, ns):
        """What the reference loop took beside every time of these runs, for the median and sample by sample
        (core/system/contention.h)."""
        pairs = {"time_ns": "core_loop_ns", "encode_ns_per_key": "encode_core_loop_ns"}
        with self.open() as db:
            for time, loop in pairs.items():
                db.execute("INSERT OR IGNORE INTO metric (name, unit, better, description) VALUES (?, 'ns', 'none', '')",
                           (loop,))
                for run_id in run_ids:
                    found = db.execute("SELECT measurement_id, config_id, stage, n FROM measurement JOIN metric USING "
                                       "(metric_id) WHERE run_id = ? AND name = ?", (run_id, time)).fetchall()
                    for _, config_id, stage, n in found:
                        values = [ns(i) if callable(ns) else ns for i in range(n)]
                        median = sorted(values)[n // 2]
                        db.execute("DELETE FROM measurement WHERE run_id = ? AND config_id = ? AND stage = ? AND metric_id = "
                                   "(SELECT metric_id FROM metric WHERE name = ?)", (run_id, config_id, stage, loop))
                        (loop_id,) = db.execute(
                            "INSERT INTO measurement (run_id, config_id, source, stage, metric_id, n, mean, min, p01, p05, "
                            "p10, median, p90, p95, p99, max, status) SELECT ?1, ?2, 'host', ?3, metric_id, ?4, ?5, ?5, ?5, "
                            "?5, ?5, ?5, ?5, ?5, ?5, ?5, 'ok' FROM metric WHERE name = ?6 RETURNING measurement_id",
                            (run_id, config_id, stage, n, median, loop)).fetchone()
                        db.executemany("INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
                                       [(loop_id, i, value) for i, value in enumerate(values)])

    def copy(self, db, measurement, run_id, slower, quality, noise, samples):
        row = {k: v for k, v in measurement.items() if k not in ("metric", "measurement_id")}
        row["run_id"] = run_id
        values = []
        if row["stage"] and measurement["metric"] in ("time_ns", "encode_ns_per_key"):
            center = 1000 * slower.get(row["stage"], 1) * (1 + self.random.gauss(0, noise))
            values = [center * (1 + self.random.gauss(0, noise)) for _ in range(samples)]
            ordered = sorted(values)
            row.update(n=samples, median=ordered[samples // 2], mean=sum(values) / samples, p10=ordered[samples // 10],
                       p90=ordered[samples * 9 // 10], min=ordered[0], max=ordered[-1])
        elif not row["stage"]:
            factor = quality.get(measurement["metric"], 1)
            row.update(mean=row["mean"] * factor, median=row["median"] * factor)
        measurement_id = insert(db, "measurement", row)
        db.executemany("INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
                       [(measurement_id, i, value) for i, value in enumerate(values)])

    def add_extra(self, db, run_id, stage, metric, unit, better, value):
        db.execute("INSERT OR IGNORE INTO metric (name, unit, better, description) VALUES (?, ?, ?, 'of a test')",
                   (metric, unit, better))
        for config, source in {(m["config_id"], m["source"]) for m in self.measurements if m["stage"] == stage}:
            number = {name: value for name in ("mean", "min", "p01", "p05", "p10", "median", "p90", "p95", "p99", "max")}
            insert(db, "measurement", {"run_id": run_id, "config_id": config, "source": source, "stage": stage, "n": 1,
                                       "status": "ok", **number, "metric_id": db.execute(
                                           "SELECT metric_id FROM metric WHERE name = ?", (metric,)).fetchone()[0]})


def insert(db, table, row):
    return db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                      list(row.values())).lastrowid
