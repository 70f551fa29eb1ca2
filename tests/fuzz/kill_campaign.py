#!/usr/bin/env python3
"""Kills every writing command with SIGKILL at random moments, and looks at what is left:

    tests/fuzz/kill_campaign.py ADAMAS [--kills 500] [--seed 1]

After each kill SQLite finds the database whole, foreign keys hold, and what a command writes is there as a whole or not at
all: an import, a merge, what a prune removes, an output file. A replay may stop between two segments; resumed, its quality
figures are those of a replay that nobody killed. What a profile, a simulation or a tuning session measured of a configuration
is there with all its metrics and samples. What a killed command left in the folder for scratch files, the next one removes.
Profile and decode run on adamas-fake-gpu. Prints a line per command; ends with 1 if anything was wrong.
"""
import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fault_campaign

ROOT = Path(__file__).resolve().parents[2]
QUALITY = """SELECT c.policy, c.variant, c.seq_len, c.budget, k.name, m.layer, m.head, m.n, m.mean, m.median
             FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id)
             WHERE m.run_id = 1 AND m.stage IS NULL ORDER BY 1, 2, 3, 4, 5, 6, 7"""

# What belongs together: the rows of a configuration, and how many samples each has beside how many it says it has.
BATCHES = {
    "measurement": """SELECT source, ifnull(stage, ''), seq_len, ifnull(budget, ''), policy, variant, count(*),
                      sum(n > 1), sum(EXISTS (SELECT 1 FROM sample s WHERE s.measurement_id = m.measurement_id)),
                      sum(n > 1 AND (SELECT count(*) FROM sample s WHERE s.measurement_id = m.measurement_id) NOT IN (0, n))
                      FROM measurement m JOIN config USING (config_id) {} GROUP BY 1, 2, 3, 4, 5, 6""",
    "simulation": """SELECT policy, ifnull(budget, ''), (SELECT count(*) FROM simulation_metric s
                     WHERE s.simulation_id = v.simulation_id), (SELECT count(*) FROM prediction p
                     WHERE p.simulation_id = v.simulation_id) FROM simulation v {}""",
    "candidate": "SELECT variant, verdict FROM candidate JOIN config USING (config_id) {}",
}


def rows(database, sql):
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


class Campaign:
    def __init__(self, adamas, folder, seed):
        self.adamas, self.folder, self.random, self.wrong = Path(adamas).resolve(), Path(folder), random.Random(seed), []
        self.at, self.scratch = self.folder / "at", self.folder / "scratch"
        self.scratch.mkdir()
        self.run("trace", "gen", "-o", "t.safetensors", "--tokens", "2048", "--n-steps", "48", "--steps", "1600", "-q")
        self.replay = ["replay", "t.safetensors", "--seq-lens", "512,1024,1536", "--budgets", "16,64", "--dense-layers", "0",
                       "--policies", "adamas,streaming", "-q", "--db", "at/x.db"]
        self.at.mkdir()
        self.run(*self.replay)
        self.quality = rows(self.at / "x.db", QUALITY)
        shutil.copy(self.at / "x.db", self.folder / "one.db")
        for _ in range(3):
            self.run("replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--label", "x", "-q", "--db",
                     "at/x.db")
        shutil.copy(self.at / "x.db", self.folder / "four.db")
        self.commands = {
            "replay": (None, self.replay, self.check_replay),
            "db import": ("one.db", ["db", "import", ROOT / "analysis/recorded/h200.json", "-q", "--db", "at/x.db"],
                          self.check_import),
            "db merge": ("one.db", ["db", "merge", "four.db", "-q", "--db", "at/x.db"], self.check_merge),
            "db gc": ("four.db", ["db", "gc", "--keep", "1", "-q", "--db", "at/x.db"], self.check_gc),
            "report": ("four.db", ["report", "-q", "--db", "at/x.db", "-o", "at/out"], self.check_output),
            "db export": ("four.db", ["db", "export", "--run", "1", "-q", "--db", "at/x.db", "-o", "at/out"],
                          self.check_output),
            "trace gen": (None, ["trace", "gen", "-o", "at/out", "--tokens", "16384", "-q"], self.check_output),
            **self.others(),
        }

    def others(self):
        """The commands that the fault campaign has inputs for."""
        (self.folder / "tiny.json").write_text(fault_campaign.TINY)
        (self.folder / "requests.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
            f"2023-11-16 18:17:{i // 10:02}.{i % 10}799600,{1000 + 7 * i},{10 + i % 50}\n" for i in range(400)))
        self.run("db", "import", ROOT / "analysis/recorded/h200.json", "--db", "gpu.db", "-q")
        self.run("simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--budgets", "256", "-q", "--db",
                 "gpu.db")
        change_id = self.make_a_change()  # the simulation has brought all recordings that it wants into gpu.db
        to = ["-q", "--db", "at/x.db"]
        compare = ["compare", "1", "2", "--all", *to]
        gpu = ["--seq-lens", "256,512,1024", "--budgets", "32,64"]
        return {
            "profile": (None, ["profile", *gpu, "--heads", "2", "--kv-heads", "1", "--cap-ms", "1", *to], self.check_batches),
            "decode": (None, ["decode", "--model", "tiny.json", *gpu, "--cap-ms", "1", *to], self.check_batches),
            "tune": (None, ["tune", "--stage", "topk", "--seq-len", "1K", "--heads", "2", "--kv-heads", "1", "--cap-ms", "5",
                            "--budget", "32", "--seed", "1", *to], self.check_batches),
            "simulate": ("gpu.db", ["simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--budgets",
                                    "256,1024", *to], self.check_batches),
            "simulate --validate": ("gpu.db", ["simulate", "--validate", "--calibration", "1", *to], self.check_validation),
            "calibrate": (None, ["calibrate", "t.safetensors", "--dense-layers", "0", "--budgets", "16",
                                 "--metrics", "l1", "--threads", "1", "-o", "at/out", *to], self.check_calibration),
            "check": ("one.db", ["check", "--baseline", self.adamas, "--runs", "2", "--max-runs", "2", "--ignore-missing",
                                 *to, "--", "replay", "t.safetensors", "--seq-lens", "512", "--budgets", "16",
                                 "--dense-layers", "0"], self.check_check),
            "history ack": ("changed.db", ["history", "ack", change_id, "--why", "x", "--who", "y", *to], self.check_nothing),
            "db create": (None, ["db", "create", *to], self.check_nothing),
            "compare --junit": ("four.db", [*compare, "--junit", "at/out"], self.check_output),
            "compare --markdown": ("four.db", [*compare, "--markdown", "at/out"], self.check_output),
            "compare --benchmark-json": ("four.db", [*compare, "--benchmark-json", "at/out"], self.check_output),
        }

    def make_a_change(self):
        """A database in which recall fell by half; returns the change's ID."""
        changed = self.folder / "changed.db"
        for _ in range(8):
            self.run("replay", "t.safetensors", "--seq-lens", "512", "--budgets", "16", "--dense-layers", "0", "-q", "--db",
                     changed)
        with contextlib.closing(sqlite3.connect(changed)) as connection:
            connection.execute("UPDATE run SET git_commit = printf('%040x', run_id), "
                               "commit_utc = printf('2026-11-0%dT00:00:00Z', run_id)")
            connection.execute("UPDATE measurement SET mean = mean / 2, median = median / 2 WHERE run_id > 4 AND "
                               "metric_id = (SELECT metric_id FROM metric WHERE name = 'recall')")
            connection.commit()
        found = subprocess.run([self.adamas, "history", "--json", "--db", changed], capture_output=True, check=True).stdout
        return json.loads(found)["changes"][0]["id"]

    def run(self, *words, check=True):
        program = self.adamas.parent / "tests/adamas-fake-gpu" if fault_campaign.on_fake_gpu(words) else self.adamas
        return subprocess.run([program, *words], cwd=self.folder, check=check, stdin=subprocess.DEVNULL,
                              env={**os.environ, "TMPDIR": str(self.scratch)}, stderr=None if check else subprocess.DEVNULL)

    def claim(self, name, true, what):
        if not true:
            self.wrong.append(f"{name}: {what}")

    def prepare(self, database):
        for folder in (self.at, self.scratch):  # where a killed tune leaves a folder
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        if database:
            shutil.copy(self.folder / database, self.at / "x.db")
        (self.at / "out").write_bytes(b"old")

    def kill(self, name, after_s):
        """Starts a command and kills it; returns whether it was still at work."""
        database, words, check = self.commands[name]
        self.prepare(database)
        program = self.adamas.parent / "tests/adamas-fake-gpu" if fault_campaign.on_fake_gpu(words) else self.adamas
        process = subprocess.Popen([program, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(self.scratch)})
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        was_at_work = process.poll() is None
        process.kill()
        process.wait()
        if (self.at / "x.db").exists() and rows(self.at / "x.db", "PRAGMA user_version") != [(0,)]:
            self.claim(name, rows(self.at / "x.db", "PRAGMA integrity_check") == [("ok",)], "integrity")
            self.claim(name, rows(self.at / "x.db", "PRAGMA foreign_key_check") == [], "foreign keys")
        check(name)
        return was_at_work

    def check_output(self, name):
        left = {path.name for path in self.at.iterdir()} - {"x.db", "x.db-wal", "x.db-shm", "out"}
        content = (self.at / "out").read_bytes()
        if len(left) == 1 and next(iter(left)).startswith("out.part-") and content == b"old":
            # Between the system call that names the whole file and the one that renames it: nothing is half.
            content = (self.at / left.pop()).read_bytes()
            self.claim(name, content != b"old" and content != b"", "a part of a file that is empty")
        self.claim(name, not left, f"left {left}")
        whole = {"report": b"</html>\n", "db export": b"}\n", "compare --junit": b"</testsuites>\n", "calibrate": b"}\n",
                 "compare --benchmark-json": b"]\n", "compare --markdown": b"\n"}.get(name)
        is_new = content.endswith(whole) if whole else len(content) > 100000 and \
            subprocess.run([self.adamas, "trace", "verify", "at/out"], cwd=self.folder, capture_output=True).returncode == 0
        self.claim(name, content == b"old" or is_new, f"an output of {len(content)} bytes that is not whole")

    def check_import(self, name):
        n = rows(self.at / "x.db", "SELECT count(*), sum(label LIKE 'recorded:%') FROM run")[0]
        self.claim(name, n in ((1, 0), (2, 1)), f"runs {n}")
        n_measurements = rows(self.at / "x.db", "SELECT count(*) FROM measurement WHERE run_id > 1")[0][0]
        self.claim(name, (n[0] == 1) == (n_measurements == 0), f"{n_measurements} measurements of {n} runs")

    def check_merge(self, name):
        n = rows(self.at / "x.db", "SELECT count(*) FROM run")[0][0]
        wanted = rows(self.folder / "four.db", "SELECT count(*) FROM measurement")[0][0]
        had = rows(self.folder / "one.db", "SELECT count(*) FROM measurement")[0][0]
        found = rows(self.at / "x.db", "SELECT count(*) FROM measurement")[0][0]
        self.claim(name, (n, found) in ((1, had), (4, wanted)), f"{n} runs with {found} measurements")

    def check_gc(self, name):
        labels = rows(self.at / "x.db", "SELECT label, count(*) FROM run GROUP BY label ORDER BY label")
        self.claim(name, labels in ([("", 1), ("x", 3)], [("", 1), ("x", 1)]), f"runs {labels}")

    def check_replay(self, name):
        database = self.at / "x.db"
        if not database.exists() or rows(database, "PRAGMA user_version") == [(0,)] or not rows(database, "SELECT 1 FROM run"):
            return
        if rows(database, "SELECT status FROM run") != [("complete",)]:
            self.run(*self.replay, "--resume", "1")
        self.claim(name, rows(database, QUALITY) == self.quality, "resumed figures differ")

    def batches(self):
        """What the last run holds, by table."""
        first = rows(self.at / "x.db", "SELECT ifnull(max(run_id), 0) FROM run")[0][0]
        return {table: collections.Counter(rows(self.at / "x.db", sql.format(f"WHERE run_id = {first}")))
                for table, sql in BATCHES.items()}

    def check_batches(self, name):
        database = self.at / "x.db"
        if not database.exists() or rows(database, "PRAGMA user_version") == [(0,)]:
            return
        before = self.commands[name][0]
        n_before = rows(self.folder / before, "SELECT count(*) FROM run")[0][0] if before else 0
        if rows(database, "SELECT count(*) FROM run")[0][0] == n_before:
            return  # killed before its own
        for table, found in self.batches().items():
            more = found - self.whole[table]
            self.claim(name, not more, f"{table}: {list(more)[:3]}")

    def check_validation(self, name):
        n = rows(self.at / "x.db", "SELECT count(*) FROM validation")[0][0]
        self.claim(name, n in (0, self.n_validations), f"{n} of {self.n_validations} rows of a validation")

    def check_calibration(self, name):
        self.check_output(name)
        if (self.at / "out").read_bytes() != b"old":
            json.loads((self.at / "out").read_text())

    def check_check(self, name):
        """Each run that came over is whole, and so is the result; the next check removes the scratch folder."""
        runs = rows(self.at / "x.db", "SELECT status, (SELECT count(*) FROM measurement m WHERE m.run_id = r.run_id) "
                                      "FROM run r WHERE run_id > 1")
        self.claim(name, len(set(runs)) <= 1, f"runs of a check: {runs}")
        results = rows(self.at / "x.db", "SELECT (SELECT count(*) FROM check_row k "
                                         "WHERE k.check_result_id = r.check_result_id) = n_rows FROM check_result r")
        self.claim(name, results in ([], [(1,)]), f"results of a check: {results}")
        if list(self.scratch.iterdir()):
            self.run("check", "--baseline", "/bin/false", "--db", "scratch/x.db", "--", "replay", "none", check=False)
            for path in self.scratch.glob("x.db*"):
                path.unlink()
        self.claim(name, not list(self.scratch.iterdir()), f"left {list(self.scratch.iterdir())}")

    def check_nothing(self, name):
        """All of it is one transaction, of which SQLite's own checks tell."""

    def go(self, n_kills, only=None):
        names = only or list(self.commands)
        for name in names:
            database, words, _ = self.commands[name]
            self.prepare(database)
            start = time.monotonic()
            self.run(*words, check=name != "check" and not name.startswith("compare"))  # which may find that times changed
            whole_s, n_at_work, share = time.monotonic() - start, 0, -(-n_kills // len(names))
            if (self.at / "x.db").exists():
                self.whole = self.batches()
                self.n_validations = rows(self.at / "x.db", "SELECT count(*) FROM validation")[0][0]
            for _ in range(share):
                n_at_work += self.kill(name, self.random.uniform(0, whole_s * 1.05))
            print(f"{name:<25} {share:>4} kills, {n_at_work:>4} while at work ({whole_s:.2f} s whole): "
                  f"{sum(w.startswith(name + ':') for w in self.wrong)} wrong", flush=True)
        return self.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("--kills", type=int, default=500, help="over all commands (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adamas-kills-") as folder:
        wrong = Campaign(options.adamas, folder, options.seed).go(options.kills, options.only)
    print("\n".join(wrong) if wrong else "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
