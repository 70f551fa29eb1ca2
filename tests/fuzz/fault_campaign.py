#!/usr/bin/env python3
"""Makes the Nth allocation, write, read or byte of a file fail, for N from 1 until a command succeeds, for every subcommand:

    tests/fuzz/fault_campaign.py ADAMAS FAULTS_SO [--most N] [--paths [--part I/N]] [--only NAME]

A command that meets the fault ends with exit code 4 and a sentence (2 only for what a fault makes of a file that is
being read), or it did not need what it asked for, and ends as without the fault: the same output, the same files, as many
rows. No signal, no hang, no half file, no damaged database, no temporary file. Beyond --most faults of a kind, or --seconds, N
grows by a seventh each time, so that late ones are tried too. Most commands allocate 60,000 to 700,000 times, and nearly always
where they have been before: with --paths the first allocation of each call path fails alone, which is each place of the program
under each of its callers. Profile, decode and tune --gpu run on adamas-fake-gpu, whose GPU is host
memory. Prints a line per command; ends with 1 if anything was wrong.
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
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
SIMULATE = ["simulate", "--budgets", "32", "--threads", "1", "--calibration", "1", "--gpu", "memory=1,flops=1,bandwidth=1"]
COMMANDS = {
    "replay": ["replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas,quest",
               "--timed-steps", "1", "--threads", "1", "--timeline", "--db", "x.db"],
    "replay --calibration": ["replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas",
                             "--timed-steps", "1", "--threads", "1", "--calibration", "calibration.json", "--db", "x.db"],
    "replay --candidate": ["replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas",
                           "--timed-steps", "1", "--threads", "1", "--candidate", "pack=mine.so", "--db", "x.db"],
    "replay --shard": ["replay", "t.safetensors", "--shard", "1/1", "--dry-run", "--candidate", "pack=mine.so", "--calibration",
                       "calibration.json", "--dense-layers", "0"],
    "trace gen": ["trace", "gen", "-o", "out", "--tokens", "256", "--n-steps", "4", "--steps", "4"],
    "trace info": ["trace", "info", "t.safetensors", "--json"],
    "trace verify": ["trace", "verify", "t.safetensors"],
    "trace import": ["trace", "import", "requests.csv"],
    "trace import .gz": ["trace", "import", "requests.jsonl.gz"],
    "calibrate": ["calibrate", "t.safetensors", "--dense-layers", "0", "--budgets", "16", "--metrics", "l1", "--threads", "1",
                  "--db", "x.db", "-o", "out"],
    "simulate": ["simulate", "--requests", "requests.csv", "--model", "llama-3.1-8b", "--budgets", "256", "--threads", "1",
                 "--db", "x.db"],
    "simulate --model": [*SIMULATE, "--requests", "requests.csv", "--model", "tiny.json", "--db", "p.db"],
    "simulate .gz": [*SIMULATE, "--requests", "requests.jsonl.gz", "--model", "tiny.json", "--db", "p.db"],
    "simulate JSON": [*SIMULATE, "--requests", "mooncake.jsonl", "--model", "tiny.json", "--db", "p.db"],
    "simulate clients": [*SIMULATE, "--requests", "clients.jsonl", "--model", "tiny.json", "--db", "p.db"],
    "simulate --generate": [*SIMULATE, "--generate", "rate=1,duration=2,input_tokens=30,output_tokens=4", "--model",
                            "tiny.json", "--db", "p.db"],
    "simulate --validate": ["simulate", "--validate", "--calibration", "1", "--db", "g.db"],
    "decode": ["decode", "--model", "tiny.json", "--seq-lens", "64", "--budgets", "32", "--cap-ms", "1", "--db", "x.db"],
    "decode --weights": ["decode", "--model", "small.json", "--weights", "weights", "--seq-lens", "64", "--budgets", "32",
                         "--cap-ms", "1", "--db", "x.db"],
    "decode --dry-run": ["decode", "--dry-run", "--model", "tiny.json", "--seq-lens", "64"],
    "explain": ["explain", "--stage", "topk", "--db", "g.db"],
    "tune": ["tune", "--stage", "topk", "--seq-len", "256", "--heads", "2", "--kv-heads", "1", "--budget", "32", "--check-only",
             "--implementation", "reference", "--seed", "1", "--db", "x.db"],
    "tune mine.so": ["tune", "mine.so", "--stage", "pack", "--seq-len", "256", "--heads", "2", "--kv-heads", "1",
                     "--check-only", "--seed", "1", "--db", "x.db"],
    "tune --gpu": ["tune", "--gpu", "--stage", "topk", "--seq-len", "256", "--heads", "2", "--kv-heads", "1", "--budget", "32",
                   "--implementation", "fake", "--limit-s", "1", "--cap-ms", "1", "--seed", "1", "--db", "x.db"],
    "tune --show": ["tune", "--show", "--db", "x.db"],
    "kernel header": ["kernel", "header"],
    "kernel resources": ["kernel", "resources", "--json"],
    "check": ["check", "--baseline", "adamas", "--candidate", "adamas", "--runs", "2", "--max-runs", "2", "--ignore-missing",
              "--db", "x.db", "--", "replay", "t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas",
              "--timed-steps", "1", "--threads", "1"],
    "check of copies": ["check", "--baseline", "./copies", "--candidate", "./copies", "--runs", "2", "--max-runs", "2",
                        "--ignore-missing", "--db", "x.db", "--", "replay"],
    "doctor": ["doctor"],
    "report": ["report", "--db", "x.db", "-o", "out"],
    "report --json": ["report", "--db", "x.db", "--json"],
    "compare": ["compare", "1", "2", "--db", "x.db", "--all", "--markdown", "out"],
    "compare --junit": ["compare", "1", "2", "--db", "x.db", "--all", "--junit", "out"],
    "compare --benchmark-json": ["compare", "1", "2", "--db", "x.db", "--all", "--benchmark-json", "out"],
    "compare files": ["compare", "x.db:1", "other.db", "--all"],
    "history": ["history", "--db", "x.db"],
    "history --json": ["history", "--json", "--db", "x.db"],
    "profile": ["profile", "--seq-lens", "256", "--budgets", "32", "--heads", "2", "--kv-heads", "1", "--cap-ms", "1", "--db",
                "x.db"],
    "profile --trace": ["profile", "--trace", "t.safetensors", "--calibration", "calibration.json", "--budgets", "32",
                        "--stages", "topk", "--cap-ms", "1", "--db", "x.db"],
    "profile --candidate": ["profile", "--dry-run", "--candidate", "manifest.json", "--candidate", "mine.cu", "--seq-lens",
                            "256"],
    "profile --counters": ["profile", "--dry-run", "--counters", "./my.metrics", "--seq-lens", "256"],
    "profile --dry-run": ["profile", "--dry-run", "--seq-lens", "1024"],
    "counters list": ["counters", "list"],
    "counters list --set": ["counters", "list", "--set", "./my.metrics"],
    "counters plan": ["counters", "plan", "--set", "basic"],
    "counters explain": ["counters", "explain", "dram__bytes_read.sum"],
    "db list": ["db", "list", "--db", "x.db"],
    "db list --json": ["db", "list", "--json", "--db", "x.db"],
    "db show": ["db", "show", "1", "--db", "x.db"],
    "db show --json": ["db", "show", "1", "--json", "--db", "x.db"],
    "db diff": ["db", "diff", "1", "2", "--db", "x.db"],
    "db create": ["db", "create", "--db", "new.db"],
    "db export": ["db", "export", "--run", "1", "--db", "x.db", "-o", "out"],
    "db export --timeline": ["db", "export", "--timeline", "1", "--db", "x.db", "-o", "out"],
    "db import of a GPU": ["db", "import", "gpu.json", "--db", "x.db"],
    "db import": ["db", "import", "run.json", "--db", "x.db"],
    "db merge": ["db", "merge", "other.db", "--db", "x.db"],
    "db gc": ["db", "gc", "--keep", "1", "--db", "x.db"],
    "words": ["words", "labels", "--db", "x.db"],
}
PACK = r"""
#include "adamas_plugin.h"
static void pack(const uint8_t *codes, size_t n_rows, uint32_t d, uint8_t *packed) {
    for (size_t i = 0; i < n_rows * d; i += 4)
        packed[i / 4] = (uint8_t)(codes[i] | codes[i + 1] << 2 | codes[i + 2] << 4 | codes[i + 3] << 6);
}
static const adamas_implementation rows[] = {{.stage = "pack", .name = "mine", .summary = "", .run = (void (*)(void))pack}};
const adamas_plugin adamas_plugin_table = {ADAMAS_PLUGIN_VERSION, sizeof *rows, 1, rows};
"""
# Takes the place of a replay in a check, which then takes no time: its runs are of files. Static, so that no fault reaches it.
COPIES = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>
int main(int argc, char **argv) {
    const char *to = argv[argc - 1], *name = strrchr(to, '/') + 1;
    char from[64];
    snprintf(from, sizeof from, "%c%d.copy", name[0], access(to, F_OK) == 0 ? 2 : 1);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (sendfile(out, in, NULL, 1 << 20) > 0) continue;
    return in < 0 || out < 0;
}
"""
TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
TINY = ('{"name": "tiny", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,'
        ' "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 50}')
SMALL = ('{"name": "small", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1,'
         ' "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 8, "tie_word_embeddings": true}')

BY_TIME = {"replay --candidate": ["sample"]}  # tables with as many rows as time allows


def on_fake_gpu(words):
    return words[0] in ("profile", "decode") or "--gpu" in words


VARIES = re.compile(r"\d+(\.\d+)? ?s\b| *\d+\.\d+|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{8}-[0-9a-f-]{27}|\d+ bytes|\d{4,}")  # times


class Campaign:
    def __init__(self, adamas, faults, folder, most, seconds=1e9):
        self.adamas, self.faults, self.most, self.wrong = Path(adamas).resolve(), Path(faults).resolve(), most, []
        self.seconds, self.made_rows, self.by_time = seconds, {}, ()
        self.made, self.at = Path(folder) / "made", Path(folder) / "at"
        self.made.mkdir()
        def run(*words):
            subprocess.run([self.adamas, *words], cwd=self.made, check=True, stdin=subprocess.DEVNULL)
        run("trace", "gen", "-o", "t.safetensors", "--tokens", "256", "--n-steps", "4", "--steps", "4", "-q")
        run(*COMMANDS["replay"], "-q")
        run(*COMMANDS["replay"], "-q")
        run("db", "export", "--run", "1", "--db", "x.db", "-o", "run.json", "-q")
        for name, made in (("recorded/gpu.json", "gpu.json"), ("requests/copilot.jsonl.gz", "requests.jsonl.gz"),
                           ("requests/mooncake.jsonl", "mooncake.jsonl"), ("requests/clients.jsonl", "clients.jsonl"),
                           ("manifest/topk", "manifest.json"), ("metrics/basic", "my.metrics")):
            shutil.copy(CORPUS / name, self.made / made)
        (self.made / "tiny.json").write_text(TINY)
        (self.made / "small.json").write_text(SMALL)
        header = (CORPUS / "model/weights").read_bytes()[3:].rstrip(b"\0")  # behind what tells the fuzzer what it is
        (self.made / "weights").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24320))
        (self.made / "mine.cu").write_text("int adamas_gpu_topk(a, b, c);\n")
        run("calibrate", "t.safetensors", "--dense-layers", "0", "--budgets", "16", "--metrics", "l1", "-q", "-o",
            "calibration.json", "--db", "calibrate.db")
        (self.made / "calibrate.db").unlink()
        fake = [self.adamas.parent / "tests/adamas-fake-gpu", "profile", "--heads", "2", "--kv-heads", "1", "--head-dim", "64"]
        subprocess.run([*fake, "--seq-lens", "256,512", "--batch", "1,2", "--budgets", "32", "--cap-ms", "1", "--db", "p.db"],
                       cwd=self.made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run("db", "import", "gpu.json", "--db", "g.db", "-q")
        (self.made / "adamas").symlink_to(self.adamas)
        (self.made / "mine.c").write_text(PACK)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", f"-I{ROOT}/kernels/tune/candidate", "mine.c", "-o", "mine.so"],
                       cwd=self.made, check=True)
        run(*COMMANDS["replay"][:-1], "other.db", "-q")
        (self.made / "copies.c").write_text(COPIES)
        subprocess.run(["cc", "-static", "-O1", "copies.c", "-o", "copies"], cwd=self.made, check=True)
        for side in "bc":
            for n in (1, 2):
                run(*COMMANDS["check"][COMMANDS["check"].index("--") + 1:], "-q", "--db", "side.db")
                shutil.copy(self.made / "side.db", self.made / f"{side}{n}.copy")
            (self.made / "side.db").unlink()
        (self.made / "requests.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                                                "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n")

    def renew(self):
        """The place of work as it was made."""
        if not self.at.exists() or self.changed():
            shutil.rmtree(self.at, ignore_errors=True)
            shutil.copytree(self.made, self.at, symlinks=True)
            (self.at / "out").write_bytes(b"old")

    def run(self, words, environment=None, limit_bytes=None, out=subprocess.PIPE):
        self.renew()
        hit = self.at.parent / "hit"
        hit.unlink(missing_ok=True)
        limit = None
        if limit_bytes is not None:
            def limit():
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        program = self.adamas.parent / "tests/adamas-fake-gpu" if on_fake_gpu(words) else self.adamas
        environment = {**os.environ, "TMPDIR": str(self.at), "ADAMAS_FAULT_HIT": str(hit), **(environment or {})}
        try:
            result = subprocess.run([program, *words], cwd=self.at, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.PIPE, timeout=60, preexec_fn=limit, env=environment)
        except subprocess.TimeoutExpired as late:
            return -99, "", f"a hang: {late}", True
        return (result.returncode, (result.stdout or b"").decode(errors="replace"), result.stderr.decode(errors="replace"),
                hit.exists())

    def changed(self):
        """The names of what is not there as it was made. Most faulty commands change nothing, and looking at all costs more."""
        def files(folder):
            with os.scandir(folder) as entries:
                stats = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
            return {name: (s.st_size, s.st_mtime_ns, s.st_mode) for name, s in stats.items() if name != "out"}
        made, at = files(self.made), files(self.at)
        names = {name for name in made.keys() | at.keys() if made.get(name) != at.get(name)}
        return names | ({"out"} if (self.at / "out").read_bytes() != b"old" else set())

    def rows(self, database):
        rows = {}
        with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
            for table, in connection.execute(TABLES):
                rows[database.name, table] = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
        return rows

    def state(self):
        """What a command leaves: its output file, and how many rows each table has."""
        out, rows = (self.at / "out").read_bytes().decode(errors="replace"), {}
        changed = self.changed()
        for database in sorted(self.at.glob("*.db")):
            if not {name for name in changed if name.startswith(database.name)}:
                if database.name not in self.made_rows:
                    self.made_rows[database.name] = self.rows(database)
                rows |= self.made_rows[database.name]
            else:
                rows |= self.rows(database)
        return VARIES.sub("", out), {key: n for key, n in rows.items() if key[1] not in self.by_time}

    def judge(self, name, fault, whole, result):
        code, out, err, _ = result
        def claim(true, what):
            if not true:
                self.wrong.append(f"{name}, {fault}: {what}: exit {code}: {err.strip()[:160]}")
        if "counters" in name and ("bad_alloc" in err or "unwinding" in err):
            return  # NVIDIA's library throws, and nothing in it catches: the process ends, and nothing was to be written
        claim(code >= 0, "a signal")
        # A write that failed is found in a file that is being read, and SQLite takes a read that failed for damage or a file
        # that cannot be opened.
        by_file = fault.startswith("write") or (fault.startswith("read") and re.search(r"\.db (is damaged|cannot be)", err))
        allowed = (4, 2, 77) if by_file else (4, 77)
        claim(code in allowed or code == whole[0], "an exit code")
        if code == whole[0]:
            # A doctor, and who asks CUPTI, tells what could not be found out; a history says that git could not be asked, and
            # goes by dates.
            # A check's verdicts are of times.
            told = name in ("doctor", "check", "check of copies", "counters list", "counters explain", "profile --counters")
            # Completions go without what cannot be read, and tune without the processor's name. Candidates' times vary.
            told |= name == "replay --candidate" or (name.split()[0] in ("words", "tune") and fault.startswith("read"))
            told |= name == "history" and "git" in out
            claim(told or VARIES.sub("", out) == VARIES.sub("", whole[1]), "other output with the same exit code")
            claim(self.state() == self.left, f"other files with the same exit code: {self.difference()}")
        elif code in allowed and not (name.startswith("tune") and "candidate" in out):  # whose table has the reasons
            claim(err and all(line.startswith("adamas: ") for line in err.splitlines()) and err.count("\n") <= 2,
                  "not a sentence, or two (of a file, and of the document of all)")
        left = {path.name for path in self.at.iterdir()} - {path.name for path in self.made.iterdir()} - {"out", "new.db"}
        claim(not {n for n in left if not n.endswith(("-wal", "-shm", "-journal"))}, f"left {left}")
        if "out" in COMMANDS[name] and code != whole[0]:
            goes_on = name == "trace gen" or name.split()[0] in ("compare", "calibrate")  # after it has written the file
            claim((self.at / "out").read_bytes() == b"old" or goes_on, "a file that was replaced by a failure")
        changed = self.changed()
        for database in self.at.glob("*.db"):
            if not {name for name in changed if name.startswith(database.name)}:
                continue
            with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
                claim(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"{database.name} is damaged")

    def difference(self):
        (out, rows), (whole_out, whole_rows) = self.state(), self.left
        return [key for key in rows.keys() | whole_rows.keys() if rows.get(key) != whole_rows.get(key)] or \
            f"out of {len(out)} in place of {len(whole_out)} characters"

    def whole(self, name):
        """What the command does without a fault."""
        self.by_time = BY_TIME.get(name, ())
        result = self.run(COMMANDS[name])
        self.left = self.state()
        return result

    def numbers(self):
        """1, 2, 3, ... for as long as the time lasts; then fewer and fewer, so that late ones are tried too."""
        n, start = 1, time.monotonic()
        while True:
            yield n
            spent = time.monotonic() - start
            n += 1 if n < self.most and spent < self.seconds else max(1, n // 7 if spent < 2 * self.seconds else n // 2)

    def paths(self, name):
        """The number of the first allocation of each call path, and how many allocations there are."""
        file = self.at.parent / "paths"
        file.unlink(missing_ok=True)
        self.run(COMMANDS[name], {"LD_PRELOAD": str(self.faults), "ADAMAS_FAULT_PATHS": str(file)})
        raw, first = file.read_bytes(), {}
        for n in range(len(raw) // 8):
            first.setdefault(raw[8 * n:8 * n + 8], n + 1)
        return list(first.values()), len(raw) // 8

    def one(self, name, kind, lasts, n, whole):
        """Whether the command met its Nth fault."""
        environment = {"LD_PRELOAD": str(self.faults), "ADAMAS_FAULT": kind, "ADAMAS_FAULT_AT": str(n)}
        if lasts:
            environment["ADAMAS_FAULT_LASTS"] = "1"
        result = self.run(COMMANDS[name], environment)
        if result[3]:
            self.judge(name, f"{kind} {n}{' and after' * lasts}", whole, result)
        return result[3]

    def inject(self, name, kind, lasts):
        n_tried, whole = 0, self.whole(name)
        for n in self.numbers():
            if not self.one(name, kind, lasts, n, whole):
                break
            n_tried += 1
        return n_tried, n

    def some(self, name, faults):
        """Only these: {(kind, lasts): numbers}."""
        whole = self.whole(name)
        for (kind, lasts), numbers in faults.items():
            for n in numbers:
                self.one(name, kind, lasts, n, whole)

    def each_path(self, name, part, n_parts):
        """A line of the table: what was tried, of how many allocations."""
        start, n_wrong = time.monotonic(), len(self.wrong)
        numbers, n_allocs = self.paths(name)
        numbers = numbers[part - 1::n_parts]
        whole = self.whole(name)
        n_met = sum(self.one(name, "alloc", False, n, whole) for n in numbers)
        print(f"{name:<24}{n_met:>8} of {len(numbers):<8}{n_allocs:>9}{len(self.wrong) - n_wrong:>6}"
              f"{time.monotonic() - start:>8.0f} s", flush=True)
        for line in self.wrong[n_wrong:]:
            print(f"    {line}", flush=True)

    def fill(self, name):
        """A disk that is full after so many bytes of one file."""
        words, whole, n, n_tried = COMMANDS[name], self.whole(name), 0, 0
        while n < 1 << 22:
            result = self.run(words, limit_bytes=n)
            n_tried += 1
            self.judge(name, f"write beyond {n} bytes", whole, result)
            if result[0] == whole[0] and n > 1 << 19:
                break
            n = n * 2 + 1 if n < 4096 else n + n // 3
        return n_tried, n

    def all_of(self, name):
        """Every kind of fault; a line of the table."""
        start, n_wrong, cells = time.monotonic(), len(self.wrong), []
        for kind in ("alloc", "write", "read"):
            for lasts in (False, True):
                tried, last = self.inject(name, kind, lasts)
                cells.append(f"{tried:>6} of {last:<7}")
        cells.append(f"{self.fill(name)[0]:>3}")
        print(f"{name:<24}{''.join(cells)}{len(self.wrong) - n_wrong:>6}{time.monotonic() - start:>8.0f} s", flush=True)
        for line in self.wrong[n_wrong:]:
            print(f"    {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("faults")
    parser.add_argument("--most", type=int, default=1 << 60, help="every fault up to this one (default: all)")
    parser.add_argument("--seconds", type=float, default=1e9,
                        help="for every fault of a kind; after them N grows by a seventh (default: no limit)")
    parser.add_argument("--paths", action="store_true", help="the first allocation of each call path, instead of all of them")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every Nth path, from the Ith on: for N processes beside "
                        "each other (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=COMMANDS)
    options = parser.parse_args()
    part = [int(word) for word in options.part.split("/")]
    with tempfile.TemporaryDirectory(prefix="adamas-faults-") as folder:
        campaign = Campaign(options.adamas, options.faults, folder, options.most, options.seconds)
        if options.paths:
            print(f"{'':<24}{'call paths tried':^20}{'allocations':>9} wrong")
        else:
            after = f"{'and all after':^17}"
            print(f"{'faults tried of':<24}{'allocation':^17}{after}{'write':^17}{after}{'read':^17}{after}full wrong")
        for name in options.only or COMMANDS:
            campaign.each_path(name, *part) if options.paths else campaign.all_of(name)
    print(f"{len(campaign.wrong)} wrong" if campaign.wrong else "nothing wrong")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
