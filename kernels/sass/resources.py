#!/usr/bin/env python3
"""Gathers what the CUDA assembler said of each kernel into one table that the program carries inside itself.

    python3 kernels/sass/resources.py OUT LOG...      a LOG is what `nvcc -Xptxas -v` printed while compiling one .cu file

A line a kernel and architecture, tab-separated:

    source  kernel  arch  registers  shared_bytes  stack_bytes  spill_store_bytes  spill_load_bytes

shared_bytes is static shared memory. The figures depend on the compiler and the source alone, so a change is a change.
"""
import re
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def kernels_of(log):
    """(mangled name, arch, registers, shared, stack, spill stores, spill loads) of each kernel in one log."""
    entry, frame = None, (0, 0, 0)
    for line in log.splitlines():
        if match := ENTRY.search(line):
            entry, frame = match.groups(), (0, 0, 0)
        elif entry and (match := STACK.search(line)):
            frame = tuple(map(int, match.groups()))
        elif entry and (match := USED.search(line)):
            shared = SHARED.search(line)
            yield (*entry, int(match[1]), int(shared[1]) if shared else 0, *frame)
            entry = None


def readable(names):
    """Mangled names as `kernel<args>`, by binutils' c++filt."""
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), text=True, capture_output=True, check=True).stdout
    return dict(zip(names, (re.sub(r"^(?:void )?(?:\(anonymous namespace\)::)?", "", name) for name in out.splitlines())))


def main(out, logs):
    rows = [(Path(log).name.removesuffix(".o.ptxas"), *row) for log in logs for row in kernels_of(Path(log).read_text())]
    names = readable(sorted({row[1] for row in rows})) if rows else {}
    lines = sorted("\t".join(map(str, (row[0], names[row[1]], *row[2:]))) for row in rows)
    Path(out).write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
