#!/usr/bin/env python3
"""Ends every command of the fault campaign with TERM or INT at random moments:

    tests/fuzz/signal_campaign.py ADAMAS [--signals 500] [--seed 1] [--only NAME]

It ends within a second of the signal, by it or as without it; databases are whole, an output file is the old one or the new
one, and nothing is left behind. test_signals.py has what each command waits for. Prints a line per command; ends with 1 if
anything was wrong.
"""
import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import fault_campaign

CODES = (-signal.SIGTERM, -signal.SIGINT, 130)


class Campaign(fault_campaign.Campaign):
    def __init__(self, adamas, folder, seed):
        super().__init__(adamas, "/dev/null", folder, 0)
        self.random, self.longest_s = random.Random(seed), 0

    def interrupt(self, name, after_s, signal_number):
        """Returns whether it was at work."""
        words = fault_campaign.COMMANDS[name]
        self.renew()
        program = self.adamas.parent / "tests/adamas-fake-gpu" if fault_campaign.on_fake_gpu(words) else self.adamas
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen([program, *words], cwd=self.at, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                       env={**os.environ, "TMPDIR": str(self.at)})
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after_s)
            at_work = process.poll() is None
            sent = time.monotonic()
            process.send_signal(signal_number)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            seconds = time.monotonic() - sent
        patience = 1 + 0.5 * os.getloadavg()[0] / os.cpu_count()  # on a busy machine it has to wait for its turn
        def claim(true, what):
            if not true:
                self.wrong.append(f"{name}, signal {signal_number} after {after_s:.3f} s: {what}: exit {process.returncode}, "
                                  f"{seconds:.2f} s")
        self.longest_s = max(self.longest_s, seconds)
        claim(seconds < patience, "too late")
        claim(process.returncode in CODES or process.returncode == self.code, "an exit code")
        left = {path.name for path in self.at.iterdir()} - {path.name for path in self.made.iterdir()} - {"out", "new.db"}
        claim(not {n for n in left if not n.endswith(("-wal", "-shm", "-journal"))}, f"left {left}")
        out = (self.at / "out").read_bytes()
        claim(out == b"old" or len(out) > len(self.whole_out) // 2, f"an output of {len(out)} bytes")
        for database in self.at.glob("*.db"):
            with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
                claim(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"{database.name} is damaged")
        return at_work

    def all_of(self, name, n):
        n_wrong, self.longest_s = len(self.wrong), 0
        self.renew()
        start = time.monotonic()
        self.code = self.run(fault_campaign.COMMANDS[name])[0]
        whole_s, self.whole_out = time.monotonic() - start, (self.at / "out").read_bytes()
        draw = self.random
        n_at_work = sum(self.interrupt(name, draw.uniform(0, whole_s), draw.choice((signal.SIGTERM, signal.SIGINT)))
                        for _ in range(n))
        print(f"{name:<24}{n:>5} signals,{n_at_work:>5} while at work, ended after {self.longest_s:.2f} s at most,"
              f"{len(self.wrong) - n_wrong:>4} wrong", flush=True)
        for line in self.wrong[n_wrong:]:
            print(f"    {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("--signals", type=int, default=500, help="over all commands (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=fault_campaign.COMMANDS)
    options = parser.parse_args()
    names = options.only or list(fault_campaign.COMMANDS)
    with tempfile.TemporaryDirectory(prefix="adamas-signals-") as folder:
        campaign = Campaign(options.adamas, folder, options.seed)
        for name in names:
            campaign.all_of(name, -(-options.signals // len(names)))
    print(f"{len(campaign.wrong)} wrong" if campaign.wrong else "nothing wrong")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
