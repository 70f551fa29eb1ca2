#!/usr/bin/env python3
"""Style of every file in git: clang-format for C and CUDA, ruff for Python, and lines that fit.

    ninja lint      says what is not in style; exit status 1 if anything is
    ninja format    applies what the two tools can apply

Both tools are wheels of tests/requirements.txt in build/deps/venv, since another version of either formats differently.
"""
import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
import install_deps as deps

COLUMNS = 128
C_LIKE = (".c", ".h", ".cu", ".cuh", ".cpp")
# But documents, and SQL, which databases keep as it is written.
TEXT = (*C_LIKE, ".py", ".sh", ".mjs", ".js", ".css", ".html", ".toml", ".yml", ".yaml")
UNBROKEN = re.compile(r"https?://\S{80,}|--hash=")  # what cannot be broken


def files_in_git(root=ROOT):
    """Names of the files that git has or would add, and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True,
                            capture_output=True).stdout.decode().split("\0")
    return [name for name in listed if name and (root / name).is_file()]


def line_faults(name, text):
    """One sentence a line that is too long, has a tab or ends in blanks; and one if the file does not end in one newline."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS and not UNBROKEN.search(line):
            yield f"{name}:{number}: {len(line)} columns; {COLUMNS} fit"
        if line != line.rstrip():
            yield f"{name}:{number}: ends in blanks"
        if "\t" in line:
            yield f"{name}:{number}: has a tab"
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{name}: does not end in one newline"


def tool(name):
    """The pinned tool, or None."""
    path = deps.VENV_PYTHON.parent / name
    return str(path) if os.access(path, os.X_OK) else None


def check_lines(names):
    return [fault for name in names if name.endswith(TEXT) and not name.startswith("findings/")  # as others run them
            for fault in line_faults(name, (ROOT / name).read_text())]


def run_tool(argv):
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines() or [f"{argv[0]}: status {done.returncode}"]


def clang_format(names, apply):
    """In as many processes as there are processors, each with its share of the files."""
    mode = ["-i"] if apply else ["--dry-run", "-Werror"]
    sources = [name for name in names if name.endswith(C_LIKE)]
    n = min(os.cpu_count() or 1, len(sources))
    with ThreadPoolExecutor(n) as pool:
        said = pool.map(lambda i: run_tool([tool("clang-format"), "--style=file", *mode, *sources[i::n]]), range(n))
        return [line for lines in said for line in lines]


def ruff(apply):
    fix = ["--fix"] if apply else []
    return run_tool([tool("ruff"), "check", "--quiet", "--output-format", "concise", *fix, "."])


def main():
    parser = argparse.ArgumentParser(description="Check the style of every file in git, or apply it.", allow_abbrev=False)
    parser.add_argument("--format", action="store_true", help="change the files instead of complaining")
    options = parser.parse_args()
    absent = [name for name in ("clang-format", "ruff") if not tool(name)]
    if absent:
        sys.exit(f"tests/lint.py: no {' and no '.join(absent)} in build/deps/venv: run ./configure.py --setup test once")
    names = files_in_git()
    faults = clang_format(names, options.format) + ruff(options.format) + check_lines(names)
    print("\n".join(faults) if faults else f"{len(names)} files are in style")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
