#!/usr/bin/env python3
"""`ninja coverage`: runs the tests on the coverage profile and prints a table: room, lines, how many the tests reach; then
every function that no test enters.

gcov reads what the programs of build/coverage counted. Lines of headers count once, whoever includes them; tests, CUDA
kernels and the stand-ins for machines without CUDA do not count. --keep: only the table, of the counts that are there.

Suites that run none of these programs are left out, and so are those of LEFT_OUT. What counts nothing, though it ran: a process
that ends by _exit() or a signal, as a candidate's does. Some tests fail here alone, where a program may not write its counts or
its warnings about that are in the way, so the exit status says nothing of them: `ninja test` judges.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
from configure import COMMANDS, ROOMS

COUNTS = ROOT / "build/coverage/obj"

# Suites that do not run, by a part of their name, and why. Browser tests and the CUDA kernels run by the host are no suites of
# this profile.
LEFT_OUT = {
    "_emulated": "kernels, which do not count",
    "python/project/": "checks of the sources and documents",
    "python/core/python/": "the Python package, on the release build of the library",
    "python/traces/test_evaluate": "models, on the release build of the library",
}


def gcov_command(compiler):
    """The gcov that reads what this compiler wrote."""
    name = Path(compiler).name
    version = re.search(r"-\d+$", name)
    if "clang" in name:
        return [f"llvm-cov{version[0] if version else ''}", "gcov"]
    return [f"gcov{version[0] if version else ''}"]


def lines_of(notes, gcov):
    """{file: {line: times it ran}} and {(file, function): times it was entered} of some objects, run or not."""
    found, entered = defaultdict(dict), defaultdict(int)
    said = subprocess.run([*gcov, "--json-format", "--stdout", *notes], cwd=ROOT, capture_output=True, text=True, check=True)
    for document in said.stdout.splitlines():
        for file in json.loads(document)["files"] if document.strip() else []:
            for line in file["lines"]:
                at = found[file["file"]]
                at[line["line_number"]] = max(at.get(line["line_number"], 0), line["count"])
            for function in file["functions"]:
                entered[file["file"], function["name"]] += function["execution_count"]
    return found, entered


def room_of(name, rooms):
    """The innermost room that holds the file."""
    return max((room for room in rooms if name.startswith(room + "/")), key=len, default=None)


def table(lines, rooms):
    """Lines of text: a row a room, and the sum."""
    reached, total, files = defaultdict(int), defaultdict(int), defaultdict(int)
    for name, counts in lines.items():
        room = room_of(name, rooms)
        if room and counts:
            files[room] += 1
            total[room] += len(counts)
            reached[room] += sum(count != 0 for count in counts.values())
    yield f"{'room':<22} {'files':>5} {'lines':>7} {'reached':>7} {'share':>7}"
    for room in rooms:
        if total[room]:
            yield f"{room:<22} {files[room]:5} {total[room]:7} {reached[room]:7} {reached[room] / total[room]:7.1%}"
    n, k = sum(total.values()), sum(reached.values())
    yield f"{'all':<22} {sum(files.values()):5} {n:7} {k:7} {k / max(n, 1):7.1%}"


def never_entered(entered, rooms):
    """Lines of text: a file and its functions that no test enters."""
    names = defaultdict(list)
    for (file, function), count in sorted(entered.items()):
        if count == 0 and room_of(file, rooms):
            names[file].append(function)
    yield f"{sum(map(len, names.values()))} functions that no test enters"
    for file, functions in names.items():
        yield f"  {file}: {', '.join(functions)}"


def main():
    parser = argparse.ArgumentParser(
        description="Which lines the tests reach, by room.", allow_abbrev=False,
        epilog="Left out: browser tests; " + "; ".join(f"{name}: {why}" for name, why in LEFT_OUT.items()) + ".")
    parser.add_argument("--keep", action="store_true", help="run nothing; read the counts that are there")
    options = parser.parse_args()
    gcov = gcov_command(os.environ.get("CC", "gcc"))
    if not shutil.which(gcov[0]):
        sys.exit(f"tests/coverage.py: there is no {gcov[0]}, which comes with the compiler")
    if not options.keep:
        for counts in COUNTS.rglob("*.gcda"):
            counts.unlink()
        without = [word for name in LEFT_OUT for word in ("--without", name)]
        subprocess.call([sys.executable, "tests/run.py", "--profile", "coverage", "--only", "c/", "--only", "python/",
                         *without], cwd=ROOT)
    rooms = list(dict.fromkeys([*ROOMS, *COMMANDS]))
    notes = [str(path) for room in rooms for path in sorted((COUNTS / room).glob("*.gcno"))
             if not path.stem.endswith("none") and list((ROOT / room).glob(f"{path.stem}.c*"))]
    if not any(COUNTS.rglob("*.gcda")):
        sys.exit("tests/coverage.py: nothing was counted: run `ninja coverage`")
    lines, entered = lines_of(notes, gcov)
    print("\n".join([*table(lines, rooms), "", *never_entered(entered, rooms)]))


if __name__ == "__main__":
    main()
