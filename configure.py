#!/usr/bin/env python3
"""Writes build.ninja for Adamas; with --setup also installs what is missing, builds, runs the demo or the tests.

The first half is the table of contents: every source by name, room by room. Adding a source is adding its name.
build_rules.py says how they are compiled. What comes from outside (apt packages, wheels, npm packages) is install_deps.py's
business.
"""
import sys

if sys.version_info < (3, 11):
    sys.exit("configure.py: Python 3.11 or newer is needed; this is %d.%d." % sys.version_info[:2])

import argparse
import os
import re

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
    "core/contract": ["stage", "asym4", "probe", "model", "request"],
    "core/policy": ["policy", "policy_set", "nested", "rank", "rank_collect", "sweep", "dense", "oracle", "adamas", "quest",
                    "streaming", "h2o", "accumulated", "random", "coding", "coding_name", "codebook", "thresholds",
                    "calibration"],
    "core/store/file": ["database", "network", "guard", "open", "migrate", "schema_check", "bounds", "query"],
    "core/store": ["columns", "row", "run", "write", "insert", "track", "prune", "remove", "store_api", "runs_find"],
    "core/store/merge": ["merge", "merge_check", "merge_sound", "merge_tables", "joined"],
    "core/replay/session": ["session", "segment", "only", "target", "quality", "record"],
    "core/replay": ["replay", "stage_pass", "stage_timer", "quality_pass", "quality_step", "waiting", "recorder",
                    "stage_record", "quality_record", "code_record", "event_spool"],
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
    "kernels/profile/grid": ["grid", "cost", "spent", "shards", "resume", "trace", "metrics"],
    "kernels/profile/observe": ["observer", "state", "count", "timeline", "observe"],
    "kernels/profile/gpus": ["ranks", "ranks_record"],
    "kernels/profile": ["reference", "check", "run", "peers", "phases"],
    "kernels/tune/candidate": ["arena", "child", "plugin", "source", "ptxas", "module", "expression", "collect"],
    "kernels/tune/host": ["host_case", "host_fill", "host_verify", "host_session", "trace_source"],
    "kernels/tune/gpu": ["gpu_judge", "gpu_child", "gpu_compare"],
    "kernels/tune": ["search", "session", "tally", "pipeline", "record"],
    "probes": ["clock_probe", "perf_probe", "nvml_probe"],
    "probes/metrics": ["formula", "metric_set"],
    "probes/cupti": ["cupti_ask", "cupti_find", "cupti_load", "cupti_features", "counter_plan", "counter_list"],
    "traces/format": ["map_guard", "input_file", "safetensors", "safetensors_write", "trace_file", "trace_check", "trace_text"],
    "traces/generate": ["generate", "generate_head", "generate_math"],
    "traces/requests": ["inflate", "lines", "numbers", "id_map", "builder", "csv_rows", "json_numbers", "json_rows", "clients",
                        "requests"],
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
                             "gpu", "tasks", "shards"],
    "analysis/report/read/changes": ["history", "checks", "differences"],
    "analysis/report": ["data", "verdict", "headline", "advice", "pack", "squeeze", "html"],
    "analysis/report/view/gpu": ["advice", "speedup", "gpu", "phases", "timeline", "counters"],
    "analysis/report/view/quality": ["budget", "claims", "quality", "heads"],
    "analysis/report/view/changes": ["verdict", "differences", "checks", "history"],
    "analysis/report/view": ["document", "write", "profile", "summary", "sketches", "serving", "decode", "tuning", "tasks",
                             "stages", "shards", "provenance"],
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
        "kernels/tune/candidate/launch.cu", "kernels/gpu_rows.c", "kernels/gpu_ways.c"]
NO_CUDA = ["kernels/gpu/none.c", "kernels/decode/ops_none.c", "kernels/step/sharded/rank_none.c", "kernels/step/phases_none.c",
           "kernels/tune/candidate/launch_none.c"]

# What needs NVTX's headers, which a CUDA toolkit brings and which need no GPU, and its stand-in.
NVTX = ["probes/nvtx_probe.c"]
NO_NVTX = ["probes/nvtx_probe_none.c"]

# What needs CUPTI's headers, likewise; the library itself is looked for at run time.
CUPTI = ["probes/cupti/cupti_host.cpp", "probes/cupti/counter_probe.c", "probes/cupti/activity_probe.c"]
NO_CUPTI = [f"probes/cupti/{name}_none.c" for name in ("cupti_host", "counter_probe", "activity_probe")]

# The schema's migrations, in order: V.sql takes a database from version V - 1 to V; and all of them in one, to read.
SCHEMA = [f"core/store/schema/{version}.sql" for version in range(1, 13)]
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
WEB = ["web-report/build.mjs",
       *(f"web-report/src/{name}" for name in (
           "template.html", "styles.css", "main.js", "views.js", "tables.js", "unpack.js", "state.js", "setting.js", "dom.js")),
       *(f"web-report/src/charts/{name}.js" for name in (
           "charts", "frame", "theme", "format", "findings", "gpu", "stage_names", "budget", "quality", "heads", "intervals",
           "tasks", "stages", "gpu_stages", "step", "speedup", "roofline", "phases", "timeline", "counters", "serving",
           "decode", "tuning", "history"))]

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
BENCHES = ["bench_probes", "bench_regression", "bench_changes", "bench_tuned"]

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
FAKE_GPU = ["tests/support/fake_gpu.c",
            *(f"tests/support/fake_gpu_{name}.c" for name in ("stages", "observe", "tune", "ranks", "decode"))]

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

ARCHITECTURES = ["sm_80", "sm_89", "sm_90", "sm_100"]


def sources_of(rooms):
    return [f"{room}/{name}.c" for room, names in rooms.items() for name in names]


def test_sources():
    """{program: source} of every cmocka program."""
    return {f"test_{name}": f"tests/{room}/test_{name}.c" for room, names in TESTS.items() for name in names}


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
                      for suffix in (".c", ".cpp", ".cu")),
                    "web-report/*.mjs", "web-report/src/*.*", "web-report/src/charts/*"]:
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
    parser.add_argument("--with-asan", action="store_true", help="with --setup test: also run some suites with address and "
                        "undefined-behaviour checks, as our CI does")
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
    if options.with_asan and options.setup != "test":
        parser.error("argument --with-asan: needs --setup test")
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
    from build_rules import build_ninja  # here, because it reads the lists above
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
    targets = ["build/release/adamas"]
    if options.setup == "test":
        targets = ["all", "emulated", *["asan-programs"] * options.with_asan]
        targets += ["debug-objects"] * options.werror  # what GCC warns of depends on how it optimises
    if deps.call(["ninja", *targets]):  # no test is run
        raise SetupError("The build failed; the first error above says where.")
    if options.setup == "test" and not deps.find_chromium():
        try:
            deps.install_browser()
        except SetupError as error:
            print(f"note: without a browser its tests skip. {error}")
    script = {"demo": "demo.py", "test": "tests/run.py"}[options.setup]
    os.execv(sys.executable, [sys.executable, script, *["--with-models"] * options.with_models,
                              *["--with-asan"] * options.with_asan])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        print(f"configure.py: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nconfigure.py: interrupted; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
