#!/usr/bin/env python3
"""The table "Toolkits, drivers, commands" of probes/README.md, tried with the real CUPTI releases: `ninja cupti-matrix`.

Outside the tests of every day, because it installs 48 MB of wheels (wheels.txt) in build/deps. A row is

    | CUPTI | driver | command | exit | says |

where "13.5.25" is that release alone, "13.5.25, then 13.0.85" the first on LD_LIBRARY_PATH and the second in CUDA_HOME,
"13.0.85 with 12.8.90" a folder with the first's libcupti and the second's libnvperf_host.so, and "13.0.85, path 12.8.90" the
first with the second's folder on LD_LIBRARY_PATH. A row for the other kind of machine, with or without a driver, is counted as
left out.
13.2 is in no row: without a driver it never returns, and test_cupti_choice.py has a stand-in for it.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
import install_deps as deps

GROUPS = {"12.8.90": "cupti-12.8", "13.0.85": "cupti", "13.1.115": "cupti-13.1", "13.5.25": "cupti-13.5"}
LIBRARY = "libcupti.so.13"
ROW = re.compile(r"^\| (?P<cupti>[\d.]+[^|]*) \| (?P<driver>yes|no) \| `adamas (?P<command>[^`]+)` \| (?P<code>\d+) "
                 r"\| (?P<says>.+) \|$")


# The set that the table calls ./wrong.metrics: `basic`, a roll-up that no metric has, a bare name, and a metric that exists.
WRONG = """summary = two wrong names
include = basic
""" + "".join(f"[{name}]\nunit = bytes\nbetter = none\nmeaning = none\n" for name in (
    "sm__cycles_elapsed.pct", "dram__bytes_read", "smsp__inst_executed_op_global_ld.sum"))


def rows():
    found = [match.groupdict() for line in (ROOT / "probes/README.md").read_text().splitlines() if (match := ROW.match(line))]
    assert len(found) >= 10, "probes/README.md has lost its table"
    return found


def folder_of(release):
    if not deps.installed(GROUPS[release]):
        deps.install_wheels(GROUPS[release])
    (library,) = (deps.DEPS / GROUPS[release]).glob("nvidia/*/lib/libcupti.so.*")
    return library.parent


def environment_of(cupti, temporary):
    """What has the program find the releases that the first column names."""
    kept = {name: value for name, value in os.environ.items()
            if name not in ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "ADAMAS_CUPTI")}
    release, how, other = re.fullmatch(r"([\d.]+)(?:(, then | with |, path )([\d.]+))?", cupti).groups()
    folder = folder_of(release)
    if how is None:
        return {**kept, "ADAMAS_CUPTI": str(folder / LIBRARY)}
    if how == ", path ":
        return {**kept, "ADAMAS_CUPTI": str(folder / LIBRARY), "LD_LIBRARY_PATH": str(folder_of(other))}
    if how == ", then ":
        home = Path(temporary) / "home"
        home.mkdir(exist_ok=True)
        (home / "lib64").unlink(missing_ok=True)
        (home / "lib64").symlink_to(folder_of(other))
        return {**kept, "LD_LIBRARY_PATH": str(folder), "CUDA_HOME": str(home)}
    mixed = Path(temporary) / f"{release}-{other}"
    if not mixed.exists():
        mixed.mkdir()
        shutil.copy(folder / LIBRARY, mixed)
        shutil.copy(folder_of(other) / "libnvperf_host.so", mixed)
    return {**kept, "ADAMAS_CUPTI": str(mixed / LIBRARY)}


def main():
    program = Path(os.environ.get("ADAMAS_BIN") or ROOT / "build/release/adamas").resolve()
    has_driver = "yes" if os.path.exists("/proc/driver/nvidia/version") else "no"
    n_failed = n_left_out = n_passed = 0
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "wrong.metrics").write_text(WRONG)
        for row in rows():
            title = f"CUPTI {row['cupti']}, driver {row['driver']}: adamas {row['command']}"
            if row["driver"] != has_driver:
                n_left_out += 1
                continue
            done = subprocess.run([program, *shlex.split(row["command"])], env=environment_of(row["cupti"], temporary),
                                  cwd=temporary, capture_output=True, text=True, timeout=300)
            absent = [part for part in re.findall(r"`([^`]+)`", row["says"]) if part not in done.stdout + done.stderr]
            if done.returncode == int(row["code"]) and not absent:
                n_passed += 1
                print(f"ok    {title}")
                continue
            n_failed += 1
            print(f"FAIL  {title}\n      exit {done.returncode}, not {row['code']}; not said: {absent}")
            print("      " + (done.stderr + done.stdout)[:2000].replace("\n", "\n      "))
    print(f"{n_passed} passed, {n_failed} failed, {n_left_out} left out, which are for a machine "
          f"{'without' if has_driver == 'yes' else 'with'} a driver")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
