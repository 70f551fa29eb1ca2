#!/usr/bin/env python3
"""Writes build.ninja for Adamas; with --setup also installs what is missing, builds, runs the demo or the tests.

The first half is the table of contents: every source by name, room by room. Adding a source is adding its name.
What comes from outside (apt packages, wheels, npm packages) is install_deps.py's business.
"""
import sys

if sys.version_info < (3, 11):
    sys.exit("configure.py: Python 3.11 or newer is needed; this is %d.%d." % sys.version_info[:2])

import argparse
import os
import platform
import re
import shlex
import shutil
from pathlib import Path

sys.dont_write_bytecode = True
import install_deps as deps
from install_deps import SetupError

VERSION = "0.1.0"

# ---- what there is ---------------------------------------------------------------------------------------------

# The library's and the program's sources: room, then NAME.c in it.
ROOMS = {
    "core/system": ["clock", "contention", "interrupt", "output_file", "read_room", "remove_tree", "threads", "cpu",
                    "hostinfo"],
    "core/base": ["error", "mem", "floatfmt", "printable", "format", "print", "json_read", "json_text", "suggest", "embedded",
                  "version"],
    "core/stats": ["stats", "aggregate", "ratio", "rng"],
    "core/contract": ["stage", "asym4", "probe", "model"],
    "core/policy": ["policy", "policy_set", "nested", "rank", "sweep", "dense", "oracle", "adamas", "quest", "streaming", "h2o",
                    "accumulated", "random", "coding", "codebook", "thresholds", "calibration"],
    "core/store/file": ["database", "network", "guard", "open", "migrate", "schema_check", "bounds", "query"],
    "core/store": ["columns", "row", "run", "write", "insert", "track", "merge", "merge_sound", "merge_tables", "joined",
                   "prune", "remove", "store_api", "runs_find"],
    "core/replay/session": ["session", "segment", "only", "target", "quality", "record"],
    "core/replay": ["replay", "stage_pass", "stage_timer", "quality_pass", "quality_step", "recorder", "stage_record",
                    "quality_record", "code_record", "event_spool"],
    "core/calibrate": ["calibrate", "steps", "calibration_file"],
    "core/cli": ["command", "number", "options", "group"],
    "core/fleet": ["shard", "identity", "fleet", "fleet_api", "collect"],
    "kernels": ["registry", "gpu_work"],
    "kernels/encode": ["hadamard", "hadamard_simd", "bucket", "bucket_simd", "pack", "pack_simd", "code"],
    "kernels/distance": ["distance", "distance_simd", "distance_metric", "distance_metric_simd", "asym4", "asym4_simd"],
    "kernels/topk": ["topk", "topk_simd"],
    "kernels/attention": ["attention", "attention_simd", "dense", "quality"],
    "kernels/step": ["choice", "sparse", "model_host", "model_cuda"],
    "kernels/step/sharded": ["nccl"],
    "kernels/gpu": ["gpu", "registry", "plan"],
    "kernels/decode": ["ops", "cublas", "plan", "decode", "time", "check", "run"],
    "kernels/sass": ["static", "sass_mix"],
    "kernels/profile/grid": ["grid", "shards", "resume", "trace", "metrics"],
    "kernels/profile/observe": ["observer", "state", "count", "timeline", "observe"],
    "kernels/profile/gpus": ["ranks", "ranks_record"],
    "kernels/profile": ["reference", "check", "run", "peers", "phases"],
    "kernels/tune/candidate": ["arena", "child", "plugin", "source", "ptxas", "module", "expression", "collect"],
    "kernels/tune/host": ["host_case", "host_fill", "host_verify", "host_session", "trace_source"],
    "kernels/tune/gpu": ["gpu_judge", "gpu_child", "gpu_compare"],
    "kernels/tune": ["search", "session", "pipeline", "record"],
    "probes": ["clock_probe", "perf_probe", "nvml_probe"],
    "probes/metrics": ["formula", "metric_set"],
    "probes/cupti": ["cupti_ask", "cupti_find", "cupti_load", "cupti_features", "counter_plan", "counter_list"],
    "traces/format": ["map_guard", "input_file", "safetensors", "safetensors_write", "trace_file", "trace_check", "trace_text"],
    "traces/generate": ["generate", "generate_head", "generate_math"],
    "traces/requests": ["inflate", "lines", "numbers", "id_map", "builder", "csv_rows", "json_rows", "clients", "requests"],
    "analysis/output": ["rows", "text", "numbers"],
    "analysis/regress/statistics": ["shift", "differences", "quantile", "change_points", "judge"],
    "analysis/regress": ["series_set", "contended", "series", "check_run", "check_build", "git", "commit_order", "machines",
                         "renamed", "history", "checks", "history_write"],
    "analysis/regress/compare": ["compare", "comparison", "kernels", "side", "align", "narrow", "margin", "refuse", "explain",
                                 "write", "export", "args", "record"],
    "analysis/db": ["timeline_export", "recorded_table", "recorded_export", "recorded_read", "recorded_samples",
                    "recorded_import"],
    "analysis/explain": ["rules", "figures"],
    "analysis/cost": ["device", "floor", "curve", "grid", "cost", "load", "linear", "validate"],
    "analysis/serving": ["plan", "step_time", "cache", "heap", "simulate", "outcome", "cases", "quality", "record",
                         "print", "model_file", "validate_show", "whole"],
    "analysis/report/read": ["ceilings", "select", "gpu_select", "best", "claims", "serving", "decode", "tuning", "sketches",
                             "gpu", "tasks", "history", "checks", "differences"],
    "analysis/report": ["data", "verdict", "headline", "advice", "pack", "html"],
    "analysis/report/view/gpu": ["advice", "speedup", "gpu", "phases", "timeline", "counters"],
    "analysis/report/view/quality": ["budget", "claims", "quality", "heads"],
    "analysis/report/view/changes": ["verdict", "differences", "checks", "history"],
    "analysis/report/view": ["document", "write", "profile", "summary", "sketches", "serving", "decode", "tuning", "tasks",
                             "stages", "provenance"],
}

# The subcommands, which wire rooms together, likewise; in the program, not in the library.
COMMANDS = {
    "core/cli": ["command_json", "cmd_words"],
    "core/replay": ["cmd_replay", "arguments", "summary", "shard_plan"],
    "core/calibrate": ["cmd_calibrate"],
    "kernels/profile/grid": ["plan_print"],
    "kernels/profile/observe": ["probes"],
    "kernels/profile/gpus": ["ranks_print", "gpus", "gpus_show"],
    "kernels/profile": ["cmd_profile", "arguments", "print"],
    "kernels/decode": ["cmd_decode", "print", "watch", "weights"],
    "kernels/sass": ["cmd_kernel", "kernel_resources", "kernel_sass"],
    "kernels/tune/gpu": ["count"],
    "kernels/tune": ["cmd_tune", "bring", "print", "watch", "profile_candidates", "replay_candidates"],
    "probes": ["cmd_doctor"],
    "probes/cupti": ["cmd_counters"],
    "traces/format": ["cmd_trace"],
    "traces/generate": ["cmd_trace_gen"],
    "traces/requests": ["cmd_trace_import"],
    "analysis/explain": ["cmd_explain"],
    "analysis/serving": ["cmd_simulate", "arguments"],
    "analysis/report": ["cmd_report"],
    "analysis/db": ["cmd_db", "db_create", "db_export", "db_import", "db_list", "db_merge", "shards_show", "db_show", "db_gc"],
    "analysis/regress": ["cmd_check", "cmd_history"],
    "analysis/regress/compare": ["cmd_compare"],
}
MAIN = "core/cli/main.c"

# What a CUDA toolkit compiles, and the stand-in that says "built without CUDA" where there is none.
CUDA = [*(f"kernels/gpu/{name}.cu" for name in ("device", "memory", "context", "case", "fill", "time", "observe", "bandwidth")),
        "kernels/encode/encode.cu", "kernels/distance/distance.cu", "kernels/topk/topk.cu", "kernels/attention/attention.cu",
        "kernels/attention/dense.cu", "kernels/step/fused.cu", "kernels/step/grouped.cu", "kernels/step/sharded/rank.cu",
        *(f"kernels/decode/{name}.cu" for name in ("ops", "product", "fill")),
        "kernels/tune/candidate/launch.cu", "kernels/gpu_rows.c"]
NO_CUDA = ["kernels/gpu/none.c", "kernels/decode/ops_none.c", "kernels/step/sharded/rank_none.c", "kernels/step/phases_none.c",
           "kernels/tune/candidate/launch_none.c"]

# What needs NVTX's headers, which a CUDA toolkit brings and which need no GPU, and its stand-in.
NVTX = ["probes/nvtx_probe.c"]
NO_NVTX = ["probes/nvtx_probe_none.c"]

# What needs CUPTI's headers, likewise; the library itself is looked for at run time.
CUPTI = ["probes/cupti/cupti_host.cpp", "probes/cupti/counter_probe.c", "probes/cupti/activity_probe.c"]
NO_CUPTI = [f"probes/cupti/{name}_none.c" for name in ("cupti_host", "counter_probe", "activity_probe")]

# The schema's migrations, in order: V.sql takes a database from version V - 1 to V; and all of them in one, to read.
SCHEMA = [f"core/store/schema/{version}.sql" for version in range(1, 12)]
SCHEMA_NOW = "core/store/schema/now.sql"

# The GPU metric sets, which `adamas counters list` shows.
METRIC_SETS = [f"probes/sets/{name}.metrics" for name in ("basic", "memory", "full", "mix")]

# What a kernel of one's own includes; `adamas tune` gives it to the compiler.
PLUGIN_HEADER = "kernels/tune/candidate/adamas_plugin.h"

# What `adamas explain` says, and when.
EXPLAIN_RULES = "analysis/explain/limits.rules"

# Files the program carries inside itself; core/base/embedded.h finds them by these names.
EMBED = "core/base/embed.S"
EMBEDDED = [*SCHEMA, *METRIC_SETS, PLUGIN_HEADER, EXPLAIN_RULES, "analysis/recorded/h200.json",
            "analysis/recorded/h200-decode.json",
            "kernels/profile/dense_peers.tsv",
            "build/gen/report_template.html", "build/gen/kernel_resources.tsv"]

# What web-report/build.mjs bundles into the template of the report.
WEB = [f"web-report/{name}" for name in (
    "build.mjs", "src/template.html", "src/styles.css", "src/main.js", "src/budget.js", "src/charts.js", "src/dom.js",
    "src/unpack.js", "src/state.js", "src/views.js", "src/setting.js", "src/tables.js", "src/theme.js", "src/frame.js",
    "src/format.js", "src/quality.js", "src/heads.js", "src/stages.js", "src/stage_names.js", "src/gpu.js", "src/gpu_stages.js",
    "src/step.js", "src/findings.js",
    "src/speedup.js", "src/roofline.js", "src/phases.js", "src/timeline.js", "src/counters.js", "src/intervals.js",
    "src/tasks.js", "src/serving.js", "src/decode.js", "src/tuning.js", "src/history.js")]

# Each is tests/ROOM/test_NAME.c, one cmocka program.
TESTS = {
    "core/base": ["floatfmt", "mem", "json_text"],
    "core/system": ["threads", "contention", "remove_tree", "hostinfo"],
    "core/stats": ["stats", "aggregate", "ratio", "rng"],
    "core/contract": ["probe"],
    "core/policy": ["coding", "policy", "rank", "sweep", "thresholds"],
    "core/store": ["store", "store_insert", "query"],
    "core/replay": ["replay", "replay_sweep", "replay_faults", "event_spool", "quality"],
    "core/cli": ["command_line"],
    "core/fleet": ["shard"],
    "kernels/encode": ["hadamard", "bucket", "pack", "code"],
    "kernels/step": ["sparse", "model_step", "step_choice"],
    "kernels/gpu": ["gpu_plan", "device"],
    "kernels/profile": ["profile_state"],
    "kernels/tune": ["search", "tune_pipeline", "expression"],
    "kernels": ["distance", "asym4", "topk", "attention", "registry"],
    "probes": ["formula", "perf_probe"],
    "traces": ["safetensors", "trace_file"],
    "analysis": ["report", "series", "shift", "change_points", "cost", "serving"],
    "fuzz": ["fuzz"],
}

# Likewise tests/bench/NAME.c, but run by `ninja bench`.
BENCHES = ["bench_probes", "bench_regression", "bench_changes"]

# Tests of CUDA code; without a toolkit tests/support/without_cuda.c stands in for each, and skips.
CUDA_TESTS = ["test_gpu", "test_gpu_attention", "test_gpu_step", "test_gpu_decode"]

# The same tests with the kernels run by the host: build/release/tests/NAME_emulated, by `ninja emulated`. The kernels,
# and what runs them; of the host's sources the linker takes what they need. Where there are no CUDA headers, or the host is no
# x86-64, tests/support/without_cuda.c stands in.
EMULATED = [source for source in CUDA if source.endswith(".cu") and
            not source.startswith(("kernels/gpu/", "kernels/tune/", "kernels/step/sharded/"))]
# Of these also what an older architecture compiles, its functions with 80 behind their names: no device of ours runs that.
EMULATED_80 = {"kernels/distance/distance.cu": [f"adm_gpu_distance_{name}" for name in (
    "l1", "l1_tuned", "l1_counts", "xor", "dot", "asym4", "asym4_tuned")]}
EMULATOR = [f"tests/support/emulate/{name}.cpp" for name in ("emulate", "emulate_device", "emulate_runtime")]

# What stands in for CUDA and a GPU in the program tests/adamas-fake-gpu, with which tests try `adamas profile`.
FAKE_GPU = ["tests/support/fake_gpu.c", "tests/support/fake_gpu_observe.c", "tests/support/fake_gpu_tune.c",
            "tests/support/fake_gpu_ranks.c", "tests/support/fake_gpu_decode.c"]

# A program that is slower on purpose, for the tests of `adamas check`: its top-k on the host by configure.py
# --plant-slowdown percent, its attention on a GPU by --plant-kernel percent (kernels/gpu/plant.cuh).
PLANT, PLANTED_KERNEL = "tests/bench/plant.c", "kernels/attention/attention.cu"

# Each is tests/support/NAME.c, a library that a test has the program load: with NVTX's headers, with none (it stands in for
# NVML, for a CUPTI that does not answer, for CUPTI's libnvperf_host.so, and for folders without toolkits), and with CUPTI's
# headers (it stands in for CUPTI and the driver).
NVTX_TOOLS = ["nvtx_injection"]
PLAIN_TOOLS = ["fake_nvml", "fake_nccl", "fake_nfs", "silent_cupti", "fake_nvperf", "no_glob", "faults"]
CUPTI_TOOLS = ["fake_cupti"]

# Each name is tests/fuzz/fuzz_NAME.c, a libFuzzer target for `ninja fuzz`, which needs clang. Each is linked with the library.
FUZZERS = ["safetensors", "requests", "recorded", "metrics", "arguments", "candidate", "manifest", "calibration",
           "model", "database"]
FUZZ_SECONDS = 60


def sources_of(rooms):
    return [f"{room}/{name}.c" for room, names in rooms.items() for name in names]


def test_sources():
    """{program: source} of every cmocka program."""
    return {f"test_{name}": f"tests/{room}/test_{name}.c" for room, names in TESTS.items() for name in names}


# ---- how it is compiled ----------------------------------------------------------------------------------------

WARNINGS = ("-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith "
            "-Wvla")

# Of the few C++ files.
CXXFLAGS = "-std=c++17 -Wall -Wextra -Wshadow -fPIC -fvisibility=hidden -pthread -I."

# Of kernels that the host runs: of our warnings those that nvcc gives for them too. A kernel reads memory as what type it
# likes.
EMULATED_FLAGS = ("-Wno-extra -Wno-shadow -Wno-unknown-pragmas -Wno-parentheses -Wno-sign-compare "
                  "-fno-strict-aliasing -ffp-contract=off")

# No contraction to fused multiply-add: the host's numbers must not depend on the machine.
# Position-independent and hidden throughout, so that program and library share their objects.
CFLAGS = f"-std=gnu11 -D_GNU_SOURCE {WARNINGS} -ffp-contract=off -fPIC -fvisibility=hidden -pthread -I."

# Our constants are enumerators, in sums of doubles too; and "" as a format prints nothing, as it should.
CLANG_FLAGS = "-Wno-enum-float-conversion -Wno-format-zero-length"

SANITIZE = "-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined"
PROFILES = {  # name: compiler flags, linker flags, with CUDA
    "release": ("-O3 -g", "", True),
    "debug": ("-O0 -g", "", True),
    # Without CUDA: ASan takes addresses that the CUDA driver wants.
    "asan": (f"-O1 -g {SANITIZE} -Wno-conversion -Wno-sign-conversion -Wno-format-truncation", SANITIZE, False),
    # What `ninja tsan` runs: a replay at 1 to 8 threads.
    "tsan": ("-O1 -g -fsanitize=thread -fno-omit-frame-pointer -Wno-conversion -Wno-sign-conversion", "-fsanitize=thread",
             False),
    "coverage": ("-O0 -g --coverage -fprofile-update=atomic", "--coverage", False),
}

# Variables of the environment that change the build; `ninja` configures again with those that it was configured with.
ENVIRONMENT = ["CC", "CXX", "CPPFLAGS", "CFLAGS", "CXXFLAGS", "LDFLAGS"]

# Suites that `ninja asan` runs: tests whose names contain one of these.
SANITIZED = ["c/", "python/core/cli/test_cli", "python/analysis/",
             "python/kernels/profile/test_profile", "python/probes/test_counters"]

# Static, so that the program runs where none of these packages is installed; libc, libm and libdl stay dynamic.
LIBS = "-l:libjansson.a -l:libsqlite3.a -l:libxxhash.a -lm -ldl"

ARCHITECTURES = ["sm_80", "sm_89", "sm_90", "sm_100"]


def as_path(path):
    """A path as build.ninja spells it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def as_word(path):
    """A program or folder as one word of a command: relative where it is in this checkout, whatever that one's name is."""
    path = str(path)
    if path.startswith(f"{deps.ROOT}/"):
        path = os.path.relpath(path, deps.ROOT)
    return shlex.quote(path).replace("$", "$$")


class Ninja:
    """The text of a build.ninja in the making. Paths of build() are escaped here; a command is Ninja's own language, in which
    $ begins a variable, so that what a caller puts there goes through as_word()."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines += ["", f"# {text}"]

    def variable(self, name, value):
        self.lines.append(f"{name} = {value}")

    def rule(self, name, command, **settings):
        self.lines += [f"rule {name}", f"  command = {command}"]
        self.lines += [f"  {key} = {value}" for key, value in settings.items()]

    def build(self, output, rule, inputs=(), implicit=(), order_only=(), also=(), **variables):
        """An edge from inputs to output, and to what the command makes also."""
        def listed(mark, paths):
            return "".join([mark, *(" " + as_path(path) for path in paths)]) if paths else ""
        line = f"build {as_path(output)}{listed(' |', also)}: {rule}"
        line += listed("", inputs) + listed(" |", implicit) + listed(" ||", order_only)
        self.lines += [line] + [f"  {key} = {value}" for key, value in variables.items()]
        return output


VERSION_COMMAND = r"""commit=; made=; if [ -e .git ]; then $
      if commit=$$(git describe --always --dirty --abbrev=40 --exclude='*' 2> $out.said); $
      then made=$$(TZ=UTC0 git show -s --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD); $
      else commit=; echo "this build does not know its commit: $$(head -n 1 $out.said)"; fi; rm -f $out.said; fi; $
      clean=$${commit%-dirty}; [ "$$commit" = "$$clean" ]; dirty=$$?; $
      printf '#define %s\n' 'ADM_VERSION "$version"' "ADM_GIT_COMMIT \"$$clean\"" "ADM_GIT_DIRTY $$dirty" $
          "ADM_GIT_COMMIT_UTC \"$$made\"" > $out.new; $
      if cmp -s $out.new $out; then rm $out.new; else mv $out.new $out; fi"""


def generated_files(ninja, node):
    """Edges for what is made before compiling: the version header, npm's packages, the report's template."""
    ninja.note("The commit changes under our feet, so the header is made each time; only a new text counts as new.")
    ninja.build("always", "phony")
    ninja.rule("version", VERSION_COMMAND, restat=1, description="VERSION $out")
    ninja.build("build/gen/version.h", "version", implicit=["always"], version=VERSION)

    ninja.note("The files that the program carries, as lines for embed.S.")
    lines = " ".join(shlex.quote(f'embed "{path}", "{Path(path).stem}"') for path in EMBEDDED)
    ninja.rule("embedded", f"printf '%s\\n' {lines} > $out", description="LIST $out")
    ninja.build("build/gen/embedded.inc", "embedded")

    ninja.note("The whole schema of today, for readers; it is also in the repository, and only a new text is written.")
    ninja.rule("schema_now", "$python core/store/schema/write_now.py $out $in", restat=1, description="SCHEMA $out")
    ninja.build(SCHEMA_NOW, "schema_now", SCHEMA, implicit=["core/store/schema/write_now.py"])

    ninja.note("The report's page. node_modules stays out of the source tree.")
    ninja.rule("npm", "$python install_deps.py", description="NPM ci: JavaScript packages into build/deps/web")
    ninja.build("build/deps/web/installed", "npm", ["web-report/package.json", "web-report/package-lock.json"])
    ninja.rule("template", f"NODE_PATH=build/deps/web/node_modules {as_word(node)} web-report/build.mjs $out",
               description="BUNDLE $out")
    ninja.build("build/gen/report_template.html", "template", implicit=[*WEB, "build/deps/web/installed"])


def cuda_rule(ninja, cuda, architectures):
    targets = [f"-gencode arch={a.replace('sm_', 'compute_')},code={a}" for a in architectures]
    newest = architectures[-1].replace("sm_", "compute_")
    targets.append(f"-gencode arch={newest},code={newest}")  # intermediate code for chips to come
    ninja.variable("nvcc", as_word(cuda.nvcc))
    ninja.variable("gencode", " ".join(targets))
    ninja.rule("nvcc", "$nvcc -ccbin $cxx -std=c++17 $opt -lineinfo $gencode -Xcompiler=-fPIC,-fvisibility=hidden,"
               "-Wall,-Wextra,-ffp-contract=off -Xptxas -v -I. -MD -MF $object.d -c $in -o $object > $object.ptxas 2>&1 || "
               "{ cat $object.ptxas; exit 1; }; grep -vE '^ptxas info|bytes stack frame' $object.ptxas || true",
               depfile="$object.d", deps="gcc", description="NVCC $object")


def cuda_objects(ninja, folder, flags):
    """Edges for every .cu file; returns the objects. What the assembler says of each goes to OBJECT.ptxas."""
    objects = [f"{folder}/obj/{source}.o" for source in CUDA if source.endswith(".cu")]
    for source, out in zip((source for source in CUDA if source.endswith(".cu")), objects):
        ninja.build(out, "nvcc", [source], also=[f"{out}.ptxas"], opt=flags, object=out)
    return objects


def profile_edges(ninja, profile, cuda, plants):
    """Objects, program and tests of one profile; returns (program, test programs). plants: percent, on the host and a GPU."""
    flags, link_flags, with_cuda = PROFILES[profile]
    nvtx, cupti = bool(cuda and cuda.nvtx), bool(cuda and cuda.cupti)
    headers = f"-isystem {as_word(cuda.top + '/include')}" if cuda else ""
    cuda = cuda if with_cuda else None
    folder = f"build/{profile}"
    werror = "$werror" if profile in ("release", "debug") else ""  # GCC's instruments have it see what is not there
    ninja.note(f"{profile}: {'with' if cuda else 'without'} CUDA")
    ninja.rule(f"cc_{profile}",
               f"$cc {CFLAGS} $dialect {flags} {werror} $more $cppflags $cflags -MMD -MF $out.d -c $in -o $out",
               depfile="$out.d", deps="gcc", description="CC $out")
    ninja.rule(f"cxx_{profile}", f"$cxx {CXXFLAGS} {flags} {werror} $more $cppflags $cxxflags -MMD -MF $out.d -c $in -o $out",
               depfile="$out.d", deps="gcc", description="CXX $out")
    # What nvcc emits for a kernel wants a little of the C++ runtime; static, like everything else.
    driver = "$cxx -static-libstdc++ -static-libgcc" if cuda or cupti else "$cc"
    libs = f"{LIBS} -L{as_word(cuda.library)} -lcudart_static -lrt" if cuda else LIBS
    ninja.rule(f"link_{profile}", f"{driver} -pthread {link_flags} $ldflags -o $out $in $more {libs}", description="LINK $out")

    def compile_c(source, **variables):
        rule = f"cxx_{profile}" if source.endswith(".cpp") else f"cc_{profile}"
        return ninja.build(f"{folder}/obj/{Path(source).with_suffix('.o')}", rule, [source],
                           implicit=[*EMBEDDED, "build/gen/embedded.inc"] if source == EMBED else (),
                           order_only=["build/gen/version.h"], **variables)

    plain = [compile_c(source) for source in sources_of(ROOMS)]
    plain.append(compile_c(EMBED))
    plain += [compile_c(source, more=headers) for source in NVTX] if nvtx else [compile_c(s) for s in NO_NVTX]
    plain += [compile_c(source, more=headers) for source in CUPTI] if cupti else [compile_c(s) for s in NO_CUPTI]
    if cuda:
        objects = plain + cuda_objects(ninja, folder, flags)
        objects += [compile_c(source) for source in CUDA if source.endswith(".c")]
    else:
        objects = plain + [compile_c(source) for source in NO_CUDA]
    commands = [compile_c(source) for source in sources_of(COMMANDS)]

    main = compile_c(MAIN)
    program = ninja.build(f"{folder}/adamas", f"link_{profile}", [main, *commands, *objects])
    if profile == "release":
        # Only what public functions reach: Debian's static jansson is not position-independent, and they need none.
        ninja.build("build/release/libadamas.so", f"link_{profile}", objects,
                    more="-shared -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,-z,defs")
    # The tests find cmocka beside themselves, so that they too run on a machine without it.
    ninja.build(f"{folder}/tests/libcmocka.so.0", "copy", [deps.library_path("libcmocka.so.0")])
    programs = {name: compile_c(source) for name, source in test_sources().items()}
    programs |= {name: compile_c(f"tests/bench/{name}.c") for name in BENCHES}
    programs |= {name: compile_c(f"tests/kernels/gpu/{name}.c") for name in CUDA_TESTS if cuda}
    absent = [] if cuda else CUDA_TESTS
    if not emulates(profile, cuda):
        absent = [*absent, *(f"{name}_emulated" for name in CUDA_TESTS)]
    if absent:
        programs |= dict.fromkeys(absent, compile_c("tests/support/without_cuda.c"))
    tests = [ninja.build(f"{folder}/tests/{name}", f"link_{profile}", [test, *commands, *objects],
                         implicit=[f"{folder}/tests/libcmocka.so.0"], more=linked_to_cmocka(folder))
             for name, test in programs.items()]
    tests += [ninja.build(f"{folder}/tests/{name}.so", f"link_{profile}",
                          [compile_c(f"tests/support/{name}.c", more=headers)],
                          more=f"-shared{' -Wl,-soname,libnvperf_host.so' if name == 'fake_nvperf' else ''}")
              for name in [*PLAIN_TOOLS, *(NVTX_TOOLS if nvtx else []), *(CUPTI_TOOLS if cupti else [])]]
    tests.append(ninja.build(f"{folder}/tests/adamas-fake-gpu", f"link_{profile}",
                             [main, *commands, *plain, *(compile_c(source) for source in FAKE_GPU)]))
    host_plant, kernel_plant = (f"-DADM_PLANT_PERCENT={percent}" for percent in plants)
    right, slow = (f"{folder}/obj/{PLANTED_KERNEL}.o", f"{folder}/obj/{PLANTED_KERNEL}.planted.o")
    if cuda:
        ninja.build(slow, "nvcc", [PLANTED_KERNEL], also=[f"{slow}.ptxas"], opt=f"{flags} {kernel_plant}", object=slow)
    tests.append(ninja.build(f"{folder}/tests/adamas-planted", f"link_{profile}",
                             [main, *commands, *(slow if name == right else name for name in objects),
                              compile_c(PLANT, more=host_plant)], more="-Wl,--wrap=adm_host_pipeline_default"))
    return program, tests


def linked_to_cmocka(folder):
    return f"-L{folder}/tests -l:libcmocka.so.0 -Wl,-rpath,'$$ORIGIN'"


def emulates(profile, cuda):
    """Whether the tests of CUDA code are also built with kernels that the host runs."""
    return profile == "release" and bool(cuda) and platform.machine() == "x86_64"


def emulated_edges(ninja, cuda):
    """`ninja emulated`: kernels as host code, and the tests linked to them; after the edges of the release profile."""
    ninja.note("CUDA kernels run by the host")
    ninja.rule("emulate", "$python tests/support/emulate/emulate.py $in $out", depfile="$out.d", deps="gcc",
               description="EMULATE $out")
    include = as_word(cuda.top + "/include")
    ninja.rule("cxx_emulated", f"$cxx {CXXFLAGS} -fno-PIC -fPIE -O2 -g $more -isystem {include} -isystem {include}/cccl "
               "-MMD -MF $out.d -c $in -o $out", depfile="$out.d", deps="gcc", description="CXX $out")
    objects = [ninja.build(f"build/emulated/{Path(source).stem}.o", "cxx_emulated", [source]) for source in EMULATOR]
    for kernel in EMULATED:
        made = ninja.build(f"build/emulated/{Path(kernel).stem}.cpp", "emulate", [kernel],
                           implicit=["tests/support/emulate/emulate.py"])
        objects.append(ninja.build(f"build/emulated/{Path(kernel).stem}.o", "cxx_emulated", [made], more=EMULATED_FLAGS))
        if kernel in EMULATED_80:
            names = " ".join(f"-D{name}={name}_80" for name in EMULATED_80[kernel])
            objects.append(ninja.build(f"build/emulated/{Path(kernel).stem}_80.o", "cxx_emulated", [made],
                                       more=f"{EMULATED_FLAGS} -DEMULATED_ARCH=800 {names}"))
    ninja.rule("archive", "rm -f $out && ar rcs $out $in", description="ARCHIVE $out")
    host = ninja.build("build/emulated/host.a", "archive",
                       [f"build/release/obj/{Path(source).with_suffix('.o')}"
                        for source in [*sources_of(ROOMS), "kernels/gpu_rows.c"]])
    return [ninja.build(f"build/release/tests/{name}_emulated", "link_release",
                        [f"build/release/obj/tests/kernels/gpu/{name}.o", *objects, host],
                        implicit=["build/release/tests/libcmocka.so.0"], more=linked_to_cmocka("build/release"))
            for name in CUDA_TESTS]


def find_fuzzing_clang():
    """A clang that has libFuzzer's runtime, or None."""
    for name in ("clang", *(f"clang-{version}" for version in range(30, 13, -1))):
        resources = deps.output_of(name, "--print-resource-dir") if shutil.which(name) else None
        if resources and list(Path(resources.strip()).glob("lib/*/libclang_rt.fuzzer*.a")):
            return name
    return None


def fuzz_edges(ninja):
    """`ninja fuzz`: a minute for each fuzzer; what it finds stays in build/fuzz."""
    clang = find_fuzzing_clang()
    ninja.note(f"libFuzzer: {clang or 'no clang that has it'}")
    if not clang:
        ninja.build("fuzz", "run", title="FUZZ", command="echo 'ninja fuzz needs clang with libFuzzer (Debian: clang, "
                    "libclang-rt-dev), then ./configure.py again; tests/test_fuzz needs neither' && exit 1")
        return
    flags = f"{CFLAGS} {CLANG_FLAGS} -O2 -g {SANITIZE} -w"
    ninja.rule("cc_fuzz", f"{clang} {flags} -fsanitize=fuzzer-no-link -MMD -MF $out.d -c $in -o $out", depfile="$out.d",
               deps="gcc", description="CC $out")
    ninja.rule("link_fuzz", f"{clang} -pthread {SANITIZE} -fsanitize=fuzzer -static-libgcc -static-libstdc++ -o $out $in "
               f"{LIBS}",
               description="FUZZER $out")
    ninja.rule("ar_fuzz", "rm -f $out && ar rcs $out $in", description="AR $out")

    def compile_c(source):
        return ninja.build(f"build/fuzz/obj/{Path(source).with_suffix('.o')}", "cc_fuzz", [source],
                           implicit=[*EMBEDDED, "build/gen/embedded.inc"] if source == EMBED else (),
                           order_only=["build/gen/version.h"])
    fuzz_options = compile_c("tests/fuzz/fuzz_options.c")
    # An archive: libFuzzer looks at the counters of all code after each input, so a reader is linked with what it calls alone.
    library = ninja.build("build/fuzz/library.a", "ar_fuzz",
                          [compile_c(source) for source in [*sources_of(ROOMS), "core/cli/command_json.c",
                                                            "kernels/decode/weights.c", EMBED, *NO_CUDA, *NO_NVTX, *NO_CUPTI]])
    programs = [ninja.build(f"build/fuzz/{name}", "link_fuzz",
                            [compile_c(f"tests/fuzz/fuzz_{name}.c"), fuzz_options, library])
                for name in FUZZERS]
    ninja.build("fuzzers", "phony", programs)
    ninja.build("fuzz", "run", implicit=programs, title=f"FUZZ, {FUZZ_SECONDS} s each; a crash is kept in build/fuzz",
                command="$python tests/fuzz/long_run.py --seconds " + str(FUZZ_SECONDS))


def build_ninja(options, cuda, node):
    """The whole build.ninja, as text."""
    ninja = Ninja()
    ninja.lines.append("# Written by configure.py; run that again rather than edit this.")
    ninja.variable("ninja_required_version", "1.8")
    ninja.variable("builddir", "build")
    given = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    for name, otherwise in {"CC": "gcc", "CXX": "g++"}.items():
        ninja.variable(name.lower(), given.get(name, otherwise).replace("$", "$$"))
    for name in ENVIRONMENT[2:]:
        ninja.variable(name.lower(), given.get(name, "").replace("$", "$$"))
    is_clang = "clang" in deps.output_of(deps.compiler(), "--version")
    ninja.variable("dialect", CLANG_FLAGS if is_clang else "")
    ninja.variable("werror", "-Werror" if options.werror else "")
    ninja.variable("python", as_word(sys.executable))
    keep = "".join(f"{name}={as_word(value)} " for name, value in given.items())
    version = f"--cuda-version={options.cuda_version} " if options.cuda_version else ""
    ninja.rule("configure", f"{keep}$python configure.py --cuda={as_word(options.cuda)} {version}"
               f"--arch={','.join(options.arch)} --plant-slowdown={options.plant_slowdown} "
               f"--plant-kernel={options.plant_kernel}"
               + " --werror" * options.werror, generator=1, description="CONFIGURE build.ninja")
    ninja.build("build.ninja", "configure", implicit=["configure.py", "install_deps.py", "wheels.txt"])
    ninja.rule("copy", "cp -L $in $out", description="COPY $out")
    ninja.rule("run", "$command", pool="console", description="$title")
    generated_files(ninja, node)
    if cuda:
        cuda_rule(ninja, cuda, options.arch)

    plants = options.plant_slowdown, options.plant_kernel
    made = {profile: profile_edges(ninja, profile, cuda, plants) for profile in PROFILES}
    ninja.build("emulated", "phony", emulated_edges(ninja, cuda) if emulates("release", cuda) else [])
    ninja.note("Registers, shared memory and spills of every kernel, for `adamas profile --static`.")
    ninja.rule("resources", "$python kernels/sass/resources.py $out $in", description="RESOURCES $out")
    logs = [f"build/release/obj/{source}.o.ptxas" for source in CUDA if source.endswith(".cu")] if cuda else []
    ninja.build("build/gen/kernel_resources.tsv", "resources", logs, implicit=["kernels/sass/resources.py"])
    ninja.note("What one asks for")
    for name, profile in (("all", "release"), ("debug", "debug")):
        program, tests = made[profile]
        library = ["build/release/libadamas.so"] if profile == "release" else []
        ninja.build(name, "phony", [program, *library, *tests, SCHEMA_NOW])
    ninja.build("test", "run", implicit=["all", "emulated"], command="$python tests/run.py", title="TEST")
    ninja.build("lint", "run", command="$python tests/lint.py", title="LINT")
    ninja.build("format", "run", command="$python tests/lint.py --format", title="FORMAT")
    ninja.build("check", "run", implicit=["all"], title="CHECK: lint, unit tests, layering",
                command="$python tests/lint.py && $python tests/run.py --fast")
    program, tests = made["asan"]
    ninja.build("asan", "run", implicit=[program, *tests, "build/release/libadamas.so"],
                title="TEST with address and undefined-behaviour checks",
                command="$python tests/run.py --profile asan " + " ".join(f"--only {name}" for name in SANITIZED))
    program, tests = made["tsan"]
    ninja.build("tsan", "run", implicit=[program, "build/tsan/tests/test_threads"], title="TSAN: data races at 1 to 8 threads",
                command="$python tests/fuzz/thread_campaign.py build/tsan/adamas build/tsan/tests/test_threads")
    program, tests = made["coverage"]
    ninja.build("coverage", "run", implicit=[program, *tests, "build/release/libadamas.so"], title="COVERAGE",
                command="$python tests/coverage.py")
    ninja.build("demo", "run", implicit=["build/release/adamas"], command="$python demo.py", title="DEMO")
    ninja.build("pictures", "run", implicit=["build/release/adamas"], command=f"{as_word(node)} web-report/tests/pictures.mjs",
                title="PICTURES web-report/pictures: README's")
    ninja.build("bench", "run", implicit=["all"], title="BENCH",
                command="$python demo.py --bench && "
                "$python tests/bench/bench_stages.py && $python tests/bench/bench_replay.py && "
                "build/release/tests/bench_probes && $python tests/bench/bench_regression.py && "
                "$python tests/bench/bench_serving.py")
    if cuda:
        kit = ["build/release/adamas", *(f"build/release/tests/{name}" for name in [*CUDA_TESTS, *BENCHES, "adamas-planted"])]
        ninja.build("gpu-kit", "run", implicit=kit, title="GPU-KIT build/gpu-kit: programs for tests/bench/gpu_session.sh",
                    command=f"mkdir -p build/gpu-kit && for f in {' '.join(kit)}; do "
                    "strip -o build/gpu-kit/$$(basename $$f) $$f; done && "
                    "cp build/release/tests/libcmocka.so.0 build/gpu-kit")
    for name, title in (("install", "below PREFIX"), ("uninstall", "what install wrote"), ("deb", "build/adamas_*.deb"),
                        ("tarball", "build/adamas-*.tar.gz")):
        ninja.build(name, "run", implicit=["build/release/adamas", "build/release/libadamas.so"] if name != "uninstall" else [],
                    title=f"{name.upper()}: {title}",
                    command=f"$python core/cli/install/install.py {name} build/release {VERSION}")
    ninja.build("cupti-matrix", "run", implicit=["build/release/adamas"], command="$python tests/probes/cupti_matrix.py",
                title="CUPTI-MATRIX: the real releases, 48 MB of wheels")
    fuzz_edges(ninja)
    ninja.build("compdb", "run", title="COMPDB compile_commands.json",
                command="ninja -t compdb cc_release cxx_release nvcc > compile_commands.json")
    ninja.lines += ["", "default all", ""]
    return "\n".join(ninja.lines)


def check_lists():
    """Every listed source must exist; a source in no list is mentioned, since it is then built by nobody."""
    listed = [*sources_of(ROOMS), *sources_of(COMMANDS), MAIN, EMBED, *CUDA, *NO_CUDA, *NVTX, *NO_NVTX, *CUPTI, *NO_CUPTI, *WEB,
              *test_sources().values(), *(f"tests/bench/{name}.c" for name in BENCHES), PLANT, "tests/bench/tune_rows.cpp",
              *(f"tests/kernels/gpu/{name}.c" for name in CUDA_TESTS), *EMULATED, *EMULATOR, *FAKE_GPU,
              *(f"tests/support/{name}.c" for name in [*PLAIN_TOOLS, *NVTX_TOOLS, *CUPTI_TOOLS, "without_cuda"]),
              "tests/fuzz/fuzz_options.c", *(f"tests/fuzz/fuzz_{name}.c" for name in FUZZERS),
              *(name for name in EMBEDDED if not name.startswith("build/"))]
    absent = [name for name in listed if not (deps.ROOT / name).exists()]
    if absent:
        raise SetupError("configure.py lists what does not exist: " + ", ".join(absent))
    for pattern in [*(f"{top}/**/*{suffix}" for top in ("core", "kernels", "probes", "traces", "analysis", "tests")
                      for suffix in (".c", ".cpp", ".cu")), "web-report/*.mjs", "web-report/src/*"]:
        for path in sorted(deps.ROOT.glob(pattern)):
            if str(path.relative_to(deps.ROOT)) not in listed:
                print(f"note: {path.relative_to(deps.ROOT)} is in no list of configure.py")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Write build.ninja; then `ninja` builds. With --setup: install what is missing, build, run.",
        epilog="ninja targets: all (default), check, lint, format, test, emulated, asan, coverage, debug, bench, demo, "
               "pictures, fuzz, compdb, gpu-kit, cupti-matrix, install, uninstall, deb, tarball.", allow_abbrev=False)
    parser.add_argument("--setup", choices=["demo", "test"], help="say what is missing and how large it is, "
                        "install it, build, then run the demo or every test")
    parser.add_argument("--no-install", action="store_true", help="only report what --setup (demo unless given) "
                        "would install and from which package; exit status 0 when nothing is missing, else 2")
    parser.add_argument("--with-models", action="store_true", help="with --setup test: also run the tests that need PyTorch "
                        "and transformers, from a private environment")
    parser.add_argument("--cuda", default="auto", metavar="auto|off|PATH", help="CUDA toolkit 13: found or with "
                        "--setup installed (auto), not used (off), or this folder or nvcc")
    parser.add_argument("--cuda-version", choices=list(deps.CUDA_VERSIONS), help="only this version of the toolkit will do; "
                        "--setup installs the newest pinned release of it (default: any 13, and 13.0 is installed)")
    parser.add_argument("--arch", default=",".join(ARCHITECTURES), type=lambda text: text.split(","),
                        metavar="LIST", help="GPU architectures to compile for (default %(default)s)")
    parser.add_argument("--werror", action="store_true", help="warnings of the C and C++ compilers are errors, as in our CI")
    parser.add_argument("--plant-slowdown", type=int, default=1900, metavar="PERCENT",
                        help="how much slower the host's top-k is in build/*/tests/adamas-planted, which tests `adamas check` "
                        "(default %(default)s)")
    parser.add_argument("--plant-kernel", type=int, default=10, metavar="PERCENT", help="how much longer the GPU's attention "
                        "kernel runs there (default %(default)s)")
    options = parser.parse_args()
    if options.with_models and options.setup != "test":
        parser.error("argument --with-models: needs --setup test")
    for option in ("plant_slowdown", "plant_kernel"):
        if not 0 <= (percent := getattr(options, option)) <= 10000:
            parser.error(f"argument --{option.replace('_', '-')}: {percent} is outside 0 to 10000")
    for arch in options.arch:
        if not (arch.startswith("sm_") and arch[3:].rstrip("af").isdigit()):
            parser.error(f"argument --arch: '{arch}' is no GPU architecture; write for instance sm_80,sm_90")
    return options


def set_up(options):
    """Reports what is missing and installs it. Ends the program after a mere report."""
    goal = options.setup or "demo"
    needs = deps.missing(goal, options.cuda, options.cuda_version, options.with_models)
    if needs and not options.no_install and deps.apt_packages(needs):
        deps.refresh_apt(deps.apt_packages(needs))
    if needs:
        print(f"for --setup {goal} this machine lacks:")
        print("\n".join(deps.describe(needs)))
    else:
        print(f"nothing to install for --setup {goal}")
    if options.no_install:
        sys.exit(2 if needs else 0)
    deps.install(needs)


def remove_stale_programs(text, root):
    """Removes test programs and libraries of an earlier configuration: tests skip where one is absent, not where it is old."""
    targets = set(re.findall(r"build/\w+/tests/[\w.-]+", text))
    for path in root.glob("build/*/tests/*"):
        if path.is_file() and path.relative_to(root).as_posix() not in targets:
            path.unlink()


def configure(options):
    """Writes build.ninja, or raises a SetupError that names what a build still lacks."""
    needs = deps.missing("build", options.cuda, options.cuda_version)
    if needs:
        raise SetupError("A build needs what this machine lacks:\n" + "\n".join(deps.describe(needs)) +
                         "\n`./configure.py --setup demo` installs all of it.")
    check_lists()
    cuda, remarks = deps.find_cuda(options.cuda, options.cuda_version)
    for remark in remarks:
        print("note: " + remark)
    if cuda and not cuda.nvtx:
        print(f"note: {cuda.top}/include has no nvtx3: built without NVTX ranges")
    if cuda and not cuda.cupti:
        print(f"note: {cuda.top}/include has no CUPTI headers: built without GPU counters and timelines")
    node, _ = deps.find_node()
    text = build_ninja(options, cuda, node)
    (deps.ROOT / "build.ninja").write_text(text)
    remove_stale_programs(text, deps.ROOT)
    print(f"build.ninja is written, `ninja` builds: {deps.compiler()}, "
          f"{f'CUDA {cuda.version} ({cuda.nvcc})' if cuda else 'no CUDA'}, Node {node}")


def main():
    options = parse_arguments()
    sys.stdout.reconfigure(line_buffering=True)  # our lines stay in order with those of the programs we start
    os.chdir(deps.ROOT)
    if options.setup or options.no_install:
        set_up(options)
    configure(options)
    if not options.setup:
        return 0
    if deps.call(["ninja", *(["build/release/adamas"] if options.setup == "demo" else ["all", "emulated"])]):  # no test is run
        raise SetupError("The build failed; the first error above says where.")
    if options.setup == "test" and not deps.find_chromium():
        try:
            deps.install_browser()
        except SetupError as error:
            print(f"note: without a browser its tests skip. {error}")
    script = {"demo": "demo.py", "test": "tests/run.py"}[options.setup]
    os.execv(sys.executable, [sys.executable, script, *["--with-models"] * options.with_models])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        print(f"configure.py: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nconfigure.py: interrupted; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
