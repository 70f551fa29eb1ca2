"""Which room may include what, and that no file names the machine it was written on.

Includes are written from the top level: "core/base/error.h". MAY says which rooms a room may include beside itself; it has
no circle. The files that configure.py lists in COMMANDS wire rooms together, so they may include all of them, and nothing
includes them. Headers in angle brackets come from a table too: one in no table fails until somebody decides which rooms may
have it. Every rule is tried on a copy of the sources with a violation planted in it.
"""
import graphlib
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from configure import COMMANDS, MAIN, sources_of

COMMAND_FILES = [*sources_of(COMMANDS), MAIN]
COMMAND_FILES += [name[:-1] + "h" for name in COMMAND_FILES]
SOURCES = (".c", ".h", ".cu", ".cuh", ".S")

# Which rooms a room may include beside itself.
BASE = ["core/base", "core/system"]
CORE = [*BASE, "core/stats", "core/contract", "core/store", "core/store/file", "core/cli"]
MAY = {
    "core/base": [],
    "core/system": ["core/base"],
    "core/stats": BASE,
    "core/contract": BASE,
    "core/policy": [*BASE, "core/stats", "core/contract"],
    "core/store/file": [*BASE, "core/stats", "core/contract"],
    "core/store": [*BASE, "core/stats", "core/contract", "core/store/file"],
    "core/store/merge": [*BASE, "core/stats", "core/store", "core/store/file"],
    "core/cli": BASE,
    "core/fleet": [*BASE, "core/contract", "core/store", "core/store/file", "core/store/merge"],
    "core/replay/session": [*BASE, "core/contract", "core/policy", "core/store", "core/store/file"],
    "core/replay": [*BASE, "core/stats", "core/contract", "core/policy", "core/store", "core/store/file",
                    "core/replay/session"],
    "core/calibrate": [*BASE, "core/contract", "core/policy", "core/store", "core/store/file", "core/replay/session",
                       "core/replay"],
    "kernels/gpu": [*BASE, "core/contract"],
    "kernels/encode": [*BASE, "core/contract", "kernels/gpu"],
    "kernels/distance": [*BASE, "core/contract", "kernels/gpu", "kernels/encode"],
    "kernels/topk": [*BASE, "core/contract", "kernels/gpu"],
    "kernels/attention": [*BASE, "core/contract", "core/replay/session", "kernels/gpu"],
    "kernels/step": [*BASE, "core/contract", "core/policy", "kernels/gpu", "kernels/encode", "kernels/distance",
                     "kernels/topk", "kernels/attention", "kernels"],
    "kernels/step/sharded": [*BASE, "core/contract", "kernels/gpu"],
    "kernels": [*BASE, "core/contract", "core/policy", "kernels/gpu", "kernels/encode", "kernels/distance", "kernels/topk",
                "kernels/attention"],
    "kernels/profile/grid": [*CORE, "core/fleet", "core/policy", "core/replay", "kernels", "kernels/gpu", "kernels/encode"],
    "kernels/profile/observe": [*CORE, "kernels", "kernels/gpu", "kernels/profile/grid"],
    "kernels/profile": [*CORE, "kernels", "kernels/gpu", "kernels/encode", "kernels/distance", "kernels/topk",
                        "kernels/attention", "kernels/step", "kernels/profile/grid", "kernels/profile/observe"],
    "kernels/profile/gpus": [*CORE, "kernels", "kernels/gpu", "kernels/step/sharded", "kernels/profile/grid",
                             "kernels/profile"],
    "kernels/decode": [*CORE, "kernels", "kernels/gpu", "kernels/encode", "kernels/distance", "kernels/topk",
                       "kernels/attention"],
    "kernels/sass": CORE,
    "kernels/tune/candidate": [*CORE, "core/policy", "kernels", "kernels/gpu", "kernels/encode", "kernels/distance",
                               "kernels/topk", "kernels/attention", "kernels/profile"],
    "kernels/tune/host": [*CORE, "kernels/tune/candidate", "core/policy", "kernels", "kernels/encode", "kernels/distance",
                          "kernels/topk", "kernels/attention"],
    "kernels/tune/gpu": [*CORE, "kernels/tune/candidate", "kernels/tune/host", "kernels", "kernels/gpu", "kernels/profile"],
    "kernels/tune": [*CORE, "kernels/tune/candidate", "kernels/tune/host", "kernels/tune/gpu", "kernels", "kernels/gpu"],
    "probes/metrics": [*BASE, "core/contract"],
    "probes/cupti": [*BASE, "core/stats", "core/contract", "probes/metrics"],
    "probes": [*BASE, "core/stats", "core/contract"],
    "traces/format": CORE,
    "traces/generate": [*CORE, "traces/format"],
    "traces/requests": [*CORE, "traces/format", "traces/generate"],
    "analysis/output": CORE,
    "analysis/regress/statistics": CORE,
    "analysis/regress": [*CORE, "core/store/merge", "analysis/output", "analysis/regress/statistics"],
    "analysis/regress/compare": [*CORE, "analysis/output", "analysis/regress", "analysis/regress/statistics"],
    "analysis/db": [*CORE, "analysis/output"],
    "analysis/cost": CORE,
    "analysis/serving": [*CORE, "analysis/output", "analysis/cost"],
    "analysis/report/view": [*CORE, "analysis/output"],
    "analysis/report/view/gpu": [*CORE, "analysis/output", "analysis/report/view"],
    "analysis/report/view/quality": [*CORE, "analysis/output", "analysis/report/view"],
    "analysis/report/view/changes": [*CORE, "analysis/output", "analysis/report/view"],
    "analysis/explain": [*CORE, "analysis/output"],
    "analysis/report/read": [*CORE, "core/policy", "analysis/output"],
    "analysis/report/read/changes": [*CORE, "analysis/output", "analysis/regress", "analysis/regress/compare"],
    "analysis/report": [*CORE, "analysis/output", "analysis/explain", "analysis/report/read", "analysis/report/read/changes",
                        "analysis/report/view", "analysis/report/view/gpu", "analysis/report/view/quality",
                        "analysis/report/view/changes"],
}
TOPS = ["core", "kernels", "probes", "traces", "analysis"]

# Files that are no room's: what they may include beside the rest of their room.
ALSO = {"core/base/version.c": ["build/gen/version.h"], "core/base/embed.S": ["build/gen/embedded.inc"],
        "kernels/gpu_rows.c": ["kernels/step/fused.h", "kernels/step/grouped.h"],
        "kernels/gpu_ways.c": ["kernels/step/fused.h", "kernels/step/grouped.h"]}

# Headers that are the inside of a module: for that room, the room that holds it and the tests, not even for a command of
# another.
INSIDE = ["core/store/columns.h", "core/store/row.h", "core/store/file/migrate.h", "*_internal.h"]

# A room that is a part of such a module: it may include what the room that holds it may.
PART = {"core/store/merge": "core/store"}

# The C library and Linux: allowed everywhere.
SYSTEM = set("""
    argp.h arm_neon.h assert.h cpuid.h ctype.h dirent.h dlfcn.h endian.h errno.h fcntl.h fenv.h float.h ftw.h getopt.h glob.h
    immintrin.h inttypes.h limits.h link.h linux/perf_event.h locale.h math.h poll.h pthread.h regex.h sched.h setjmp.h
    signal.h spawn.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h sys/file.h sys/ioctl.h
    sys/mman.h sys/prctl.h sys/random.h sys/resource.h sys/socket.h sys/stat.h sys/statfs.h sys/statvfs.h sys/syscall.h
    sys/time.h sys/types.h sys/utsname.h sys/wait.h time.h unistd.h""".split())

# Everything else: header, and the files that may include it. tests/ may include all of them.
FOREIGN = [
    ("sqlite3.h", ["core/*"]),
    ("xxhash.h", ["core/store/write.c", "core/fleet/identity.c", "kernels/tune/candidate/source.c", "traces/*"]),
    ("jansson.h", [*COMMAND_FILES, "core/base/json_*", "core/calibrate/*", "traces/*", "analysis/*",
                   "kernels/tune/candidate/module.c"]),
    ("cmocka.h", []),
    ("execinfo.h", []),
    ("sanitizer/*", []),
    ("cupti*.h", ["probes/*"]),
    ("nvperf*.h", ["probes/*"]),
    ("nvtx3/*", ["probes/*"]),
    ("nvml.h", ["probes/*"]),
    ("cuda*.h", ["kernels/*.cu", "kernels/*.cuh", "probes/*"]),
    ("driver_types.h", ["kernels/*.cu", "kernels/*.cuh", "probes/*"]),
    ("vector_types.h", ["kernels/*.cu", "kernels/*.cuh", "probes/*"]),
    ("cxxabi.h", ["probes/*.cpp"]),
    ("mma.h", ["kernels/*.cu", "kernels/*.cuh"]),
    ("cooperative_groups*", ["kernels/*.cu", "kernels/*.cuh"]),
    ("cub/*", ["kernels/*.cu", "kernels/*.cuh"]),
    ("cuda/*", ["kernels/*.cu", "kernels/*.cuh"]),
    *[(name, ["kernels/*.cu", "kernels/*.cuh", "probes/*.cpp"])  # nvcc compiles C++
      for name in "algorithm cfloat cmath cstddef cstdint cstdio cstdlib cstring string vector".split()],
]


def fits(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def includes(text):
    """(line number, '"' or '<', what) of every include, comments left out; what is '' where it is a macro."""
    text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*#\s*include", line):
            found = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            yield number, found[1] if found else "", found[2] if found else ""


def complaint_of(root, name, bracket, target):
    """What is wrong with `name` including `target`, or None."""
    room = str(Path(name).parent)
    if bracket == "<":
        if target in SYSTEM:
            return None
        allowed = next((files for pattern, files in FOREIGN if fnmatchcase(target, pattern)), None)
        if allowed is None:
            return "is in no table of test_layering.py"
        return None if fits(name, [*allowed, "tests/*"]) else "is only for " + ", ".join([*allowed, "tests"])
    if bracket != '"':
        return "is no plain #include"
    if fnmatchcase(target, "*cmd_*"):
        return "is a command, which nothing includes"
    if target.endswith((".c", ".cu")):
        return "is a source file"
    other = str(Path(target).parent)
    if target not in ALSO.get(name, []) and room.split("/")[0] != "tests":
        everything = [*MAY] if name in COMMAND_FILES else [room, *MAY.get(room, [])]
        if other not in everything:
            return f"is not for {room}"
        module = PART.get(room, room)
        if fits(target, INSIDE) and other not in (room, module) and str(Path(other).parent) != module:
            return f"is the inside of {other}"
    if not target.startswith("build/") and not (root / target).is_file():
        return "does not exist"
    return None


def violations(root):
    """One line an include that breaks a rule, and how many includes were looked at."""
    found, n_seen = [], 0
    for room in [*TOPS, "tests"]:
        for path in sorted((root / room).rglob("*")):
            if path.suffix not in (*SOURCES, ".cpp"):
                continue
            name = str(path.relative_to(root))
            for number, bracket, target in includes(path.read_text()):
                n_seen += 1
                complaint = complaint_of(root, name, bracket, target)
                if complaint:
                    found.append(f"{name}:{number}: {target or 'an include'} {complaint}")
    found += web_violations(root / "web-report")
    return found, n_seen


def web_violations(web):
    """web-report meets the rest through one JSON document: no C in it, and no path that leads out of it. The charts are
    a script of their own, which the page starts without knowing it."""
    found = []
    for path in sorted(web.rglob("*")) if web.exists() else []:
        name = f"web-report/{path.relative_to(web)}"
        if "node_modules" in path.parts or "tests" in path.relative_to(web).parts:
            continue
        if path.suffix in (*SOURCES, ".cpp"):
            found.append(f"{name}: is C")
        if path.suffix in (".mjs", ".js", ".ts", ".css", ".html"):
            for target in re.findall(r"""(?:from|import|require\(|url\(|src=|href=)\s*["']?(\.\.?/[^"')\s>]+)""",
                                     path.read_text()):
                if not (path.parent / target).resolve().is_relative_to(web.resolve()):
                    found.append(f"{name}: {target} leads out of web-report")
                elif path.parent.name == "src" and (path.parent / target).resolve().parent.name == "charts":
                    found.append(f"{name}: {target} is of the charts' script")
    return found


# ---------------------------------------------------------------- includes

def test_every_include_is_one_its_room_may_have():
    found, n_seen = violations(ROOT)
    assert not found, "\n" + "\n".join(found)
    assert n_seen > 200, "the check looked at next to nothing"


@pytest.fixture
def copy(tmp_path):
    for room in [*TOPS, "tests", "web-report"]:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.safetensors", "node_modules"))
    return tmp_path


def test_the_directions_have_no_circle():
    graphlib.TopologicalSorter(MAY).prepare()  # raises CycleError, which names one


@pytest.mark.parametrize("name, line, complaint", [
    ("core/replay/session/quality.c", '#include "kernels/topk/topk.h"', "kernels/topk/topk.h is not for core/replay/session"),
    ("core/cli/command.c", '#include "traces/format/trace_file.h"', "traces/format/trace_file.h is not for core/cli"),
    ("core/store/store.h", "#include <jansson.h>", "jansson.h is only for"),
    ("kernels/topk/topk.c", '#include "probes/clock_probe.h"', "probes/clock_probe.h is not for kernels/topk"),
    ("kernels/topk/topk.h", '#  include   "analysis/output/rows.h"',
     "analysis/output/rows.h is not for kernels/topk"),
    ("kernels/topk/topk.c", "#include <sqlite3.h>", "sqlite3.h is only for"),
    ("kernels/gpu/device.h", "#include <cuda_runtime.h>", "cuda_runtime.h is only for"),
    ("kernels/gpu/device.cu", "#include <cupti.h>", "cupti.h is only for"),
    ("kernels/gpu/device.cu", "#include <nvtx3/nvToolsExt.h>", "nvtx3/nvToolsExt.h is only for"),
    ("probes/clock_probe.c", '#include "kernels/gpu/device.h"', "kernels/gpu/device.h is not for probes"),
    ("traces/format/trace_file.c", '#include "core/store/file/database_internal.h"',
     "core/store/file/database_internal.h is the inside of core/store"),
    ("traces/format/trace_file.c", '#include "trace_file.h"', "trace_file.h is not for traces/format"),
    ("traces/format/cmd_trace.c", '#include "core/store/file/database_internal.h"',
     "core/store/file/database_internal.h is the inside of core/store"),
    ("analysis/output/rows.c", '#include "traces/format/trace_file.h"',
     "traces/format/trace_file.h is not for analysis/output"),
    ("analysis/output/rows.c", "#include <sqlite3.h>", "sqlite3.h is only for"),
    ("core/replay/cmd_replay.c", '#include "traces/format/cmd_trace.c"', "is a command, which nothing includes"),
    ("tests/kernels/test_topk.c", '#include "traces/cmd_trace.h"', "is a command, which nothing includes"),
    ("traces/format/safetensors.c", '#include "core/base/gone.h"', "core/base/gone.h does not exist"),
    ("core/base/mem.h", '#include "core/store/store.h"', "core/store/store.h is not for core/base"),
    ("core/store/run.c", '#include "core/store/merge/merge.h"', "core/store/merge/merge.h is not for core/store"),
    ("analysis/report/read/tasks.c", '#include "analysis/regress/series.h"',
     "analysis/regress/series.h is not for analysis/report/read"),
    ("core/policy/policy.c", '#include "core/replay/replay.h"', "core/replay/replay.h is not for core/policy"),
    ("kernels/gpu/gpu.h", '#include "kernels/registry.h"', "kernels/registry.h is not for kernels/gpu"),
    ("analysis/output/text.c", '#include "analysis/report/data.h"', "is not for analysis/output"),
    ("core/base/mem.c", "#include <openssl/sha.h>", "openssl/sha.h is in no table"),
    ("core/base/mem.c", "#include HEADER", "an include is no plain #include"),
    ("web-report/page.h", "", "web-report/page.h: is C"),
    ("web-report/src/planted.mjs", 'import x from "../../core/store/schema/1.sql";', "leads out of web-report"),
    ("web-report/src/views.js", "import { count } from './charts/format.js';", "is of the charts' script"),
])
def test_a_planted_violation_is_found(copy, name, line, complaint):
    before, _ = violations(copy)
    path = copy / name
    path.write_text(line + "\n" + (path.read_text() if path.exists() else ""))
    found, _ = violations(copy)
    new = [entry for entry in found if re.sub(r":\d+:", ":", entry) not in {re.sub(r":\d+:", ":", b) for b in before}]
    assert len(new) == 1 and complaint in new[0] and new[0].startswith(name), new


def test_an_include_in_a_comment_is_none():
    text = '/* as in\n#include "kernels/topk/topk.h"\n*/\n#include <math.h> /* sqrt */\n'
    assert list(includes(text)) == [(4, "<", "math.h")]


# ---------------------------------------------------------------- machine paths and registry hosts

# Written so that no pattern fits its own text.
FORBIDDEN = [
    ("a path of one machine", rb"(?<![\w.~*)}])/(?:work|root|opt)/\w"),
    ("the host of a package registry", rb"\bregistry[.]\w+[.]\w|\bpypi[.]org|pythonhosted[.]o|npmjs[.](?:org|com)|"
                                       rb"\b(?:deb|security)[.]debian[.]org|archive[.]ubuntu[.]com"),
    ("the index of a package registry", rb"(?:--(?:extra-)?index-url|--find-links|--registry)[= ]+\S"),
]


def named_in(data):
    """(what, the text) of every forbidden thing in a file's bytes."""
    return [(what, found[0].decode(errors="replace")) for what, pattern in FORBIDDEN
            for found in re.finditer(pattern, data)]


def our_files():
    """Tracked files and those about to be; outside a checkout, whatever is there but the build."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    else:
        paths = [p for p in ROOT.rglob("*") if not {"build", ".git", "node_modules"} & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_machine_or_a_registry():
    files = our_files()
    assert Path(__file__).resolve() in files and len(files) > 50
    found = [f"{path.relative_to(ROOT)}: {text!r} is {what}" for path in files for what, text in
             named_in(path.read_bytes())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("where", ["work", "root", "opt"])
def test_a_planted_machine_path_is_found(where):
    assert named_in(f'open("/{where}/main/x")'.encode())
    assert not named_in(f"net{where}/{where}/x ../{where}/y {{}}/{where}/z".encode())


def test_a_planted_registry_is_found():
    for host in ("registry{0}npmjs{0}org", "pypi{0}org", "files{0}pythonhosted{0}org", "deb{0}debian{0}org"):
        host = host.format(".")
        assert named_in(f'"resolved": "https://{host}/x"'.encode())
    assert named_in(("pip install " + "--index" + "-url http://host/simple numpy").encode())
