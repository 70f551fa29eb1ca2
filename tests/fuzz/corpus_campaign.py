#!/usr/bin/env python3
"""Gives every command each hostile file in every place where it takes one:

    tests/fuzz/corpus_campaign.py ADAMAS [--only COMMAND] [--files WORD]

The files are the fuzzers' corpora, databases of every kind of hostility, and files that are too large, endless or none
(hostile_files.py). A command ends within a minute, or says progress until then; by no signal; with an exit code of its
contract; a failure with a sentence; and nothing that it prints drives a terminal. Profile, decode and tune --gpu run on
adamas-fake-gpu.
Prints a line per command with its slowest file; ends with 1 if anything was wrong.
"""
import argparse
import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fault_campaign
import hostile_files

LIMIT_S, MEMORY_BYTES = 60, 4 << 30
TRACE = ["t.safetensors", "--budgets", "16", "--dense-layers", "0", "--policies", "adamas", "--timed-steps", "1", "--threads",
         "1", "-q", "--db", "x.db"]
GPU = ["--seq-lens", "256", "--budgets", "32", "--heads", "2", "--kv-heads", "1", "--cap-ms", "1"]
TUNE = ["tune", "--stage", "topk", "--seq-len", "256", "--heads", "2", "--kv-heads", "1", "--budget", "32", "--cap-ms", "1",
        "--limit-s", "1"]
SIMULATE = ["simulate", "--budgets", "256", "--threads", "1"]
AS_PROGRAM = ["--runs", "2", "--max-runs", "2", "--ignore-missing", "--db", "x.db", "--", "replay", *TRACE[1:-2], TRACE[0]]
# "{}" is the file.
PLACES = [
    ["replay", "{}", *TRACE[1:]],
    ["replay", *TRACE, "--calibration", "{}"],
    ["replay", *TRACE, "--candidate", "topk={}"],
    ["replay", *TRACE[:-1], "{}"],
    ["calibrate", "{}", "--db", "x.db", "-o", "out"],
    ["calibrate", "t.safetensors", "--db", "{}", "-o", "out", "--dense-layers", "0", "--budgets", "16", "--metrics", "l1"],
    ["profile", *GPU, "--db", "x.db", "--calibration", "{}"],
    ["profile", *GPU, "--db", "x.db", "--trace", "{}"],
    ["profile", *GPU, "--db", "x.db", "--counters", "{}"],
    ["profile", *GPU, "--db", "x.db", "--candidate", "topk={}"],
    ["profile", *GPU, "--db", "{}"],
    ["profile", "--dry-run", "--seq-lens", "256", "--counters", "{}"],
    ["simulate", "--requests", "{}", "--model", "llama-3.1-8b", "--budgets", "256", "--db", "x.db"],
    [*SIMULATE, "--requests", "requests.csv", "--model", "{}", "--db", "x.db"],
    [*SIMULATE, "--requests", "requests.csv", "--model", "llama-3.1-8b", "--db", "{}"],
    [*SIMULATE, "--validate", "--calibration", "1", "--db", "{}"],
    [*TUNE, "{}", "--db", "x.db"],
    [*TUNE, "--gpu", "{}", "--db", "x.db"],
    [*TUNE, "--check-only", "--implementation", "reference", "--db", "{}"],
    [*TUNE, "--gpu", "--counters", "{}", "--implementation", "fake", "--db", "x.db"],
    ["tune", "--show", "--db", "{}"],
    ["explain", "--stage", "topk", "--db", "{}"],
    ["kernel", "sass", "{}"],
    ["decode", "--model", "{}", "--seq-lens", "64", "--budgets", "32", "--cap-ms", "1", "--db", "x.db"],
    ["decode", "--model", "tiny.json", "--weights", "{}", "--seq-lens", "64", "--cap-ms", "1", "--db", "x.db"],
    ["decode", "--model", "tiny.json", "--seq-lens", "64", "--cap-ms", "1", "--db", "{}"],
    ["decode", "--dry-run", "--model", "{}", "--seq-lens", "64"],
    ["compare", "1", "1", "--all", "--db", "{}"],
    ["compare", "1", "{}", "--all", "--db", "x.db"],
    ["compare", "{}:1", "{}:1", "--all", "--db", "x.db"],
    ["compare", "1", "1", "--all", "--db", "{}", "--junit", "out", "--markdown", "out2", "--benchmark-json", "out3"],
    ["check", "--baseline", "{}", *AS_PROGRAM],
    ["check", "--candidate", "topk={}", *AS_PROGRAM],
    ["check", "--baseline", "./copies", "--candidate", "./copies", *AS_PROGRAM[:6], "{}", "--", "replay"],
    ["check", "--baseline", "./adamas", *AS_PROGRAM[:-1], "{}"],
    ["history", "--all", "--db", "{}"],
    ["history", "--json", "--db", "{}"],
    ["history", "ack", "1", "--why", "x", "--db", "{}"],
    ["report", "-o", "out", "--db", "{}"],
    ["report", "--json", "--db", "{}"],
    ["trace", "info", "{}"],
    ["trace", "verify", "{}"],
    ["trace", "import", "{}"],
    ["counters", "list", "--set", "{}"],
    ["counters", "plan", "--set", "{}"],
    ["counters", "explain", "{}"],
    ["db", "list", "--db", "{}"],
    ["db", "show", "1", "--db", "{}"],
    ["db", "show", "1", "--json", "--db", "{}"],
    ["db", "diff", "1", "1", "--db", "{}"],
    ["db", "create", "--db", "{}"],
    ["db", "export", "--run", "1", "-o", "out", "--db", "{}"],
    ["db", "export", "--timeline", "1", "-o", "out", "--db", "{}"],
    ["db", "import", "{}", "--db", "x.db"],
    ["db", "import", "run.json", "--db", "{}"],
    ["db", "merge", "{}", "--db", "x.db"],
    ["db", "merge", "other.db", "--db", "{}"],
    ["db", "gc", "--keep", "1", "--db", "{}"],
    ["words", "labels", "--db", "{}"],
]
FREE = {"doctor": "no file", "trace gen": "no file that it reads", "kernel header": "no file", "kernel resources": "no file"}
DRIVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def title(words):
    """A place in few words: the command, and the option that takes the file."""
    verbs = words[:2] if words[0] in ("trace", "db", "counters", "kernel") else words[:1]
    at = next(i for i, word in enumerate(words) if "{}" in word)
    more = [word for word in words[len(verbs):at] if word in ("--show", "--gpu", "--dry-run", "--json", "--validate", "ack")]
    before = [words[at - 1]] if words[at - 1].startswith("--") and words[at - 1] != "--gpu" else []
    return " ".join([*verbs, *more, *before])


class Campaign:
    def __init__(self, adamas, folder, files=""):
        made = fault_campaign.Campaign(adamas, "/dev/null", folder, 0).made
        self.adamas, self.folder, self.wrong = Path(adamas).resolve(), Path(folder) / "at", []
        self.made, self.hostile = made, Path(folder) / "hostile"
        self.hostile.mkdir()
        subprocess.run([self.adamas, "db", "import", "gpu.json", "--db", "x.db", "-q"], cwd=made, check=True)
        self.files = [path for path in hostile_files.make_all(made / "x.db", self.hostile) if files in path.name]
        self.prepare()

    def prepare(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.made, self.folder, symlinks=True)

    def bring(self, path):
        """The file in the place of work: a copy where that is cheap, since commands may write to it."""
        for name in [path.name, *(path.name + suffix for suffix in ("-journal", "-wal"))]:
            source, at = self.hostile / name, self.folder / name
            if not os.path.lexists(source):
                continue
            if source.is_file() and not source.is_symlink() and source.stat().st_size < 1 << 22:
                shutil.copy(source, at)
            else:
                at.symlink_to(source)
        return path.name

    def run(self, words):
        """Returns exit code, output, error output, seconds."""
        program = self.adamas.parent / "tests/adamas-fake-gpu" if fault_campaign.on_fake_gpu(words) else self.adamas
        start = time.monotonic()
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen([program, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       preexec_fn=limit, env={**os.environ, "TMPDIR": str(self.folder)})
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT_S)
            seconds = time.monotonic() - start
            out.seek(0)
            err.seek(0)
            said = out.read().decode(errors="replace"), err.read().decode(errors="replace")  # before it is ended
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
                process.wait()
        return process.returncode, *said, seconds

    def one(self, place, path):
        name = self.bring(path)
        words = [word.replace("{}", name if "=" not in word else f"./{name}") for word in place]
        code, out, err, seconds = self.run(words)
        def claim(true, what):
            if not true:
                self.wrong.append(f"{' '.join(words)}: {what}: exit {code}, {seconds:.1f} s: {err.strip()[:200]!r}")
        if seconds < LIMIT_S:
            claim(code >= 0, "a signal")
            failed = "--candidate" in place and re.search("failed|error:|undefined", err)
            claim(code in (0, 1, 2, 3, 77) or (code == 4 and failed), "an exit code")
        else:
            claim(err != "", "a minute without a word")
        if code in (2, 4, 77):
            lines = [line for line in err.splitlines() if line.startswith("adamas")]
            claim(lines or (place[0] == "tune" and out), "no sentence")
            claim("out of memory" not in err or "a-" in name, "told as want of memory")
        claim(not DRIVES.search(out + err), f"drives a terminal: {DRIVES.search(out + err)}")
        self.clean(name)
        return seconds

    def clean(self, name):
        """What was there before, and nothing else."""
        made = {path.name: path for path in self.made.iterdir()}
        for path in self.folder.iterdir():
            if path.name not in made:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        for file in ("x.db",):
            if (self.folder / file).stat().st_mtime_ns != made[file].stat().st_mtime_ns:
                shutil.copy2(made[file], self.folder / file)

    def go(self, only=None):
        for place in PLACES:
            if only and only not in title(place):
                continue
            n_wrong, slowest = len(self.wrong), (0.0, "")
            for path in self.files:
                with contextlib.suppress(FileNotFoundError):
                    slowest = max(slowest, (self.one(place, path), path.name))
            print(f"{title(place):<28}{len(self.files):>5} files, {len(self.wrong) - n_wrong:>3} wrong, the slowest "
                  f"{slowest[0]:.1f} s: {slowest[1]}", flush=True)
            for line in self.wrong[n_wrong:]:
                print(f"    {line}", flush=True)
        return self.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adamas")
    parser.add_argument("--only", help="places whose title contains this")
    parser.add_argument("--files", default="", help="files whose name contains this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adamas-corpus-") as folder:
        wrong = Campaign(options.adamas, folder, options.files).go(options.only)
    print(f"{len(wrong)} wrong" if wrong else "nothing wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
