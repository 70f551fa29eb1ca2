#!/usr/bin/env python3
"""Makes the Nth allocation, write or byte of a file fail, for N from 1 until a command succeeds, for every subcommand:

    tests/fuzz/fault_campaign.py ADAMAS FAULTS_SO [--most N] [--only NAME]

A command that meets the fault ends with exit code 4 and a sentence (2 only for what a write fault makes of a file that is
being read), or it did not need what it asked for, and ends as without the fault, with the same output. No signal, no hang, no
half file, no damaged database, no temporary file. Beyond --most faults per command N grows by a seventh each time, so that late
ones are tried too. Prints a line per command and kind; ends with 1 if anything was wrong.
"""
import argparse
import contextlib
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "replay": ["replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas,quest",
               "--timed-steps", "1", "--threads", "1", "--db", "x.db"],
    "trace gen": ["trace", "gen", "-o", "out", "--tokens", "256", "--n-steps", "4", "--steps", "4"],
    "trace info": ["trace", "info", "t.safetensors", "--json"],
    "trace verify": ["trace", "verify", "t.safetensors"],
    "trace import": ["trace", "import", "requests.csv"],
    "report": ["report", "--db", "x.db", "-o", "out"],
    "report --json": ["report", "--db", "x.db", "--json"],
    "compare": ["compare", "1", "1", "--db", "x.db", "--all", "--markdown", "out"],
    "history": ["history", "--db", "x.db"],
    "profile --dry-run": ["profile", "--dry-run", "--seq-lens", "1024"],
    "counters list": ["counters", "list"],
    "db create": ["db", "create", "--db", "new.db"],
    "db export": ["db", "export", "--run", "1", "--db", "x.db", "-o", "out"],
    "db import": ["db", "import", "run.json", "--db", "x.db"],
    "db merge": ["db", "merge", "other.db", "--db", "x.db"],
    "db gc": ["db", "gc", "--keep", "1", "--db", "x.db"],
}
VARIES = re.compile(r"\d+(\.\d+)? ?s\b|\d+\.\d+|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{8}-[0-9a-f-]{27}|\d+ bytes|\d{4,}")  # times


class Campaign:
    def __init__(self, adamas, faults, folder, most):
        self.adamas, self.faults, self.most, self.wrong = Path(adamas).resolve(), Path(faults).resolve(), most, []
        self.made, self.at = Path(folder) / "made", Path(folder) / "at"
        self.made.mkdir()
        def run(*words):
            subprocess.run([self.adamas, *words], cwd=self.made, check=True, stdin=subprocess.DEVNULL)
        run("trace", "gen", "-o", "t.safetensors", "--tokens", "256", "--n-steps", "4", "--steps", "4", "-q")
        run(*COMMANDS["replay"], "-q")
        run("db", "export", "--run", "1", "--db", "x.db", "-o", "run.json", "-q")
        run(*COMMANDS["replay"][:-1], "other.db", "-q")
        (self.made / "requests.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                                                "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n")

    def run(self, words, environment=None, limit_bytes=None):
        shutil.rmtree(self.at, ignore_errors=True)
        shutil.copytree(self.made, self.at)
        (self.at / "out").write_bytes(b"old")
        hit = self.at.parent / "hit"
        hit.unlink(missing_ok=True)
        limit = None
        if limit_bytes is not None:
            def limit():
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        result = subprocess.run([self.adamas, *words], cwd=self.at, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                                preexec_fn=limit, env={**os.environ, "TMPDIR": str(self.at), "ADAMAS_FAULT_HIT": str(hit),
                                                       **(environment or {})})
        return result.returncode, result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace"), hit.exists()

    def judge(self, name, fault, whole, result):
        code, out, err, _ = result
        def claim(true, what):
            if not true:
                self.wrong.append(f"{name}, {fault}: {what}: exit {code}: {err.strip()[:160]}")
        claim(code >= 0, "a signal")
        allowed = (4, 77) if fault.startswith("alloc") else (4, 2, 77)
        claim(code in allowed or code == whole[0], "an exit code")
        if code == whole[0]:
            claim(VARIES.sub("", out) == VARIES.sub("", whole[1]), "other output with the same exit code")
        elif code in allowed:
            claim(err and all(line.startswith("adamas: ") for line in err.splitlines()) and err.count("\n") <= 2,
                  "not a sentence, or two (of a file, and of the document of all)")
        left = {path.name for path in self.at.iterdir()} - {path.name for path in self.made.iterdir()} - {"out", "new.db"}
        claim(not {n for n in left if not n.endswith(("-wal", "-shm", "-journal"))}, f"left {left}")
        if "out" in COMMANDS[name] and code != 0:
            claim((self.at / "out").read_bytes() == b"old" or name in ("compare", "trace gen"),
                  "a file that was replaced by a failure")  # these two go on after they have written it
        for database in self.at.glob("*.db"):
            with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
                claim(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"{database.name} is damaged")

    def numbers(self):
        n = 1
        while True:
            yield n
            n += 1 if n < self.most else max(1, n // 7)

    def inject(self, name, kind, lasts):
        words, n_tried = COMMANDS[name], 0
        whole = self.run(words)
        for n in self.numbers():
            environment = {"LD_PRELOAD": str(self.faults), "ADAMAS_FAULT": kind, "ADAMAS_FAULT_AT": str(n)}
            if lasts:
                environment["ADAMAS_FAULT_LASTS"] = "1"
            result = self.run(words, environment)
            if not result[3]:
                break
            n_tried += 1
            self.judge(name, f"{kind} {n}{' and after' * lasts}", whole, result)
        print(f"{name:<18} {kind}{' and after' * lasts}: {n_tried} faults up to number {n}", flush=True)

    def fill(self, name):
        """A disk that is full after so many bytes of one file."""
        words, whole, n, n_tried = COMMANDS[name], self.run(COMMANDS[name]), 0, 0
        while n < 1 << 22:
            result = self.run(words, limit_bytes=n)
            n_tried += 1
            self.judge(name, f"write beyond {n} bytes", whole, result)
            if result[0] == whole[0] and n > 1 << 19:
                break
            n = n * 2 + 1 if n < 4096 else n + n // 3
        print(f"{name:<18} full after 0 to {n} bytes: {n_tried} limits", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("faults")
    parser.add_argument("--most", type=int, default=1 << 60, help="every fault up to this one (default: all)")
    parser.add_argument("--only", action="append", choices=COMMANDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adamas-faults-") as folder:
        campaign = Campaign(options.adamas, options.faults, folder, options.most)
        for name in options.only or COMMANDS:
            campaign.inject(name, "alloc", False)
            campaign.inject(name, "alloc", True)
            campaign.inject(name, "write", False)
            campaign.inject(name, "write", True)
            campaign.fill(name)
    print("\n".join(campaign.wrong) if campaign.wrong else "nothing wrong")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
