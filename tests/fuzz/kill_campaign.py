#!/usr/bin/env python3
"""Kills every writing command with SIGKILL at random moments, and looks at what is left:

    tests/fuzz/kill_campaign.py ADAMAS [--kills 500] [--seed 1]

After each kill SQLite finds the database whole, foreign keys hold, and what a command writes is there as a whole or not at
all: an import, a merge, what a prune removes, an output file. A replay may stop between two segments; resumed, its quality
figures are those of a replay that nobody killed. Prints a line per command; ends with 1 if anything was wrong.
"""
import argparse
import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUALITY = """SELECT c.policy, c.variant, c.seq_len, c.budget, k.name, m.layer, m.head, m.n, m.mean, m.median
             FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id)
             WHERE m.run_id = 1 AND m.stage IS NULL ORDER BY 1, 2, 3, 4, 5, 6, 7"""


def rows(database, sql):
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


class Campaign:
    def __init__(self, adamas, folder, seed):
        self.adamas, self.folder, self.random, self.wrong = Path(adamas).resolve(), Path(folder), random.Random(seed), []
        self.at = self.folder / "at"
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
        }

    def run(self, *words):
        subprocess.run([self.adamas, *words], cwd=self.folder, check=True, stdin=subprocess.DEVNULL)

    def claim(self, name, true, what):
        if not true:
            self.wrong.append(f"{name}: {what}")

    def prepare(self, database):
        shutil.rmtree(self.at, ignore_errors=True)
        self.at.mkdir()
        if database:
            shutil.copy(self.folder / database, self.at / "x.db")
        (self.at / "out").write_bytes(b"old")

    def kill(self, name, after_s):
        """Starts a command and kills it; returns whether it was still at work."""
        database, words, check = self.commands[name]
        self.prepare(database)
        process = subprocess.Popen([self.adamas, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
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
        whole = {"report": b"</html>\n", "db export": b"}\n"}.get(name)
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

    def go(self, n_kills):
        for name in self.commands:
            database, words, _ = self.commands[name]
            self.prepare(database)
            start = time.monotonic()
            self.run(*words)
            whole_s, n_at_work, share = time.monotonic() - start, 0, -(-n_kills // len(self.commands))
            for _ in range(share):
                n_at_work += self.kill(name, self.random.uniform(0, whole_s * 1.05))
            print(f"{name:<10} {share:>4} kills, {n_at_work:>4} while at work ({whole_s:.2f} s whole): "
                  f"{sum(w.startswith(name + ':') for w in self.wrong)} wrong", flush=True)
        return self.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("--kills", type=int, default=500, help="over all commands (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adamas-kills-") as folder:
        wrong = Campaign(options.adamas, folder, options.seed).go(options.kills)
    print("\n".join(wrong) if wrong else "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
